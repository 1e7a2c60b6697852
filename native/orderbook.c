#include "orderbook.h"

#include <assert.h>
#include <string.h>

/* "corebook" in ASCII: tells a book from memory nobody initialised. */
#define ORDERBOOK_MAGIC UINT64_C(0x636f7265626f6f6b)
#define RANK_NONE INT32_MAX

__extension__ typedef unsigned __int128 wide_t;

/* Rows of cells[], tick_count cells each, indexed by rank: the bid's, then the ask's. */
enum { ROW_LOTS = 0, ROW_OWN = 2, ROW_PRICE_E4 = 4, ROW_COUNT = 6 };

/* ------------------------------------------------------------------ price grid */

void price_grid_cents(price_grid_t *grid) {
    memset(grid, 0, sizeof *grid);
    grid->tick_count = 101;
    grid->segment_count = 1;
    grid->segments[0].tick_count = 101;
    grid->segments[0].step_e4 = 100;
}

int32_t price_grid_check(const price_grid_t *grid) {
    if (grid->segment_count < 1 || grid->segment_count > PRICE_GRID_SEGMENTS_MAX) return ORDERBOOK_GRID_INVALID;
    int64_t ticks = 0;
    int64_t last_price_e4 = -1;
    for (int32_t i = 0; i < grid->segment_count; i++) {
        const price_segment_t *segment = &grid->segments[i];
        if (segment->start_tick != ticks || segment->tick_count < 1 || segment->tick_count > PRICE_GRID_TICKS_MAX ||
            segment->step_e4 < 1 || segment->start_price_e4 <= last_price_e4)
            return ORDERBOOK_GRID_INVALID;
        ticks += segment->tick_count;
        last_price_e4 = segment->start_price_e4 + (int64_t)(segment->tick_count - 1) * segment->step_e4;
        if (last_price_e4 > INT32_MAX) return ORDERBOOK_GRID_INVALID;
    }
    if (ticks != grid->tick_count || ticks < PRICE_GRID_TICKS_MIN || ticks > PRICE_GRID_TICKS_MAX)
        return ORDERBOOK_GRID_INVALID;
    return ORDERBOOK_OK;
}

int32_t price_grid_tick_to_price_e4(const price_grid_t *grid, int32_t price_ticks) {
    for (int32_t i = 0; i < grid->segment_count; i++) {
        const price_segment_t *segment = &grid->segments[i];
        int64_t offset = (int64_t)price_ticks - segment->start_tick;
        if (offset >= 0 && offset < segment->tick_count)
            return segment->start_price_e4 + (int32_t)offset * segment->step_e4;
    }
    return -1;
}

int32_t price_grid_price_e4_to_tick(const price_grid_t *grid, int32_t price_e4) {
    for (int32_t i = 0; i < grid->segment_count; i++) {
        const price_segment_t *segment = &grid->segments[i];
        int64_t offset = (int64_t)price_e4 - segment->start_price_e4;
        if (offset >= 0 && offset / segment->step_e4 < segment->tick_count)
            return offset % segment->step_e4 == 0 ? segment->start_tick + (int32_t)(offset / segment->step_e4)
                                                  : ORDERBOOK_NO_TICK;
    }
    return ORDERBOOK_NO_TICK;
}

/* ------------------------------------------------------------------ cells and ranks */

static inline void assert_book(const orderbook_t *book) {
    assert(book != NULL && book->magic == ORDERBOOK_MAGIC);
}

static inline int is_side(int32_t side) {
    return side == ORDERBOOK_BID || side == ORDERBOOK_ASK;
}

static inline int is_view(int32_t view) {
    return view == ORDERBOOK_TOTAL || view == ORDERBOOK_FOREIGN;
}

/* Bounds excluded: the first and the last tick never hold size. */
static inline int is_level_tick(const orderbook_t *book, int32_t price_ticks) {
    return (uint32_t)price_ticks - 1 < (uint32_t)book->tick_count - 2;
}

/* ask: tick, bid: tick_count - 1 - tick = ~tick + tick_count; in one formula because the side of the next message is
 * as good as random. Its own inverse. */
