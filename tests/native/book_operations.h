/* Random operations on a kernel book and on two plain arrays, compared after each.
 *
 * One operation is OPERATION_BYTES bytes, whoever makes them up: stress_kernels.c from a seeded generator, fuzz_book.c from
 * the fuzzer. Every byte string is a legal program; arguments are often, not always, legal ones. */
#ifndef COREQUOTE_TESTS_BOOK_OPERATIONS_H
#define COREQUOTE_TESTS_BOOK_OPERATIONS_H

#include <string.h>

#include "check.h"
#include "orderbook.h"

enum { OPERATION_BYTES = 16 };

typedef struct {
    orderbook_t *book;
    uint64_t memory_bytes; /* enough for every grid */
    int64_t lots[2][PRICE_GRID_TICKS_MAX];
    int64_t own[2][PRICE_GRID_TICKS_MAX];
    int32_t tick_count;
} book_pair_t;

static inline void pair_clear(int64_t (*ladders)[PRICE_GRID_TICKS_MAX], int32_t tick_count) {
    for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++)
        memset(ladders[side], 0, (size_t)tick_count * sizeof(int64_t));
}

static inline void pair_change_grid(book_pair_t *pair, uint8_t choice) {
    static const price_grid_t grids[] = {
        {101, 1, {{0, 101, 0, 100}}},
        {1001, 1, {{0, 1001, 0, 10}}},
        {10001, 1, {{0, 10001, 0, 1}}},
        {281, 3, {{0, 100, 0, 10}, {100, 80, 1000, 100}, {180, 101, 9000, 10}}},
    };
    const price_grid_t *grid = &grids[choice % 4];
    CHECK(orderbook_init(pair->book, pair->memory_bytes, grid) == ORDERBOOK_OK);
    pair_clear(pair->lots, pair->tick_count);
    pair_clear(pair->own, pair->tick_count);
    pair->tick_count = grid->tick_count;
}

static inline int64_t pair_seen(const book_pair_t *pair, int32_t view, int32_t side, int32_t tick) {
    int64_t total = pair->lots[side][tick];
    if (view == ORDERBOOK_TOTAL) return total;
    return total > pair->own[side][tick] ? total - pair->own[side][tick] : 0;
}

/* Everything the book says about itself, the slow way. */
static inline void pair_compare(const book_pair_t *pair) {
    static book_level_t levels[PRICE_GRID_TICKS_MAX];
    CHECK(orderbook_check(pair->book) == 0);
    uint64_t digest = 0;
    for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++) {
        for (int32_t tick = 0; tick < pair->tick_count; tick++)
            if (pair->lots[side][tick] != 0) digest += orderbook_digest_level(side, tick, pair->lots[side][tick]);
        for (int32_t view = ORDERBOOK_TOTAL; view <= ORDERBOOK_FOREIGN; view++) {
            int32_t count = orderbook_levels(pair->book, view, side, levels, PRICE_GRID_TICKS_MAX);
            int32_t index = 0;
            for (int32_t i = 0; i < pair->tick_count; i++) {
                int32_t tick = side == ORDERBOOK_ASK ? i : pair->tick_count - 1 - i;
                int64_t lots = pair_seen(pair, view, side, tick);
                if (lots == 0) continue;
                CHECK(index < count && levels[index].price_ticks == tick && levels[index].lots == lots);
                index++;
            }
            CHECK(index == count);
            CHECK(orderbook_best(pair->book, view, side) == (count ? levels[0].price_ticks : ORDERBOOK_NO_TICK));
        }
    }
    CHECK(orderbook_digest(pair->book) == digest);
}

static inline int pair_is_place(const book_pair_t *pair, int32_t side, int32_t tick) {
    return (side == ORDERBOOK_BID || side == ORDERBOOK_ASK) && tick > 0 && tick < pair->tick_count - 1;
}

static inline int pair_fits(const book_pair_t *pair, int32_t side, int32_t tick, int64_t lots) {
    int64_t sum = 0;
    for (int32_t i = 0; i < pair->tick_count; i++)
        if (i != tick) sum += pair->lots[side][i];
    return lots <= ORDERBOOK_LOTS_MAX - sum;
}

