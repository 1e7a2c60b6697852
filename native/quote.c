#include "quote.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#define ROUNDING_SLACK 1e-9
#define MS_PER_HOUR 3600000.0
#define TRADE_COUNT_WINDOW_MS 60000
#define POSITION_LOTS_MAX ((int64_t)1 << 52) /* sums and products by 10 stay exact, and so do doubles */
/* Largest qty_per_level, ratio and scale: their product with every skew and increase stays below 2^63. */
#define LEVEL_LOTS_MAX ((int64_t)1 << 36)
#define SIZE_FACTOR_MAX 10.0
#define PAYOUT_E4 10000

/* ------------------------------------------------------------------ rounding and the continued grid */

static inline int is_finite(double value) {
    return value - value == 0.0;
}

static inline double at_least(double value, double floor_value) {
    return value < floor_value ? floor_value : value;
}

static inline double clamp(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

static inline double cents_of_e4(int64_t price_e4) {
    return (double)price_e4 / 100.0;
}

/* floor and ceil for |value| < 2^53 without a library call. */
static inline int64_t floor_to_int(double value) {
    int64_t whole = (int64_t)value;
    return (double)whole > value ? whole - 1 : whole;
}

static inline int64_t ceil_to_int(double value) {
    int64_t whole = (int64_t)value;
    return (double)whole < value ? whole + 1 : whole;
}

static inline int64_t round_dn(double value) {
    return floor_to_int(value + ROUNDING_SLACK);
}

static inline int64_t round_up(double value) {
    return ceil_to_int(value - ROUNDING_SLACK);
}

/* The segment a tick belongs to when the first is continued downwards and the last upwards. */
static const price_segment_t *segment_of_tick(const price_grid_t *grid, int64_t tick) {
    int32_t index = grid->segment_count - 1;
    while (index > 0 && tick < grid->segments[index].start_tick) index--;
    return &grid->segments[index];
}

static int64_t tick_price_e4(const price_grid_t *grid, int64_t tick) {
    const price_segment_t *segment = segment_of_tick(grid, tick);
    return segment->start_price_e4 + (tick - segment->start_tick) * segment->step_e4;
}

/* First tick whose price is >= limit_cents. The estimate is exact up to the rounding of one multiplication, so each
 * loop moves at most a step or two. */
static int64_t first_tick_from(const price_grid_t *grid, double limit_cents) {
    int64_t limit_e4 = floor_to_int(limit_cents * 100.0);
    int32_t index = grid->segment_count - 1;
    while (index > 0 && limit_e4 < grid->segments[index].start_price_e4) index--;
    const price_segment_t *segment = &grid->segments[index];
    int64_t tick = segment->start_tick + (limit_e4 - segment->start_price_e4) / segment->step_e4;
    if (index < grid->segment_count - 1 && tick > segment[1].start_tick) tick = segment[1].start_tick;
    while (cents_of_e4(tick_price_e4(grid, tick)) < limit_cents) tick++;
    while (cents_of_e4(tick_price_e4(grid, tick - 1)) >= limit_cents) tick--;
    return tick;
}

static int64_t tick_up(const price_grid_t *grid, double cents) {
    return first_tick_from(grid, cents - ROUNDING_SLACK);
}

static int64_t tick_dn(const price_grid_t *grid, double cents) {
    double limit_cents = cents + ROUNDING_SLACK;
    int64_t tick = first_tick_from(grid, limit_cents);
    return cents_of_e4(tick_price_e4(grid, tick)) == limit_cents ? tick : tick - 1;
}

/* ------------------------------------------------------------------ checks */

static int in_range(double value, double low, double high) {
    return value >= low && value <= high; /* false for NaN */
}

/* ceil(user_price * bps / 10000) for the dearer of the two kinds of order a level may be funded with. */
static double fee_floor_cents(double price_cents, int32_t fee_bps) {
    double user_price_cents = price_cents > 100.0 - price_cents ? price_cents : 100.0 - price_cents;
    return (double)round_up(user_price_cents * (double)fee_bps / 10000.0);
}

static int is_phase_valid(const quote_phase_params_t *phase) {
    if (!in_range(phase->half_spread_cents, ROUNDING_SLACK, 100.0) || !in_range(phase->size_ratio, 1e-6, SIZE_FACTOR_MAX) ||
        (phase->gradient != QUOTE_LINEAR && phase->gradient != QUOTE_GEOMETRIC) || phase->level_count < 1 ||
        phase->level_count > QUOTE_LEVELS_MAX || phase->linear_step_e4 < 1 || phase->linear_step_e4 > PAYOUT_E4 ||
        phase->linear_increase_bps < 0 || phase->linear_increase_bps > 10000 || phase->ratio_powers[0] != 1.0 ||
        phase->decay_powers[0] != 1.0)
        return 0;
    for (int32_t i = 1; i < QUOTE_LEVELS_MAX; i++)
        if (!in_range(phase->ratio_powers[i], phase->ratio_powers[i - 1], 1e6) ||
            !in_range(phase->decay_powers[i], 0.0, phase->decay_powers[i - 1]))
            return 0;
    return 1;
}

static int are_decay_tables_valid(const quote_params_t *params) {
    if (params->decay_cents[0] != 1.0 || params->decay_e4[0] != 1.0) return 0;
    for (int32_t i = 1; i < QUOTE_DECAY_CENTS; i++)
        if (!in_range(params->decay_cents[i], 0.0, params->decay_cents[i - 1])) return 0;
    for (int32_t i = 1; i < QUOTE_DECAY_E4; i++)
        if (!in_range(params->decay_e4[i], 0.0, params->decay_e4[i - 1])) return 0;
    return 1;
}

static int are_limits_valid(const quote_params_t *params) {
    if (params->min_price_e4 < 1 || params->max_price_e4 <= params->min_price_e4 ||
        params->max_price_e4 >= PAYOUT_E4 || params->market_min_price_e4 < 0 ||
        params->market_max_price_e4 <= params->market_min_price_e4 || params->market_max_price_e4 > PAYOUT_E4 ||
        params->maker_fee_bps < 0 || params->maker_fee_bps > QUOTE_FEE_BPS_MAX || params->taker_fee_bps < 0 ||
        params->taker_fee_bps > QUOTE_FEE_BPS_MAX || !in_range(params->max_half_spread_cents, 1.0, 100.0))
        return 0;
    /* r lies within the strategy limits, so no fee floor exceeds the one at the limit furthest from 50. */
    int32_t fee_bps = params->maker_fee_bps > params->taker_fee_bps ? params->maker_fee_bps : params->taker_fee_bps;
    return fee_floor_cents(cents_of_e4(params->min_price_e4), fee_bps) <= params->max_half_spread_cents &&
           fee_floor_cents(cents_of_e4(params->max_price_e4), fee_bps) <= params->max_half_spread_cents;
}

static int are_factors_valid(const quote_params_t *params) {
    return in_range(params->anchor_initial_weight, 0.0, 1.0) && params->anchor_decay_ms >= 1 &&
           in_range(params->microprice_weight, 0.0, 1.0 - params->anchor_initial_weight + ROUNDING_SLACK) &&
           params->microprice_min_depth_lots >= 0 && params->microprice_levels >= 1 &&
           params->microprice_levels <= QUOTE_MICRO_LEVELS_MAX && params->volatility_window >= 2 &&
           params->volatility_window <= QUOTE_WINDOW_MAX && params->volatility_min_samples >= 2 &&
           params->volatility_min_samples <= QUOTE_WINDOW_MAX && params->reserved == 0 &&
           in_range(params->volatility_default_cents, 0.0, 100.0) &&
           in_range(params->sigma_min_cents, ROUNDING_SLACK, 100.0) &&
           in_range(params->sigma_max_cents, params->sigma_min_cents, 100.0) &&
           in_range(params->learning_rate_base, ROUNDING_SLACK, 1.0) &&
           in_range(params->learning_rate_min, params->learning_rate_base / 16.0, 1.0) &&
           in_range(params->learning_rate_max, params->learning_rate_min, 1.0) &&
           in_range(params->posterior_min_cents, 0.0, 100.0) &&
           in_range(params->posterior_max_cents, params->posterior_min_cents, 100.0) &&
           in_range(params->gamma, ROUNDING_SLACK, 1000.0) && in_range(params->kappa_hours, ROUNDING_SLACK, 1e6) &&
           in_range(params->min_adjustment_cents, 0.0, 100.0) && in_range(params->spread_skew_factor, 0.0, 1.0) &&
           in_range(params->size_skew_factor, 0.0, 1.0) && params->level_lots >= 1 &&
           params->level_lots <= LEVEL_LOTS_MAX;
}

int32_t quote_params_check(const quote_params_t *params) {
    int valid = are_factors_valid(params) && are_limits_valid(params) && are_decay_tables_valid(params) &&
                is_phase_valid(&params->phases[QUOTE_EXPLORATION]) &&
                is_phase_valid(&params->phases[QUOTE_STABILIZATION]);
    return valid ? QUOTE_SAME : QUOTE_PARAMS_INVALID;
}

/* In ONE_SIDE only the side that reduces |q| may be left. */
static int are_sides_valid(const quote_inputs_t *inputs) {
    if (inputs->sides < QUOTE_SIDES_NONE || inputs->sides > QUOTE_SIDES_BOTH) return 0;
    if (inputs->one_side == 0) return inputs->discount_cents == 0.0;
    int32_t reducing = inputs->yes_lots > inputs->no_lots   ? QUOTE_SIDES_ASK
                       : inputs->yes_lots < inputs->no_lots ? QUOTE_SIDES_BID
                                                            : QUOTE_SIDES_NONE;
    return inputs->one_side == 1 && (inputs->sides & ~reducing) == 0;
}

static int are_inputs_valid(const quote_inputs_t *inputs) {
    return inputs->now_ms >= 0 && inputs->started_at_ms >= 0 && inputs->trading_end_ms >= 0 &&
           in_range(inputs->anchor_cents, 0.0, 100.0) && inputs->yes_lots >= 0 &&
           inputs->yes_lots <= POSITION_LOTS_MAX && inputs->no_lots >= 0 && inputs->no_lots <= POSITION_LOTS_MAX &&
           in_range(inputs->spread_multiplier, 1e-6, 1e6) && in_range(inputs->size_scale, 1e-9, SIZE_FACTOR_MAX) &&
           in_range(inputs->discount_cents, 0.0, 100.0) &&
           (inputs->phase == QUOTE_EXPLORATION || inputs->phase == QUOTE_STABILIZATION) && inputs->reserved == 0 &&
           are_sides_valid(inputs);
}

static int is_binary_grid(const price_grid_t *grid) {
    const price_segment_t *last = &grid->segments[grid->segment_count - 1];
    return last->start_price_e4 + (last->tick_count - 1) * last->step_e4 <= PAYOUT_E4;
}

/* ------------------------------------------------------------------ 3.3 and 3.4: trades */

int32_t quote_trades_init(quote_trades_t *trades, double posterior_cents) {
    if (!in_range(posterior_cents, 0.0, 100.0)) return QUOTE_INPUTS_INVALID;
    memset(trades, 0, sizeof *trades);
    trades->posterior_cents = posterior_cents;
    return QUOTE_SAME;
}

/* Counts the trades at most 60 s old and records this one. A full ring forgets its oldest time, which the limits on the
 * learning rate make harmless. */
static int32_t count_recent(quote_trades_t *trades, int64_t now_ms) {
    uint64_t head = trades->time_head;
    int64_t latest_ms = head == 0 ? now_ms : trades->times_ms[(head - 1) % QUOTE_TIMES_MAX];
    if (now_ms < latest_ms) now_ms = latest_ms;
    uint64_t tail = trades->time_tail;
    assert(tail <= head && head - tail <= QUOTE_TIMES_MAX);
    while (tail < head && now_ms - trades->times_ms[tail % QUOTE_TIMES_MAX] > TRADE_COUNT_WINDOW_MS) tail++;
    int32_t recent = (int32_t)(head - tail);
    if (recent == QUOTE_TIMES_MAX) tail++;
    trades->times_ms[head % QUOTE_TIMES_MAX] = now_ms;
    trades->time_head = head + 1;
    trades->time_tail = tail;
    return recent;
}

int32_t quote_on_trade(quote_trades_t *trades, const quote_params_t *params, int32_t price_e4, int32_t aggressor,
                       int64_t now_ms) {
    if (price_e4 < 1 || price_e4 >= PAYOUT_E4 || now_ms < 0 ||
        (aggressor != ORDERBOOK_BID && aggressor != ORDERBOOK_ASK))
        return QUOTE_TRADE_INVALID;
    int32_t recent = count_recent(trades, now_ms);
    double rate = clamp(params->learning_rate_base / sqrt((double)(recent + 1)), params->learning_rate_min,
                        params->learning_rate_max);
    double direction = aggressor == ORDERBOOK_BID ? 1.0 : -1.0;
    double posterior = trades->posterior_cents;
    posterior += rate * (cents_of_e4(price_e4) - posterior + direction);
    trades->posterior_cents = clamp(posterior, params->posterior_min_cents, params->posterior_max_cents);
    trades->prices_e4[trades->price_count % QUOTE_PRICES_MAX] = price_e4;
    trades->price_count++;
    return QUOTE_CHANGED;
}

/* Sample variance of the successive differences in cents^2. Numerator and denominator are exact integers below 2^53,
 * so the one division rounds correctly. */
static double difference_variance(const quote_trades_t *trades, int32_t price_count) {
    int64_t sum = 0;
    int64_t square_sum = 0;
    uint64_t index = trades->price_count - (uint64_t)price_count;
    int64_t previous_e4 = trades->prices_e4[index % QUOTE_PRICES_MAX];
    for (int32_t i = 1; i < price_count; i++) {
        int64_t price_e4 = trades->prices_e4[(index + (uint64_t)i) % QUOTE_PRICES_MAX];
        int64_t difference_e4 = price_e4 - previous_e4;
        sum += difference_e4;
        square_sum += difference_e4 * difference_e4;
        previous_e4 = price_e4;
    }
    int64_t count = price_count - 1;
    return (double)(count * square_sum - sum * sum) / (double)(count * (count - 1) * 10000);
}

double quote_volatility(const quote_params_t *params, const quote_trades_t *trades, int32_t fair_price_cents) {
    uint64_t window = (uint64_t)params->volatility_window;
    int32_t price_count = (int32_t)(trades->price_count < window ? trades->price_count : window);
    /* The default stands for an unknown volatility: it is sigma itself, not sigma_base. */
    if (price_count < params->volatility_min_samples || price_count < 3)
        return clamp(params->volatility_default_cents, params->sigma_min_cents, params->sigma_max_cents);
    double bernoulli_weight = (double)(fair_price_cents * (100 - fair_price_cents)) / 2500.0;
    double sigma_cents = sqrt(difference_variance(trades, price_count)) * sqrt(bernoulli_weight);
    return clamp(sigma_cents, params->sigma_min_cents, params->sigma_max_cents);
}

/* ------------------------------------------------------------------ 3.1 and 3.2: layers */

/* e^(-lambda d) for two prices of one side; d is at most a payout. */
static inline double decay(const quote_params_t *params, int32_t best_e4, int32_t price_e4) {
    int32_t distance_e4 = best_e4 > price_e4 ? best_e4 - price_e4 : price_e4 - best_e4;
    assert(distance_e4 <= PAYOUT_E4);
    return params->decay_cents[distance_e4 / 100] * params->decay_e4[distance_e4 % 100];
}

int32_t quote_micro_price(const quote_params_t *params, const orderbook_t *book, double *micro_cents) {
    book_level_t bids[QUOTE_MICRO_LEVELS_MAX];
    book_level_t asks[QUOTE_MICRO_LEVELS_MAX];
    int32_t levels = params->microprice_levels;
    int32_t bid_count = orderbook_levels(book, ORDERBOOK_FOREIGN, ORDERBOOK_BID, bids, levels);
    int32_t ask_count = orderbook_levels(book, ORDERBOOK_FOREIGN, ORDERBOOK_ASK, asks, levels);
    int32_t count = bid_count < ask_count ? bid_count : ask_count;
    *micro_cents = 0.0;
    if (count == 0) return 0;
    int32_t best_bid_e4 = price_grid_tick_to_price_e4(&book->grid, bids[0].price_ticks);
    int32_t best_ask_e4 = price_grid_tick_to_price_e4(&book->grid, asks[0].price_ticks);
    double value = 0.0;
    double weight = 0.0;
    for (int32_t i = 0; i < count; i++) {
        int32_t bid_e4 = price_grid_tick_to_price_e4(&book->grid, bids[i].price_ticks);
        int32_t ask_e4 = price_grid_tick_to_price_e4(&book->grid, asks[i].price_ticks);
        double bid_weight = decay(params, best_bid_e4, bid_e4) * (double)bids[i].lots;
        double ask_weight = decay(params, best_ask_e4, ask_e4) * (double)asks[i].lots;
        value += bid_weight * cents_of_e4(ask_e4) + ask_weight * cents_of_e4(bid_e4);
        weight += bid_weight + ask_weight;
    }
    double micro = value / weight; /* the best levels have weight 1 and at least one lot */
    int is_crossed = best_bid_e4 > best_ask_e4;
    *micro_cents = is_crossed ? micro : clamp(micro, cents_of_e4(best_bid_e4), cents_of_e4(best_ask_e4));
    return 1;
}

/* By levels and not by orderbook_depth(), which also looks their prices up. A side's sum is at most 2^62. */
static int64_t top_depth_lots(const orderbook_t *book) {
    book_level_t levels[ORDERBOOK_TOP_LEVELS];
    int64_t lots = 0;
    for (int32_t side = ORDERBOOK_BID; side <= ORDERBOOK_ASK; side++) {
        int32_t count = orderbook_levels(book, ORDERBOOK_FOREIGN, side, levels, ORDERBOOK_TOP_LEVELS);
        for (int32_t i = 0; i < count; i++) lots = levels[i].lots > INT64_MAX - lots ? INT64_MAX : lots + levels[i].lots;
    }
    return lots;
}

static double anchor_weight(const quote_params_t *params, const quote_inputs_t *inputs) {
    int64_t age_ms = inputs->now_ms > inputs->started_at_ms ? inputs->now_ms - inputs->started_at_ms : 0;
    double left = 1.0 - (double)age_ms / (double)params->anchor_decay_ms;
    return params->anchor_initial_weight * at_least(left, 0.0);
}

void quote_layers(const quote_params_t *params, const quote_trades_t *trades, const orderbook_t *book,
                  const quote_inputs_t *inputs, quote_fair_t *fair) {
    fair->has_micro = quote_micro_price(params, book, &fair->micro_cents);
    fair->anchor_cents = inputs->anchor_cents;
    fair->posterior_cents = trades->posterior_cents;
    fair->anchor_weight = anchor_weight(params, inputs);
    int is_deep = fair->has_micro && top_depth_lots(book) >= params->microprice_min_depth_lots;
    fair->micro_weight = is_deep ? params->microprice_weight : 0.0;
    fair->posterior_weight = 1.0 - fair->anchor_weight - fair->micro_weight;
    double price_cents = fair->anchor_weight * fair->anchor_cents + fair->micro_weight * fair->micro_cents +
                         fair->posterior_weight * fair->posterior_cents;
    fair->fair_price_cents = (int32_t)clamp((double)floor_to_int(price_cents + 0.5), 1.0, 99.0);
}

/* ------------------------------------------------------------------ 3.5 and 3.6: reservation price, half-spreads */

static double inventory_skew(const quote_inputs_t *inputs) {
    int64_t sum = inputs->yes_lots + inputs->no_lots;
    return sum == 0 ? 0.0 : (double)(inputs->yes_lots - inputs->no_lots) / (double)sum;
}

static double time_factor(const quote_params_t *params, const quote_inputs_t *inputs) {
    if (inputs->trading_end_ms <= inputs->now_ms) return 0.0;
    double hours = (double)(inputs->trading_end_ms - inputs->now_ms) / MS_PER_HOUR;
    return hours / (hours + params->kappa_hours);
}

/* |q| > 0.1 without a fraction. */
static int is_skewed(const quote_inputs_t *inputs) {
    int64_t difference = inputs->yes_lots - inputs->no_lots;
    return (difference < 0 ? -difference : difference) * 10 > inputs->yes_lots + inputs->no_lots;
}

static double adjustment(const quote_params_t *params, const quote_inputs_t *inputs, const quote_fair_t *fair) {
    double amount = fair->inventory_skew * params->gamma * (fair->sigma_cents * fair->sigma_cents) * fair->tau;
    double smallest = params->min_adjustment_cents;
    if (is_skewed(inputs) && amount < smallest && amount > -smallest)
        return inputs->yes_lots > inputs->no_lots ? smallest : -smallest;
    return amount;
}

static double half_spread(const quote_params_t *params, const quote_inputs_t *inputs, double skew, double floor_cents) {
    double base_cents = params->phases[inputs->phase].half_spread_cents;
    double spread_cents = base_cents * (1.0 + params->spread_skew_factor * skew) * inputs->spread_multiplier;
    return clamp(spread_cents, floor_cents, params->max_half_spread_cents);
}

void quote_reservation(const quote_params_t *params, const quote_inputs_t *inputs, quote_fair_t *fair) {
    fair->inventory_skew = inventory_skew(inputs);
    fair->tau = time_factor(params, inputs);
    fair->adjustment_cents = adjustment(params, inputs, fair);
    fair->reservation_cents =
        clamp((double)fair->fair_price_cents - fair->adjustment_cents, cents_of_e4(params->min_price_e4),
              cents_of_e4(params->max_price_e4));
    /* An order that may take pays the taker's fee. */
    int32_t fee_bps = inputs->one_side ? params->taker_fee_bps : params->maker_fee_bps;
    double floor_cents = at_least(fee_floor_cents(fair->reservation_cents, fee_bps), 1.0);
    fair->half_spread_ask_cents = half_spread(params, inputs, -fair->inventory_skew, floor_cents);
    fair->half_spread_bid_cents = half_spread(params, inputs, fair->inventory_skew, floor_cents);
}

/* ------------------------------------------------------------------ 3.6 and 3.7: ladder */

typedef struct {
    int64_t first_tick;
    int64_t last_tick;
} tick_range_t;

/* Ticks the strategy's and the market's limits leave, bounds of the grid excluded. */
static tick_range_t allowed_ticks(const quote_params_t *params, const price_grid_t *grid) {
    int32_t low_e4 = params->min_price_e4 > params->market_min_price_e4 ? params->min_price_e4
                                                                        : params->market_min_price_e4;
    int32_t high_e4 = params->max_price_e4 < params->market_max_price_e4 ? params->max_price_e4
                                                                         : params->market_max_price_e4;
    tick_range_t range = {.first_tick = tick_up(grid, cents_of_e4(low_e4)),
                          .last_tick = tick_dn(grid, cents_of_e4(high_e4))};
    if (range.first_tick < 1) range.first_tick = 1;
    if (range.last_tick > grid->tick_count - 2) range.last_tick = grid->tick_count - 2;
    return range;
}

static int64_t base_lots(const quote_params_t *params, const quote_inputs_t *inputs, double skew) {
    double base = (double)params->level_lots * params->phases[inputs->phase].size_ratio * inputs->size_scale;
    int64_t lots = round_dn(base * (1.0 + params->size_skew_factor * skew));
    return lots < 1 ? 1 : lots;
}

static int64_t level_lots(const quote_phase_params_t *phase, int64_t base, int32_t level) {
    if (phase->gradient == QUOTE_LINEAR) return base * (10000 + (int64_t)phase->linear_increase_bps * level) / 10000;
    int64_t lots = round_dn((double)base * phase->decay_powers[level]);
    return lots < 1 ? 1 : lots;
}

static double level_price_cents(const quote_phase_params_t *phase, int32_t side, int64_t touch_e4, int32_t level) {
    if (phase->gradient == QUOTE_LINEAR) {
        int64_t offset_e4 = (int64_t)level * phase->linear_step_e4;
        return cents_of_e4(side == ORDERBOOK_ASK ? touch_e4 + offset_e4 : touch_e4 - offset_e4);
    }
    double touch_cents = cents_of_e4(touch_e4);
    return side == ORDERBOOK_ASK ? touch_cents * phase->ratio_powers[level] : touch_cents / phase->ratio_powers[level];
}

/* Rounded away from the touch, and each at least one tick beyond the previous. */
static int64_t level_tick(const price_grid_t *grid, int32_t side, double price_cents, int32_t level, int64_t previous) {
    if (side == ORDERBOOK_ASK) {
        int64_t tick = tick_up(grid, price_cents);
        return level > 0 && tick <= previous ? previous + 1 : tick;
    }
    int64_t tick = tick_dn(grid, price_cents);
    return level > 0 && tick >= previous ? previous - 1 : tick;
}

static int32_t fill_levels(const quote_params_t *params, const quote_inputs_t *inputs, const price_grid_t *grid,
                           int32_t side, int64_t touch_tick, double skew, book_level_t *levels) {
    const quote_phase_params_t *phase = &params->phases[inputs->phase];
    tick_range_t allowed = allowed_ticks(params, grid);
    int64_t touch_e4 = tick_price_e4(grid, touch_tick);
    int64_t base = base_lots(params, inputs, skew);
    int64_t tick = touch_tick;
    int32_t count = 0;
    for (int32_t level = 0; level < phase->level_count; level++) {
        tick = level_tick(grid, side, level_price_cents(phase, side, touch_e4, level), level, tick);
        if (tick < allowed.first_tick || tick > allowed.last_tick) continue;
        levels[count].price_ticks = (int32_t)tick;
        levels[count].lots = level_lots(phase, base, level);
        count++;
    }
    return count;
}

/* One tick behind the best foreign price of the other side, unless the order may take. */
static int64_t passive_touch(const orderbook_t *book, const quote_inputs_t *inputs, int32_t side, int64_t touch_tick) {
    if (inputs->one_side) return touch_tick;
    int32_t other_side = side == ORDERBOOK_ASK ? ORDERBOOK_BID : ORDERBOOK_ASK;
    int32_t other_ticks = orderbook_best(book, ORDERBOOK_FOREIGN, other_side);
    if (other_ticks == ORDERBOOK_NO_TICK) return touch_tick;
    if (side == ORDERBOOK_ASK) return touch_tick <= other_ticks ? other_ticks + 1 : touch_tick;
    return touch_tick >= other_ticks ? other_ticks - 1 : touch_tick;
}

/* For showing: a touch outside the grid is the bound it passed. */
static int32_t shown_touch(const price_grid_t *grid, int64_t touch_tick) {
    int64_t last_tick = grid->tick_count - 1;
    return (int32_t)(touch_tick < 0 ? 0 : touch_tick > last_tick ? last_tick : touch_tick);
}

void quote_ladder(const quote_params_t *params, const orderbook_t *book, const quote_inputs_t *inputs,
                  const quote_fair_t *fair, quote_target_t *target) {
    const price_grid_t *grid = &book->grid;
    double reservation = fair->reservation_cents;
    double discount = inputs->discount_cents;
    memset(target, 0, sizeof *target);
    target->touch_ask_ticks = ORDERBOOK_NO_TICK;
    target->touch_bid_ticks = ORDERBOOK_NO_TICK;
    if (inputs->sides & QUOTE_SIDES_ASK) {
        int64_t touch = tick_up(grid, reservation + fair->half_spread_ask_cents - discount);
        touch = passive_touch(book, inputs, ORDERBOOK_ASK, touch);
        target->touch_ask_ticks = shown_touch(grid, touch);
        target->ask_count =
            fill_levels(params, inputs, grid, ORDERBOOK_ASK, touch, fair->inventory_skew, target->asks);
    }
    if (inputs->sides & QUOTE_SIDES_BID) {
        int64_t touch = tick_dn(grid, reservation - fair->half_spread_bid_cents + discount);
        touch = passive_touch(book, inputs, ORDERBOOK_BID, touch);
        target->touch_bid_ticks = shown_touch(grid, touch);
        target->bid_count =
            fill_levels(params, inputs, grid, ORDERBOOK_BID, touch, -fair->inventory_skew, target->bids);
    }
}

/* ------------------------------------------------------------------ the whole */

static int same_levels(const book_level_t *left, const book_level_t *right, int32_t count) {
    assert(count >= 0 && count <= QUOTE_LEVELS_MAX);
    return memcmp(left, right, (size_t)count * sizeof *left) == 0;
}

/* What lies behind the counts is zero on both sides. */
int32_t quote_same_target(const quote_target_t *left, const quote_target_t *right) {
    return left->bid_count == right->bid_count && left->ask_count == right->ask_count &&
           same_levels(left->bids, right->bids, left->bid_count) &&
           same_levels(left->asks, right->asks, left->ask_count);
}

int32_t quote_compute(const quote_params_t *params, const quote_trades_t *trades, const orderbook_t *book,
                      const quote_inputs_t *inputs, quote_output_t *out) {
    if (!are_inputs_valid(inputs)) return QUOTE_INPUTS_INVALID;
    if (!is_binary_grid(&book->grid)) return QUOTE_GRID_INVALID;
    quote_output_t fresh;
    quote_layers(params, trades, book, inputs, &fresh.fair);
    fresh.fair.sigma_cents = quote_volatility(params, trades, fresh.fair.fair_price_cents);
    quote_reservation(params, inputs, &fresh.fair);
    quote_ladder(params, book, inputs, &fresh.fair, &fresh.target);
    assert(is_finite(fresh.fair.reservation_cents) && fresh.fair.half_spread_ask_cents >= 1.0 &&
           fresh.fair.half_spread_bid_cents >= 1.0);
    out->fair = fresh.fair;
    if (!quote_same_target(&fresh.target, &out->target)) {
        out->target = fresh.target;
        return QUOTE_CHANGED;
    }
    out->target.touch_bid_ticks = fresh.target.touch_bid_ticks; /* they may move while every level stays */
    out->target.touch_ask_ticks = fresh.target.touch_ask_ticks;
    return QUOTE_SAME;
}