static inline int32_t rank_of(const orderbook_t *book, int32_t side, int32_t price_ticks) {
    int32_t bid_mask = side - ORDERBOOK_ASK;
    return (price_ticks ^ bid_mask) + (book->tick_count & bid_mask);
}

static inline int64_t *row(orderbook_t *book, int32_t index) {
    return book->cells + (size_t)(uint32_t)index * (uint32_t)book->tick_count;
}

static inline const int64_t *row_const(const orderbook_t *book, int32_t index) {
    return book->cells + (size_t)(uint32_t)index * (uint32_t)book->tick_count;
}

/* ------------------------------------------------------------------ occupancy bitmap */

/* The bit without a branch, for whether a change fills or empties its level is what no predictor can know; the summary
 * with one, for a word of 64 ranks seldom appears or goes. */
static inline void mark(book_side_t *side, uint32_t rank, uint64_t is_occupied) {
    uint64_t *word = &side->occupied[rank >> 6];
    uint64_t before = *word;
    uint64_t after = (before & ~(UINT64_C(1) << (rank & 63))) | is_occupied << (rank & 63);
    *word = after;
    if ((before & after) != 0) return; /* they differ in one bit at most, so one of them is 0 or both share a level */
    uint64_t *words = &side->summary[rank >> 12];
    uint32_t place = rank >> 6 & 63;
    *words = (*words & ~(UINT64_C(1) << place)) | (uint64_t)(after != 0) << place;
}

/* First occupied word at or after `word`, or -1. */
static inline int32_t next_word(const book_side_t *side, uint32_t word) {
    uint64_t mask = ~UINT64_C(0) << (word & 63);
    for (uint32_t index = word >> 6; index < ORDERBOOK_SUMMARY_WORDS; index++) {
        uint64_t bits = side->summary[index] & mask;
        if (bits != 0) return (int32_t)(index * 64) + __builtin_ctzll(bits);
        mask = ~UINT64_C(0);
    }
    return -1;
}

/* First occupied rank at or after `rank` (< 64 * ORDERBOOK_BITMAP_WORDS), or RANK_NONE. */
static inline int32_t next_rank(const book_side_t *side, int32_t rank) {
    uint32_t word = (uint32_t)rank >> 6;
    uint64_t bits = side->occupied[word] & (~UINT64_C(0) << (rank & 63));
    if (bits == 0) {
        int32_t found = next_word(side, word + 1);
        if (found < 0) return RANK_NONE;
        word = (uint32_t)found;
        bits = side->occupied[word];
    }
    return (int32_t)(word * 64) + __builtin_ctzll(bits);
}

/* ------------------------------------------------------------------ sums */

static inline void depth_set_value(book_depth_t *depth, wide_t value) {
    depth->value_low = (uint64_t)value;
    depth->value_high = (uint64_t)(value >> 64);
}

static inline wide_t notional(int64_t price_e4, int64_t lots) {
    return (wide_t)(uint64_t)price_e4 * (uint64_t)lots;
}

/* Ranks of the best three levels; 0, a bound and thus without size, for those that do not exist. */
typedef struct {
    uint32_t first;
    uint32_t second;
    uint32_t third;
} top_ranks_t;

/* Where one side's things are. */
typedef struct {
    book_side_t *state;
    book_side_metrics_t *metrics;
    int64_t *lots; /* by rank */
} side_places_t;

/* Makes the compiler compute an address once and keep it. It would rather add it up again at every use, which is a
 * sixth of all instructions of a change. */
#define KEEP_ADDRESS(pointer) __asm__("" : "+r"(pointer))

static inline side_places_t places_of(orderbook_t *book, int32_t side) {
    side_places_t places = {.state = &book->sides[side],
                            .metrics = &book->metrics.bid + side, /* the ask's follow: asserted in the header */
                            .lots = row(book, ROW_LOTS + side)};
    KEEP_ADDRESS(places.state);
    KEEP_ADDRESS(places.metrics);
    KEEP_ADDRESS(places.lots);
    return places;
}

