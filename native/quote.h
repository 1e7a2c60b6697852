/* The price arithmetic: market-making.md 3.1 - 3.7 as pure functions over plain structs.
 *
 * From (parameters, observed trades, book without own orders, inputs of this moment) to the ladder of prices and
 * sizes the market should show. No clock, no allocation, no state but what the caller passes in. Policy (phases,
 * defence, gates, funding of the levels, order diffing) is Python's; its decisions arrive here as plain numbers in
 * quote_inputs_t.
 *
 * Doubles appear only where the specification has fractions, and every operation on them is + - * / or sqrt in the
 * order the specification writes them, left to right, with x^2 as x*x: the compiler may not contract or reorder
 * (-ffp-contract=off, no -ffast-math), so the Python twin in tests/reference/quote.py agrees bit for bit.
 * Powers and exponentials are tables made by engine/quoting/tables.py when the configuration is loaded.
 *
 * Units: cents are doubles named *_cents; prices in 1/10,000 dollar are integers named *_e4; *_ticks are grid
 * indexes (equal to cents on the cents grid); sizes are integer lots. YES terms throughout.
 *
 * Rounding (market-making.md, conventions): up(x) = ceil(x - 1e-9), dn(x) = floor(x + 1e-9), rhu(x) = floor(x + 0.5);
 * on a grid, up(x) is the first tick whose price is >= x - 1e-9 and dn(x) the last whose price is <= x + 1e-9. Where
 * that leaves the grid, its first and last segments are continued: levels out there are dropped, never clamped. "One
 * cent behind" of the specification is one tick of the market's grid.
 */
#ifndef COREQUOTE_QUOTE_H
#define COREQUOTE_QUOTE_H

#ifndef CFFI_CDEF
#include "orderbook.h"
#endif

enum {
    QUOTE_LEVELS_MAX = 10,
    QUOTE_PRICES_MAX = 128,       /* ring of trade prices: a power of two above the largest window, 100 */
    QUOTE_WINDOW_MAX = 100,
    QUOTE_TIMES_MAX = 256,        /* ring of trade times; n of 3.3 counts at most this many */
    QUOTE_MICRO_LEVELS_MAX = 5,
    QUOTE_DECAY_CENTS = 101,
    QUOTE_DECAY_E4 = 100,
    QUOTE_FEE_BPS_MAX = 10000
};

enum {
    QUOTE_EXPLORATION = 0,
    QUOTE_STABILIZATION = 1
};

enum {
    QUOTE_LINEAR = 0,
    QUOTE_GEOMETRIC = 1
};

/* Sides a target may use. */
enum {
    QUOTE_SIDES_NONE = 0,
    QUOTE_SIDES_BID = 1,
    QUOTE_SIDES_ASK = 2,
    QUOTE_SIDES_BOTH = 3
};

enum {
    QUOTE_SAME = 0,    /* the ladder equals the one the output held before */
    QUOTE_CHANGED = 1,
    QUOTE_PARAMS_INVALID = -1,
    QUOTE_INPUTS_INVALID = -2,
    QUOTE_GRID_INVALID = -3, /* the book's prices are not within 0 .. 10,000 e4 */
    QUOTE_TRADE_INVALID = -4
};

/* Section 3.6, 3.7 and 10: what differs by phase. */
typedef struct {
    double half_spread_cents;      /* delta0, > 0 */
    double size_ratio;             /* qty_ratio, > 0, at most 10 */
    int32_t gradient;              /* QUOTE_LINEAR or QUOTE_GEOMETRIC */
    int32_t level_count;           /* 1..10 */
    int32_t linear_step_e4;        /* >= 1 */
    int32_t linear_increase_bps;   /* linear_qty_increase, 2000 = 20 % per level, 0..10000 */
    double ratio_powers[10];       /* geometric_ratio^i, [0] = 1, not falling */
    double decay_powers[10];       /* qty_decay^i, [0] = 1, within 0..1 */
} quote_phase_params_t;

