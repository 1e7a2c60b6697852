/* ladder_plan.c - see ladder_plan.h. */
#include "ladder_plan.h"

enum { WHOLE_BP = 10000, NONE = OWN_ORDERS_MAX };

static int64_t least(int64_t left, int64_t right) { return left < right ? left : right; }

static int64_t most(int64_t left, int64_t right) { return left > right ? left : right; }

/* --- funding --- */

/* What is left to plan with while the levels are funded; shares by outcome. */
typedef struct {
    const funding_rules_t *rules;
    int64_t cash_cents;
    int64_t sellable[2];
    int64_t buyable[2];
} purse_t;

static int64_t sell(purse_t *purse, uint32_t outcome, int64_t wanted) {
    int64_t quantity = least(wanted, purse->sellable[outcome]);
    purse->sellable[outcome] -= quantity;
    return quantity;
}

/* Most shares of wanted whose freeze fits in cash_cents. The fee is a rounded share of the amount, so the search takes a
 * step or two; each takes at least one share and half of the excess, so it ends. */
static int64_t affordable(int64_t price_cents, int64_t wanted, int64_t cash_cents, int64_t taker_fee_bps) {
    int64_t quantity = least(wanted, most(0, cash_cents) / price_cents);
    while (quantity > 0) {
        int64_t excess_cents = own_freeze_cents(price_cents, quantity, taker_fee_bps) - cash_cents;
        if (excess_cents <= 0) break;
        quantity -= most(1, excess_cents / (2 * price_cents));
    }
    return most(0, quantity);
}

/* Takes up to wanted on top of already shares of the same order. */
static int64_t buy(purse_t *purse, uint32_t outcome, int64_t price_cents, int64_t wanted, int64_t already) {
    const funding_rules_t *rules = purse->rules;
    int64_t amount_max = rules->order_amount_max_cents / price_cents - already;
    int64_t held_cents = own_freeze_cents(price_cents, already, rules->taker_fee_bps);
    wanted = least(wanted, least(purse->buyable[outcome], amount_max));
    int64_t quantity =
        affordable(price_cents, already + wanted, purse->cash_cents + held_cents, rules->taker_fee_bps) - already;
    quantity = most(0, quantity);
    purse->buyable[outcome] -= quantity;
    purse->cash_cents -= own_freeze_cents(price_cents, already + quantity, rules->taker_fee_bps) - held_cents;
    return quantity;
}

static void desire(ladder_plan_t *plan, desired_order_t order) {
    if (order.quantity > 0) plan->desired[plan->desired_count++] = order;
}

static void fund_level(ladder_plan_t *plan, purse_t *purse, uint8_t side, uint8_t index, const book_level_t *level) {
    const funding_rules_t *rules = purse->rules;
    uint8_t sold = side == ORDERBOOK_ASK ? OUTCOME_YES : OUTCOME_NO;
    uint8_t bought = side == ORDERBOOK_ASK ? OUTCOME_NO : OUTCOME_YES;
    int32_t sell_price = own_book_price(sold, level->price_ticks);
    int32_t buy_price = own_book_price(bought, level->price_ticks);
    int64_t wanted = least(least(level->lots, rules->order_quantity_max), OWN_QUANTITY_MAX);
    int64_t to_buy = rules->allow_buy ? wanted * rules->buy_share_bp / WHOLE_BP : 0;
    int64_t buying = to_buy > 0 ? buy(purse, bought, buy_price, to_buy, 0) : 0;
    int64_t selling = sell(purse, sold, least(wanted - buying, rules->order_amount_max_cents / sell_price));
    int64_t rest = wanted - buying - selling;
    if (rest > 0 && rules->allow_buy) buying += buy(purse, bought, buy_price, rest, buying);
    desired_order_t order = {.side = side, .level = index, .book_price_cents = level->price_ticks};
    order.outcome = sold;
    order.direction = DIRECTION_SELL;
    order.price_cents = sell_price;
    order.quantity = selling;
    desire(plan, order);
    order.outcome = bought;
    order.direction = DIRECTION_BUY;
    order.price_cents = buy_price;
    order.quantity = buying;
    desire(plan, order);
}