static inline void store_top(const orderbook_t *book, int32_t side, side_places_t places, top_ranks_t ranks,
                             int32_t count, uint32_t worst_rank) {
    const int64_t *lots = places.lots;
    const int64_t *price_e4 = lots + (ROW_PRICE_E4 - ROW_LOTS) * (size_t)(uint32_t)book->tick_count;
    book_side_metrics_t *metrics = places.metrics;
    assert(worst_rank < (uint32_t)book->tick_count);
    metrics->best_ticks = rank_of(book, side, (int32_t)ranks.first);
    metrics->level_count = places.state->level_count;
    metrics->top.lots = lots[ranks.first] + lots[ranks.second] + lots[ranks.third];
    depth_set_value(&metrics->top, notional(price_e4[ranks.first], lots[ranks.first]) +
                                       notional(price_e4[ranks.second], lots[ranks.second]) +
                                       notional(price_e4[ranks.third], lots[ranks.third]));
    metrics->top.level_count = count;
    metrics->top.worst_ticks = rank_of(book, side, (int32_t)worst_rank);
}

/* A side with few or far levels: they are found one by one. */
static __attribute__((noinline)) void refresh_sparse_top(orderbook_t *book, int32_t side) {
    side_places_t places = places_of(book, side);
    uint32_t ranks[ORDERBOOK_TOP_LEVELS] = {0};
    uint32_t rank = 0;
    int32_t count = 0;
    for (; count < ORDERBOOK_TOP_LEVELS && count < places.state->level_count; count++)
        ranks[count] = rank = (uint32_t)next_rank(places.state, (int32_t)rank + 1);
    store_top(book, side, places, (top_ranks_t){ranks[0], ranks[1], ranks[2]}, count, rank);
    if (count == 0) places.metrics->best_ticks = places.metrics->top.worst_ticks = ORDERBOOK_NO_TICK;
}

/* Metrics of one side from its bitmap. The usual case has no branch that depends on where the levels are, for no
 * predictor could learn it: the 64 ranks from the best one on are one word, whichever two words they straddle. */
static inline __attribute__((always_inline)) void refresh_top(orderbook_t *book, int32_t side, side_places_t places) {
    uint64_t summary = places.state->summary[0];
    if (summary == 0) {
        refresh_sparse_top(book, side);
        return;
    }
    uint32_t word = (uint32_t)__builtin_ctzll(summary);
    const uint64_t *words = &places.state->occupied[word];
    uint32_t shift = (uint32_t)__builtin_ctzll(words[0]);
    /* words[1] exists: summary[0] covers 64 of the 157 words. */
    uint64_t from_first = (uint64_t)(((wide_t)words[1] << 64 | words[0]) >> (shift & 63));
    uint64_t from_second = from_first & (from_first - 1);
    uint64_t from_third = from_second & (from_second - 1);
    if (from_third == 0) {
        refresh_sparse_top(book, side);
        return;
    }
    uint32_t first = word * 64 + shift;
    uint32_t third = first + (uint32_t)__builtin_ctzll(from_third);
    top_ranks_t ranks = {first, first + (uint32_t)__builtin_ctzll(from_second), third};
    store_top(book, side, places, ranks, ORDERBOOK_TOP_LEVELS, third);
}

/* ------------------------------------------------------------------ caches */

static inline void prefetch_line(const void *address) {
    __builtin_prefetch(address);
}

void orderbook_prefetch(const orderbook_t *book) {
    prefetch_line(book);
    prefetch_line(&book->grid);
    prefetch_line(&book->sides[ORDERBOOK_BID]);
    prefetch_line(&book->sides[ORDERBOOK_ASK]);
}

void orderbook_prefetch_level(const orderbook_t *book, int32_t price_ticks) {
    if (!is_level_tick(book, price_ticks)) return;
    for (int32_t index = 0; index < ROW_COUNT; index++)
        prefetch_line(row_const(book, index) + rank_of(book, index & 1, price_ticks));
}

/* ------------------------------------------------------------------ life */

uint64_t orderbook_bytes(int32_t tick_count) {
    if (tick_count < PRICE_GRID_TICKS_MIN || tick_count > PRICE_GRID_TICKS_MAX) return 0;
    return sizeof(orderbook_t) + (uint64_t)tick_count * ROW_COUNT * sizeof(int64_t);
}

