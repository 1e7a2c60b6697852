/* The order book kernel: one dense price ladder per side over a market's price grid.
 *
 * Why dense: a binary market has 99 price levels (a fine venue at most 9,999), so a level is an array cell,
 * the best price is a find-first-set in a two-level occupancy bitmap, and nothing is ever allocated, hashed or
 * rebalanced. Sizes are integer lots, prices are tick indexes; a volume-weighted price is a ratio of integers
 * and becomes a fraction only where somebody prints it.
 *
 * Memory, one block owned by the caller (orderbook_bytes(tick_count) long, 8-byte aligned):
 *
 *   orderbook_t  | header, metrics, grid, per side: totals and bitmap
 *   cells[]      | bid lots | ask lots | own bid lots | own ask lots | bid prices | ask prices |, n words each
 *
 * Inside, both sides are stored best-first: a *rank* counts upwards from the best conceivable price of its side
 * (ask: rank = tick, bid: rank = last tick - tick), so one code path serves both and "better" is always "lower".
 * Ranks never leave the kernel; every function speaks ticks.
 *
 * Rules that hold after every call (orderbook_check() verifies them all):
 *   - a level's lots are >= 0, the sum of one side's lots is <= ORDERBOOK_LOTS_MAX, so no sum of lots overflows;
 *   - only the ticks 1 .. tick_count-2 hold size: the first and the last tick are the grid's bounds
 *     (0 and 100 cents on the cents grid, where a tick index therefore equals the price in cents);
 *   - metrics describe exactly the levels in the cells.
 *
 * Bad input is answered with a negative code and changes nothing. A broken invariant or a block that was never
 * initialised is an assertion, on in release builds too.
 *
 * Not thread safe: one owner, as for every structure in this engine. The same text is read by cffi, preprocessed
 * with -DCFFI_CDEF, hence no includes and no assertions there.
 */
#ifndef COREQUOTE_ORDERBOOK_H
#define COREQUOTE_ORDERBOOK_H

#ifndef CFFI_CDEF
#include <stddef.h>
#include <stdint.h>
#endif

enum {
    ORDERBOOK_BID = 0,
    ORDERBOOK_ASK = 1
};

/* Which sizes a query counts. */
enum {
    ORDERBOOK_TOTAL = 0,  /* everything that rests on the level */
    ORDERBOOK_FOREIGN = 1 /* max(0, total - own): the book without our own orders (market-making.md 3.2) */
};

enum {
    ORDERBOOK_OK = 0,
    ORDERBOOK_TICK_OUT_OF_RANGE = -1,
    ORDERBOOK_SIZE_NEGATIVE = -2,
    ORDERBOOK_SIZE_OVERFLOW = -3, /* the side's sum would exceed ORDERBOOK_LOTS_MAX */
    ORDERBOOK_SIDE_INVALID = -4,
    ORDERBOOK_GRID_INVALID = -5,
    ORDERBOOK_MEMORY_INVALID = -6, /* too small, null or not 8-byte aligned */
    ORDERBOOK_IMAGE_INVALID = -7,  /* array of another grid, or size on a bound */
    ORDERBOOK_ARGUMENT_INVALID = -8
};

enum {
    ORDERBOOK_CROSS_NONE = 0, /* best bid < best ask, or a side is empty */
    ORDERBOOK_CROSS_LOCKED = 1,
    ORDERBOOK_CROSS_CROSSED = 2
};

enum {
    PRICE_GRID_SEGMENTS_MAX = 8,
    PRICE_GRID_TICKS_MIN = 3,
    PRICE_GRID_TICKS_MAX = 10001,
    ORDERBOOK_NO_TICK = -1,
    ORDERBOOK_TOP_LEVELS = 3,       /* depth of the metrics kept up to date */
    ORDERBOOK_BITMAP_WORDS = 157,   /* ceil(10001 / 64) */
    ORDERBOOK_SUMMARY_WORDS = 3     /* ceil(157 / 64) */
};

#ifndef CFFI_CDEF
/* Largest sum of lots on one side: no depth of this book can overflow int64_t. */
#define ORDERBOOK_LOTS_MAX ((int64_t)1 << 62)
#endif

/* A run of equally spaced ticks: tick start_tick + k costs start_price_e4 + k * step_e4, k < tick_count.
 * Price unit: 1/10,000 dollar, so one cent is 100 and a pair's payout is 10,000. */
typedef struct {
    int32_t start_tick;
    int32_t tick_count;
    int32_t start_price_e4;
    int32_t step_e4;
} price_segment_t;

/* A market's legal prices. Segments follow each other without a gap in ticks and with rising prices; unused ones
 * are ignored. tick_count is the sum over the segments, bounds included. */
typedef struct {
    int32_t tick_count;
    int32_t segment_count;
    price_segment_t segments[8];
} price_grid_t;

/* What changed on one level. ADD is a signed change of the present total, SET the new total (0 removes). */
enum {
    BOOK_DELTA_SET = 0,
    BOOK_DELTA_ADD = 1
};
typedef struct {
    int32_t price_ticks;
    int16_t side; /* ORDERBOOK_BID or ORDERBOOK_ASK */
    int16_t kind; /* BOOK_DELTA_SET or BOOK_DELTA_ADD */
    int64_t lots;
} book_delta_t;

