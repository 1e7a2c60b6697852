/* stress_transport threads|processes SECONDS SEED: one writer and one reader on a real arena, as fast as they can.
 *
 * Everything the arena moves: the broadcast ring (256 slots of it, so that laps are the rule), the message ring, rows,
 * book images, the bell. Every payload is one number repeated, and the number says when it was written: a torn, lost,
 * repeated or reordered read ends the program. The reader stalls now and then, to be lapped, and sleeps on its bell
 * when it finds nothing for a while; a sleep that ends by its timeout although something had come is a lost wake-up.
 *
 * Built by race.py under ThreadSanitizer, AddressSanitizer and UndefinedBehaviorSanitizer, and as shipped. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena.h"
#include "check.h"
#include "ring.h"

enum {
    LAP_SLOTS = 256,
    BATCH_MAX = LAP_SLOTS / 16,
    IMAGE_TICKS = 101,
    TOKEN = 7,
    SLEEP_NS = 2000000000, /* far beyond any wake-up */
};

static void *arena;
static double seconds;
static uint64_t seed;

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static void fill(uint64_t *words, uint32_t count, uint64_t number) {
    for (uint32_t i = 0; i < count; i++) words[i] = number;
}

/* The number that all words are. */
static uint64_t whole(const uint64_t *words, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) CHECK(words[i] == words[0]);
    return words[0];
}

static broadcast_ring_t *book_ring(void) { return arena_book_ring(arena, 0); }
static message_ring_t *order_ring(void) { return arena_order_ring(arena, 0); }
static process_row_t *reader_row(void) { return arena_process(arena, PROCESS_QUOTER_FIRST); }
static atomic_u64 *finished(void) { return &arena_worker(arena, 0)->epoch; }

/* ---- writer ---- */

static void write_rows(uint64_t number) {
    market_slot_t *market = arena_market(arena, 0);
    uint64_t words[STATE_PAYLOAD_WORDS];
    fill(words, STATE_PAYLOAD_WORDS, number);
    live_order_write(&market->live_orders[0], (const live_order_t *)words);
    account_write(&market->account, (const account_state_t *)words);
    CHECK(state_write(&market->state, number, number, (int64_t)number, (int64_t)number, words, sizeof words) == RING_OK);
    CHECK(config_write(&market->config, number, words, (uint32_t)(number % (sizeof words + 1))) == RING_OK);
    top_t top = {.bid_ticks = (int32_t)(number % 99), .bid_lots = (int64_t)number, .trade_count = number};
    top_write(&market->top, &top);
}

static void write_image(uint64_t position) {
    int64_t levels[2 * IMAGE_TICKS];
    fill((uint64_t *)levels, 2 * IMAGE_TICKS, position);
    image_header_t header = {.generation = position, .ring_position = position, .tick_count = IMAGE_TICKS, .valid = 1};
    CHECK(image_write(arena_market(arena, 0)->images, &header, levels) == RING_OK);
}

static void *write_all(void *unused) {
    (void)unused;
    uint64_t random = seed, position = 0, message = 0, row = 1;
    uint64_t batch[BATCH_MAX * BROADCAST_WORDS], record[MESSAGE_WORDS];
    CHECK(broadcast_acquire(book_ring(), TOKEN) == RING_OK);
    CHECK(message_acquire(order_ring(), TOKEN) == RING_OK);
    int64_t end_ns = mono_now_ns() + (int64_t)(seconds * 1e9);
    while (mono_now_ns() < end_ns) {
        for (int i = 0; i < 64; i++) {
            uint32_t count = 1 + (uint32_t)(next_random(&random) % BATCH_MAX);
            for (uint32_t k = 0; k < count; k++) fill(batch + k * BROADCAST_WORDS, BROADCAST_WORDS, position + k);
            CHECK(broadcast_publish(book_ring(), LAP_SLOTS, TOKEN, batch, count) == RING_OK);
            position += count;
            fill(record, MESSAGE_WORDS, message);
            int code = message_publish(order_ring(), MESSAGE_RING_SLOTS, TOKEN, record);
            CHECK(code == RING_OK || code == RING_FULL);
            message += code == RING_OK;
            bell_ring(reader_row(), -1);
        }
        write_rows(row++);
        write_image(position);
        if (next_random(&random) % 256 == 0) usleep(200); /* lets the reader run dry and sleep */
    }
    cell_store(finished(), 1);
    bell_ring(reader_row(), -1);
    printf("wrote %" PRIu64 " events, %" PRIu64 " messages, %" PRIu64 " times every row\n", position, message, row - 1);
    return NULL;
}

/* ---- reader ---- */

typedef struct {
    broadcast_cursor_t book, tap;
    uint64_t message, order, account, state, config, top, image; /* newest number seen */
    uint64_t events, taps, rows, images, sleeps;
} reader_t;

static uint32_t read_events(reader_t *reader) {
    uint64_t out[LAP_SLOTS * BROADCAST_WORDS];
    int lapped;
    uint64_t position = reader->book.position;
    uint32_t count = broadcast_read(book_ring(), LAP_SLOTS, &reader->book, out, LAP_SLOTS, &lapped);
    for (uint32_t i = 0; i < count; i++)
        CHECK(whole(out + i * BROADCAST_WORDS, BROADCAST_WORDS) == position + i);
    CHECK(reader->book.position == position + count || lapped);
    reader->events += count;
    return count + (uint32_t)lapped;
}