int32_t orderbook_init(void *memory, uint64_t memory_bytes, const price_grid_t *grid) {
    if (grid == NULL || price_grid_check(grid) != ORDERBOOK_OK) return ORDERBOOK_GRID_INVALID;
    uint64_t bytes = orderbook_bytes(grid->tick_count);
    if (memory == NULL || ((uintptr_t)memory & 7) != 0 || memory_bytes < bytes) return ORDERBOOK_MEMORY_INVALID;
    price_grid_t kept = *grid; /* grid may lie in the block that is about to be cleared */
    memset(memory, 0, bytes);
    orderbook_t *book = memory;
    book->tick_count = kept.tick_count;
    book->grid = kept;
    for (int32_t tick = 0; tick < kept.tick_count; tick++) {
        int32_t price_e4 = price_grid_tick_to_price_e4(&kept, tick);
        for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++)
            row(book, ROW_PRICE_E4 + side)[rank_of(book, side, tick)] = price_e4;
    }
    book->magic = ORDERBOOK_MAGIC;
    refresh_sparse_top(book, ORDERBOOK_BID);
    refresh_sparse_top(book, ORDERBOOK_ASK);
    return ORDERBOOK_OK;
}

static void clear_side(orderbook_t *book, int32_t side) {
    memset(row(book, ROW_LOTS + side), 0, (size_t)book->tick_count * sizeof(int64_t));
    memset(&book->sides[side], 0, sizeof book->sides[side]);
}

void orderbook_clear(orderbook_t *book) {
    assert_book(book);
    for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++) {
        clear_side(book, side);
        refresh_sparse_top(book, side);
    }
}

/* ------------------------------------------------------------------ change */

/* side and price_ticks are checked, lots is any value. Always recomputes the touched side's metrics and never the
 * other's: finding out whether they changed costs a mispredicted branch, which is more. */
static inline __attribute__((always_inline)) int32_t set_checked(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots) {
    if (lots < 0) return ORDERBOOK_SIZE_NEGATIVE;
    side_places_t places = places_of(book, side);
    uint32_t rank = (uint32_t)rank_of(book, side, price_ticks);
    int64_t before = places.lots[rank];
    int64_t others = places.state->lots_sum - before;
    assert(others >= 0);
    uint64_t sum = (uint64_t)others + (uint64_t)lots;
    if (sum > (uint64_t)ORDERBOOK_LOTS_MAX) return ORDERBOOK_SIZE_OVERFLOW;
    places.lots[rank] = lots;
    places.state->lots_sum = (int64_t)sum;
    uint64_t is_occupied = lots != 0;
    places.state->level_count += (int32_t)is_occupied - (before != 0);
    mark(places.state, rank, is_occupied);
    refresh_top(book, side, places);
    return ORDERBOOK_OK;
}

/* The total a signed change leads to, in *lots. Nothing overflows: totals are 0 .. ORDERBOOK_LOTS_MAX. */
static inline int32_t add_to_level(const orderbook_t *book, int32_t side, int32_t price_ticks, int64_t *lots) {
    int64_t before = row_const(book, ROW_LOTS + side)[rank_of(book, side, price_ticks)];
    if (*lots > ORDERBOOK_LOTS_MAX - before) return ORDERBOOK_SIZE_OVERFLOW;
    *lots += before;
    return ORDERBOOK_OK;
}

static inline int32_t check_place(const orderbook_t *book, int32_t side, int32_t price_ticks) {
    if (!is_side(side)) return ORDERBOOK_SIDE_INVALID;
    if (!is_level_tick(book, price_ticks)) return ORDERBOOK_TICK_OUT_OF_RANGE;
    return ORDERBOOK_OK;
}

int32_t orderbook_set_level(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots) {
    assert_book(book);
    int32_t code = check_place(book, side, price_ticks);
    return code != ORDERBOOK_OK ? code : set_checked(book, side, price_ticks, lots);
}