typedef struct {
    int32_t price_ticks;
    int32_t reserved; /* 0 */
    int64_t lots;
} book_level_t;

/* Sum over some levels of one side, best first. VWAP in 1/10,000 dollar = value / lots, where
 * value = sum of price_e4 * lots = value_high * 2^64 + value_low. Empty: all 0 and worst_ticks = ORDERBOOK_NO_TICK. */
typedef struct {
    int64_t lots;
    uint64_t value_low;
    uint64_t value_high;
    int32_t level_count;
    int32_t worst_ticks; /* the last level counted */
} book_depth_t;

/* Kept exact after every change, for one side: the best price and the sums over its best three levels. */
typedef struct {
    int32_t best_ticks;  /* ORDERBOOK_NO_TICK when the side is empty */
    int32_t level_count; /* levels with size on this side, the whole ladder */
    book_depth_t top;    /* the best min(3, level_count) levels */
} book_side_metrics_t;

typedef struct {
    book_side_metrics_t bid;
    book_side_metrics_t ask;
} book_metrics_t;

/* Private to the kernel: occupancy by rank (bit set = level has size) and its summary (bit set = word not 0). A whole
 * number of cache lines, and what a change of a 99-tick book needs of it is the first. */
typedef struct {
    int64_t lots_sum;
    int32_t level_count;
    int32_t reserved; /* 0 */
    uint64_t summary[3];
    uint64_t occupied[157];
    uint64_t padding[6];
} book_side_t;

/* In a block that begins at a cache line, every change of a 99-tick book and every look at its best levels reads the
 * first two lines and the first line of a side; levels apart. */
typedef struct {
    uint64_t magic;
    int32_t tick_count;
    int32_t reserved;
    book_metrics_t metrics;
    price_grid_t grid; /* the second line ends with its first segment */
    uint64_t padding[3];
    book_side_t sides[2];
    int64_t cells[];
} orderbook_t;

/* --- price grid --- */

/* The platform's grid: 101 ticks, tick = price in cents, 1..99 tradable. */
void price_grid_cents(price_grid_t *grid);

/* ORDERBOOK_OK, or ORDERBOOK_GRID_INVALID: 1..8 segments, contiguous from tick 0, rising prices >= 0 with
 * step >= 1, PRICE_GRID_TICKS_MIN..PRICE_GRID_TICKS_MAX ticks in all, prices within int32_t. */
int32_t price_grid_check(const price_grid_t *grid);

/* Price of a tick, or -1 outside the grid. The grid must have passed price_grid_check(). */
int32_t price_grid_tick_to_price_e4(const price_grid_t *grid, int32_t price_ticks);

/* Tick of a price, or ORDERBOOK_NO_TICK for a price that is not on the grid. */
int32_t price_grid_price_e4_to_tick(const price_grid_t *grid, int32_t price_e4);

/* --- life --- */

/* Bytes a book over tick_count ticks needs; 0 for a tick_count the kernel does not hold. */
uint64_t orderbook_bytes(int32_t tick_count);

/* Makes an empty book in memory, which is an orderbook_t from then on. Calling it again on the same block is how a
 * market changes its grid. Codes: MEMORY_INVALID, GRID_INVALID. */
int32_t orderbook_init(void *memory, uint64_t memory_bytes, const price_grid_t *grid);

/* Removes all levels; own sizes stay, because they are ours and not the feed's. */
void orderbook_clear(orderbook_t *book);

/* --- caches ---
 *
 * For callers with many books, who know which one is next: hints that change nothing. The first is for what every
 * change of a book and every look at its best levels reads; the second for the neighbourhood of one level. */
void orderbook_prefetch(const orderbook_t *book);
void orderbook_prefetch_level(const orderbook_t *book, int32_t price_ticks);

/* --- change --- */

/* New total of a level, 0 removes it; removing an absent level is normal. Codes: SIDE_INVALID, TICK_OUT_OF_RANGE,
 * SIZE_NEGATIVE, SIZE_OVERFLOW. */
int32_t orderbook_set_level(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots);

/* Signed change of a level's total (Kalshi). Codes as above; SIZE_NEGATIVE when the level would fall below 0. */
int32_t orderbook_add_level(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots_change);

/* Applies deltas in order and returns how many were applied: delta_count, or the index of the first refused one,
 * whose code is then in *code (ORDERBOOK_OK otherwise). The earlier ones stay applied, so a caller that sees a
 * refusal starts a new generation of the book. Refused as a whole for delta_count < 0. */
int32_t orderbook_apply(orderbook_t *book, const book_delta_t *deltas, int32_t delta_count, int32_t *code);

/* Our own resting size on a level, absolute. It may exceed the level's total while messages are under way. */
int32_t orderbook_set_own(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots);
void orderbook_clear_own(orderbook_t *book);

/* --- read: levels --- */

/* Lots on a level; 0 for an empty one, a negative code for a bad side or tick. */
int64_t orderbook_level(const orderbook_t *book, int32_t view, int32_t side, int32_t price_ticks);
int64_t orderbook_own(const orderbook_t *book, int32_t side, int32_t price_ticks);

