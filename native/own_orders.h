/* own_orders.h - a market's own orders that are or may be live, as its quoter follows them (market-making 6.5).
 *
 * A table in the order in which they came. They follow execution records; one that was asked for counts as live from
 * then on, one of unknown outcome until it is known. Single threaded, no allocation; the caller owns the memory. */
#ifndef COREQUOTE_OWN_ORDERS_H
#define COREQUOTE_OWN_ORDERS_H

#ifndef CFFI_CDEF
#include "arena.h"
#include "orderbook.h"
#endif

enum {
    OWN_ORDERS_MAX = 128,  /* the gateway keeps LIVE_ORDER_SLOTS of a market; the others are on their way in */
    OWN_ORDER_NO_SLOT = -1,
    OWN_ORDER_BUSY = 1,     /* its own request is under way or unanswered: it is left alone */
    OWN_ORDER_LEAVING = 2,  /* that request takes it off the book: it satisfies no target, but holds its collateral */
    OWN_ORDER_REPLACED = 4, /* it leaves for a successor, not by a cancel */
    OWN_ORDER_UNKNOWN = 8,  /* the outcome of its request is not known */
};

enum { OWN_ORDER_ACTIVE = 1 }; /* own_order_t.state of one that was just asked for: OrderState.ACTIVE */

/* 2^36 shares: with fees of OWN_FEE_BPS_MAX at most, no sum over a whole table leaves int64_t. */
#define OWN_QUANTITY_MAX 68719476736
enum { OWN_FEE_BPS_MAX = 100000 };

/* What a plan reads is the first line, what the gateway is told the second. */
typedef struct {
    int64_t quantity;
    int64_t remaining;
    int64_t created_ms;
    uint64_t intent;          /* the intent that created it; 0 = another worker's */
    uint64_t leaving_intent;  /* the intent that takes it off the book; 0 = none */
    int32_t price_cents;      /* user view */
    int32_t book_price_cents; /* YES terms; set by own_orders_add() */
    int32_t live_slot;        /* the gateway's number for it; OWN_ORDER_NO_SLOT until acknowledged */
    uint8_t outcome, direction;
    uint8_t side;             /* of the YES book; set by own_orders_add() */
    uint8_t state;            /* engine/quoting/transitions.py OrderState */
    uint8_t flags;            /* OWN_ORDER_* */
    uint8_t reserved[7];
    char venue_order_id[VENUE_ID_BYTES];
} own_order_t;

typedef struct {
    orderbook_t *book; /* told our own size on a level whenever it changes, so that pricing sees the book without us */
    uint32_t count;
    uint32_t reserved;
    own_order_t orders[OWN_ORDERS_MAX];
} own_orders_t;

/* What own orders hold: shares of each outcome, and cents. */
typedef struct {
    int64_t yes_lots, no_lots, cash_cents;
} own_held_t;

/* User price and YES price are one another's, and side and book side (market-making 2.3). */
int32_t own_book_price(uint32_t outcome, int32_t price_cents);
uint8_t own_book_side(uint32_t outcome, uint32_t direction);

/* Cents that a BUY order holds: P*r + ((P*r*bps + 9999) / 10000) (market-making 2.6, platform 5.6). */
int64_t own_freeze_cents(int64_t price_cents, int64_t remaining, int64_t taker_fee_bps);

/* Appends a copy. Returns it, or NULL when the table is full or a number is out of range: a price outside 0..100, a
 * quantity or remainder outside 0..OWN_QUANTITY_MAX, an outcome or direction that is none. */
own_order_t *own_orders_add(own_orders_t *orders, const own_order_t *order);
void own_orders_remove(own_orders_t *orders, own_order_t *order);
void own_orders_clear(own_orders_t *orders);
/* To be called when an order's remainder has changed. An order under way counts: its level may show it before its answer
 * arrives. */
void own_orders_resized(const own_orders_t *orders, int32_t side, int32_t book_price_cents);

/* NULL when there is none. OWN_ORDER_NO_SLOT finds nothing. */
own_order_t *own_orders_by_slot(own_orders_t *orders, int32_t live_slot);
/* The order that this intent created and whose answer is outstanding. */
own_order_t *own_orders_awaited(own_orders_t *orders, uint64_t intent);
/* Orders with all of these flags and none of those. */
uint32_t own_orders_flagged(const own_orders_t *orders, uint32_t all, uint32_t none);
/* Creation of the oldest; -1 without orders. */
int64_t own_orders_oldest_ms(const own_orders_t *orders);
/* Both sides have an order of unknown outcome: nothing can be planned on either (market-making 5.3 INVENTORY). */
int own_orders_unknown_on_both_sides(const own_orders_t *orders);
/* Orders acknowledged on one side of the book, and their remaining shares into *lots. */
uint32_t own_orders_resting(const own_orders_t *orders, int32_t side, int64_t *lots);
/* What all of them hold. The venue moves the collateral of a replace in one act, so old and new hold it in turn and the
 * larger of the two counts; not when its outcome is unknown, because then either may be live (market-making 6.3). */
void own_orders_held(const own_orders_t *orders, int64_t taker_fee_bps, own_held_t *held);

#ifndef CFFI_CDEF
_Static_assert(sizeof(own_order_t) == 128, "two cache lines");
_Static_assert(offsetof(own_order_t, venue_order_id) == 64, "the second is the venue's name for it");
#endif

#endif
