/* race_model SUITE EXECUTIONS [MUTANT]: native/arena.c and native/ring.c themselves under the relacy model checker.
 *
 * Each suite is a few threads on a few slots, run EXECUTIONS times with another schedule and other stale values each
 * time. `race_model list` names the suites. Exit code 0: nothing failed; 1: an execution failed, and its number is
 * printed. What is asserted is what ring.h promises; native/atomics.h says what MUTANT is. */
#include "race_shim.h"

#include "../../native/arena.c"
#include "../../native/ring.c"

#include <cstdio>
#include <cstdlib>
#include <iostream>

enum { TOKEN = 7, SUCCESSOR = 8 };

/* Every word of a payload is the same number, so that a torn one shows. */
struct payload {
    uint64_t words[2];
    payload(uint64_t number = 0) : words{number, number} {}
    uint64_t number() const {
        RL_ASSERT(words[0] == words[1]);
        return words[0];
    }
};

template <uint32_t slot_count> struct broadcast_memory {
    broadcast_ring_t ring;
    broadcast_slot_t slots[slot_count];
    static_assert(sizeof(broadcast_ring_t) % alignof(broadcast_slot_t) == 0, "slots follow the ring");

    void publish(uint64_t first, uint32_t count, uint64_t token = TOKEN) {
        payload batch[slot_count];
        for (uint32_t i = 0; i < count; i++) batch[i] = payload(first + i);
        RL_ASSERT(broadcast_publish(&ring, slot_count, token, batch, count) == RING_OK);
    }
};

template <uint32_t slot_count> struct message_memory {
    message_ring_t ring;
    message_slot_t slots[slot_count];
    static_assert(sizeof(message_ring_t) % alignof(message_slot_t) == 0, "slots follow the ring");

    void publish(uint64_t number, uint64_t token = TOKEN) {
        payload message(number);
        while (message_publish(&ring, slot_count, token, &message) == RING_FULL) cpu_relax();
    }
};

template <class suite, unsigned threads> struct race : rl::test_suite<suite, threads> {
    atomic_u64 kernel, eventfd;
    race() {
        for (int &left : lives_left) left = -1;
        kernel_lock = &kernel.value;
        eventfd_count = &eventfd.value;
    }
};

/* ---- broadcast ring ---- */

/* A full ring of four, overwritten while it is read. */
struct broadcast_lap : race<broadcast_lap, 3> {
    enum { HELD = 4, MORE = 3 };
    broadcast_memory<4> memory;

    void before() {
        broadcast_acquire(&memory.ring, TOKEN);
        for (uint64_t position = 0; position < HELD; position++) memory.publish(position, 1);
    }
    void thread(unsigned index) {
        if (index == 0)
            for (uint64_t position = HELD; position < HELD + MORE; position++) memory.publish(position, 1);
        else
            follow();
    }
    void follow() {
        broadcast_cursor_t cursor = {0, 0, 0};
        uint64_t read = 0;
        while (cursor.position < HELD + MORE) {
            payload out[2];
            int lapped;
            uint64_t position = cursor.position, lost = cursor.lost;
            uint32_t count = broadcast_read(&memory.ring, 4, &cursor, out, 2, &lapped);
            for (uint32_t i = 0; i < count; i++) RL_ASSERT(out[i].number() == position + i);
            RL_ASSERT(lapped == (cursor.lost > lost));
            read += count;
            if (count == 0) cpu_relax();
        }
        RL_ASSERT(read + cursor.lost == HELD + MORE);
    }
};

/* Batches of two: a reader never holds one half of one. */
struct broadcast_batch : race<broadcast_batch, 3> {
    enum { HELD = 6, MORE = 4 };
    broadcast_memory<8> memory;

    void before() {
        broadcast_acquire(&memory.ring, TOKEN);
        for (uint64_t position = 0; position < HELD; position += 2) memory.publish(position, 2);
    }
    void thread(unsigned index) {
        if (index == 0)
            for (uint64_t position = HELD; position < HELD + MORE; position += 2) memory.publish(position, 2);
        else
            follow(index == 1 ? HELD : 0);
    }
    void follow(uint64_t start) {
        broadcast_cursor_t cursor = {start, 0, 0};
        while (cursor.position < HELD + MORE) {
            payload out[8];
            int lapped;
            uint64_t position = cursor.position;
            uint32_t count = broadcast_read(&memory.ring, 8, &cursor, out, 8, &lapped);
            for (uint32_t i = 0; i < count; i++) RL_ASSERT(out[i].number() == position + i);
            RL_ASSERT(lapped || count % 2 == 0);
            if (count == 0) cpu_relax();
        }
    }
};

