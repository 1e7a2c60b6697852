/* pretrade.c - see pretrade.h. */
#include "pretrade.h"

#include <stddef.h>

#include "orderbook.h"
#include "own_orders.h"

/* Gates under which a quoter decides on no order; ORACLE_GAP leaves one side open (market-making §5.3). */
static const uint32_t CLOSED_GATES = ~(uint32_t)GATE_ORACLE_GAP;

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t magnitude(int64_t a) { return a < 0 ? -a : a; }

static inline int64_t held(const standing_t *standing, int32_t outcome) {
    return outcome == OUTCOME_YES ? standing->stock.yes_volume : standing->stock.no_volume;
}

int64_t order_loss_cents(int32_t side, int32_t book_price_cents, int64_t quantity) {
    return (side == ORDERBOOK_BID ? book_price_cents : PAIR_CENTS - book_price_cents) * quantity;
}

int64_t stock_loss_cents(const stock_t *stock) {
    int64_t cost_cents = stock->yes_cost_sum_cents + stock->no_cost_sum_cents;
    return larger(0, cost_cents - PAIR_CENTS * smaller(stock->yes_volume, stock->no_volume));
}

/* Whether so many shares more on a book side leave the market further from balance than it is. */
static int increases(const stock_t *stock, int32_t side, int64_t shares) {
    int64_t net = stock->yes_volume - stock->no_volume;
    int64_t after = side == ORDERBOOK_BID ? net + shares : net - shares;
    return magnitude(after) > magnitude(net);
}

/* A sale of the outcome that more is held of, by the gateway's own count. */
static int reduces(const candidate_t *candidate, const standing_t *standing) {
    int32_t other = candidate->outcome == OUTCOME_YES ? OUTCOME_NO : OUTCOME_YES;
    return candidate->direction == DIRECTION_SELL && held(standing, candidate->outcome) > held(standing, other);
}

#define CHECK(name) \
    static int32_t name(const candidate_t *candidate, const standing_t *standing, const pretrade_limits_t *limits)
#define UNUSED(argument) (void)(argument)

/* C1: no kill word, market's or global, is raised. A pause is one that ends by itself. */
CHECK(not_killed) {
    UNUSED(candidate), UNUSED(limits);
    if (standing->kill_word == 0) return 0;
    return standing->kill_word == KILL_PAUSE ? LOCAL_PAUSED : LOCAL_KILLED;
}

/* I9: the intent comes from the worker that is in office. */
CHECK(from_current_worker) {
    UNUSED(candidate), UNUSED(limits);
    return standing->epoch_current ? 0 : LOCAL_STALE_EPOCH;
}

/* C2: gateway RUNNING, market ACTIVE, and a decision recent enough to stand for the present. */
CHECK(admitted) {
    UNUSED(limits);
    int64_t oldest_mono_ns = standing->now_mono_ns - (int64_t)INTENT_AGE_MS_MAX * 1000000;
    int recent = oldest_mono_ns <= candidate->decided_mono_ns && candidate->decided_mono_ns <= standing->now_mono_ns;
    return standing->admitting && standing->status == MARKET_ACTIVE && recent ? 0 : LOCAL_NOT_READY;
}

/* C2, I5: its own worker was not forbidden to send it when it decided. */
CHECK(ungated) {
    UNUSED(standing), UNUSED(limits);
    return candidate->gates & CLOSED_GATES || candidate->level == DEFENSE_KILL_SWITCH ? LOCAL_GATED : 0;
}

/* C14: book, worker and reconciliation are recent. */
CHECK(fresh) {
    UNUSED(candidate), UNUSED(limits);
    return standing->stale ? LOCAL_STALE : 0;
}

/* C17: times that the venue and we name mean about the same. */
CHECK(clocks_agree) {
    UNUSED(candidate);
    return standing->clock_offset_ms > limits->clock_stop_ms ? LOCAL_CLOCK : 0;
}

/* C4, E2: 1..99, and the market's own limits. */
CHECK(price_in_range) {
    UNUSED(limits);
    int64_t lowest = larger(1, standing->min_price_cents);
    int64_t highest = smaller(PAIR_CENTS - 1, standing->max_price_cents);
    return lowest <= candidate->price_cents && candidate->price_cents <= highest ? 0 : LOCAL_PRICE_RANGE;
}

/* C6: the largest order, by quantity, by amount, and by what it can lose. */
CHECK(size_in_limits) {
    int64_t amount_cents = candidate->price_cents * candidate->quantity;
    int64_t loss_cents = order_loss_cents(candidate->side, candidate->book_price_cents, candidate->quantity);
    int fits = candidate->quantity > 0 &&
               candidate->quantity <= smaller(standing->order_quantity_max, limits->order_quantity_max) &&
               amount_cents <= standing->order_amount_max_cents && loss_cents <= limits->order_loss_max_cents;
    return fits ? 0 : LOCAL_LIMIT;
}

/* C4: within the collar around the fair price it was decided at; no fair price is no reference. */
CHECK(near_fair) {
    UNUSED(limits);
    int known = 0 < candidate->fair_cents && candidate->fair_cents < PAIR_CENTS;
    int64_t distance = magnitude((int64_t)candidate->book_price_cents - candidate->fair_cents);
    return known && distance <= standing->collar_cents ? 0 : LOCAL_COLLAR;
}

