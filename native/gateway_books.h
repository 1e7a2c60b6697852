/* gateway_books.h - what the gateway itself counts: its live orders, market by market, and all markets together.
 *
 *     order record -> books_open() -> row PENDING in the arena -> books_count() -> pretrade_refusal() -> sent
 *     answer, fill, cancel -> books_publish(), books_close() -> books_recount()
 *
 * Single threaded: only the gateway's event loop touches it. No allocation, no system call. Every order is in its
 * arena row before anything is sent, so a successor finds it after a kill -9; sums over all markets are kept as they
 * change, so that an order costs the same with one market and with a thousand. Owned by
 * engine/workers/gateway_market.py and gateway_live.py. */
#ifndef COREQUOTE_GATEWAY_BOOKS_H
#define COREQUOTE_GATEWAY_BOOKS_H

#ifndef CFFI_CDEF
#include "pretrade.h"
#include "ring.h"
#include "token_bucket.h"
#endif

enum {
    CLIENT_ID_BYTES_MAX = 64,
    CLIENT_IDS_PER_MS = 999,
    SHORT_ID_BYTES_MAX = 24,
    BOOKS_NO_SLOT = -1,
};

/* An order that is, or may be, live at the venue. Its slot is its place in market_books_t.orders. */
typedef struct {
    live_order_t row;      /* as published in the arena */
    candidate_t candidate; /* what it was when it wanted to go out */
    uint64_t number;       /* rises with every order of the market: who was first */
    uint64_t replaces;     /* number of the order it takes the place of, 0 = none; over once acknowledged */
    uint8_t replaces_slot;
    uint8_t busy;          /* a request about it is under way */
    uint8_t sent;          /* its own request may have left this process */
    uint8_t reserved[5];
} booked_order_t;

/* One market's part of the sums over all. */
typedef struct {
    int64_t orders;
    int64_t frozen_cents;     /* by BUY orders */
    int64_t worst_loss_cents; /* with every live and unknown order of the worse side filled */
    int64_t cash_cents;
    int64_t loss_limit_cents;
} market_sums_t;

/* All markets of one venue account. */
typedef struct {
    market_sums_t sums;
    pretrade_limits_t limits;
    token_bucket_t order_tokens;
    const atomic_u64 *kill_global;
    const atomic_u64 *feed_beat;    /* the feed process's heartbeat */
    int64_t beat_stale_ns;
    int64_t reconcile_stale_ns;
    int64_t clock_offset_ms;        /* proven difference of the venue's clock and ours */
    int64_t unallocated_cents;      /* the account's cash that no market holds; counts only when known */
    int64_t engine_loss_max_cents;  /* below zero: the sum of the markets' own limits */
    int32_t unallocated_known;
    int32_t cancel_reserve_percent; /* of the order tokens, kept for cancels */
    int32_t collar_ladder_cents;
    int32_t admitting;              /* new orders may go out: recovered, and not stopping */
} account_books_t;

/* One market. Pointers are into the arena, and to what Python keeps alive. */
typedef struct {
    account_books_t *account;
    live_order_row_t *rows;
    account_row_t *account_row;
    account_state_t *account_state;
    const top_row_t *top_row;
    const atomic_u64 *kill_word;
    const atomic_u64 *worker_epoch;
    const atomic_u64 *worker_beat;
    const int32_t *worker_stuck;    /* 1: its worker does not read its answers, nothing new for it; NULL = never */
    const atomic_u64 *snapshot;     /* when the feed last had a snapshot of the book */
    const atomic_u64 *trade_count;  /* trades of the market that the feed has seen */
    char market_id[MARKET_ID_BYTES + 1];
    char short_id[SHORT_ID_BYTES_MAX]; /* stands for it where a client order id would be too long */
    uint32_t worker;

    /* What venue and configuration say; books_recount() after a change of stock or loss_limit_cents. */
    stock_t stock;
    int64_t position_limit;
    int64_t loss_limit_cents;
    int64_t max_spread_cents;
    int64_t snapshot_stale_ns;
    int64_t reconciled_mono_ns;     /* when the venue's word on shares was last taken */
    int64_t pairs_under_way;        /* of a mint (> 0) or burn (< 0) that the venue may have carried out */
    int64_t order_quantity_max, order_amount_max_cents;
    int32_t min_price_cents, max_price_cents;
    int32_t taker_fee_bps;
    int32_t status;                 /* MARKET_* */
    int32_t open_for_orders;        /* recovered and funded, its rules known */
    int32_t sweeping;               /* orders are being pulled: none may go out */
    token_bucket_t order_tokens;    /* C10 */
    token_bucket_t replace_tokens;

    uint64_t seen_kill_word, seen_epoch, seen_trade_count; /* by the last books_changed() */
    int64_t ids_ms;                 /* newest time in a client order id, and how many ids have it */
    int32_t ids_in_ms;
    uint32_t free_first, free_count; /* a ring: oldest freed first, so that a slot is reused as late as possible */
    uint8_t free_slots[LIVE_ORDER_SLOTS];
    uint64_t used;                  /* bit per slot */
    uint64_t numbers;               /* given so far */
    market_sums_t sums;             /* as added to the account's */
    booked_order_t orders[LIVE_ORDER_SLOTS];
} market_books_t;

/* All slots free. The rest is the caller's to fill in. */
void books_init(market_books_t *market);
/* Takes responsibility for a new order: its row, PENDING, and its client order id. The slot, or BOOKS_NO_SLOT. */
int32_t books_open(market_books_t *market, const order_record_t *record, int64_t now_ms);
/* The order's row, and the sums, after a change of it. */
void books_publish(market_books_t *market, uint32_t slot);
/* The order is gone; its slot is free again. */
void books_close(market_books_t *market, uint32_t slot);
/* 1 when a kill word, a worker's epoch or a count of trades is another than at the last look. NULL = no market. */
int32_t books_changed(market_books_t *const *markets, uint32_t count);
/* The market's part of the sums anew. */
void books_recount(market_books_t *market);
/* The order that this one takes the place of, or NULL when there is none any more. */
booked_order_t *books_replaced(market_books_t *market, const booked_order_t *order);

/* STALE_* bits: how old what an order rests on is (C14). A quiet market is not stale: the book's age is the age of the
 * feed's signs of life, never of its last change. */
int32_t books_stale(const market_books_t *market, int64_t now_mono_ns);
/* Counts for the last checks of the order in a slot, which is in its row but not yet sent. Every other order counts
 * that was first or has been sent. Of a replace under way the old and the new order hold the same shares and cash in
 * turn, so the larger counts; once its outcome is unknown both count. */
void books_count(market_books_t *market, uint32_t slot, int64_t now_mono_ns, standing_t *standing);

#ifndef CFFI_CDEF
_Static_assert(LIVE_ORDER_SLOTS == 64, "one bit of `used` each");
#endif
#endif