static int are_levels(const book_level_t *levels, int32_t count) {
    if (count < 0 || count > QUOTE_LEVELS_MAX) return 0;
    for (int32_t i = 0; i < count; i++)
        if (levels[i].price_ticks < 1 || levels[i].price_ticks > 99 || levels[i].lots < 0) return 0;
    return 1;
}

static int are_rules(const funding_rules_t *rules) {
    return rules->taker_fee_bps >= 0 && rules->taker_fee_bps <= OWN_FEE_BPS_MAX && rules->buy_share_bp >= 0 &&
           rules->buy_share_bp <= WHOLE_BP && rules->order_quantity_max >= 0 && rules->order_amount_max_cents >= 0;
}

int32_t ladder_fund(ladder_plan_t *plan) {
    const quote_target_t *target = plan->target;
    const funding_rules_t *rules = &plan->rules;
    plan->desired_count = plan->action_count = plan->waiting = 0;
    if (!are_rules(rules)) return LADDER_BAD_RULES;
    if (!are_levels(target->bids, target->bid_count) || !are_levels(target->asks, target->ask_count))
        return LADDER_BAD_LEVEL;
    purse_t purse = {.rules = rules, .cash_cents = plan->cash_cents - rules->cash_reserve_cents};
    purse.sellable[OUTCOME_YES] = plan->yes_lots;
    purse.sellable[OUTCOME_NO] = plan->no_lots;
    purse.buyable[OUTCOME_YES] = most(0, rules->position_limit - plan->yes_lots);
    purse.buyable[OUTCOME_NO] = most(0, rules->position_limit - plan->no_lots);
    for (int32_t i = 0; i < target->bid_count || i < target->ask_count; i++) {
        if (i < target->ask_count) fund_level(plan, &purse, ORDERBOOK_ASK, (uint8_t)i, &target->asks[i]);
        if (i < target->bid_count) fund_level(plan, &purse, ORDERBOOK_BID, (uint8_t)i, &target->bids[i]);
    }
    return LADDER_OK;
}

/* --- comparison --- */

/* One side while it is compared. An own order is a candidate until it satisfies a level or is asked to do something. */
typedef struct {
    ladder_plan_t *plan;
    uint32_t missing_count;
    const desired_order_t *missing[LADDER_ORDERS_MAX];
    uint8_t candidate[OWN_ORDERS_MAX];
} side_plan_t;

/* 6.1: same kind and price, remaining within max(1, 20 %) of the target, not too old. */
static int keeps(const ladder_plan_t *plan, const own_order_t *order, const desired_order_t *desired) {
    int64_t off = order->remaining - desired->quantity;
    return order->outcome == desired->outcome && order->direction == desired->direction &&
           order->price_cents == desired->price_cents && (off < 0 ? -off : off) <= most(1, desired->quantity / 5) &&
           plan->now_ms - order->created_ms <= plan->max_age_ms;
}

static int32_t distance(int32_t left_cents, int32_t right_cents) {
    return left_cents < right_cents ? right_cents - left_cents : left_cents - right_cents;
}

static int satisfied(side_plan_t *side, const desired_order_t *desired) {
    const own_orders_t *orders = side->plan->orders;
    for (uint32_t i = 0; i < orders->count; i++) {
        if (!side->candidate[i] || !keeps(side->plan, &orders->orders[i], desired)) continue;
        side->candidate[i] = 0;
        return 1;
    }
    return 0;
}

/* An order of unknown outcome that satisfies no level any more blocks the level nearest to it until the venue has said
 * what it is (6.3): otherwise that level might be shown twice. */
static void block_nearest(side_plan_t *side, int32_t book_price_cents) {
    uint32_t nearest = 0;
    for (uint32_t i = 1; i < side->missing_count; i++)
        if (distance(side->missing[i]->book_price_cents, book_price_cents) <
            distance(side->missing[nearest]->book_price_cents, book_price_cents))
            nearest = i;
    side->missing_count -= 1;
    for (uint32_t i = nearest; i < side->missing_count; i++) side->missing[i] = side->missing[i + 1];
}

/* Which levels are missing, and which orders are surplus: candidates that nothing is asked of. A busy order on its way in
 * satisfies its level but is never surplus. */
