/* quote_pass.h - one pass of a quoting worker over its book ring, entirely in C.
 *
 *   broadcast_read --> orderbook_set_level / book image / quote_on_trade --> quote_compute
 *
 * Glue between transport (ring.h) and decision arithmetic (orderbook.h, quote.h); none of them knows
 * this file. Python is told which markets have something for policy to look at, and nothing else.
 *
 * Reads: the worker's book ring, its markets' book images. Writes: its own memory, and the
 * tick-to-quote histograms of its markets. */
#ifndef COREQUOTE_QUOTE_PASS_H
#define COREQUOTE_QUOTE_PASS_H

#ifndef CFFI_CDEF
#include "feed_delay.h"
#include "orderbook.h"
#include "quote.h"
#include "ring.h"
#include "trade_tape.h"
#endif

enum {
    PASS_BATCH_EVENTS = 256, /* events taken per call: bounds the time before Python looks up again */

    /* what a pass found out about one market: bits of quote_market_t.news */
    PASS_TARGET = 1,   /* quote_compute's ladder differs from before */
    PASS_TRADE = 2,    /* market trades were observed */
    PASS_BOOK = 4,     /* the book changed */
    PASS_VALIDITY = 8, /* the book became valid or invalid */
    PASS_LINK = 16,    /* a LINK event arrived */
    PASS_ORACLE = 32,  /* the oracle gave a value, failed, or withdrew its value */
};

enum { ORACLE_NO_PRICE = -1 };

/* What the market's oracle said (market-making 3.1, 5.3). "No value" is ORACLE_NO_PRICE, never a price. An oracle that
 * fails (ORACLE_FAILED) has no value now, and what it last said grows old; one that withdraws its value (ORACLE_WITHDRAWN)
 * has never said anything. Whether an old value still counts is policy. */
typedef struct {
    int32_t price_ticks;    /* the newest word; ORACLE_NO_PRICE when it was "no value" */
    int32_t last_ticks;     /* the newest value, whatever came after it */
    int32_t previous_ticks; /* the last value that differed from last_ticks */
    int32_t rise_ticks;     /* largest move up from one value to the next since the caller cleared it (gap, 5.3) */
    int32_t fall_ticks;     /* largest move down, as a positive number; cleared by the caller */
    uint32_t reserved;
    int64_t unix_ms;        /* venue time of last_ticks; 0 without one */
    int64_t recv_mono_ns;   /* when last_ticks arrived, or was confirmed; 0 without one */
    uint64_t updates;       /* values that arrived, confirmations of the same price among them */
    uint64_t failures;      /* times there was none */
} oracle_view_t;

/* One market as this worker carries it. What every message reads comes first, and is three cache lines. Pointers are the worker's own memory, except the arena's
 * images and histogram. */
typedef struct {
    orderbook_t *book;
    const quote_params_t *params; /* NULL until the market's rules are known: nothing is computed */
    quote_trades_t *trades;
    quote_inputs_t *inputs;
    quote_output_t *output;
    trade_tape_t *tape;
    const book_image_t *images;
    histogram_t *tick_to_quote_ns;
    int64_t *levels;              /* scratch: 2 * tick_count */
    uint32_t tick_count;
    uint32_t generation;
    uint32_t book_valid;
    uint32_t link_up;
    uint32_t news;                /* PASS_*, set by the pass, cleared by the caller */
    int32_t last_code;            /* of the last quote_compute() */
    uint64_t image_position;      /* events of this market before it are in the ladder already */
    int64_t venue_sequence;
    int64_t batch_recv_ns;        /* recv time of the oldest message not yet decided on; 0 = none */
    int64_t trigger_recv_ns;      /* recv time of the oldest message that the last decision was the first to see */
    int64_t link_mono_ns;         /* when the last book or link event came */
    uint64_t messages, deltas, trade_count, generations;
    int64_t last_trade_price_ticks;
    feed_delay_t delay;           /* its count is the last that every message reads */
    oracle_view_t oracle;         /* set up by quote_market_init() */
} quote_market_t;

/* A worker: its place in the book ring and its markets. One argument instead of seven, because every argument costs
 * a caller in Python as much as an event costs here. */
typedef struct {
    const broadcast_ring_t *ring;
    broadcast_cursor_t cursor;
    quote_market_t **markets;  /* one entry per market slot of the arena, NULL where the worker carries none */
    uint16_t *news_slots;      /* room for market_count */
    uint32_t market_count;
    uint32_t news_count;       /* market slots with news after a pass: news_slots[0 .. news_count - 1] */
} quote_worker_t;

#ifndef CFFI_CDEF
enum { QUOTE_MARKET_HOT_BYTES = 192 };
_Static_assert(offsetof(quote_market_t, delay) + sizeof(uint64_t) <= QUOTE_MARKET_HOT_BYTES, "hot fields come first");
#endif

/* Before anything else: an oracle that has said nothing. The caller has zeroed the rest and filled the pointers. */
void quote_market_init(quote_market_t *market);

/* Drains at most PASS_BATCH_EVENTS and decides for every market a message ended on. Returns events consumed. */
uint32_t quote_pass(quote_worker_t *worker, int64_t unix_ms);

/* A worker that begins: every market from its newest book image and the events since, which change
 * ladders and nothing else: no decision, no trade, no count. Leaves the cursor where quote_pass() goes
 * on. */
void quote_join(quote_worker_t *worker, int64_t mono_ns);

/* Recomputes one market at unix_ms, for timers and changed inputs. Returns quote_compute()'s code,
 * or QUOTE_INPUTS_INVALID when the market cannot be computed yet. */
int32_t quote_market_compute(quote_market_t *market, int64_t unix_ms);

#endif