/* Parameters of one market; fixed between two configuration versions. Filled by engine/quoting/pricing.py. */
typedef struct {
    /* 3.1 anchor */
    double anchor_initial_weight;  /* 0..1 */
    int64_t anchor_decay_ms;       /* >= 1 */
    /* 3.2 micro-price */
    double microprice_weight;      /* 0..1, with anchor_initial_weight <= 1 */
    int64_t microprice_min_depth_lots; /* >= 0, over the best three foreign levels of both sides together */
    int32_t microprice_levels;     /* 1..5 */
    /* 3.4 volatility */
    int32_t volatility_window;     /* 2..100 trade prices */
    int32_t volatility_min_samples; /* >= 2; three prices are needed in any case */
    int32_t reserved;              /* 0 */
    double volatility_default_cents;
    double sigma_min_cents;        /* > 0 */
    double sigma_max_cents;        /* >= sigma_min_cents, <= 100 */
    /* 3.3 posterior */
    double learning_rate_base;     /* > 0 */
    double learning_rate_min;      /* >= base / 16, so that counting 256 trades at most loses nothing */
    double learning_rate_max;      /* >= min, <= 1 */
    double posterior_min_cents;    /* 5 */
    double posterior_max_cents;    /* 95 */
    /* 3.5 reservation price */
    double gamma;                  /* > 0, by lifecycle */
    double kappa_hours;            /* > 0 */
    double min_adjustment_cents;   /* 0 = the seed's formula */
    int32_t min_price_e4;          /* strategy limits, 500 and 9500 */
    int32_t max_price_e4;
    int32_t market_min_price_e4;   /* the market's own limits, 100 and 9900 */
    int32_t market_max_price_e4;
    /* 3.6 half-spreads */
    double spread_skew_factor;     /* 0..1 */
    double size_skew_factor;       /* 0..1 */
    double max_half_spread_cents;  /* cap, >= every fee floor these parameters can ask for */
    int32_t maker_fee_bps;         /* 0..10000 */
    int32_t taker_fee_bps;
    /* 3.7 ladder */
    int64_t level_lots;            /* qty_per_level, 1..2^36 */
    quote_phase_params_t phases[2]; /* by QUOTE_EXPLORATION, QUOTE_STABILIZATION */
    /* e^(-lambda d) = decay_cents[whole cents of d] * decay_e4[rest in e4]; [0] = 1 in both */
    double decay_cents[101];
    double decay_e4[100];
} quote_params_t;

/* What the market's trades have taught so far. Fed by quote_on_trade() only; plain data, may be copied. */
typedef struct {
    double posterior_cents;        /* P of 3.3, persisted by the caller */
    uint64_t price_count;          /* prices ever recorded; price k is in prices_e4[k % 128] */
    uint64_t time_head;            /* times recorded: time k is in times_ms[k % 256] */
    uint64_t time_tail;            /* first time not yet known to be older than 60 s */
    int64_t times_ms[256];         /* never falling: a clock that steps back repeats the latest time */
    int32_t prices_e4[128];
} quote_trades_t;

/* What is true at this moment, decided by the caller. */
typedef struct {
    int64_t now_ms;                /* wall clock, Unix ms */
    int64_t started_at_ms;         /* the market's first start; a restart does not move it */
    int64_t trading_end_ms;        /* h <= 0 when past */
    double anchor_cents;           /* A: fresh oracle price, else the initial price; 0..100 */
    int64_t yes_lots;              /* Y, N: whole position, 0..2^52 */
    int64_t no_lots;
    double spread_multiplier;      /* m > 0: the largest active one */
    double size_scale;             /* > 0: the smallest active factor; at most 10 */
    double discount_cents;         /* d of ONE_SIDE, >= 0; must be 0 otherwise */
    int32_t phase;                 /* QUOTE_EXPLORATION or QUOTE_STABILIZATION */
    int32_t sides;                 /* QUOTE_SIDES_* */
    int32_t one_side;              /* 1 in ONE_SIDE: `sides` holds at most the side that reduces |q|, which may take */
    int32_t reserved;              /* 0 */
} quote_inputs_t;

/* Everything between the inputs and the ladder, as 2.4 and 2.5 publish it. */
typedef struct {
    double anchor_cents;           /* A */
    double micro_cents;            /* M; 0 when has_micro is 0 */
    double posterior_cents;        /* P */
    double anchor_weight;          /* w1 */
    double micro_weight;           /* w2 */
    double posterior_weight;       /* w3 */
    double sigma_cents;
    double tau;
    double inventory_skew;         /* q */
    double adjustment_cents;       /* adj */
    double reservation_cents;      /* r */
    double half_spread_ask_cents;  /* delta with skew, multiplier, floor and cap; before the discount */
    double half_spread_bid_cents;
    int32_t fair_price_cents;      /* s, 1..99 */
    int32_t has_micro;             /* 1 when both sides of the foreign book are non-empty */
} quote_fair_t;

/* The ladder to show, best level first. Levels the limits dropped are not in it, so asks[0] is not always the touch.
 * Entries past a count are zero: two targets are equal exactly when their bytes are. */
