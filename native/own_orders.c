/* own_orders.c - see own_orders.h. */
#include "own_orders.h"

#include <string.h>

enum { PAIR_CENTS = 100 };

int32_t own_book_price(uint32_t outcome, int32_t price_cents) {
    return outcome == OUTCOME_YES ? price_cents : PAIR_CENTS - price_cents;
}

uint8_t own_book_side(uint32_t outcome, uint32_t direction) {
    int buys_yes = (outcome == OUTCOME_YES) == (direction == DIRECTION_BUY);
    return buys_yes ? ORDERBOOK_BID : ORDERBOOK_ASK;
}

int64_t own_freeze_cents(int64_t price_cents, int64_t remaining, int64_t taker_fee_bps) {
    int64_t amount_cents = price_cents * remaining;
    return amount_cents + (amount_cents * taker_fee_bps + 9999) / 10000;
}

static int is_quantity(int64_t lots) { return lots >= 0 && lots <= OWN_QUANTITY_MAX; }

own_order_t *own_orders_add(own_orders_t *orders, const own_order_t *order) {
    if (orders->count >= OWN_ORDERS_MAX || order->price_cents < 0 || order->price_cents > PAIR_CENTS) return NULL;
    if (!is_quantity(order->quantity) || !is_quantity(order->remaining)) return NULL;
    if (order->outcome > OUTCOME_NO || order->direction > DIRECTION_SELL) return NULL;
    own_order_t *added = &orders->orders[orders->count++];
    *added = *order;
    added->side = own_book_side(order->outcome, order->direction);
    added->book_price_cents = own_book_price(order->outcome, order->price_cents);
    own_orders_resized(orders, added->side, added->book_price_cents);
    return added;
}

void own_orders_remove(own_orders_t *orders, own_order_t *order) {
    int32_t side = order->side, book_price_cents = order->book_price_cents;
    size_t after = (size_t)(&orders->orders[orders->count] - (order + 1));
    memmove(order, order + 1, after * sizeof *order);
    orders->count -= 1;
    own_orders_resized(orders, side, book_price_cents);
}

void own_orders_clear(own_orders_t *orders) {
    orders->count = 0;
    orderbook_clear_own(orders->book);
}

void own_orders_resized(const own_orders_t *orders, int32_t side, int32_t book_price_cents) {
    int64_t lots = 0;
    for (uint32_t i = 0; i < orders->count; i++) {
        const own_order_t *order = &orders->orders[i];
        if (order->side == side && order->book_price_cents == book_price_cents) lots += order->remaining;
    }
    (void)orderbook_set_own(orders->book, side, book_price_cents, lots);
}

own_order_t *own_orders_by_slot(own_orders_t *orders, int32_t live_slot) {
    if (live_slot < 0) return NULL;
    for (uint32_t i = 0; i < orders->count; i++)
        if (orders->orders[i].live_slot == live_slot) return &orders->orders[i];
    return NULL;
}

own_order_t *own_orders_awaited(own_orders_t *orders, uint64_t intent) {
    for (uint32_t i = 0; i < orders->count; i++) {
        own_order_t *order = &orders->orders[i];
        if (order->intent == intent && (order->flags & OWN_ORDER_BUSY)) return order;
    }
    return NULL;
}

uint32_t own_orders_flagged(const own_orders_t *orders, uint32_t all, uint32_t none) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < orders->count; i++) {
        uint32_t flags = orders->orders[i].flags;
        found += (flags & all) == all && (flags & none) == 0;
    }
    return found;
}

int64_t own_orders_oldest_ms(const own_orders_t *orders) {
    int64_t oldest_ms = -1;
    for (uint32_t i = 0; i < orders->count; i++)
        if (i == 0 || orders->orders[i].created_ms < oldest_ms) oldest_ms = orders->orders[i].created_ms;
    return oldest_ms;
}

int own_orders_unknown_on_both_sides(const own_orders_t *orders) {
    int bid = 0, ask = 0;
    for (uint32_t i = 0; i < orders->count; i++) {
        if ((orders->orders[i].flags & OWN_ORDER_UNKNOWN) == 0) continue;
        if (orders->orders[i].side == ORDERBOOK_BID) bid = 1;
        else ask = 1;
    }
    return bid && ask;
}

uint32_t own_orders_resting(const own_orders_t *orders, int32_t side, int64_t *lots) {
    uint32_t found = 0;
    *lots = 0;
    for (uint32_t i = 0; i < orders->count; i++) {
        const own_order_t *order = &orders->orders[i];
        if (order->live_slot < 0 || order->side != side) continue;
        *lots += order->remaining;
        found += 1;
    }
    return found;
}

static own_held_t held_by_one(const own_order_t *order, int64_t taker_fee_bps) {
    own_held_t held = {0};
    if (order->direction == DIRECTION_BUY)
        held.cash_cents = own_freeze_cents(order->price_cents, order->remaining, taker_fee_bps);
    else if (order->outcome == OUTCOME_YES) held.yes_lots = order->remaining;
    else held.no_lots = order->remaining;
    return held;
}

/* The order that a replace under way puts in the place of this one; NULL when there is none or nobody knows. */
static const own_order_t *successor(const own_orders_t *orders, const own_order_t *old) {
    const uint8_t replacing = OWN_ORDER_LEAVING | OWN_ORDER_REPLACED;
    if ((old->flags & replacing) != replacing || (old->flags & OWN_ORDER_UNKNOWN)) return NULL;
    for (uint32_t i = 0; i < orders->count; i++) {
        const own_order_t *order = &orders->orders[i];
        if ((order->flags & OWN_ORDER_BUSY) && order->intent == old->leaving_intent) return order;
    }
    return NULL;
}

static int64_t smaller(int64_t left, int64_t right) { return left < right ? left : right; }

void own_orders_held(const own_orders_t *orders, int64_t taker_fee_bps, own_held_t *held) {
    *held = (own_held_t){0};
    for (uint32_t i = 0; i < orders->count; i++) {
        own_held_t one = held_by_one(&orders->orders[i], taker_fee_bps);
        const own_order_t *next = successor(orders, &orders->orders[i]);
        held->yes_lots += one.yes_lots;
        held->no_lots += one.no_lots;
        held->cash_cents += one.cash_cents;
        if (next == NULL) continue;
        own_held_t other = held_by_one(next, taker_fee_bps);
        held->yes_lots -= smaller(one.yes_lots, other.yes_lots);
        held->no_lots -= smaller(one.no_lots, other.no_lots);
        held->cash_cents -= smaller(one.cash_cents, other.cash_cents);
    }
}
