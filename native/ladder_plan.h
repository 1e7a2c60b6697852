/* ladder_plan.h - from the target ladder to the requests that make the book show it (market-making 3.7, 5.5, 6.1).
 *
 *   target --fund--> desired orders --compare with own orders--> actions --request budget--> actions to send
 *
 * Values in, values out: nothing is sent and no order is changed here. Integers only; tests/reference/ladder.py says the
 * same in Python. Single threaded, no allocation, every loop bounded by the size of a table. */
#ifndef COREQUOTE_LADDER_PLAN_H
#define COREQUOTE_LADDER_PLAN_H

#ifndef CFFI_CDEF
#include "own_orders.h"
#include "quote.h"
#endif

enum {
    LADDER_OK = 0,
    LADDER_BAD_LEVEL = -1, /* a level of the target outside 1..99 cents, or more levels than there may be */
    LADDER_BAD_RULES = -2, /* a fee outside 0..OWN_FEE_BPS_MAX, a share outside 0..10000, a limit of an order below 0 */
    LADDER_CANCEL_SHARE = 10, /* one in so many tokens of a bucket is kept for cancels to come */
};

/* Limits of one market and its configuration. */
typedef struct {
    int64_t cash_reserve_cents;
    int64_t position_limit;     /* shares per outcome, planned buys included */
    int64_t order_quantity_max;
    int64_t order_amount_max_cents;
    int32_t taker_fee_bps;
    int32_t buy_share_bp;       /* of each level, basis points, set aside for the buy; 0 = inventory first */
    uint32_t allow_buy;
    uint32_t reserved;
} funding_rules_t;

/* An order the market should show. */
typedef struct {
    int64_t quantity;
    int32_t price_cents;      /* user view */
    int32_t book_price_cents; /* YES terms */
    uint8_t outcome, direction, side;
    uint8_t level;            /* 0 = nearest the touch */
    uint8_t reserved[4];
} desired_order_t;

/* One request. PLACE and REPLACE say what is desired, CANCEL and REPLACE which own order is meant. */
typedef struct {
    desired_order_t desired;
    uint16_t own;             /* index into own_orders_t.orders */
    uint8_t kind;             /* ORDER_PLACE, ORDER_REPLACE or ORDER_CANCEL */
    uint8_t reserved[5];
} ladder_action_t;

/* One bucket: what it holds now, and when full. */
typedef struct {
    int64_t left, capacity;
} plan_tokens_t;

enum { LADDER_ORDERS_MAX = 40, LADDER_ACTIONS_MAX = 168 }; /* 4 kinds a level pair; and a cancel for each own order */

typedef struct {
    /* what a plan is made from, filled in by the caller */
    const quote_target_t *target;
    own_orders_t *orders;
    funding_rules_t rules;
    int64_t yes_lots, no_lots, cash_cents; /* stock, including what own orders hold */
    int64_t now_ms, max_age_ms;            /* an order that is older is renewed */
    plan_tokens_t order_tokens;            /* paid by placements and cancels */
    plan_tokens_t replace_tokens;
    /* the plan */
    uint32_t desired_count;
    uint32_t action_count;                 /* in the order in which they deserve the budget */
    uint32_t waiting;                      /* 1 = something is left for a later round */
    uint32_t reserved;
    desired_order_t desired[40];
    ladder_action_t actions[168];
} ladder_plan_t;

/* All three stages. Returns LADDER_OK, or what is wrong with target or rules: then there is no action. */
int32_t ladder_plan(ladder_plan_t *plan);

/* The stages, each for its own worked examples. */

/* Target -> desired. Inventory first, cash second: the ask side sells YES it holds and buys NO for the rest; the bid side
 * sells NO it holds and buys YES for the rest. buy_share_bp sets that share of each level aside for the buy, so that all
 * four kinds rest at once; what one kind cannot pay for falls to the other. Sellable is the whole volume, because own
 * resting orders are planned anew with everything else. Nearest level first, at each the ask before the bid.
 *
 * Guarantees: sum of sells per outcome <= volume; sum of buys + volume <= position_limit; sum of freezes <= cash above
 * the reserve; every order within the market's quantity and amount limits. */
int32_t ladder_fund(ladder_plan_t *plan);

/* Desired -> actions: cancels, then levels from the touch on. Left for a later round (waiting): an order that would cross
 * an own order of the other side, live or under way; one whose shares or cash are held by an order that is leaving; a
 * level that an order of unknown outcome blocks; one that the table of own orders has no room for. */
void ladder_compare(ladder_plan_t *plan);

/* Actions -> those the budget allows: cancels always, the others in their order; the rest waits for tokens. */
void ladder_afford(ladder_plan_t *plan);

/* POST_FILL (market-making 5.3): cancels of what is nearer the market than the target's touch. Waiting: one of them is
 * under way on its own. A side that the target has not is too aggressive as a whole. */
void ladder_retreat(ladder_plan_t *plan);

#ifndef CFFI_CDEF
_Static_assert(LADDER_ORDERS_MAX == 4 * QUOTE_LEVELS_MAX, "two sides, two kinds");
_Static_assert(LADDER_ACTIONS_MAX == LADDER_ORDERS_MAX + OWN_ORDERS_MAX, "each order at most once");
_Static_assert(sizeof(((ladder_plan_t *)0)->desired) == LADDER_ORDERS_MAX * sizeof(desired_order_t), "cdef repeats it");
_Static_assert(sizeof(((ladder_plan_t *)0)->actions) == LADDER_ACTIONS_MAX * sizeof(ladder_action_t), "likewise");
_Static_assert(sizeof(ladder_action_t) == 32, "two a cache line");
#endif

#endif
