/* quoter_state.h - the state row's payload for a market that is quoted; writer: its quoter.
 * Everything that Redis, `corequote status` and the live view show of a market is read from here. */
#ifndef COREQUOTE_QUOTER_STATE_H
#define COREQUOTE_QUOTER_STATE_H

#ifndef CFFI_CDEF
#include <stdint.h>
#endif

enum { STATE_KIND_QUOTER = 1 };

enum { LIFECYCLE_STARTING = 0, LIFECYCLE_RUNNING = 1, LIFECYCLE_EMERGENCY = 2, LIFECYCLE_WINDING_DOWN = 3, LIFECYCLE_STOPPED = 4 };
enum { PHASE_EXPLORATION = 0, PHASE_STABILIZATION = 1 };
enum { DEFENSE_NORMAL = 0, DEFENSE_WIDEN = 1, DEFENSE_ONE_SIDE = 2, DEFENSE_KILL_SWITCH = 3 };

/* quote gates (market-making 5.3), as bits and as indexes into gated_ns */
enum {
    GATE_POST_FILL = 1,
    GATE_LVR_COOLDOWN = 2,
    GATE_ORACLE_DEVIATION = 4,
    GATE_ORACLE_GAP = 8,
    GATE_BOOK_STALE = 16,
    GATE_LATENCY = 32,
    GATE_API_ERRORS = 64,
    GATE_INVENTORY = 128,
    GATE_KILL_WORD = 256,      /* a transient kill word: a process died, or the engine stops */
    GATE_MARKET_STATUS = 512,  /* market not ACTIVE, or its status not known */
    GATE_REDIS = 1024,         /* Redis has not held the newest rows for too long */
    GATE_COUNT = 11,
};

/* kill causes (market-making 5.2), latched in kill_causes */
enum {
    KILL_CAUSE_SKEW = 1,
    KILL_CAUSE_DAILY_LOSS = 2,
    KILL_CAUSE_ASSET_FLOOR = 4,
    KILL_CAUSE_BUDGET = 8,
    KILL_CAUSE_PRICE_JUMP = 16,
    KILL_CAUSE_EXTREME_PRICE = 32,
    KILL_CAUSE_LVR_REPEAT = 64,
    KILL_CAUSE_NEGATIVE_AVAILABLE = 128,
    KILL_CAUSE_MARKET_SUSPENDED = 256,
    KILL_CAUSE_MARKET_HALTED = 512,
    KILL_CAUSE_OWNERSHIP = 1024,
    KILL_CAUSE_GATE_TIMEOUT = 2048,
    KILL_CAUSE_ADMIN = 4096,
    KILL_CAUSE_GATEWAY_STUCK = 8192, /* the order ring is full: nobody takes intents any more */
    KILL_CAUSE_EXECUTIONS = 16384,   /* filled too often too fast, again and again (reliability page, C12) */
};

enum { PHASE_LOG_ENTRIES = 8, DEFENSE_LEVELS = 4, STATE_LEVELS = 10 };

/* One transition of the phase machine (market-making 4); timestamp_ms 0 = unused. */
typedef struct {
    int64_t timestamp_ms;
    uint8_t from_phase, to_phase, reason; /* reason: engine/quoting/transitions.py PhaseReason */
    uint8_t reserved[5];
} phase_change_t;

