/* Random trades, inputs and parameters for the price arithmetic, and the promises every answer keeps.
 *
 * There is no second implementation here: the bit-for-bit comparison is with the Python twin. This is for what a
 * sanitizer can see, for inputs no generator of legal values makes, and for millions of calls. */
#ifndef COREQUOTE_TESTS_QUOTE_OPERATIONS_H
#define COREQUOTE_TESTS_QUOTE_OPERATIONS_H

#include <string.h>

#include "check.h"
#include "quote.h"

typedef struct {
    quote_params_t params; /* always pass quote_params_check() */
    quote_trades_t trades;
    quote_inputs_t inputs;
    quote_output_t output;
} quote_state_t;

static inline void default_phase(quote_phase_params_t *phase, double half_spread_cents, int32_t gradient) {
    *phase = (quote_phase_params_t){.half_spread_cents = half_spread_cents, .size_ratio = 1.0, .gradient = gradient,
                                    .level_count = 5, .linear_step_e4 = 100, .linear_increase_bps = 2000};
    phase->ratio_powers[0] = phase->decay_powers[0] = 1.0;
    for (int i = 1; i < QUOTE_LEVELS_MAX; i++) {
        phase->ratio_powers[i] = phase->ratio_powers[i - 1] * 1.05;
        phase->decay_powers[i] = phase->decay_powers[i - 1] * 0.7;
    }
}

static inline void quote_state_init(quote_state_t *state) {
    memset(state, 0, sizeof *state);
    state->params = (quote_params_t){
        .anchor_initial_weight = 0.7, .anchor_decay_ms = 3600000, .microprice_weight = 0.2,
        .microprice_min_depth_lots = 10, .microprice_levels = 3, .volatility_window = 30, .volatility_min_samples = 5,
        .volatility_default_cents = 2, .sigma_min_cents = 1, .sigma_max_cents = 15, .learning_rate_base = 0.15,
        .learning_rate_min = 0.02, .learning_rate_max = 0.3, .posterior_min_cents = 5, .posterior_max_cents = 95,
        .gamma = 1.5, .kappa_hours = 24, .min_price_e4 = 500, .max_price_e4 = 9500, .market_min_price_e4 = 100,
        .market_max_price_e4 = 9900, .spread_skew_factor = 0.5, .size_skew_factor = 0.3, .max_half_spread_cents = 15,
        .maker_fee_bps = 10, .taker_fee_bps = 20, .level_lots = 100};
    default_phase(&state->params.phases[QUOTE_EXPLORATION], 5, QUOTE_LINEAR);
    default_phase(&state->params.phases[QUOTE_STABILIZATION], 2, QUOTE_GEOMETRIC);
    double factor = 1.0;
    for (int i = 0; i < QUOTE_DECAY_CENTS; i++, factor *= 0.6) state->params.decay_cents[i] = factor;
    for (int i = 0; i < QUOTE_DECAY_E4; i++) state->params.decay_e4[i] = 1.0 - i * 0.004;
    CHECK(quote_params_check(&state->params) == QUOTE_SAME);
    CHECK(quote_trades_init(&state->trades, 50.0) == QUOTE_SAME);
    state->inputs = (quote_inputs_t){.now_ms = 1000000, .trading_end_ms = 90000000, .anchor_cents = 50,
                                     .spread_multiplier = 1, .size_scale = 1, .phase = 1, .sides = 3};
}

static inline void check_ladder_promises(const book_level_t *levels, int32_t count, int32_t direction,
                                         const orderbook_t *book) {
    CHECK(count >= 0 && count <= QUOTE_LEVELS_MAX);
    for (int32_t i = 0; i < QUOTE_LEVELS_MAX; i++) {
        if (i >= count) {
            CHECK(levels[i].lots == 0 && levels[i].price_ticks == 0);
            continue;
        }
        CHECK(levels[i].lots >= 1);
        CHECK(levels[i].price_ticks >= 1 && levels[i].price_ticks <= book->tick_count - 2);
        CHECK(i == 0 || (levels[i].price_ticks - levels[i - 1].price_ticks) * direction > 0);
    }
}

