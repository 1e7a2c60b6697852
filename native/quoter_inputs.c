/* quoter_inputs.c - see quoter_inputs.h. */
#include "quoter_inputs.h"

#include <string.h>

_Static_assert(STATE_LEVELS == sizeof(((quote_target_t *)0)->bids) / sizeof(book_level_t), "a whole ladder");

static uint16_t capped(int64_t lots) { return lots > UINT16_MAX ? UINT16_MAX : (uint16_t)lots; }

static int32_t micros(int64_t delay_ns) {
    int64_t delay_us = delay_ns / 1000;
    if (delay_us < 0) return 0;
    return delay_us > INT32_MAX ? INT32_MAX : (int32_t)delay_us;
}

/* Levels of one side; a decision that was never made has none. */
static uint8_t ladder(const book_level_t *levels, int32_t count, uint8_t *cents, uint16_t *lots) {
    memset(cents, 0, STATE_LEVELS * sizeof *cents);
    memset(lots, 0, STATE_LEVELS * sizeof *lots);
    if (count < 0 || count > STATE_LEVELS) return 0;
    for (int32_t i = 0; i < count; i++) {
        cents[i] = (uint8_t)levels[i].price_ticks;
        lots[i] = capped(levels[i].lots);
    }
    return (uint8_t)count;
}

void quoter_state_inputs(quoter_state_t *state, const quote_market_t *market, int64_t unix_minus_mono_ns) {
    const quote_target_t *target = &market->output->target;
    uint64_t window = market->params == NULL ? 0 : (uint64_t)market->params->volatility_window;
    uint64_t seen = market->trades->price_count;
    state->oracle_recv_mono_ns = market->oracle.recv_mono_ns;
    state->oracle_price_ticks = market->oracle.price_ticks;
    state->oracle_last_ticks = market->oracle.last_ticks;
    state->feed_latency_us = micros(feed_delay_median_ns(&market->delay, unix_minus_mono_ns));
    state->sigma_trades = (uint16_t)(seen < window ? seen : window);
    state->target_bid_count = ladder(target->bids, target->bid_count, state->target_bid_cents, state->target_bid_lots);
    state->target_ask_count = ladder(target->asks, target->ask_count, state->target_ask_cents, state->target_ask_lots);
}