/* A reader that begins anywhere: image and ring together leave nothing out. */
struct broadcast_join : race<broadcast_join, 2> {
    enum { EVENTS = 4 };
    broadcast_memory<4> memory;
    book_image_t images[2];

    void before() { broadcast_acquire(&memory.ring, TOKEN); }
    void thread(unsigned index) {
        if (index == 0)
            lead();
        else
            join();
    }
    /* The image is exact at a position, and renewed before an event it lacks is a quarter ring old. */
    void lead() {
        for (uint64_t position = 0; position < EVENTS; position++) {
            image_header_t header = {1, position, 0, 1, 1, 0};
            int64_t levels[2] = {(int64_t)position, (int64_t)position};
            RL_ASSERT(image_write(images, &header, levels) == RING_OK);
            memory.publish(position, 1);
        }
    }
    void join() {
        broadcast_cursor_t cursor;
        image_header_t header;
        int64_t levels[2];
        broadcast_attach(&memory.ring, 4, &cursor);
        if (image_read(images, &header, levels, 1) != RING_OK) return;
        RL_ASSERT(levels[0] == levels[1] && levels[0] == (int64_t)header.ring_position);
        RL_ASSERT(header.ring_position >= cursor.position);
    }
};

/* The producer is killed before any store; its successor goes on. Readers see whole batches of the one, then all of
 * the other's. The dead one's batches are longer, so that what is left of them could follow the successor's. */
struct broadcast_death : race<broadcast_death, 4> {
    enum { SUCCESSOR_EVENTS = 3, FIRST_OF_SUCCESSOR = 100 };
    broadcast_memory<8> memory;
    atomic_u64 reaped;

    void before() {
        broadcast_acquire(&memory.ring, TOKEN);
        memory.publish(0, 2);
        lives_left[0] = (int)rl::rand(30);
    }
    void thread(unsigned index) {
        if (index == 0) {
            try {
                memory.publish(2, 2);
                memory.publish(4, 2);
            } catch (killed) {
            }
            reaped.value.store(1, rl::mo_release, $);
        } else if (index == 1) {
            while (reaped.value.load(rl::mo_acquire, $) == 0) cpu_relax();
            broadcast_free_role(&memory.ring);
        } else if (index == 2) {
            while (broadcast_acquire(&memory.ring, SUCCESSOR) != RING_OK) cpu_relax();
            memory.publish(FIRST_OF_SUCCESSOR, 1, SUCCESSOR);
            memory.publish(FIRST_OF_SUCCESSOR + 1, 2, SUCCESSOR);
        } else {
            follow(0);
        }
    }
    void after() { follow(0); }

    void follow(uint64_t start) {
        broadcast_cursor_t cursor = {start, 0, 0};
        uint64_t expected = 0;
        while (expected < FIRST_OF_SUCCESSOR + SUCCESSOR_EVENTS) {
            payload out[16]; /* more than there ever is: no batch is cut by the reader */
            int lapped;
            uint32_t count = broadcast_read(&memory.ring, 8, &cursor, out, 16, &lapped);
            if (lapped) return;
            for (uint32_t i = 0; i < count; i++) {
                uint64_t number = out[i].number();
                if (number == FIRST_OF_SUCCESSOR) {
                    RL_ASSERT(expected % 2 == 0);
                    expected = number;
                }
                RL_ASSERT(number == expected);
                expected++;
            }
            RL_ASSERT(expected >= FIRST_OF_SUCCESSOR ? expected != FIRST_OF_SUCCESSOR + 2 : expected % 2 == 0);
            if (count == 0) cpu_relax();
        }
    }
};

/* ---- message ring ---- */

/* Lossless for its consumer, readable by a tap, and nothing is written over that is still being read. */
struct message_flow : race<message_flow, 3> {
    enum { MESSAGES = 6 };
    message_memory<4> memory;
    atomic_u64 acted_on; /* what the consumer did about its messages: a count of them */

