/* libFuzzer: shared memory that says anything at all, and every function that reads it.
 *
 * The first byte chooses. Even: the rest of the input is a segment, of exactly that size, that somebody attaches to.
 * Odd: the rest is a program of 16-byte operations on an arena that was attached in good order and then written to by
 * a process gone mad: words of rings, rows, images and configuration change to anything between calls. Nothing may be
 * undefined, nothing may run on for ever, and no call may write outside of what its caller gave it (buffers are of
 * exact size, on the heap, under AddressSanitizer). */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "arena.h"
#include "check.h"
#include "quote_operations.h"
#include "quote_pass.h"
#include "ring.h"

enum { OPERATION_BYTES = 16, MARKETS = 2, WORKERS = 1, TICKS = 101, TOKEN = 7, SMALL_SLOTS = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* ---- attaching ---- */

static void attach(const uint8_t *data, size_t bytes) {
    void *segment = malloc(bytes ? bytes : 1);
    CHECK(segment != NULL);
    if (bytes > 0) memcpy(segment, data, bytes);
    int code = arena_check(segment, bytes, 0);
    CHECK(code < 0); /* an input is smaller than any arena */
    free(segment);
}

/* The header of a good arena with one word changed is refused, unless the word is one that says nothing about it. */
static void attach_forged(const void *arena, uint32_t word, uint64_t value, uint64_t bytes) {
    arena_header_t header;
    memcpy(&header, arena, sizeof header);
    uint64_t *words = (uint64_t *)&header;
    word %= sizeof header / 8;
    int says_nothing = &words[word] == (uint64_t *)&header.epoch || &words[word] == (uint64_t *)&header.supervisor_pid;
    int is_same = words[word] == value;
    words[word] = value;
    int code = arena_check(&header, bytes, 0);
    if (bytes < arena_bytes(MARKETS, WORKERS)) CHECK(code != ARENA_OK);
    if (!says_nothing && !is_same) CHECK(code != ARENA_OK);
}

/* ---- an arena under attack ---- */

typedef struct {
    void *arena;
    uint64_t arena_bytes;
    broadcast_cursor_t cursors[2];
    orderbook_t *book;
    quote_state_t quote;
    trade_tape_t tape;
    quote_market_t native;
    quote_market_t *markets[MARKETS];
} target_t;

static target_t target;

static void target_reset(void) {
    if (target.arena == NULL) {
        target.arena_bytes = arena_bytes(MARKETS, WORKERS);
        target.arena = mmap(NULL, target.arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(target.arena != MAP_FAILED);
        price_grid_t grid;
        price_grid_cents(&grid);
        target.book = malloc(orderbook_bytes(TICKS));
        target.native.levels = malloc(2 * TICKS * sizeof(int64_t));
        CHECK(target.book != NULL && target.native.levels != NULL);
        CHECK(orderbook_init(target.book, orderbook_bytes(TICKS), &grid) == ORDERBOOK_OK);
    }
    CHECK(madvise(target.arena, target.arena_bytes, MADV_DONTNEED) == 0);
    CHECK(arena_format(target.arena, target.arena_bytes, MARKETS, WORKERS, 1, 1) == ARENA_OK);
    CHECK(arena_check(target.arena, target.arena_bytes, 1) == ARENA_OK);
    CHECK(broadcast_acquire(arena_book_ring(target.arena, 0), TOKEN) == RING_OK);
    CHECK(message_acquire(arena_order_ring(target.arena, 0), TOKEN) == RING_OK);
    memset(target.cursors, 0, sizeof target.cursors);
    quote_state_init(&target.quote);
    orderbook_clear(target.book);
    market_slot_t *market = arena_market(target.arena, 1);
    target.native = (quote_market_t){.book = target.book, .params = &target.quote.params, .trades = &target.quote.trades,
                                     .inputs = &target.quote.inputs, .output = &target.quote.output, .tape = &target.tape,
                                     .images = market->images, .tick_to_quote_ns = &market->tick_to_quote_ns,
                                     .levels = target.native.levels, .tick_count = TICKS};
    quote_market_init(&target.native);
    target.markets[1] = &target.native;
}

/* What the mad process can reach. The header is not in it: it was checked, and nobody has a reason to write there. */
static uint64_t *reachable(uint8_t where, uint64_t *word_count) {
    market_slot_t *market = arena_market(target.arena, 1);
#define REACHABLE(object) *word_count = sizeof(object) / 8, (uint64_t *)&(object)
    switch (where % 12) {
    case 0: return *word_count = 8 + 8 * SMALL_SLOTS, (uint64_t *)arena_book_ring(target.arena, 0);
    case 1: return *word_count = 8 + 8 * PASS_BATCH_EVENTS, (uint64_t *)arena_book_ring(target.arena, 0);
    case 2: return *word_count = 16 + 32 * SMALL_SLOTS, (uint64_t *)arena_order_ring(target.arena, 0);
    case 3: return REACHABLE(market->images[0]);
    case 4: return REACHABLE(market->images[1]);
    case 5: return *word_count = 8, (uint64_t *)&market->images[where / 12 % 2];
    case 6: return *word_count = 4, (uint64_t *)&market->config;
    case 7: return REACHABLE(market->state);
    case 8: return REACHABLE(market->top);
    case 9: return REACHABLE(market->live_orders[0]);
    case 10: return REACHABLE(market->account);
    default: return REACHABLE(*arena_process(target.arena, PROCESS_QUOTER_FIRST));
    }
}

/* A legal event with one field of the attacker's, so that what comes behind the sequence is reached. */
static void publish_event(const uint8_t *operation, uint64_t value) {
    book_event_t event = {.market_slot = 1, .kind = operation[2], .flags = operation[3], .generation = operation[4],
                          .price_ticks = operation[5], .side = operation[6] % 3, .status = operation[6] / 3 % 3,
                          .size_lots = operation[7], .venue_unix_ns = 1, .recv_mono_ns = 1};
    switch (operation[1] % 7) {
    case 0: event.price_ticks = (int32_t)value; break;
    case 1: event.size_lots = (int64_t)value; break;
    case 2: event.recv_mono_ns = (int64_t)value; break;
    case 3: event.venue_sequence = (int64_t)value; break;
    case 4: event.market_slot = (uint16_t)value; break;
    case 5: event.venue_unix_ns = (int64_t)value; break;
    default: event.side = (uint8_t)value;
    }
    (void)broadcast_publish(arena_book_ring(target.arena, 0), BOOK_RING_SLOTS, TOKEN, &event, 1);
}

static void read_rings(const uint8_t *operation, uint32_t slot_count) {
    uint32_t capacity = operation[2];
    int lapped;
    void *out = malloc(256 * (size_t)capacity + 1);
    CHECK(out != NULL);
    broadcast_cursor_t *cursor = &target.cursors[operation[1] % 2];
    message_ring_t *orders = arena_order_ring(target.arena, 0);
    switch (operation[3] % 6) {
    case 0: CHECK(broadcast_read(arena_book_ring(target.arena, 0), slot_count, cursor, out, capacity, &lapped) <= capacity); break;
    case 1: CHECK(message_tap(orders, slot_count, cursor, out, capacity, &lapped) <= capacity); break;
    case 2: CHECK(message_peek(orders, slot_count, out, capacity) <= capacity); break;
    case 3: (void)message_release(orders, capacity); break;
    case 4: CHECK(message_space(orders, slot_count) <= slot_count); break;
    default: broadcast_attach(arena_book_ring(target.arena, 0), slot_count, cursor);
    }
    free(out);
}

static void read_rows(const uint8_t *operation) {
    market_slot_t *market = arena_market(target.arena, 1);
    uint32_t room = (uint32_t)operation[2] * 40;
    void *out = malloc(room + 1);
    CHECK(out != NULL);
    live_order_t order;
    account_state_t account;
    state_header_t state;
    image_header_t image;
    top_t top;
    uint64_t version;
    switch (operation[1] % 6) {
    case 0: (void)live_order_read(&market->live_orders[0], &order); break;
    case 1: (void)account_read(&market->account, &account); break;
    case 2: (void)state_read(&market->state, &state, out, room); break;
    case 3: (void)top_read(&market->top, &top), top_write(&market->top, &top); break;
    case 4: CHECK(config_read(&market->config, &version, out, room) <= (int)room); break;
    default: {
        int code = image_read(market->images, &image, out, room / 16);
        CHECK(code != RING_OK || (image.tick_count > 0 && image.tick_count <= room / 16));
    }
    }
    free(out);
}

static void write_something(const uint8_t *operation, uint64_t value, uint32_t slot_count) {
    market_slot_t *market = arena_market(target.arena, 1);
    uint64_t words[BROADCAST_WORDS * 8];
    uint32_t count = operation[2];
    for (size_t i = 0; i < sizeof words / 8; i++) words[i] = value;
    image_header_t image = {.generation = value, .ring_position = value, .tick_count = count, .valid = 1};
    int64_t *levels = calloc(2 * (size_t)count + 1, sizeof *levels);
    CHECK(levels != NULL);
    switch (operation[1] % 7) {
    case 0: (void)broadcast_publish(arena_book_ring(target.arena, 0), slot_count, operation[3] & 1 ? TOKEN : value, words, count % 9); break;
    case 1: (void)message_publish(arena_order_ring(target.arena, 0), slot_count, TOKEN, words); break;
    case 2: (void)image_write(market->images, &image, levels); break;
    case 3: broadcast_free_role(arena_book_ring(target.arena, 0)), (void)broadcast_acquire(arena_book_ring(target.arena, 0), TOKEN); break;
    case 4: (void)config_write(&market->config, value, words, count); break;
    case 5: histogram_record(&market->tick_to_quote_ns, value), (void)histogram_bucket_floor_ns((uint32_t)value); break;
    default: process_pass(arena_process(target.arena, PROCESS_QUOTER_FIRST), (int64_t)value, value, 10);
    }
    free(levels);
}

static void quote(const uint8_t *operation) {
    uint16_t news[MARKETS];
    quote_worker_t worker = {.ring = arena_book_ring(target.arena, 0), .cursor = target.cursors[0],
                             .markets = target.markets, .news_slots = news, .market_count = MARKETS};
    if (operation[1] & 1) quote_join(&worker, 1);
    (void)quote_pass(&worker, 1000000);
    target.cursors[0] = worker.cursor;
    CHECK(worker.news_count <= MARKETS);
    for (uint32_t i = 0; i < worker.news_count; i++) CHECK(news[i] == 1);
    if (operation[1] & 2) target.native.news = 0;
    tape_window_t window;
    tape_window(&target.tape, 0, UINT64_MAX, &window);
    CHECK(window.trades <= TAPE_TRADES && window.sell_lots <= window.lots && window.price_min_ticks <= window.price_max_ticks);
    CHECK(target.native.oracle.price_ticks >= ORACLE_NO_PRICE && target.native.oracle.price_ticks < TICKS);
    (void)feed_delay_median_ns(&target.native.delay, 1);
    CHECK(orderbook_check(target.book) == 0);
}

static void reach_anywhere(uint32_t index) {
    CHECK((arena_market(target.arena, index) == NULL) == (index >= MARKETS));
    CHECK((arena_kill_market(target.arena, index) == NULL) == (index >= MARKETS));
    CHECK((arena_worker(target.arena, index) == NULL) == (index >= WORKERS));
    CHECK((arena_execution_ring(target.arena, index) == NULL) == (index >= WORKERS));
    CHECK((arena_process(target.arena, index) == NULL) == (index >= PROCESS_QUOTER_FIRST + WORKERS));
    CHECK((arena_command_ring(target.arena, index) == NULL) == (index >= PROCESS_QUOTER_FIRST + WORKERS));
}

static void operate(const uint8_t *operation) {
    uint64_t value, word_count;
    memcpy(&value, operation + 8, 8);
    uint32_t index = (uint32_t)operation[2] << 8 | operation[3];
    uint32_t slot_count = operation[4] & 1 ? SMALL_SLOTS : operation[4] & 2 ? BOOK_RING_SLOTS : operation[4];
    if (slot_count > MESSAGE_RING_SLOTS && (operation[0] % 8 == 3 || operation[0] % 8 == 5)) slot_count = MESSAGE_RING_SLOTS;
    switch (operation[0] % 8) {
    case 0:
    case 1: {
        uint64_t *words = reachable(operation[1], &word_count);
        words[index % word_count] = value;
        break;
    }
    case 2: publish_event(operation, value); break;
    case 3: read_rings(operation, slot_count); break;
    case 4: read_rows(operation); break;
    case 5: write_something(operation, value, slot_count); break;
    case 6: quote(operation); break;
    default:
        attach_forged(target.arena, index, value, operation[4] & 1 ? value : target.arena_bytes);
        reach_anywhere((uint32_t)value);
        target.cursors[operation[1] % 2].position = value;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes == 0) return 0;
    if (data[0] % 2 == 0) {
        attach(data + 1, bytes - 1);
        return 0;
    }
    target_reset();
    for (size_t at = 1; at + OPERATION_BYTES <= bytes; at += OPERATION_BYTES) operate(data + at);
    return 0;
}