int32_t orderbook_add_level(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots_change) {
    assert_book(book);
    int32_t code = check_place(book, side, price_ticks);
    if (code == ORDERBOOK_OK) code = add_to_level(book, side, price_ticks, &lots_change);
    return code != ORDERBOOK_OK ? code : set_checked(book, side, price_ticks, lots_change);
}

static inline int32_t apply_delta(orderbook_t *book, const book_delta_t *delta) {
    int32_t side = delta->side;
    int32_t price_ticks = delta->price_ticks;
    int64_t lots = delta->lots;
    int32_t code = check_place(book, side, price_ticks);
    if (code != ORDERBOOK_OK) return code;
    if (delta->kind != BOOK_DELTA_SET) {
        if (delta->kind != BOOK_DELTA_ADD) return ORDERBOOK_ARGUMENT_INVALID;
        code = add_to_level(book, side, price_ticks, &lots);
        if (code != ORDERBOOK_OK) return code;
    }
    return set_checked(book, side, price_ticks, lots);
}

int32_t orderbook_apply(orderbook_t *book, const book_delta_t *deltas, int32_t delta_count, int32_t *code) {
    assert_book(book);
    *code = delta_count < 0 ? ORDERBOOK_ARGUMENT_INVALID : ORDERBOOK_OK;
    if (delta_count <= 0) return 0;
    const book_delta_t *delta = deltas;
    const book_delta_t *end = deltas + delta_count;
    for (; delta != end; delta++) {
        int32_t refusal = apply_delta(book, delta);
        if (refusal != ORDERBOOK_OK) {
            *code = refusal;
            break;
        }
    }
    return (int32_t)(delta - deltas);
}

int32_t orderbook_set_own(orderbook_t *book, int32_t side, int32_t price_ticks, int64_t lots) {
    assert_book(book);
    int32_t code = check_place(book, side, price_ticks);
    if (code != ORDERBOOK_OK) return code;
    if (lots < 0) return ORDERBOOK_SIZE_NEGATIVE;
    if (lots > ORDERBOOK_LOTS_MAX) return ORDERBOOK_SIZE_OVERFLOW;
    row(book, ROW_OWN + side)[rank_of(book, side, price_ticks)] = lots;
    return ORDERBOOK_OK;
}

void orderbook_clear_own(orderbook_t *book) {
    assert_book(book);
    memset(row(book, ROW_OWN), 0, 2 * (size_t)book->tick_count * sizeof(int64_t));
}

/* ------------------------------------------------------------------ read: levels */

static inline int64_t lots_seen(const orderbook_t *book, int32_t view, int32_t side, int32_t rank) {
    int64_t total = row_const(book, ROW_LOTS + side)[rank];
    if (view == ORDERBOOK_TOTAL) return total;
    int64_t own = row_const(book, ROW_OWN + side)[rank];
    return total > own ? total - own : 0;
}

/* First level at or after `rank` that the view shows, its lots in *lots; RANK_NONE at the end. Bounded by the number
 * of occupied levels. */
static inline int32_t next_seen(const orderbook_t *book, int32_t view, int32_t side, int32_t rank, int64_t *lots) {
    const book_side_t *state = &book->sides[side];
    for (rank = next_rank(state, rank); rank != RANK_NONE; rank = next_rank(state, rank + 1)) {
        *lots = lots_seen(book, view, side, rank);
        if (*lots > 0) return rank;
    }
    *lots = 0;
    return RANK_NONE;
}

int64_t orderbook_level(const orderbook_t *book, int32_t view, int32_t side, int32_t price_ticks) {
    assert_book(book);
    if (!is_view(view)) return ORDERBOOK_ARGUMENT_INVALID;
    int32_t code = check_place(book, side, price_ticks);
    return code != ORDERBOOK_OK ? code : lots_seen(book, view, side, rank_of(book, side, price_ticks));
}

int64_t orderbook_own(const orderbook_t *book, int32_t side, int32_t price_ticks) {
    assert_book(book);
    int32_t code = check_place(book, side, price_ticks);
    return code != ORDERBOOK_OK ? code : row_const(book, ROW_OWN + side)[rank_of(book, side, price_ticks)];
}