    void before() { message_acquire(&memory.ring, TOKEN); }
    void thread(unsigned index) {
        if (index == 0)
            produce();
        else if (index == 1)
            consume();
        else
            tap();
    }
    void produce() {
        for (uint64_t number = 0; number < MESSAGES; number++) {
            memory.publish(number);
            uint64_t consumed = message_consumed(&memory.ring);
            RL_ASSERT(ATOMIC_LOAD(&acted_on, RELAXED) >= consumed);
        }
    }
    void consume() {
        for (uint64_t next = 0; next < MESSAGES;) {
            payload out[2];
            uint32_t count = message_peek(&memory.ring, 4, out, 1 + rl::rand(2));
            for (uint32_t i = 0; i < count; i++) RL_ASSERT(out[i].number() == next + i);
            next += count;
            ATOMIC_STORE(&acted_on, next, RELAXED);
            RL_ASSERT(message_release(&memory.ring, count) == RING_OK);
            if (count == 0) cpu_relax();
        }
    }
    void tap() {
        broadcast_cursor_t cursor = {0, 0, 0};
        uint64_t read = 0;
        while (cursor.position < MESSAGES) {
            payload out[2];
            int lapped;
            uint64_t position = cursor.position;
            uint32_t count = message_tap(&memory.ring, 4, &cursor, out, 2, &lapped);
            for (uint32_t i = 0; i < count; i++) RL_ASSERT(out[i].number() == position + i);
            read += count;
            if (count == 0) cpu_relax();
        }
        RL_ASSERT(read + cursor.lost == MESSAGES);
    }
};

/* The consumer gets what the dead producer published, in order and once, then all of its successor's. */
struct message_death : race<message_death, 4> {
    enum { SUCCESSOR_MESSAGES = 3, FIRST_OF_SUCCESSOR = 100 };
    message_memory<4> memory;
    atomic_u64 reaped;

    void before() {
        message_acquire(&memory.ring, TOKEN);
        lives_left[0] = (int)rl::rand(20);
    }
    void thread(unsigned index) {
        if (index == 0) {
            try {
                for (uint64_t number = 0; number < 3; number++) memory.publish(number);
            } catch (killed) {
            }
            reaped.value.store(1, rl::mo_release, $);
        } else if (index == 1) {
            while (reaped.value.load(rl::mo_acquire, $) == 0) cpu_relax();
            message_free_role(&memory.ring);
        } else if (index == 2) {
            while (message_acquire(&memory.ring, SUCCESSOR) != RING_OK) cpu_relax();
            for (uint64_t i = 0; i < SUCCESSOR_MESSAGES; i++) memory.publish(FIRST_OF_SUCCESSOR + i, SUCCESSOR);
        } else {
            consume();
        }
    }
    void consume() {
        uint64_t expected = 0;
        while (expected < FIRST_OF_SUCCESSOR + SUCCESSOR_MESSAGES) {
            payload out[2];
            uint32_t count = message_peek(&memory.ring, 4, out, 2);
            for (uint32_t i = 0; i < count; i++) {
                if (out[i].number() == FIRST_OF_SUCCESSOR) expected = FIRST_OF_SUCCESSOR;
                RL_ASSERT(out[i].number() == expected);
                expected++;
            }
            RL_ASSERT(message_release(&memory.ring, count) == RING_OK);
            if (count == 0) cpu_relax();
        }
    }
};

/* ---- rows ---- */

/* One row of every kind, by a choice made before the threads start. */
struct any_row {
    live_order_row_t order;
    account_row_t account;
    state_row_t state;
    config_slot_t config;
    top_row_t top;
    unsigned kind;

    any_row() : kind(rl::rand(5)) {}

    void write(uint64_t number) {
        payload out(number);
        top_t seven = {(int32_t)number,  (int32_t)number, (int64_t)number, (int64_t)number, (uint32_t)number,
                       (uint32_t)number & 1, (int64_t)number, (int64_t)number, number};
        switch (kind) {
        case 0: live_order_write(&order, (const live_order_t *)&out); break;
        case 1: account_write(&account, (const account_state_t *)&out); break;
        case 2: state_write(&state, number, number, (int64_t)number, (int64_t)number, &out, sizeof out); break;
        case 3: config_write(&config, number, &out, number % 2 ? 16 : 11); break;
        default: top_write(&top, &seven);
        }
    }
    /* The number read, which is the same everywhere in the row; -1 when it was busy. */
    int64_t read() {
        payload out;
        state_header_t header;
        top_t seven;
        uint64_t version;
        int code;
        switch (kind) {
        case 0: code = live_order_read(&order, (live_order_t *)&out); break;
        case 1: code = account_read(&account, (account_state_t *)&out); break;
        case 2:
            code = state_read(&state, &header, &out, sizeof out);
            RL_ASSERT(code != RING_OK || (header.kind == out.words[0] && header.worker_epoch == out.words[0] &&
                                          header.mono_ns == (int64_t)out.words[0] && header.version == out.words[0]));
            break;
        case 3:
            code = config_read(&config, &version, &out, sizeof out);
            if (code < 0) return -1;
            RL_ASSERT(version == out.words[0] && code == (version == 0 ? 0 : version % 2 ? 16 : 11));
            return (int64_t)version;
        default:
            code = top_read(&top, &seven);
            if (code != RING_OK) return -1;
            if (seven.trade_count == 0) return 0; /* never written: ticks say "empty", not 0 */
            RL_ASSERT(seven.bid_ticks == (int32_t)seven.trade_count && seven.ask_ticks == seven.bid_ticks &&
                      seven.bid_lots == seven.bid_ticks && seven.ask_lots == seven.bid_ticks &&
                      seven.generation == seven.trade_count && seven.valid == (seven.trade_count & 1) &&
                      seven.venue_sequence == seven.bid_ticks && seven.recv_mono_ns == seven.bid_ticks);
            return (int64_t)seven.trade_count;
        }
        return code == RING_OK ? (int64_t)out.number() : -1;
    }
};

