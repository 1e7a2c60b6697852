/* Random own orders, ladders, stock and rules for the ladder's plan, and the promises every plan keeps.
 *
 * The action-for-action comparison is with the Python twin. This is for what a sanitizer can see, for numbers no
 * generator of legal values makes, and for millions of calls. */
#ifndef COREQUOTE_TESTS_PLAN_OPERATIONS_H
#define COREQUOTE_TESTS_PLAN_OPERATIONS_H

#include <stdalign.h>
#include <string.h>

#include "check.h"
#include "ladder_plan.h"

typedef struct {
    alignas(64) uint8_t book_memory[16384]; /* of a cents grid: the orders' own, because they write into it */
    quote_target_t target;
    own_orders_t orders;
    ladder_plan_t plan;
} plan_state_t;

static inline void plan_state_init(plan_state_t *state) {
    price_grid_t grid;
    memset(state, 0, sizeof *state);
    price_grid_cents(&grid);
    CHECK(orderbook_init(state->book_memory, sizeof state->book_memory, &grid) == ORDERBOOK_OK);
    state->orders.book = (orderbook_t *)(void *)state->book_memory;
    state->plan.target = &state->target;
    state->plan.orders = &state->orders;
}

static inline uint64_t plan_word(const uint8_t *bytes, size_t at) {
    uint64_t word = 0;
    memcpy(&word, bytes + at, at + 8 <= 16 ? 8 : 16 - at);
    return word;
}

static inline void plan_add_order(plan_state_t *state, const uint8_t *bytes) {
    own_order_t order = {.price_cents = 40 + bytes[1] % 21, .outcome = bytes[2] & 1, .direction = bytes[2] >> 1 & 1};
    order.quantity = 1 + bytes[3];
    order.remaining = bytes[4] & 1 ? order.quantity : bytes[4] % (order.quantity + 1);
    order.intent = bytes[5] % 8;
    order.live_slot = (int32_t)(bytes[6] % 64) - 1;
    if (bytes[7] & 1) order.flags = bytes[7] >> 1 & 15;
    if (order.flags) order.flags |= OWN_ORDER_BUSY;
    if (order.flags & OWN_ORDER_LEAVING) order.leaving_intent = bytes[8] % 8;
    if (bytes[9] == 0) memcpy(&order.quantity, bytes + 8, 8); /* any number at all */
    if (bytes[9] == 1) memcpy(&order.price_cents, bytes + 12, 4);
    uint32_t count = state->orders.count;
    own_order_t *added = own_orders_add(&state->orders, &order);
    CHECK(state->orders.count == count + (added != NULL));
    CHECK(added != NULL || count == OWN_ORDERS_MAX || bytes[9] < 2);
    if (added == NULL) return;
    CHECK(added->book_price_cents >= 0 && added->book_price_cents <= 100 && added->side <= 1);
}

static inline void check_funded(const ladder_plan_t *plan) {
    int64_t sold[2] = {0}, bought[2] = {0}, frozen_cents = 0;
    CHECK(plan->desired_count <= LADDER_ORDERS_MAX);
    for (uint32_t i = 0; i < plan->desired_count; i++) {
        const desired_order_t *order = &plan->desired[i];
        CHECK(order->quantity > 0 && order->quantity <= plan->rules.order_quantity_max);
        CHECK(order->price_cents * order->quantity <= plan->rules.order_amount_max_cents);
        CHECK(own_book_side(order->outcome, order->direction) == order->side);
        CHECK(own_book_price(order->outcome, order->price_cents) == order->book_price_cents);
        if (order->direction == DIRECTION_SELL) {
            sold[order->outcome] += order->quantity;
            continue;
        }
        CHECK(plan->rules.allow_buy);
        bought[order->outcome] += order->quantity;
        frozen_cents += own_freeze_cents(order->price_cents, order->quantity, plan->rules.taker_fee_bps);
    }
    CHECK(sold[OUTCOME_YES] <= plan->yes_lots && sold[OUTCOME_NO] <= plan->no_lots);
    CHECK(!bought[OUTCOME_YES] || bought[OUTCOME_YES] + plan->yes_lots <= plan->rules.position_limit);
    CHECK(!bought[OUTCOME_NO] || bought[OUTCOME_NO] + plan->no_lots <= plan->rules.position_limit);
    CHECK(!frozen_cents || frozen_cents <= plan->cash_cents - plan->rules.cash_reserve_cents);
}