int32_t orderbook_best(const orderbook_t *book, int32_t view, int32_t side) {
    assert_book(book);
    if (!is_view(view) || !is_side(side)) return ORDERBOOK_NO_TICK;
    int64_t lots;
    int32_t rank = next_seen(book, view, side, 1, &lots);
    return rank == RANK_NONE ? ORDERBOOK_NO_TICK : rank_of(book, side, rank);
}

int32_t orderbook_levels(const orderbook_t *book, int32_t view, int32_t side, book_level_t *levels,
                         int32_t level_max) {
    assert_book(book);
    if (!is_side(side)) return ORDERBOOK_SIDE_INVALID;
    if (!is_view(view) || level_max < 0) return ORDERBOOK_ARGUMENT_INVALID;
    int32_t count = 0;
    int32_t rank = 0;
    for (; count < level_max; count++) {
        int64_t lots;
        rank = next_seen(book, view, side, rank + 1, &lots);
        if (rank == RANK_NONE) break;
        levels[count] = (book_level_t){.price_ticks = rank_of(book, side, rank), .lots = lots};
    }
    return count;
}

/* ------------------------------------------------------------------ read: sums */

const book_metrics_t *orderbook_metrics(const orderbook_t *book) {
    assert_book(book);
    return &book->metrics;
}

/* Adds levels, best first, until one of the limits: their number, the lots wanted, or the last rank. */
static void sum_levels(const orderbook_t *book, int32_t view, int32_t side, int32_t level_max, int64_t lots_max,
                       int32_t rank_max, book_depth_t *depth) {
    const int64_t *price_e4 = row_const(book, ROW_PRICE_E4 + side);
    wide_t value = 0;
    int32_t rank = 0;
    *depth = (book_depth_t){.worst_ticks = ORDERBOOK_NO_TICK};
    while (depth->level_count < level_max && depth->lots < lots_max) {
        int64_t lots;
        rank = next_seen(book, view, side, rank + 1, &lots);
        if (rank > rank_max) break; /* RANK_NONE too */
        if (lots > lots_max - depth->lots) lots = lots_max - depth->lots;
        depth->worst_ticks = rank_of(book, side, rank);
        depth->lots += lots;
        depth->level_count++;
        value += notional(price_e4[rank], lots);
    }
    depth_set_value(depth, value);
}

int32_t orderbook_depth(const orderbook_t *book, int32_t view, int32_t side, int32_t level_max, book_depth_t *depth) {
    assert_book(book);
    if (!is_side(side)) return ORDERBOOK_SIDE_INVALID;
    if (!is_view(view) || level_max < 1) return ORDERBOOK_ARGUMENT_INVALID;
    sum_levels(book, view, side, level_max, INT64_MAX, RANK_NONE - 1, depth);
    return ORDERBOOK_OK;
}

int32_t orderbook_depth_to_lots(const orderbook_t *book, int32_t view, int32_t side, int64_t lots,
                                book_depth_t *depth) {
    assert_book(book);
    if (!is_side(side)) return ORDERBOOK_SIDE_INVALID;
    if (!is_view(view) || lots < 1) return ORDERBOOK_ARGUMENT_INVALID;
    sum_levels(book, view, side, INT32_MAX, lots, RANK_NONE - 1, depth);
    return ORDERBOOK_OK;
}

int32_t orderbook_depth_within(const orderbook_t *book, int32_t view, int32_t side, int32_t tick_distance,
                               book_depth_t *depth) {
    assert_book(book);
    if (!is_side(side)) return ORDERBOOK_SIDE_INVALID;
    if (!is_view(view) || tick_distance < 0) return ORDERBOOK_ARGUMENT_INVALID;
    int64_t lots;
    int32_t best_rank = next_seen(book, view, side, 1, &lots);
    int32_t rank_max = tick_distance < RANK_NONE - 1 - best_rank ? best_rank + tick_distance : RANK_NONE - 1;
    sum_levels(book, view, side, INT32_MAX, INT64_MAX, rank_max, depth);
    return ORDERBOOK_OK;
}