typedef struct {
    /* inventory (market-making 2.2); cash_cents is free cash, frozen_cents what own BUY orders hold */
    int64_t inventory_version;
    int64_t yes_volume, no_volume;
    int64_t yes_available, no_available;
    int64_t yes_cost_sum_cents, no_cost_sum_cents;
    int64_t cash_cents, frozen_cents;
    int64_t updated_at_ms;

    /* state (2.4) */
    int64_t last_requote_ms;
    int64_t daily_pnl_cents;
    int64_t total_fills_today;
    int64_t lvr_cooldown_until_ms;
    int64_t day_start_assets_cents;
    int64_t net_flows_cents;
    uint64_t kill_causes;
    int32_t fair_price_cents; /* 0 = no price yet */
    uint32_t gates;
    uint8_t lifecycle, phase, defense, kill_switch;
    uint8_t market_status, book_valid, recovering;
    uint8_t stopped;         /* 1 = by an operator, or its start failed: only an operator's START ends that */

    /* how the last target came about */
    double anchor, micro, posterior;
    double weight_anchor, weight_micro, weight_posterior;
    double sigma, gamma, tau, skew, adjustment, reservation, multiplier;
    double half_spread_ask, half_spread_bid;
    int32_t touch_bid_cents, touch_ask_cents; /* target touch; 0 = side empty */
    int32_t best_bid_ticks, best_ask_ticks;   /* the market's book incl. own orders; -1 = empty */
    int32_t foreign_bid_ticks, foreign_ask_ticks;
    int64_t own_bid_orders, own_ask_orders;   /* live at the venue */
    int64_t target_unix_ms;

    /* what it rests on (filled by quoter_state_inputs()): oracle, feed, volatility window; target ladder, touch first */
    int64_t oracle_recv_mono_ns;   /* when the oracle's last value came or was confirmed; 0 = it never said one */
    int32_t oracle_price_ticks;    /* its newest word; -1 = no value */
    int32_t oracle_last_ticks;     /* its newest value; -1 = none */
    int32_t feed_latency_us;       /* median of the last 20 messages; 0 = fewer, or below */
    uint16_t sigma_trades;         /* trades in the volatility window */
    uint8_t target_bid_count, target_ask_count;
    uint8_t target_bid_cents[STATE_LEVELS], target_ask_cents[STATE_LEVELS];
    uint8_t reserved_bytes[4];
    uint16_t target_bid_lots[STATE_LEVELS], target_ask_lots[STATE_LEVELS]; /* 65535 = that or more */

    /* book */
    uint64_t generation;
    int64_t venue_sequence;
    uint64_t book_digest;
    uint64_t ring_position;
    uint32_t config_version;
    uint32_t live_orders;

    /* counters since this market's first start in this engine run */
    uint64_t book_messages, deltas, trades, laps, lost_events, generations;
    uint64_t quotes, places, replaces, cancels, rejects, fills, unknowns, syncs;
    int64_t started_at_ms;       /* the market's first start: a restart must not re-arm the anchor */
    int64_t first_quote_unix_ms; /* 0 = not yet */
    int64_t gated_ns[GATE_COUNT];
    int64_t ungated_ns;
    int64_t target_in_range_ns;

    /* phase (market-making 4) */
    int64_t phase_since_ms;
    int64_t phase_volume;      /* shares traded by the market since then */
    int64_t rollback_until_ms;
    phase_change_t phase_log[PHASE_LOG_ENTRIES]; /* oldest first */

    /* defence and gates (5.1, 5.3, 5.4) */
    int64_t level_ns[DEFENSE_LEVELS]; /* time in each level since the first quote */
    double vpin, size_scale;
    int32_t discount_cents;
    uint8_t sides;         /* QUOTE_SIDES_*: what the target may use */
    uint8_t widen_sources; /* engine/quoting/defence.py WidenSource */
    uint8_t calm_cycles, one_side;

    /* money (5.5, 12): delta assets = spread + inventory - fees + flows + corrections since start_assets_cents */
    int64_t day; /* number of the trading day; 0 = no baseline yet */
    int64_t start_assets_cents, flows_cents;
    int64_t spread_pnl_cents, inventory_pnl_cents, fees_paid_cents;
    int64_t budget_used_cents;
    int64_t corrections_cents; /* what the venue's word changed without a trade; part of the sum too */
    int64_t mark_cents;        /* fair price the parts are valued at */
    int64_t last_supply_ms;    /* last mint or burn asked for */
    int64_t command_number;    /* last operator's command taken up, and the causes that refused it */
    uint64_t command_refused;
} quoter_state_t;

#ifndef CFFI_CDEF
_Static_assert(sizeof(quoter_state_t) <= 1024, "payload of one state row");
_Static_assert(sizeof(quoter_state_t) % 8 == 0, "whole words");
#endif
#endif