struct row : race<row, 3> {
    enum { WRITES = 3 };
    any_row shared;

    void thread(unsigned index) {
        if (index == 0) {
            for (uint64_t number = 1; number <= WRITES; number++) shared.write(number);
            return;
        }
        int64_t newest = 0;
        for (int i = 0; i < 3; i++) {
            int64_t number = shared.read();
            RL_ASSERT(number == -1 || number >= newest);
            if (number >= 0) newest = number;
        }
    }
    void after() { RL_ASSERT(shared.read() == WRITES); }
};

/* A writer killed inside a row is noticed; its successor makes the row whole. */
struct row_death : race<row_death, 3> {
    any_row shared;
    atomic_u64 reaped;

    void before() { lives_left[0] = (int)rl::rand(12); }
    void thread(unsigned index) {
        if (index == 0) {
            try {
                shared.write(1);
                shared.write(2);
            } catch (killed) {
            }
            reaped.value.store(1, rl::mo_release, $);
        } else if (index == 1) {
            while (reaped.value.load(rl::mo_acquire, $) == 0) cpu_relax();
            if (shared.kind < 3) return; /* these count their versions: only half of a write is told apart */
            shared.write(3);
            RL_ASSERT(shared.read() == 3);
        } else {
            int64_t number = shared.read();
            if (shared.kind < 2 || shared.kind > 2) RL_ASSERT(number <= 3);
        }
    }
};

/* ---- book images ---- */

struct image_memory {
    book_image_t images[2];

    void write(uint64_t position) {
        image_header_t header = {position, position, (int64_t)position, 1, 1, (int64_t)position};
        int64_t levels[2] = {(int64_t)position, (int64_t)position};
        RL_ASSERT(image_write(images, &header, levels) == RING_OK);
    }
    /* Position of the image read, or 0 when none was whole. */
    uint64_t read() {
        image_header_t header;
        int64_t levels[2];
        int code = image_read(images, &header, levels, 1);
        RL_ASSERT(code == RING_OK || code == ROW_BUSY);
        if (code != RING_OK) return 0;
        RL_ASSERT(header.generation == header.ring_position && levels[0] == (int64_t)header.ring_position &&
                  levels[1] == levels[0] && header.venue_sequence == levels[0] && header.recv_mono_ns == levels[0] &&
                  header.valid == 1 && header.tick_count == 1);
        return header.ring_position;
    }
};

struct image : race<image, 3> {
    enum { WRITES = 5 };
    image_memory shared;

    void before() {
        shared.write(1);
        shared.write(2);
    }
    void thread(unsigned index) {
        if (index == 0) {
            for (uint64_t position = 3; position <= WRITES; position++) shared.write(position);
            return;
        }
        uint64_t newest = 2;
        for (int i = 0; i < 3; i++) {
            uint64_t position = shared.read();
            RL_ASSERT(position == 0 || position >= newest);
            if (position != 0) newest = position;
        }
    }
    void after() { RL_ASSERT(shared.read() == WRITES); }
};

/* A writer killed inside an image leaves the other one, and its successor overwrites the torn one. */
struct image_death : race<image_death, 3> {
    image_memory shared;
    atomic_u64 reaped;

    void before() {
        shared.write(1);
        lives_left[0] = (int)rl::rand(24);
    }
    void thread(unsigned index) {
        if (index == 0) {
            try {
                shared.write(2);
                shared.write(3);
            } catch (killed) {
            }
            reaped.value.store(1, rl::mo_release, $);
        } else if (index == 1) {
            while (reaped.value.load(rl::mo_acquire, $) == 0) cpu_relax();
            uint64_t left = shared.read();
            RL_ASSERT(left >= 1 && left <= 3);
            shared.write(4);
            RL_ASSERT(shared.read() == 4);
        } else {
            shared.read();
        }
    }
    void after() { RL_ASSERT(shared.read() == 4); }
};

/* ---- bells ---- */