typedef struct {
    int32_t touch_bid_ticks;       /* after the passive rule, at most the grid's bound; ORDERBOOK_NO_TICK: side off */
    int32_t touch_ask_ticks;
    int32_t bid_count;
    int32_t ask_count;
    book_level_t bids[10];
    book_level_t asks[10];
} quote_target_t;

typedef struct {
    quote_fair_t fair;
    quote_target_t target;
} quote_output_t;

/* QUOTE_SAME (0) when every rule beside the fields above holds and nothing is NaN or infinite, else
 * QUOTE_PARAMS_INVALID. To be asked once per configuration version; the functions below rely on it. */
int32_t quote_params_check(const quote_params_t *params);

/* No trades yet, posterior = the anchor (or the persisted value). QUOTE_INPUTS_INVALID unless within 0..100. */
int32_t quote_trades_init(quote_trades_t *trades, double posterior_cents);

/* 3.3: one market trade at price_e4 (1..9999, YES terms); aggressor ORDERBOOK_BID when the taker bought YES,
 * ORDERBOOK_ASK when he sold. n = earlier trades at most 60 s old. Returns QUOTE_CHANGED or QUOTE_TRADE_INVALID. */
int32_t quote_on_trade(quote_trades_t *trades, const quote_params_t *params, int32_t price_e4, int32_t aggressor,
                       int64_t now_ms);

/* The whole arithmetic, once per drained batch. `out` is read for the comparison and then replaced: returns
 * QUOTE_CHANGED when the target (not merely the fair price) differs from the one in `out`, QUOTE_SAME when it does
 * not, and a negative code with `out` untouched for bad inputs. Zero `out` before the first call. */
int32_t quote_compute(const quote_params_t *params, const quote_trades_t *trades, const orderbook_t *book,
                      const quote_inputs_t *inputs, quote_output_t *out);

/* 1 when both ladders show the same levels. */
int32_t quote_same_target(const quote_target_t *left, const quote_target_t *right);

/* The stages of quote_compute(), each for its own worked examples. They rely on checked arguments. */

/* 3.2: M of the foreign book into *micro_cents, clamped to its touch. Returns 1, or 0 for an empty side (M = 0). */
int32_t quote_micro_price(const quote_params_t *params, const orderbook_t *book, double *micro_cents);

/* 3.1 - 3.3: layers, weights and s. Fills anchor, micro, posterior, their weights, has_micro, fair_price_cents. */
void quote_layers(const quote_params_t *params, const quote_trades_t *trades, const orderbook_t *book,
                  const quote_inputs_t *inputs, quote_fair_t *fair);

/* 3.4: sigma in cents for fair price s (1..99). */
double quote_volatility(const quote_params_t *params, const quote_trades_t *trades, int32_t fair_price_cents);

/* 3.5 and 3.6: tau, q, adj, r and both half-spreads from fair_price_cents and sigma_cents, which must be set. */
void quote_reservation(const quote_params_t *params, const quote_inputs_t *inputs, quote_fair_t *fair);

/* 3.6 and 3.7: touches, passive rule and levels from reservation_cents, half-spreads and inventory_skew. */
void quote_ladder(const quote_params_t *params, const orderbook_t *book, const quote_inputs_t *inputs,
                  const quote_fair_t *fair, quote_target_t *target);

#ifndef CFFI_CDEF
_Static_assert(sizeof(quote_phase_params_t) == 32 + 2 * 10 * 8, "no hidden padding");
_Static_assert(sizeof(quote_params_t) == 192 + 2 * 192 + 201 * 8, "no hidden padding");
_Static_assert(sizeof(quote_trades_t) == 32 + 256 * 8 + 128 * 4, "no hidden padding");
_Static_assert(sizeof(quote_inputs_t) == 88, "no hidden padding");
_Static_assert(sizeof(quote_fair_t) == 112, "no hidden padding");
_Static_assert(sizeof(quote_target_t) == 16 + 2 * 160, "no hidden padding: targets are compared as bytes");
_Static_assert(sizeof(((quote_params_t *)0)->decay_cents) == QUOTE_DECAY_CENTS * sizeof(double), "table length");
_Static_assert(sizeof(((quote_trades_t *)0)->prices_e4) == QUOTE_PRICES_MAX * sizeof(int32_t), "ring length");
_Static_assert(sizeof(((quote_trades_t *)0)->times_ms) == QUOTE_TIMES_MAX * sizeof(int64_t), "ring length");
_Static_assert(sizeof(((quote_target_t *)0)->bids) == QUOTE_LEVELS_MAX * sizeof(book_level_t), "ladder length");
#endif

#endif /* COREQUOTE_QUOTE_H */
