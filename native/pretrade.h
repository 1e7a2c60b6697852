/* pretrade.h - the last checks before an order's bytes go to the socket: small, named, in order, integer, fail closed.
 *
 * pretrade_refusal() asks each check in turn; the first that objects decides. Everything they look at is in three
 * values: the order that wants to go out, what the gateway itself counts at that instant (a worker's own figures are
 * never trusted), and the configured limits of single orders. There is no way around them. Reliability page §1;
 * docs/controls.md lists every control with its code and its test; tests/reference/pretrade.py says the same in Python.
 *
 * Prices are cents, quantities shares. "Book" prices and sides are YES terms: BUY NO at p is an ask at 100 - p. */
#ifndef COREQUOTE_PRETRADE_H
#define COREQUOTE_PRETRADE_H

#ifndef CFFI_CDEF
#include "arena.h"
#include "quoter_state.h"
#endif

enum {
    PAIR_CENTS = 100,
    INTENT_AGE_MS_MAX = 1000, /* an older decision was made on a book that is gone */
};

/* What is missing, invalid or too old to send anything on (C14). */
enum {
    STALE_BOOK = 1,           /* sequence gap, connection lost, snapshots that stopped, feed process silent */
    STALE_WORKER = 2,         /* the market's quoter is silent */
    STALE_RECONCILIATION = 4, /* the venue's word on shares and cash */
};

/* Shares held, their cost gross of fees, and cash, what own orders hold included. */
typedef struct {
    int64_t yes_volume, no_volume;
    int64_t yes_cost_sum_cents, no_cost_sum_cents;
    int64_t cash_cents;
} stock_t;

/* A new order, alone or as the second half of a replace, and what it was decided on. */
typedef struct {
    int32_t outcome, direction;
    int32_t price_cents; /* user view */
    int32_t side, book_price_cents;
    int32_t fair_cents;  /* fair price it was decided at; 0 = none */
    int32_t level;       /* DEFENSE_* it was decided in */
    uint32_t gates;      /* GATE_* it was decided under */
    int64_t quantity;
    int64_t decided_mono_ns;
} candidate_t;

/* The gateway's own counts. Live, in-flight and unknown orders all count as live. The order that a replace takes away
 * is left out of own_*, *_orders, side_* and *_committed*. */
typedef struct {
    int64_t now_mono_ns;
    uint64_t kill_word;      /* KILL_* bits in force, market's and global */
    int32_t epoch_current;   /* the intent's worker epoch is the one in force */
    int32_t admitting;       /* gateway recovered, market funded, no sweep under way */
    int32_t status;          /* MARKET_* */
    int32_t stale;           /* STALE_* */
    int64_t clock_offset_ms; /* proven difference of the venue's clock and ours */
    int32_t min_price_cents, max_price_cents; /* the market's limits */
    int64_t order_quantity_max, order_amount_max_cents;
    int32_t taker_fee_bps;
    int64_t collar_cents;    /* furthest from fair, and from the foreign mid */
    int64_t position_limit;  /* shares of one outcome */
    int64_t loss_limit_cents, engine_loss_limit_cents;
    int32_t own_bid_cents, own_ask_cents;         /* best own; 0 and 100 = none */
    int32_t foreign_bid_cents, foreign_ask_cents; /* best foreign; 0 and 100 = none known */
    int64_t side_orders;     /* own orders on the candidate's book side */
    int64_t market_orders, engine_orders;
    int64_t alike_unacked;   /* own orders of its outcome, direction, price and size without an answer */
    stock_t stock;
    int64_t side_shares;     /* of own orders on the candidate's book side */
    int64_t worst_loss_cents; /* of the shares held and the own orders on its side */
    int64_t other_loss_cents; /* of all other markets */
    int64_t sell_committed;  /* shares of its outcome that other sells may still take */
    int64_t buy_committed;   /* shares of its outcome that other buys may still add */
    int64_t buy_committed_cents; /* freezes of other buys of this market */
    int64_t other_frozen_cents;  /* of all other markets */
    int64_t account_cents;   /* the account's cash by the venue, free and frozen; 0 = not known */
    int64_t market_tokens;   /* orders this market may send now */
    int64_t tokens;          /* requests the rate limit allows now */
    int64_t reserved_tokens; /* of them kept for cancels */
} standing_t;

/* The part of [risk] that single orders are held against. */
typedef struct {
    int64_t order_quantity_max, order_loss_max_cents;
    int64_t side_orders_max, market_orders_max, engine_orders_max;
    int64_t unacked_alike_max;
    int64_t cash_share_percent;
    int64_t clock_stop_ms;
} pretrade_limits_t;

/* The reason (LOCAL_*) of the first check that objects, or 0: the order may go out. */
int32_t pretrade_refusal(const candidate_t *candidate, const standing_t *standing, const pretrade_limits_t *limits);

/* Most that one order can lose once it is filled: q*p cents for buying q YES at p, q*(100-p) for selling them. */
int64_t order_loss_cents(int32_t side, int32_t book_price_cents, int64_t quantity);
/* What is lost of the shares' cost when the outcome held more of comes to nothing. */
int64_t stock_loss_cents(const stock_t *stock);

#endif