static void match(side_plan_t *side, uint8_t book_side) {
    ladder_plan_t *plan = side->plan;
    const own_orders_t *orders = plan->orders;
    for (uint32_t i = 0; i < orders->count; i++)
        side->candidate[i] = orders->orders[i].side == book_side && !(orders->orders[i].flags & OWN_ORDER_LEAVING);
    side->missing_count = 0;
    for (uint32_t i = 0; i < plan->desired_count; i++)
        if (plan->desired[i].side == book_side && !satisfied(side, &plan->desired[i]))
            side->missing[side->missing_count++] = &plan->desired[i];
    for (uint32_t i = 0; i < orders->count; i++) {
        const own_order_t *order = &orders->orders[i];
        if (!side->candidate[i]) continue;
        if ((order->flags & OWN_ORDER_UNKNOWN) && side->missing_count > 0) {
            block_nearest(side, order->book_price_cents);
            plan->waiting = 1;
        }
        if (order->flags & OWN_ORDER_BUSY) side->candidate[i] = 0;
    }
}

static void cancel(ladder_plan_t *plan, uint32_t own) {
    plan->actions[plan->action_count++] = (ladder_action_t){.kind = ORDER_CANCEL, .own = (uint16_t)own};
}

static int is_filled(const own_order_t *order) { return order->remaining != order->quantity; }

/* The nearest surplus order that is unfilled; NONE when there is none. */
static uint32_t nearest_surplus(const side_plan_t *side, int32_t book_price_cents) {
    const own_orders_t *orders = side->plan->orders;
    uint32_t nearest = NONE;
    for (uint32_t i = 0; i < orders->count; i++) {
        if (!side->candidate[i]) continue;
        if (nearest == NONE || distance(orders->orders[i].book_price_cents, book_price_cents) <
                                   distance(orders->orders[nearest].book_price_cents, book_price_cents))
            nearest = i;
    }
    return nearest;
}

/* Each missing level takes over the nearest surplus order that is unfilled; the rest is cancelled. A partially filled one
 * is cancelled and its level placed anew: replacing it would answer 6001. Cancels become actions, the others wanted. */
static uint32_t pair(side_plan_t *side, ladder_action_t *wanted) {
    ladder_plan_t *plan = side->plan;
    const own_orders_t *orders = plan->orders;
    for (uint32_t i = 0; i < orders->count; i++) {
        if (!side->candidate[i] || !is_filled(&orders->orders[i])) continue;
        side->candidate[i] = 0;
        cancel(plan, i);
    }
    for (uint32_t i = 0; i < side->missing_count; i++) {
        uint32_t own = nearest_surplus(side, side->missing[i]->book_price_cents);
        wanted[i] = (ladder_action_t){.desired = *side->missing[i], .kind = ORDER_PLACE};
        if (own == NONE) continue;
        side->candidate[own] = 0;
        wanted[i].kind = ORDER_REPLACE;
        wanted[i].own = (uint16_t)own;
    }
    for (uint32_t i = 0; i < orders->count; i++)
        if (side->candidate[i]) cancel(plan, i);
    return side->missing_count;
}

/* Whether an order would meet or pass an own order of the other side (3.6 own-cross rule). */
static int crosses(const own_orders_t *orders, const desired_order_t *desired) {
    for (uint32_t i = 0; i < orders->count; i++) {
        const own_order_t *order = &orders->orders[i];
        if (order->side == desired->side) continue;
        if (desired->side == ORDERBOOK_BID ? order->book_price_cents <= desired->book_price_cents
                                           : order->book_price_cents >= desired->book_price_cents)
            return 1;
    }
    return 0;
}

/* What is free of live orders: shares by outcome, and cents. */
typedef struct {
    int64_t lots[2];
    int64_t cash_cents;
} collateral_t;

static void move(collateral_t *free, uint8_t outcome, uint8_t direction, int64_t lots, int64_t cents) {
    if (direction == DIRECTION_SELL) free->lots[outcome] += lots;
    else free->cash_cents += cents;
}