/* Best tick, or ORDERBOOK_NO_TICK for an empty side (or a bad argument). */
int32_t orderbook_best(const orderbook_t *book, int32_t view, int32_t side);

/* Copies the best levels, best first, at most level_max of them; returns how many, or a negative code. */
int32_t orderbook_levels(const orderbook_t *book, int32_t view, int32_t side, book_level_t *levels,
                         int32_t level_max);

/* --- read: sums --- */

/* The metrics of the total view, always up to date; the pointer stays valid as long as the block. */
const book_metrics_t *orderbook_metrics(const orderbook_t *book);

/* Sums over the best level_max levels (>= 1) of a side. */
int32_t orderbook_depth(const orderbook_t *book, int32_t view, int32_t side, int32_t level_max, book_depth_t *depth);

/* What taking `lots` (>= 1) from a side would meet: the last level counts in part. depth->lots < lots when the side
 * holds less. */
int32_t orderbook_depth_to_lots(const orderbook_t *book, int32_t view, int32_t side, int64_t lots,
                                book_depth_t *depth);

/* Sums over the levels at most tick_distance (>= 0) ticks behind the side's best level. */
int32_t orderbook_depth_within(const orderbook_t *book, int32_t view, int32_t side, int32_t tick_distance,
                               book_depth_t *depth);

/* ORDERBOOK_CROSS_NONE, _LOCKED or _CROSSED, from the best prices of the view. */
int32_t orderbook_cross(const orderbook_t *book, int32_t view);

/* --- whole ladder --- */

/* Writes both ladders densely by tick: bids[tick_count], asks[tick_count]. tick_count must be the grid's. */
int32_t orderbook_export(const orderbook_t *book, int64_t *bids, int64_t *asks, int32_t tick_count);

/* Replaces all levels by dense arrays as orderbook_export() writes them; own sizes stay. Everything is validated
 * first: on IMAGE_INVALID, SIZE_NEGATIVE or SIZE_OVERFLOW the book is unchanged. */
int32_t orderbook_load(orderbook_t *book, const int64_t *bids, const int64_t *asks, int32_t tick_count);

/* Fingerprint of all (side, tick, lots) with lots > 0: the sum modulo 2^64 of orderbook_digest_level() over them.
 * Independent of history, 0 for an empty book, own sizes not included. */
uint64_t orderbook_digest(const orderbook_t *book);

/* x = lots * 0x9E3779B97F4A7C15 + (2 * tick + side + 1) * 0xD1B54A32D192ED03, all modulo 2^64, then
 * x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB; x ^= x >> 31. */
uint64_t orderbook_digest_level(int32_t side, int32_t price_ticks, int64_t lots);

/* Recomputes everything the slow way. 0 when all rules hold, else the number of the first broken one:
 * 1 header and grid, 2 negative level, 3 size on a bound, 4 bitmap, 5 summary, 6 level count, 7 sum of lots,
 * 8 metrics, 9 price table, 10 own size. For tests, fuzzing and post-mortems. */
int32_t orderbook_check(const orderbook_t *book);

#ifndef CFFI_CDEF
_Static_assert(sizeof(price_segment_t) == 16, "price_segment_t is part of the shared layout");
_Static_assert(sizeof(price_grid_t) == 8 + 8 * 16, "price_grid_t is part of the shared layout");
_Static_assert(offsetof(price_grid_t, segments) == 8, "price_grid_t is part of the shared layout");
_Static_assert(sizeof(book_delta_t) == 16, "four deltas per cache line");
_Static_assert(sizeof(book_level_t) == 16, "no hidden padding");
_Static_assert(sizeof(book_depth_t) == 32, "no hidden padding");
_Static_assert(sizeof(book_metrics_t) == 2 * sizeof(book_side_metrics_t), "bid and ask follow each other");
_Static_assert(sizeof(book_side_metrics_t) == 40, "no hidden padding");
_Static_assert(ORDERBOOK_BITMAP_WORDS * 64 >= PRICE_GRID_TICKS_MAX, "one bit per tick");
_Static_assert(ORDERBOOK_SUMMARY_WORDS * 64 >= ORDERBOOK_BITMAP_WORDS, "one bit per bitmap word");
_Static_assert(sizeof(((book_side_t *)0)->occupied) == ORDERBOOK_BITMAP_WORDS * 8, "cdef repeats the length");
_Static_assert(sizeof(((book_side_t *)0)->summary) == ORDERBOOK_SUMMARY_WORDS * 8, "cdef repeats the length");
_Static_assert(offsetof(orderbook_t, grid) + offsetof(price_grid_t, segments) + sizeof(price_segment_t) <= 128,
               "the two lines that every change reads");
_Static_assert(offsetof(orderbook_t, sides) % 64 == 0, "a side begins a line");
_Static_assert(sizeof(book_side_t) % 64 == 0, "so that the next one does");
_Static_assert(offsetof(orderbook_t, cells) % 8 == 0, "cells are 8-byte words");
#endif

#endif /* COREQUOTE_ORDERBOOK_H */