static inline void quote_decide(quote_state_t *state, const orderbook_t *book) {
    quote_output_t before = state->output;
    int32_t code = quote_compute(&state->params, &state->trades, book, &state->inputs, &state->output);
    if (code < 0) {
        CHECK(code == QUOTE_INPUTS_INVALID);
        CHECK(memcmp(&before, &state->output, sizeof before) == 0);
        return;
    }
    const quote_fair_t *fair = &state->output.fair;
    const quote_target_t *target = &state->output.target;
    const quote_params_t *params = &state->params;
    CHECK((code == QUOTE_SAME) == quote_same_target(&before.target, target));
    CHECK(fair->fair_price_cents >= 1 && fair->fair_price_cents <= 99);
    CHECK(fair->sigma_cents >= params->sigma_min_cents && fair->sigma_cents <= params->sigma_max_cents);
    CHECK(fair->reservation_cents >= params->min_price_e4 / 100.0);
    CHECK(fair->reservation_cents <= params->max_price_e4 / 100.0);
    CHECK(fair->half_spread_ask_cents >= 1.0 && fair->half_spread_ask_cents <= params->max_half_spread_cents);
    CHECK(fair->half_spread_bid_cents >= 1.0 && fair->half_spread_bid_cents <= params->max_half_spread_cents);
    CHECK(fair->inventory_skew >= -1.0 && fair->inventory_skew <= 1.0);
    CHECK(fair->tau >= 0.0 && fair->tau <= 1.0);
    check_ladder_promises(target->asks, target->ask_count, 1, book);
    check_ladder_promises(target->bids, target->bid_count, -1, book);
    CHECK(!(target->bid_count && target->ask_count) || target->bids[0].price_ticks < target->asks[0].price_ticks);
    if (state->inputs.one_side) return;
    if (target->ask_count)
        CHECK(target->asks[0].price_ticks > orderbook_best(book, ORDERBOOK_FOREIGN, ORDERBOOK_BID));
    int32_t best_ask = orderbook_best(book, ORDERBOOK_FOREIGN, ORDERBOOK_ASK);
    if (target->bid_count && best_ask != ORDERBOOK_NO_TICK) CHECK(target->bids[0].price_ticks < best_ask);
}

/* Overwrites eight bytes of a struct; a parameter set that no longer passes its check is put back. */
static inline void quote_disturb_params(quote_state_t *state, uint32_t place, const uint8_t *value) {
    quote_params_t kept = state->params;
    memcpy((uint8_t *)&state->params + place % (sizeof state->params / 8) * 8, value, 8);
    if (quote_params_check(&state->params) != QUOTE_SAME) state->params = kept;
}

static inline void quote_operation(quote_state_t *state, const orderbook_t *book, const uint8_t *bytes) {
    uint32_t place;
    int32_t price_e4;
    memcpy(&place, bytes + 4, sizeof place);
    memcpy(&price_e4, bytes + 8, sizeof price_e4);
    uint8_t kind = bytes[0];
    if (kind < 96) { /* close together: otherwise sigma and the reservation price sit at their limits for ever */
        state->inputs.now_ms += bytes[1] * 20;
        int32_t near_e4 = kind == 0 ? (int32_t)(place % 10000) : 4900 + (int32_t)(place % 200);
        int32_t code = quote_on_trade(&state->trades, &state->params, near_e4, bytes[2] & 1, state->inputs.now_ms);
        CHECK(code == (near_e4 == 0 ? QUOTE_TRADE_INVALID : QUOTE_CHANGED));
    } else if (kind < 104) {
        (void)quote_on_trade(&state->trades, &state->params, price_e4, bytes[2], (int64_t)place - bytes[3]);
    } else if (kind < 140) {
        quote_inputs_t *inputs = &state->inputs;
        inputs->yes_lots = place % 5000;
        inputs->no_lots = (uint32_t)price_e4 % 5000;
        inputs->phase = bytes[1] & 1;
        inputs->one_side = bytes[1] >> 1 & 1;
        inputs->sides = inputs->one_side ? (inputs->yes_lots > inputs->no_lots ? QUOTE_SIDES_ASK : QUOTE_SIDES_BID)
                                         : bytes[1] >> 2 & 3;
        inputs->discount_cents = inputs->one_side ? bytes[2] % 16 : 0;
        inputs->spread_multiplier = 1.0 + bytes[3] / 64.0;
        inputs->anchor_cents = bytes[12] % 101;
        inputs->size_scale = (1 + bytes[13]) / 256.0;
        inputs->trading_end_ms = inputs->now_ms + (int64_t)bytes[14] * 3600000 - 3600000;
        if (inputs->trading_end_ms < 0) inputs->trading_end_ms = 0;
    } else if (kind < 160) {
        quote_disturb_params(state, place, bytes + 8);
    } else if (kind < 176) {
        quote_inputs_t kept = state->inputs;
        memcpy((uint8_t *)&state->inputs + place % (sizeof kept / 8) * 8, bytes + 8, 8);
        quote_decide(state, book);
        state->inputs = kept;
    } else if (kind < 178) {
        quote_state_init(state);
    } else {
        quote_decide(state, book);
    }
}

#endif