/* A consumer with two producers; it ends when it has seen what both published. A lost wake-up is a deadlock. */
template <class suite> struct bell : race<suite, 3> {
    process_row_t row;
    atomic_u64 published[2];

    void publish(unsigned producer, int eventfd) {
        for (int i = 0; i < 2; i++) {
            ATOMIC_STORE(&published[producer], ATOMIC_LOAD(&published[producer], RELAXED) + 1, RELAXED);
            bell_ring(&row, eventfd);
        }
    }
    bool seen_all() {
        uint64_t first = ATOMIC_LOAD(&published[0], RELAXED);
        return ATOMIC_LOAD(&published[1], RELAXED) == 2 && first == 2;
    }
};

struct bell_futex : bell<bell_futex> {
    void thread(unsigned index) {
        if (index < 2) {
            publish(index, -1);
            return;
        }
        for (;;) {
            uint64_t seen = bell_value(&row);
            if (seen_all()) return;
            bell_wait(&row, seen, rl::rand(2), 1);
        }
    }
};

struct bell_eventfd : bell<bell_eventfd> {
    void thread(unsigned index) {
        if (index < 2) {
            publish(index, 3);
            return;
        }
        while (!seen_all()) {
            bell_sleep(&row);
            if (!seen_all()) eventfd_read();
            bell_awake(&row);
        }
    }
};

/* ---- single words, and the header ---- */

struct cells : race<cells, 2> {
    atomic_u64 cell, data;
    unsigned how_changed, how_seen;

    void before() {
        how_changed = rl::rand(4);
        how_seen = rl::rand(4);
        ATOMIC_STORE(&cell, 2, RELAXED);
    }
    void thread(unsigned index) {
        if (index == 0) {
            ATOMIC_STORE(&data, 1, RELAXED);
            switch (how_changed) {
            case 0: cell_store(&cell, 5); break;
            case 1: cell_or(&cell, 1); break;
            case 2: cell_clear(&cell, 2); break;
            default: cell_add(&cell, 2);
            }
            return;
        }
        uint64_t found;
        switch (how_seen) {
        case 0: found = cell_load(&cell); break;
        case 1: found = cell_or(&cell, 8); break;
        case 2: found = cell_clear(&cell, 8); break;
        default: found = cell_add(&cell, 16);
        }
        RL_ASSERT(found == 2 || ATOMIC_LOAD(&data, RELAXED) == 1);
    }
};

struct arena_ready : race<arena_ready, 2> {
    arena_header_t header;

    void thread(unsigned index) {
        if (index == 0) {
            RL_ASSERT(arena_format(&header, UINT64_MAX, 3, 2, 77, 1) == ARENA_OK);
            return;
        }
        int code;
        while ((code = arena_check(&header, UINT64_MAX, 77)) == ARENA_NOT_AN_ARENA) cpu_relax();
        RL_ASSERT(code == ARENA_OK);
    }
};

/* ---- */

template <class suite> bool simulate(rl::test_params &params) { return rl::simulate<suite>(params); }

static const struct {
    const char *name;
    bool (*simulate)(rl::test_params &);
} suites[] = {
#define SUITE(name) {#name, simulate<name>}
    SUITE(broadcast_lap), SUITE(broadcast_batch), SUITE(broadcast_join), SUITE(broadcast_death),
    SUITE(message_flow),  SUITE(message_death),   SUITE(row),            SUITE(row_death),
    SUITE(image),         SUITE(image_death),     SUITE(bell_futex),     SUITE(bell_eventfd),
    SUITE(cells),         SUITE(arena_ready),
};

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        for (const auto &suite : suites) puts(suite.name);
        return 0;
    }
    if (argc < 3) {
        fprintf(stderr, "usage: race_model SUITE EXECUTIONS [MUTANT] | race_model list\n");
        return 2;
    }
    if (argc > 3) mutate = atoi(argv[3]);
    for (const auto &suite : suites) {
        if (strcmp(argv[1], suite.name) != 0) continue;
        /* The history of a failed execution is for whoever asks about the real program, not about a mutant. */
        std::ostream nowhere(nullptr);
        rl::test_params params;
        params.iteration_count = strtoull(argv[2], NULL, 10);
        params.output_stream = mutate == 0 ? &std::cerr : &nowhere;
        params.progress_stream = &nowhere;
        bool passed = suite.simulate(params);
        printf("%s in execution %llu\n", passed ? "nothing failed" : rl::test_result_str(params.test_result),
               (unsigned long long)params.stop_iteration);
        return passed ? 0 : 1;
    }
    fprintf(stderr, "race_model: no suite %s\n", argv[1]);
    return 2;
}
