/* trade_tape.c - see trade_tape.h. */
#include "trade_tape.h"

#include <stddef.h>

#include "orderbook.h"

static const int64_t LOTS_MAX = (int64_t)1 << 50; /* TAPE_TRADES of them still fit an int64_t */

_Static_assert((TAPE_TRADES & (TAPE_TRADES - 1)) == 0, "power of two");
_Static_assert(sizeof(tape_trade_t) == 24, "read from Python by these offsets");
_Static_assert(offsetof(tape_trade_t, price_ticks) == 16 && offsetof(tape_trade_t, side) == 20, "likewise");

static const tape_trade_t *at(const trade_tape_t *tape, uint64_t number) {
    return &tape->trades[number & (TAPE_TRADES - 1)];
}

int tape_append(trade_tape_t *tape, int64_t unix_ms, int32_t price_ticks, uint32_t side, int64_t lots) {
    if (side != ORDERBOOK_BID && side != ORDERBOOK_ASK) return 0;
    if (price_ticks < 0 || lots < 1 || lots > LOTS_MAX) return 0;
    int64_t latest_ms = tape->count == 0 ? unix_ms : at(tape, tape->count - 1)->unix_ms;
    tape->trades[tape->count & (TAPE_TRADES - 1)] = (tape_trade_t){
        .unix_ms = unix_ms < latest_ms ? latest_ms : unix_ms, .lots = lots, .price_ticks = price_ticks, .side = side};
    tape->count += 1;
    return 1;
}

void tape_window(const trade_tape_t *tape, int64_t since_ms, uint64_t count_max, tape_window_t *window) {
    uint64_t kept = tape->count < TAPE_TRADES ? tape->count : TAPE_TRADES;
    uint64_t limit = count_max < kept ? count_max : kept;
    *window = (tape_window_t){0};
    for (uint64_t back = 1; back <= limit; back++) {
        const tape_trade_t *trade = at(tape, tape->count - back);
        if (trade->unix_ms < since_ms) return;
        if (back == 1 || trade->price_ticks < window->price_min_ticks) window->price_min_ticks = trade->price_ticks;
        if (back == 1 || trade->price_ticks > window->price_max_ticks) window->price_max_ticks = trade->price_ticks;
        window->lots += trade->lots;
        if (trade->side == ORDERBOOK_ASK) window->sell_lots += trade->lots;
        window->trades = back;
    }
}