static uint32_t read_messages(reader_t *reader, uint64_t random) {
    uint64_t out[16 * MESSAGE_WORDS];
    uint32_t count = message_peek(order_ring(), MESSAGE_RING_SLOTS, out, 1 + random % 16);
    for (uint32_t i = 0; i < count; i++) CHECK(whole(out + i * MESSAGE_WORDS, MESSAGE_WORDS) == reader->message + i);
    reader->message += count;
    CHECK(message_release(order_ring(), count) == RING_OK);
    return count;
}

static void tap_messages(reader_t *reader) {
    uint64_t out[16 * MESSAGE_WORDS];
    int lapped;
    uint64_t position = reader->tap.position;
    uint32_t count = message_tap(order_ring(), MESSAGE_RING_SLOTS, &reader->tap, out, 16, &lapped);
    for (uint32_t i = 0; i < count; i++) CHECK(whole(out + i * MESSAGE_WORDS, MESSAGE_WORDS) == position + i);
    reader->taps += count;
}

/* Rows never go back. */
static void newer(uint64_t *newest, uint64_t number, uint64_t *counter) {
    CHECK(number >= *newest);
    *newest = number;
    *counter += 1;
}

static void read_rows(reader_t *reader) {
    market_slot_t *market = arena_market(arena, 0);
    uint64_t words[STATE_PAYLOAD_WORDS], version;
    state_header_t header;
    top_t top;
    if (live_order_read(&market->live_orders[0], (live_order_t *)words) == RING_OK)
        newer(&reader->order, whole(words, ROW_WORDS), &reader->rows);
    if (account_read(&market->account, (account_state_t *)words) == RING_OK)
        newer(&reader->account, whole(words, ROW_WORDS), &reader->rows);
    if (state_read(&market->state, &header, words, sizeof words) == RING_OK) {
        uint64_t number = whole(words, STATE_PAYLOAD_WORDS);
        CHECK(header.version == number && header.kind == number && header.unix_ns == (int64_t)number);
        newer(&reader->state, number, &reader->rows);
    }
    int length = config_read(&market->config, &version, words, sizeof words);
    if (length >= 0) {
        CHECK((uint64_t)length == version % (sizeof words + 1));
        if (length >= 8) CHECK(whole(words, (uint32_t)length / 8) == version);
        newer(&reader->config, version, &reader->rows);
    }
    if (top_read(&market->top, &top) == RING_OK && top.trade_count != 0) {
        CHECK(top.bid_lots == (int64_t)top.trade_count && top.bid_ticks == (int32_t)(top.trade_count % 99));
        newer(&reader->top, top.trade_count, &reader->rows);
    }
}

static void read_image(reader_t *reader) {
    int64_t levels[2 * IMAGE_TICKS];
    image_header_t header;
    if (image_read(arena_market(arena, 0)->images, &header, levels, IMAGE_TICKS) != RING_OK) return;
    CHECK(whole((uint64_t *)levels, 2 * IMAGE_TICKS) == header.ring_position && header.generation == header.ring_position);
    newer(&reader->image, header.ring_position, &reader->images);
}

static void sleep_until_rung(reader_t *reader, uint64_t seen) {
    int64_t before_ns = mono_now_ns();
    bell_wait(reader_row(), seen, 100, SLEEP_NS);
    if (mono_now_ns() - before_ns >= SLEEP_NS) CHECK(bell_value(reader_row()) == seen);
    reader->sleeps += 1;
}

static void *read_all(void *unused) {
    (void)unused;
    reader_t reader = {0};
    uint64_t random = seed + 1;
    for (;;) {
        uint64_t seen = bell_value(reader_row());
        uint64_t end = cell_load(finished());
        uint32_t found = read_events(&reader) + read_messages(&reader, next_random(&random));
        tap_messages(&reader);
        if (next_random(&random) % 16 == 0) read_rows(&reader), read_image(&reader);
        if (next_random(&random) % 1024 == 0)
            for (volatile int i = 0; i < 20000; i++) continue; /* long enough to be lapped */
        if (found == 0 && end) break;
        if (found == 0 && next_random(&random) % 64 == 0) sleep_until_rung(&reader, seen); /* seldom: it costs laps */
    }
    CHECK(reader.book.position == broadcast_position(book_ring()));
    CHECK(reader.message == message_published(order_ring()));
    CHECK(reader.events + reader.book.lost == reader.book.position);
    CHECK(reader.book.laps > 0 && reader.rows > 0 && reader.images > 0);
    uint64_t reads = reader.events + reader.message + reader.taps + reader.rows + reader.images;
    printf("read %" PRIu64 " payloads whole, 0 torn: %" PRIu64 " events, %" PRIu64 " laps, %" PRIu64
           " lost to them; %" PRIu64 " messages, %" PRIu64 " taps, %" PRIu64 " rows, %" PRIu64 " images; %" PRIu64
           " sleeps\n",
           reads, reader.events, reader.book.laps, reader.book.lost, reader.message, reader.taps, reader.rows,
           reader.images, reader.sleeps);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 4);
    int processes = strcmp(argv[1], "processes") == 0;
    seconds = atof(argv[2]);
    seed = strtoull(argv[3], NULL, 10);
    uint64_t bytes = arena_bytes(1, 1);
    arena = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(arena != MAP_FAILED);
    CHECK(arena_format(arena, bytes, 1, 1, 1, 1) == ARENA_OK && arena_check(arena, bytes, 1) == ARENA_OK);
    if (processes) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            write_all(NULL);
            fflush(stdout);
            _exit(0);
        }
        read_all(NULL);
        int status;
        CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        return 0;
    }
    pthread_t writer;
    CHECK(pthread_create(&writer, NULL, write_all, NULL) == 0);
    read_all(NULL);
    CHECK(pthread_join(writer, NULL) == 0);
    return 0;
}