static inline void pair_set(book_pair_t *pair, int32_t side, int32_t tick, int64_t lots) {
    int32_t code = orderbook_set_level(pair->book, side, tick, lots);
    if (side != ORDERBOOK_BID && side != ORDERBOOK_ASK)
        CHECK(code == ORDERBOOK_SIDE_INVALID);
    else if (!pair_is_place(pair, side, tick))
        CHECK(code == ORDERBOOK_TICK_OUT_OF_RANGE);
    else if (lots < 0)
        CHECK(code == ORDERBOOK_SIZE_NEGATIVE);
    else if (lots > ((int64_t)1 << 40) && !pair_fits(pair, side, tick, lots))
        CHECK(code == ORDERBOOK_SIZE_OVERFLOW);
    else {
        CHECK(code == ORDERBOOK_OK || (code == ORDERBOOK_SIZE_OVERFLOW && !pair_fits(pair, side, tick, lots)));
        if (code == ORDERBOOK_OK) pair->lots[side][tick] = lots;
        CHECK(orderbook_level(pair->book, ORDERBOOK_TOTAL, side, tick) == pair->lots[side][tick]);
    }
}

static inline void pair_add(book_pair_t *pair, int32_t side, int32_t tick, int64_t change) {
    int32_t code = orderbook_add_level(pair->book, side, tick, change);
    CHECK((code == ORDERBOOK_SIDE_INVALID || code == ORDERBOOK_TICK_OUT_OF_RANGE) == !pair_is_place(pair, side, tick));
    if (!pair_is_place(pair, side, tick)) return;
    int64_t before = pair->lots[side][tick];
    CHECK((code == ORDERBOOK_SIZE_NEGATIVE) == (change < -before));
    if (code == ORDERBOOK_OK) pair->lots[side][tick] = before + change;
    if (code == ORDERBOOK_SIZE_OVERFLOW)
        CHECK(change > 0 && (change > ORDERBOOK_LOTS_MAX - before || !pair_fits(pair, side, tick, before + change)));
    CHECK(orderbook_level(pair->book, ORDERBOOK_TOTAL, side, tick) == pair->lots[side][tick]);
}

static inline void pair_query(const book_pair_t *pair, int32_t view, int32_t side, int32_t limit, int64_t lots) {
    book_depth_t depth;
    book_depth_t all;
    int legal = (view == 0 || view == 1) && (side == 0 || side == 1);
    CHECK((orderbook_depth(pair->book, view, side, limit, &depth) == ORDERBOOK_OK) == (legal && limit >= 1));
    CHECK((orderbook_depth_within(pair->book, view, side, limit, &depth) == ORDERBOOK_OK) == (legal && limit >= 0));
    CHECK((orderbook_depth_to_lots(pair->book, view, side, lots, &depth) == ORDERBOOK_OK) == (legal && lots >= 1));
    if (!legal || lots < 1) return;
    CHECK(orderbook_depth(pair->book, view, side, INT32_MAX, &all) == ORDERBOOK_OK);
    CHECK(depth.lots == (all.lots < lots ? all.lots : lots));
    CHECK(depth.level_count <= all.level_count);
    int32_t cross = orderbook_cross(pair->book, view);
    CHECK(cross >= ORDERBOOK_CROSS_NONE && cross <= ORDERBOOK_CROSS_CROSSED);
}