/* C4: within the collar around the middle of the foreign book, where it has both sides. */
CHECK(near_foreign_mid) {
    UNUSED(limits);
    int64_t bid = standing->foreign_bid_cents, ask = standing->foreign_ask_cents;
    if (bid <= 0 || ask >= PAIR_CENTS) return 0;
    int64_t twice_distance = magnitude(2 * (int64_t)candidate->book_price_cents - bid - ask);
    return twice_distance <= 2 * standing->collar_cents ? 0 : LOCAL_COLLAR;
}

/* C7: live orders by side, market and engine. */
CHECK(few_enough_orders) {
    UNUSED(candidate);
    int fits = standing->side_orders < limits->side_orders_max && standing->market_orders < limits->market_orders_max &&
               standing->engine_orders < limits->engine_orders_max;
    return fits ? 0 : LOCAL_LIMIT;
}

/* C5, E1: own bids below own asks. */
CHECK(not_self_crossing) {
    UNUSED(limits);
    int apart = candidate->side == ORDERBOOK_BID ? candidate->book_price_cents < standing->own_ask_cents
                                                 : candidate->book_price_cents > standing->own_bid_cents;
    return apart ? 0 : LOCAL_SELF_CROSS;
}

/* C2, D8: in ONE_SIDE only a sale of what is held more of. */
CHECK(reducing_in_one_side) {
    UNUSED(limits);
    return candidate->level != DEFENSE_ONE_SIDE || reduces(candidate, standing) ? 0 : LOCAL_POSITION;
}

/* C5: below the best foreign ask, above the best foreign bid; the reducing side in ONE_SIDE may take (§3.6, D8). */
CHECK(post_only) {
    UNUSED(limits);
    if (candidate->level == DEFENSE_ONE_SIDE && reduces(candidate, standing)) return 0;
    int rests = candidate->side == ORDERBOOK_BID ? candidate->book_price_cents < standing->foreign_ask_cents
                                                 : candidate->book_price_cents > standing->foreign_bid_cents;
    return rests ? 0 : LOCAL_POST_ONLY;
}

/* C11: no order of the same side, price and size is still without an answer. */
CHECK(not_a_duplicate) {
    UNUSED(candidate);
    return standing->alike_unacked < limits->unacked_alike_max ? 0 : LOCAL_DUPLICATE;
}

/* E2: what own sells may still take of an outcome is held. */
CHECK(not_overselling) {
    UNUSED(limits);
    if (candidate->direction != DIRECTION_SELL) return 0;
    return standing->sell_committed + candidate->quantity <= held(standing, candidate->outcome) ? 0 : LOCAL_OVERSELL;
}

/* C8: with every live and unknown order filled, position and worst loss stay within their limits. Only what leads
 * further from balance is held back. */
CHECK(position_in_limits) {
    UNUSED(limits);
    if (!increases(&standing->stock, candidate->side, standing->side_shares + candidate->quantity)) return 0;
    int64_t shares = held(standing, candidate->outcome) + standing->buy_committed + candidate->quantity;
    int64_t loss_cents = standing->worst_loss_cents +
                         order_loss_cents(candidate->side, candidate->book_price_cents, candidate->quantity);
    int fits = (candidate->direction == DIRECTION_SELL || shares <= standing->position_limit) &&
               loss_cents <= standing->loss_limit_cents &&
               loss_cents + standing->other_loss_cents <= standing->engine_loss_limit_cents;
    return fits ? 0 : LOCAL_POSITION;
}

/* C9: own cash covers every own buy with the largest fee it can cost, and a share of the account all. */
CHECK(paid_for) {
    if (candidate->direction != DIRECTION_BUY) return 0;
    int64_t freeze_cents = standing->buy_committed_cents + own_freeze_cents(candidate->price_cents, candidate->quantity,
                                                                            standing->taker_fee_bps);
    int64_t all_cents = freeze_cents + standing->other_frozen_cents;
    int fits = freeze_cents <= standing->stock.cash_cents &&
               100 * all_cents <= limits->cash_share_percent * standing->account_cents;
    return fits ? 0 : LOCAL_CASH;
}

/* C10: market and account have room, beyond what is kept for cancels. Last, because only an order that goes out may
 * use it. */
CHECK(within_rate) {
    UNUSED(candidate), UNUSED(limits);
    return standing->market_tokens > 0 && standing->tokens > standing->reserved_tokens ? 0 : LOCAL_RATE_LIMIT;
}

typedef int32_t (*check_t)(const candidate_t *, const standing_t *, const pretrade_limits_t *);

static const check_t CHECKS[] = {
    not_killed,        from_current_worker, admitted,          ungated,         fresh,
    clocks_agree,      price_in_range,      size_in_limits,    near_fair,       near_foreign_mid,
    few_enough_orders, not_self_crossing,   reducing_in_one_side, post_only,    not_a_duplicate,
    not_overselling,   position_in_limits,  paid_for,          within_rate,
};

int32_t pretrade_refusal(const candidate_t *candidate, const standing_t *standing, const pretrade_limits_t *limits) {
    for (size_t i = 0; i < sizeof CHECKS / sizeof CHECKS[0]; i++) {
        int32_t reason = CHECKS[i](candidate, standing, limits);
        if (reason != 0) return reason;
    }
    return 0;
}