int32_t orderbook_cross(const orderbook_t *book, int32_t view) {
    int32_t bid_ticks = orderbook_best(book, view, ORDERBOOK_BID);
    int32_t ask_ticks = orderbook_best(book, view, ORDERBOOK_ASK);
    if (bid_ticks == ORDERBOOK_NO_TICK || ask_ticks == ORDERBOOK_NO_TICK || bid_ticks < ask_ticks)
        return ORDERBOOK_CROSS_NONE;
    return bid_ticks == ask_ticks ? ORDERBOOK_CROSS_LOCKED : ORDERBOOK_CROSS_CROSSED;
}

/* ------------------------------------------------------------------ whole ladder */

int32_t orderbook_export(const orderbook_t *book, int64_t *bids, int64_t *asks, int32_t tick_count) {
    assert_book(book);
    if (tick_count != book->tick_count) return ORDERBOOK_IMAGE_INVALID;
    const int64_t *bid_lots = row_const(book, ROW_LOTS + ORDERBOOK_BID);
    const int64_t *ask_lots = row_const(book, ROW_LOTS + ORDERBOOK_ASK);
    for (int32_t tick = 0; tick < tick_count; tick++) bids[tick] = bid_lots[tick_count - 1 - tick];
    memcpy(asks, ask_lots, (size_t)tick_count * sizeof *asks); /* the rank of an ask is its tick */
    return ORDERBOOK_OK;
}

static int32_t check_ladder(const int64_t *lots, int32_t tick_count) {
    if (lots[0] != 0 || lots[tick_count - 1] != 0) return ORDERBOOK_IMAGE_INVALID;
    int64_t sum = 0;
    for (int32_t tick = 1; tick < tick_count - 1; tick++) {
        if (lots[tick] < 0) return ORDERBOOK_SIZE_NEGATIVE;
        if (lots[tick] > ORDERBOOK_LOTS_MAX - sum) return ORDERBOOK_SIZE_OVERFLOW;
        sum += lots[tick];
    }
    return ORDERBOOK_OK;
}

static void load_side(orderbook_t *book, int32_t side, const int64_t *lots) {
    clear_side(book, side);
    book_side_t *state = &book->sides[side];
    int64_t *cells = row(book, ROW_LOTS + side);
    for (int32_t tick = 1; tick < book->tick_count - 1; tick++) {
        if (lots[tick] == 0) continue;
        int32_t rank = rank_of(book, side, tick);
        cells[rank] = lots[tick];
        mark(state, (uint32_t)rank, 1);
        state->level_count++;
        state->lots_sum += lots[tick];
    }
    refresh_sparse_top(book, side);
}

int32_t orderbook_load(orderbook_t *book, const int64_t *bids, const int64_t *asks, int32_t tick_count) {
    assert_book(book);
    if (tick_count != book->tick_count) return ORDERBOOK_IMAGE_INVALID;
    int32_t code = check_ladder(bids, tick_count);
    if (code == ORDERBOOK_OK) code = check_ladder(asks, tick_count);
    if (code != ORDERBOOK_OK) return code;
    load_side(book, ORDERBOOK_BID, bids);
    load_side(book, ORDERBOOK_ASK, asks);
    return ORDERBOOK_OK;
}

uint64_t orderbook_digest_level(int32_t side, int32_t price_ticks, int64_t lots) {
    uint64_t place = 2 * (uint64_t)price_ticks + (uint64_t)side + 1;
    uint64_t x = (uint64_t)lots * UINT64_C(0x9E3779B97F4A7C15) + place * UINT64_C(0xD1B54A32D192ED03);
    x ^= x >> 30;
    x *= UINT64_C(0xBF58476D1CE4E5B9);
    x ^= x >> 27;
    x *= UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t orderbook_digest(const orderbook_t *book) {
    assert_book(book);
    uint64_t digest = 0;
    for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++) {
        int64_t lots;
        int32_t rank = next_seen(book, ORDERBOOK_TOTAL, side, 1, &lots);
        while (rank != RANK_NONE) {
            digest += orderbook_digest_level(side, rank_of(book, side, rank), lots);
            rank = next_seen(book, ORDERBOOK_TOTAL, side, rank + 1, &lots);
        }
    }
    return digest;
}

/* ------------------------------------------------------------------ self check */