/* Books what the action needs, or leaves everything as it was and returns 0. */
static int take(collateral_t *free, const ladder_plan_t *plan, const ladder_action_t *action) {
    const desired_order_t *wanted = &action->desired;
    int64_t bps = plan->rules.taker_fee_bps;
    collateral_t after = *free;
    if (action->kind == ORDER_REPLACE) {
        const own_order_t *old = &plan->orders->orders[action->own];
        move(&after, old->outcome, old->direction, old->remaining,
             own_freeze_cents(old->price_cents, old->remaining, bps));
    }
    move(&after, wanted->outcome, wanted->direction, -wanted->quantity,
         -own_freeze_cents(wanted->price_cents, wanted->quantity, bps));
    if ((wanted->direction == DIRECTION_SELL ? after.lots[wanted->outcome] : after.cash_cents) < 0) return 0;
    *free = after;
    return 1;
}

static void act(ladder_plan_t *plan, const ladder_action_t *wanted, uint32_t count) {
    own_held_t held;
    own_orders_held(plan->orders, plan->rules.taker_fee_bps, &held);
    collateral_t free = {.cash_cents = plan->cash_cents - held.cash_cents};
    free.lots[OUTCOME_YES] = plan->yes_lots - held.yes_lots;
    free.lots[OUTCOME_NO] = plan->no_lots - held.no_lots;
    uint32_t room = OWN_ORDERS_MAX - plan->orders->count;
    for (uint32_t level = 0; level < QUOTE_LEVELS_MAX; level++)
        for (uint32_t i = 0; i < count; i++) {
            if (wanted[i].desired.level != level) continue;
            if (room == 0 || crosses(plan->orders, &wanted[i].desired) || !take(&free, plan, &wanted[i])) {
                plan->waiting = 1;
                continue;
            }
            plan->actions[plan->action_count++] = wanted[i];
            room -= 1;
        }
}

void ladder_compare(ladder_plan_t *plan) {
    ladder_action_t wanted[LADDER_ORDERS_MAX];
    side_plan_t side = {.plan = plan};
    uint32_t count = 0;
    plan->action_count = plan->waiting = 0;
    match(&side, ORDERBOOK_ASK);
    count += pair(&side, wanted + count);
    match(&side, ORDERBOOK_BID);
    count += pair(&side, wanted + count);
    act(plan, wanted, count);
}

/* --- the request budget, the whole, and the retreat --- */

static int64_t spendable(const plan_tokens_t *tokens) {
    return most(0, tokens->left - tokens->capacity / LADDER_CANCEL_SHARE);
}

void ladder_afford(ladder_plan_t *plan) {
    int64_t order_tokens = spendable(&plan->order_tokens), replace_tokens = spendable(&plan->replace_tokens);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < plan->action_count; i++) order_tokens -= plan->actions[i].kind == ORDER_CANCEL;
    for (uint32_t i = 0; i < plan->action_count; i++) {
        uint8_t kind = plan->actions[i].kind;
        if (kind == ORDER_REPLACE && --replace_tokens < 0) continue;
        if (kind == ORDER_PLACE && --order_tokens < 0) continue;
        plan->actions[kept++] = plan->actions[i];
    }
    if (kept < plan->action_count) plan->waiting = 1;
    plan->action_count = kept;
}

int32_t ladder_plan(ladder_plan_t *plan) {
    int32_t code = ladder_fund(plan);
    if (code != LADDER_OK) return code;
    ladder_compare(plan);
    ladder_afford(plan);
    return LADDER_OK;
}

void ladder_retreat(ladder_plan_t *plan) {
    const own_orders_t *orders = plan->orders;
    const quote_target_t *target = plan->target;
    int32_t touch_bid = target->bid_count > 0 ? target->bids[0].price_ticks : 0;
    int32_t touch_ask = target->ask_count > 0 ? target->asks[0].price_ticks : INT32_MAX;
    plan->action_count = plan->waiting = 0;
    for (uint32_t i = 0; i < orders->count; i++) {
        const own_order_t *order = &orders->orders[i];
        if (order->side == ORDERBOOK_BID ? order->book_price_cents <= touch_bid : order->book_price_cents >= touch_ask)
            continue;
        if ((order->flags & (OWN_ORDER_BUSY | OWN_ORDER_LEAVING)) == OWN_ORDER_BUSY) plan->waiting = 1;
        if (!(order->flags & OWN_ORDER_BUSY)) cancel(plan, i);
    }
}