static inline void pair_reload(book_pair_t *pair, uint8_t damage) {
    static int64_t bids[PRICE_GRID_TICKS_MAX];
    static int64_t asks[PRICE_GRID_TICKS_MAX];
    CHECK(orderbook_export(pair->book, bids, asks, pair->tick_count) == ORDERBOOK_OK);
    CHECK(memcmp(bids, pair->lots[ORDERBOOK_BID], (size_t)pair->tick_count * sizeof(int64_t)) == 0);
    CHECK(memcmp(asks, pair->lots[ORDERBOOK_ASK], (size_t)pair->tick_count * sizeof(int64_t)) == 0);
    uint64_t digest = orderbook_digest(pair->book);
    int32_t expected = ORDERBOOK_OK;
    if (damage == 1) {
        bids[0] = 1;
        expected = ORDERBOOK_IMAGE_INVALID;
    } else if (damage == 2) {
        asks[1] = -1;
        expected = ORDERBOOK_SIZE_NEGATIVE;
    } else if (damage == 3) {
        asks[1] = ORDERBOOK_LOTS_MAX;
        asks[2] = 1;
        expected = ORDERBOOK_SIZE_OVERFLOW;
    }
    CHECK(orderbook_load(pair->book, bids, asks, pair->tick_count) == expected);
    CHECK(orderbook_digest(pair->book) == digest);
}

/* Sizes people trade, sizes at the limit, and nonsense. */
static inline int64_t operation_lots(uint8_t kind, int64_t raw) {
    if (kind < 64) return 0;
    if (kind < 224) return raw & 0xffff;
    if (kind < 240) return (ORDERBOOK_LOTS_MAX >> 1) - 2 + (raw & 3);
    return raw;
}

static inline void book_operation(book_pair_t *pair, const uint8_t *bytes) {
    int64_t raw;
    int32_t wild;
    memcpy(&raw, bytes + 8, sizeof raw);
    memcpy(&wild, bytes + 4, sizeof wild);
    int32_t side = bytes[1] & 1;
    /* Close to the middle, so that levels meet. */
    int32_t tick = pair->tick_count / 2 + bytes[2] % 32 - 16;
    if (bytes[1] & 2) tick = (int32_t)((uint32_t)wild % (uint32_t)pair->tick_count);
    int64_t lots = operation_lots(bytes[3], raw);
    uint8_t kind = bytes[0];
    if (kind < 128) {
        pair_set(pair, side, tick, lots);
    } else if (kind < 176) {
        pair_add(pair, side, tick, bytes[1] & 4 ? -(lots & INT64_MAX) : lots);
    } else if (kind < 200) {
        int32_t code = orderbook_set_own(pair->book, side, tick, lots);
        CHECK((code == ORDERBOOK_OK) == (pair_is_place(pair, side, tick) && lots >= 0 && lots <= ORDERBOOK_LOTS_MAX));
        if (code == ORDERBOOK_OK) pair->own[side][tick] = lots;
    } else if (kind < 230) {
        pair_query(pair, bytes[1] >> 2 & 1, side, bytes[2], lots);
    } else if (kind < 240) {
        pair_set(pair, wild, (int32_t)raw, raw);
        pair_add(pair, bytes[1], wild, raw);
        pair_query(pair, wild, bytes[2], (int32_t)raw, raw);
    } else if (kind < 248) {
        book_delta_t deltas[2] = {{tick, (int16_t)side, BOOK_DELTA_SET, lots & 0xffff}, {wild, bytes[1], bytes[2], raw}};
        int32_t code;
        int32_t applied = orderbook_apply(pair->book, deltas, 1, &code);
        CHECK((applied == 1) == (code == ORDERBOOK_OK));
        if (applied == 1) pair->lots[side][tick] = lots & 0xffff;
        CHECK(orderbook_apply(pair->book, deltas + 1, -1, &code) == 0 && code == ORDERBOOK_ARGUMENT_INVALID);
        if (pair_is_place(pair, bytes[1], wild)) return; /* covered by set and add */
        CHECK(orderbook_apply(pair->book, deltas + 1, 1, &code) == 0 && code != ORDERBOOK_OK);
    } else if (kind < 252) {
        pair_reload(pair, bytes[1]);
    } else if (kind == 252) {
        orderbook_clear(pair->book);
        pair_clear(pair->lots, pair->tick_count);
    } else if (kind == 253) {
        orderbook_clear_own(pair->book);
        pair_clear(pair->own, pair->tick_count);
    } else if (kind == 254) {
        pair_change_grid(pair, bytes[1]);
    } else {
        pair_compare(pair);
    }
}

#endif