enum {
    BROKEN_HEADER = 1,
    BROKEN_LEVEL,
    BROKEN_BOUND,
    BROKEN_BITMAP,
    BROKEN_SUMMARY,
    BROKEN_COUNT,
    BROKEN_SUM,
    BROKEN_METRICS,
    BROKEN_PRICES,
    BROKEN_OWN
};

/* Levels, bitmap, count and sum of one side, without using the bitmap to find them. */
static int32_t check_levels(const orderbook_t *book, int32_t side) {
    const book_side_t *state = &book->sides[side];
    const int64_t *lots = row_const(book, ROW_LOTS + side);
    const int64_t *own = row_const(book, ROW_OWN + side);
    int32_t last = book->tick_count - 1;
    wide_t sum = 0;
    int32_t count = 0;
    if (lots[0] != 0 || lots[last] != 0 || own[0] != 0 || own[last] != 0) return BROKEN_BOUND;
    for (int32_t rank = 0; rank < ORDERBOOK_BITMAP_WORDS * 64; rank++) {
        int bit = (int)(state->occupied[rank >> 6] >> (rank & 63) & 1);
        int64_t here = rank <= last ? lots[rank] : 0;
        if (here < 0) return BROKEN_LEVEL;
        if (bit != (here > 0)) return BROKEN_BITMAP;
        if (rank <= last && (own[rank] < 0 || own[rank] > ORDERBOOK_LOTS_MAX)) return BROKEN_OWN;
        sum += (uint64_t)here;
        count += here > 0;
    }
    for (int32_t word = 0; word < ORDERBOOK_SUMMARY_WORDS * 64; word++) {
        int bit = (int)(state->summary[word >> 6] >> (word & 63) & 1);
        if (bit != (word < ORDERBOOK_BITMAP_WORDS && state->occupied[word] != 0)) return BROKEN_SUMMARY;
    }
    if (count != state->level_count) return BROKEN_COUNT;
    if (sum != (wide_t)(uint64_t)state->lots_sum || sum > (wide_t)(uint64_t)ORDERBOOK_LOTS_MAX) return BROKEN_SUM;
    return 0;
}

static int32_t check_metrics(const orderbook_t *book, int32_t side) {
    const book_side_metrics_t *metrics = side == ORDERBOOK_ASK ? &book->metrics.ask : &book->metrics.bid;
    const int64_t *lots = row_const(book, ROW_LOTS + side);
    book_side_metrics_t expected = {.best_ticks = ORDERBOOK_NO_TICK, .level_count = book->sides[side].level_count};
    expected.top.worst_ticks = ORDERBOOK_NO_TICK;
    wide_t value = 0;
    for (int32_t rank = 0; rank < book->tick_count && expected.top.level_count < ORDERBOOK_TOP_LEVELS; rank++) {
        if (lots[rank] == 0) continue;
        int32_t tick = rank_of(book, side, rank);
        if (expected.top.level_count == 0) expected.best_ticks = tick;
        expected.top.level_count++;
        expected.top.lots += lots[rank];
        expected.top.worst_ticks = tick;
        value += notional(price_grid_tick_to_price_e4(&book->grid, tick), lots[rank]);
    }
    depth_set_value(&expected.top, value);
    return memcmp(&expected, metrics, sizeof expected) == 0 ? 0 : BROKEN_METRICS;
}

int32_t orderbook_check(const orderbook_t *book) {
    if (book == NULL || book->magic != ORDERBOOK_MAGIC || book->reserved != 0 ||
        price_grid_check(&book->grid) != ORDERBOOK_OK || book->grid.tick_count != book->tick_count)
        return BROKEN_HEADER;
    for (int32_t tick = 0; tick < book->tick_count; tick++)
        for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++)
            if (row_const(book, ROW_PRICE_E4 + side)[rank_of(book, side, tick)] !=
                price_grid_tick_to_price_e4(&book->grid, tick))
                return BROKEN_PRICES;
    for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++) {
        int32_t broken = check_levels(book, side);
        if (broken == 0) broken = check_metrics(book, side);
        if (broken != 0) return broken;
    }
    return 0;
}
