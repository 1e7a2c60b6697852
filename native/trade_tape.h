/* trade_tape.h - the market trades a quoting worker has seen, newest TAPE_TRADES kept, oldest overwritten.
 *
 * Phases, price jumps and the VPIN proxy (market-making 4, 5.2, 5.5) look at it; the volatility window and the
 * posterior have their own, smaller memory in quote_trades_t.
 *
 * Invariant: times never fall, because a wall clock that steps back repeats the latest time; so every window by
 * time is a suffix of the tape. Single threaded, no allocation. */
#ifndef COREQUOTE_TRADE_TAPE_H
#define COREQUOTE_TRADE_TAPE_H

#ifndef CFFI_CDEF
#include <stdint.h>
#endif

enum { TAPE_TRADES = 4096 }; /* a power of two */

typedef struct {
    int64_t unix_ms;     /* wall clock of the pass that saw it */
    int64_t lots;        /* 1..2^50 */
    int32_t price_ticks; /* YES terms */
    uint32_t side;       /* aggressor's book side: ORDERBOOK_BID bought YES, ORDERBOOK_ASK sold it */
} tape_trade_t;

typedef struct {
    uint64_t count; /* trades ever appended: trade k is in trades[k % TAPE_TRADES] while it is kept */
    tape_trade_t trades[TAPE_TRADES];
} trade_tape_t;

/* What a window of trades says. Without trades everything is 0. */
typedef struct {
    uint64_t trades;
    int64_t lots;
    int64_t sell_lots;       /* of them, sold by the aggressor */
    int32_t price_min_ticks;
    int32_t price_max_ticks;
} tape_window_t;

/* Appends a trade. Returns 1, or 0 for one that cannot be: a side that is none, a negative price, lots outside
 * 1..2^50. */
int tape_append(trade_tape_t *tape, int64_t unix_ms, int32_t price_ticks, uint32_t side, int64_t lots);

/* The newest trades not older than since_ms, at most count_max of them. */
void tape_window(const trade_tape_t *tape, int64_t since_ms, uint64_t count_max, tape_window_t *window);

#endif