/* No order is asked twice or while it is busy, and no new one crosses what may be live. */
static inline void check_actions(const ladder_plan_t *plan) {
    const own_orders_t *orders = plan->orders;
    uint8_t asked[OWN_ORDERS_MAX] = {0};
    uint32_t added = 0;
    CHECK(plan->action_count <= LADDER_ACTIONS_MAX);
    for (uint32_t i = 0; i < plan->action_count; i++) {
        const ladder_action_t *action = &plan->actions[i];
        added += action->kind != ORDER_CANCEL;
        if (action->kind != ORDER_PLACE) {
            CHECK(action->own < orders->count && !asked[action->own]++);
            CHECK(!(orders->orders[action->own].flags & OWN_ORDER_BUSY));
        }
        for (uint32_t other = 0; action->kind != ORDER_CANCEL && other < orders->count; other++) {
            const own_order_t *order = &orders->orders[other];
            if (order->side == action->desired.side) continue;
            CHECK(action->desired.side == ORDERBOOK_BID ? action->desired.book_price_cents < order->book_price_cents
                                                        : action->desired.book_price_cents > order->book_price_cents);
        }
    }
    CHECK(orders->count + added <= OWN_ORDERS_MAX);
}

static inline void plan_decide(plan_state_t *state) {
    own_held_t held;
    own_orders_held(&state->orders, state->plan.rules.taker_fee_bps, &held);
    CHECK(held.yes_lots >= 0 && held.no_lots >= 0 && held.cash_cents >= 0);
    CHECK(ladder_plan(&state->plan) == LADDER_OK);
    check_funded(&state->plan);
    check_actions(&state->plan);
    ladder_retreat(&state->plan);
    check_actions(&state->plan);
}

static inline void plan_level(plan_state_t *state, const uint8_t *bytes) {
    book_level_t *levels = bytes[1] & 1 ? state->target.bids : state->target.asks;
    int32_t *count = bytes[1] & 1 ? &state->target.bid_count : &state->target.ask_count;
    book_level_t level = {.price_ticks = 1 + bytes[2] % 99, .lots = 1 + bytes[3] * bytes[4]};
    if (bytes[5] == 0) level.lots = (int64_t)(plan_word(bytes, 8) >> 1); /* more than can be */
    if (*count == QUOTE_LEVELS_MAX) *count = 0;
    levels[(*count)++] = level;
}

static inline void plan_terms(plan_state_t *state, const uint8_t *bytes) {
    ladder_plan_t *plan = &state->plan;
    plan->yes_lots = bytes[1] * bytes[2];
    plan->no_lots = bytes[2] * bytes[3];
    plan->cash_cents = bytes[4] * bytes[5] * 10 - 1000;
    plan->order_tokens = (plan_tokens_t){.left = bytes[6], .capacity = 100};
    plan->replace_tokens = (plan_tokens_t){.left = bytes[7], .capacity = 100};
    plan->rules = (funding_rules_t){.cash_reserve_cents = bytes[8] * 4,
                                    .position_limit = bytes[9] * 100,
                                    .order_quantity_max = 1 + bytes[10] * 100,
                                    .order_amount_max_cents = bytes[11] * 5000,
                                    .taker_fee_bps = bytes[12] * 10,
                                    .buy_share_bp = bytes[13] & 1 ? bytes[14] * 39 : 0,
                                    .allow_buy = bytes[15] & 1};
    if (bytes[0] & 1) return;
    plan->rules.order_quantity_max = INT64_MAX;
    plan->rules.order_amount_max_cents = INT64_MAX;
    plan->rules.taker_fee_bps = OWN_FEE_BPS_MAX;
    plan->yes_lots = plan->cash_cents = INT64_C(1) << 52;
    plan->rules.position_limit = INT64_C(1) << 53;
}

static inline void plan_operation(plan_state_t *state, const uint8_t *bytes) {
    uint8_t kind = bytes[0];
    if (kind < 100) plan_add_order(state, bytes);
    else if (kind < 150 && state->orders.count > 0)
        own_orders_remove(&state->orders, &state->orders.orders[bytes[1] % state->orders.count]);
    else if (kind < 180) plan_level(state, bytes);
    else if (kind < 200) plan_terms(state, bytes);
    else if (kind == 200) own_orders_clear(&state->orders);
    else plan_decide(state);
}

#endif
