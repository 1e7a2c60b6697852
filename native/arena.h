/* arena.h - the layout of the one shared-memory segment, declared here and nowhere else.
 *
 *   +--------------------+ 0
 *   | header             |  magic, layout hash, epoch, section offsets       writer: supervisor
 *   +--------------------+
 *   | kill words         |  one global, one per market slot                  anyone raises, supervisor lowers
 *   +--------------------+
 *   | process table      |  one row per process                              writer: that process / supervisor
 *   +--------------------+
 *   | worker slots       |  book, order, execution, step ring                 writers: see below
 *   +--------------------+
 *   | command rings      |  one per process row                              writer: control (or supervisor)
 *   +--------------------+
 *   | market slots       |  descriptor, config, images, top, state, orders    writers: see below
 *   +--------------------+
 *
 * The supervisor creates it as a sealed memfd and children inherit the descriptor. Nothing is
 * allocated after creation. The segment is sparse: only touched pages cost memory, which is why a
 * market slot is sized for the largest price grid.
 *
 * Every structure has exactly one writer, named beside it. The one exception is the kill words.
 * The layout hash is taken over this file's declarations: attaching to an arena of another build
 * is an error, never a misread.
 *
 * Under CFFI_CDEF this file is also the Python declaration: constants are enums, alignment is
 * explicit padding, and everything cffi cannot parse is hidden. */
#ifndef COREQUOTE_ARENA_H
#define COREQUOTE_ARENA_H

/* Sizes that a model checker makes small: it builds these structures a hundred thousand times. */
#ifndef SIZE_OR_MODEL
#define SIZE_OR_MODEL(size, model_size) size
#endif

#ifndef CFFI_CDEF
#include <stddef.h>
#include <stdint.h>

#include "atomics.h"
#endif

enum {
    ARENA_MAGIC = 0x54515243, /* "CRQT" */
    ARENA_PAGE_BYTES = 4096,
    CACHE_LINE_BYTES = 64,

    MARKET_ID_BYTES = 64, /* venue ids are at most 64 characters; padded with NUL, unterminated when full */
    VENUE_ID_BYTES = 64,
    GRID_TICKS_MAX = SIZE_OR_MODEL(10001, 1),

    BOOK_RING_SLOTS = 32768, /* powers of two; per worker, touched as used: longer, and images are renewed less often */
    STEP_RING_SLOTS = 4096,
    MESSAGE_RING_SLOTS = 512,
    COMMAND_RING_SLOTS = 64,
    BROADCAST_WORDS = SIZE_OR_MODEL(7, 2), /* payload of a slot */
    MESSAGE_WORDS = SIZE_OR_MODEL(31, 2),
    LIVE_ORDER_SLOTS = SIZE_OR_MODEL(64, 1),   /* per market */
    ROW_WORDS = SIZE_OR_MODEL(30, 2), /* payload of a live-order or account row */
    CONFIG_BYTES_MAX = SIZE_OR_MODEL(8192, 16),
    STATE_PAYLOAD_WORDS = SIZE_OR_MODEL(128, 2), /* 1 KiB per market */
    HISTOGRAM_BUCKETS = SIZE_OR_MODEL(1024, 1),
    PROCESS_COUNTERS = SIZE_OR_MODEL(32, 1),
    PROCESS_ALERTS = SIZE_OR_MODEL(64, 1),

    /* fixed rows of the process table; quoter of worker slot w has row PROCESS_QUOTER_FIRST + w */
    PROCESS_SUPERVISOR = 0,
    PROCESS_INGEST = 1,
    PROCESS_GATEWAY = 2,
    PROCESS_WRITER = 3,
    PROCESS_GUARD = 4,
    PROCESS_CONTROL = 5,
    PROCESS_JOURNAL = 6,
    PROCESS_RECORDER = 7,
    PROCESS_QUOTER_FIRST = 8,
};

/* ---- kill words ------------------------------------------------------------------------- */

enum {
    KILL_ADMIN = 1,            /* a person, or the engine stopping */
    KILL_WORKER_DEAD = 2,      /* the market's quoter died or stalled */
    KILL_FEED_DEAD = 4,        /* ingest died: nobody may quote on the book it left */
    KILL_RISK = 8,             /* a latched kill source of the market's own risk rules */
    KILL_STOPPING = 16,        /* orderly stop: cancels only */
    KILL_GUARD = 32,           /* the guard is taking everything off: the supervisor is gone */
    KILL_PAUSE = 64,           /* a control of the gateway stopped the market for a while; the gateway lowers it */
};

/* ---- process table ---------------------------------------------------------------------- */

enum {
    PROCESS_FREE = 0,
    PROCESS_STARTING = 1, /* spawned, not yet attached or still recovering */
    PROCESS_RUNNING = 2,
    PROCESS_STOPPING = 3,
    PROCESS_DEAD = 4,
};

typedef struct {
    atomic_u64 count;
    atomic_u64 sum_ns;
    atomic_u64 max_ns;
    atomic_u64 reserved;
    atomic_u64 buckets[HISTOGRAM_BUCKETS];
} histogram_t;

/* How often one alert was raised, and when last; by name: engine/alerts.py. */
typedef struct {
    atomic_u64 count;
    atomic_u64 last_unix_ns;
} alert_count_t;

typedef struct {
    /* written by the supervisor */
    char name[32];
    atomic_u64 pid;
    atomic_u64 epoch;      /* rises with every start of this row's process */
    atomic_u64 restarts;
    atomic_u64 planned_cpu; /* core number + 1; 0 = not pinned */

    /* written by the process */
    atomic_u64 state;
    atomic_u64 heartbeat_mono_ns;
    atomic_u64 attached_epoch; /* the epoch this process was started with */
    atomic_u64 pass_count;
    atomic_u64 work_count;
    atomic_u64 longest_pass_ns;
    atomic_u64 slow_pass_count;
    atomic_u64 cpu; /* core it last ran on + 1 */

    /* consumer side */
    atomic_u64 doorbell; /* rises with every ring */
    atomic_u64 asleep;   /* futex word (low 32 bits): 1 = wake me; set by the process, cleared by whoever wakes it */
    uint64_t padding[6];

    atomic_u64 counters[PROCESS_COUNTERS]; /* meaning by process kind: engine/events.py */
    alert_count_t alerts[PROCESS_ALERTS];
    histogram_t pass_ns;
} process_row_t;

/* ---- rings ------------------------------------------------------------------------------ */

/* Overwriting broadcast ring: one producer, any number of readers that share nothing with it.
 * sequence = position + 1 when the slot holds that position, with the top bit set (SLOT_BUSY) while it
 * is being written; 0 = never used. Readers poll the slot they wait for, so that one message costs one
 * cache line between two cores; the ring's own line stays with the producer. */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 words[BROADCAST_WORDS];
} broadcast_slot_t;

typedef struct {
    atomic_u64 owner;     /* token of the process that holds the producer role; 0 = free */
    atomic_u64 published; /* events published since the arena was made */
    atomic_u64 settled;   /* 1 = the holder has looked after the last batch of its predecessor */
    uint64_t padding[5];
} broadcast_ring_t;       /* slots follow */

/* Lossless ring: one producer, one named consumer that holds it back; anyone else may tap it
 * read-only like a broadcast ring. Nothing counts before `published` says so. */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 words[MESSAGE_WORDS];
} message_slot_t;

typedef struct {
    atomic_u64 owner;
    atomic_u64 published; /* written by the producer */
    uint64_t producer_padding[6];
    atomic_u64 consumed;  /* written by the consumer */
    uint64_t consumer_padding[7];
} message_ring_t;         /* slots follow */

enum { BOOK_LEVEL = 1, BOOK_GENERATION = 2, BOOK_TRADE = 3, BOOK_LINK = 4, BOOK_ORACLE = 5 };
enum { BOOK_EVENT_END = 1 };                             /* flags: last slot of one venue message */
enum { GENERATION_INVALID = 0, GENERATION_VALID = 1 };   /* status of GENERATION */
enum { LINK_DOWN = 0, LINK_UP = 1 };                     /* status of LINK */
enum { ORACLE_FAILED = 0, ORACLE_VALUE = 1, ORACLE_WITHDRAWN = 2 }; /* status of ORACLE: only VALUE has a price */

/* What flows ingest -> quoter. 56 bytes: the payload of one broadcast slot. */
typedef struct {
    uint16_t market_slot;
    uint8_t kind;            /* BOOK_* */
    uint8_t flags;           /* BOOK_EVENT_END */
    uint32_t generation;
    int32_t price_ticks;     /* LEVEL, TRADE, ORACLE */
    uint8_t side;            /* LEVEL: book side; TRADE: aggressor's book side */
    uint8_t status;          /* GENERATION, LINK, ORACLE */
    uint16_t reserved;
    int64_t size_lots;       /* LEVEL: new total; TRADE: quantity */
    int64_t venue_sequence;
    int64_t venue_unix_ns;
    int64_t recv_mono_ns;    /* when the frame's bytes were in hand */
    int64_t detail;          /* GENERATION: ring position its image is exact at */
} book_event_t;

/* One pass of a worker that consumed input or fired a timer: the total order of its inputs. */
typedef struct {
    uint64_t step;
    int64_t mono_ns;
    int64_t unix_ns;
    uint64_t book_position;      /* consumed through, exclusive */
    uint64_t execution_position;
    uint32_t config_version;
    uint32_t intent_count;
    uint64_t kill_word;
} step_record_t;

enum {
    ORDER_PLACE = 1,
    ORDER_REPLACE = 2,
    ORDER_CANCEL = 3,
    ORDER_BATCH_CANCEL = 4,
    ORDER_MINT = 5,
    ORDER_BURN = 6,
    ORDER_SYNC = 7,
};

enum { OUTCOME_YES = 0, OUTCOME_NO = 1 };
enum { DIRECTION_BUY = 0, DIRECTION_SELL = 1 };
enum { SCOPE_ALL = 0, SCOPE_BUY_ONLY = 1, SCOPE_SELL_ONLY = 2 };
enum {
    NEWS_NONE = 0,    /* a timer, or one more step of an answer that has begun */
    NEWS_FILL = 1,    /* the gateway told of an own fill */
    NEWS_MESSAGE = 2, /* a message of the feed moved the target */
    NEWS_RELEASE = 3, /* a gate opened */
};

/* What flows quoter -> gateway. 248 bytes. The basis fields let every order be explained: which
 * book, which prices, which configuration it came from. */
typedef struct {
    uint8_t kind;        /* ORDER_* */
    uint8_t outcome;     /* user view */
    uint8_t direction;   /* user view */
    uint8_t scope;       /* BATCH_CANCEL: SCOPE_* */
    uint16_t market_slot;
    uint16_t live_slot;  /* REPLACE, CANCEL: the order meant, as the gateway numbered it */
    uint32_t worker_epoch;
    uint32_t generation;
    uint64_t intent;     /* rises by one per intent of this worker epoch */
    int32_t price_cents; /* user view: the NO price for NO orders */
    uint32_t config_version;
    int64_t quantity;
    int64_t decided_mono_ns; /* what it was decided on was read then: its age counts from here */
    int64_t trigger_mono_ns; /* when the news came that this pass is the first to answer; 0 = NEWS_NONE */
    int64_t inventory_version;
    double basis_anchor, basis_micro, basis_posterior;
    float basis_weight_anchor, basis_weight_micro;
    float basis_sigma, basis_gamma;
    float basis_tau, basis_skew;
    float basis_reservation, basis_multiplier;
    uint16_t basis_fair_cents;
    uint8_t basis_phase;
    uint8_t basis_defense;
    uint32_t basis_gates;
    char target_order_id[VENUE_ID_BYTES];
    int64_t chosen_mono_ns; /* the decision was made: what follows is only its sending */
    uint8_t trigger;        /* NEWS_* */
    uint8_t waited;         /* 1: an answer, a pause or a token stood in the way when the news came */
    uint8_t reserved_flags[6];
    int64_t reserved[5];
} order_record_t;

enum {
    EXEC_ACKED = 1,      /* order live at the venue; live_slot and venue_order_id name it */
    EXEC_REJECTED = 2,   /* nothing changed at the venue (code = venue code, or LOCAL_*) */
    EXEC_UNKNOWN = 3,    /* outcome not known yet: counts as live */
    EXEC_CANCELLED = 4,  /* order gone; quantity = remainder cancelled */
    EXEC_FILL = 5,
    EXEC_MINTED = 6,
    EXEC_BURNED = 7,
    EXEC_MARKET_STATUS = 8,
    EXEC_CASH = 9,
    EXEC_SYNC_BEGIN = 10,
    EXEC_POSITION = 11,
    EXEC_ORDER = 12,
    EXEC_CURSOR = 13,
    EXEC_SYNC_END = 14,
    EXEC_FILLED = 15,    /* order gone: fully filled (its FILLs travel separately) */
    EXEC_MARKET_RULES = 16, /* a market_rules_record_t: within every SYNC, and when they change */
    EXEC_START_FAILED = 17, /* the market cannot be started: code = the venue's or LOCAL_*, trade_id = why, in words */
};

/* reasons of EXEC_REJECTED that are ours, not the venue's */
enum {
    LOCAL_KILLED = -1,
    LOCAL_STALE_EPOCH = -2,
    LOCAL_RATE_LIMIT = -3,
    LOCAL_SELF_CROSS = -4,
    LOCAL_PRICE_RANGE = -5,
    LOCAL_OVERSELL = -6,
    LOCAL_NOT_READY = -7,
    LOCAL_UNKNOWN_ORDER = -8,
    LOCAL_LIMIT = -9,
    LOCAL_CASH = -10,
    LOCAL_JOURNAL = -11,   /* the intent could not be written down, so it was not sent */
    LOCAL_COLLAR = -12,    /* C4: too far from the fair price or the foreign mid, or no fair price given */
    LOCAL_POST_ONLY = -13, /* C5: it would take a foreign order */
    LOCAL_POSITION = -14,  /* C8: with every live order filled, too large a position or loss */
    LOCAL_DUPLICATE = -15, /* C11: one alike is not yet acknowledged */
    LOCAL_PAUSED = -16,    /* a control has stopped the market for a while */
    LOCAL_STALE = -17,     /* C14: book, worker or reconciliation too old */
    LOCAL_CLOCK = -18,     /* C17: the venue's clock and ours are too far apart */
    LOCAL_GATED = -19,     /* I5: decided under a gate that lets no order out */
    LOCAL_EXECUTIONS = -20, /* C12, answers no intent: filled too often too fast, the market is killed */
    LOCAL_RECONCILE = -21,  /* answers no intent: something asks for the venue's word, the quoter asks for a SYNC */
};

enum { SCENARIO_MINT = 1, SCENARIO_TRANSFER_YES = 2, SCENARIO_TRANSFER_NO = 3, SCENARIO_BURN = 4 };
enum { ROLE_MAKER = 0, ROLE_TAKER = 1 };
enum {
    MARKET_UNKNOWN = 0,
    MARKET_DRAFT = 1,
    MARKET_ACTIVE = 2,
    MARKET_SUSPENDED = 3,
    MARKET_HALTED = 4,
    MARKET_RESOLVED = 5,
    MARKET_SETTLED = 6,
    MARKET_VOIDED = 7,
};

/* What flows gateway -> quoter. 248 bytes. */
typedef struct {
    uint8_t kind;          /* EXEC_* */
    uint8_t outcome;       /* user view of the order concerned */
    uint8_t direction;
    uint8_t role;          /* FILL: ROLE_* */
    uint16_t market_slot;
    uint16_t live_slot;
    uint32_t worker_epoch; /* of the intent answered; 0 when nobody asked */
    int32_t code;          /* REJECTED: reason; MARKET_STATUS: MARKET_* */
    uint64_t intent;       /* intent answered; 0 when nobody asked */
    int32_t price_cents;   /* ACKED, ORDER: user view; FILL: YES price of the trade */
    uint8_t scenario;      /* FILL: SCENARIO_* */
    uint8_t book_side;     /* FILL: our side in the YES book; BID = buyer, ASK = seller */
    uint8_t flags;
    uint8_t reserved_byte;
    int64_t quantity;      /* ACKED: ordered; FILL: filled; MINTED, BURNED: pairs; CANCELLED: remainder */
    int64_t remaining;     /* ACKED, ORDER */
    int64_t fee_cents;     /* FILL */
    int64_t cash_cents;    /* CASH: this market's cash incl. what its own BUY orders freeze; its quantity is
                              what operators have paid in less what they took out, since the market began */
    int64_t yes_volume, yes_cost_cents, no_volume, no_cost_cents; /* POSITION, MINTED, BURNED */
    int64_t venue_unix_ns;
    int64_t sent_mono_ns;  /* when the request's bytes were handed to the socket; FILL: when it was told */
    char venue_order_id[VENUE_ID_BYTES];
    char trade_id[VENUE_ID_BYTES]; /* FILL: trade; CURSOR: newest trade already counted in POSITION */
    int64_t told_mono_ns;  /* when the gateway made this record */
} execution_record_t;

/* EXEC_MARKET_RULES: what the venue says of the market. 248 bytes, same head as execution_record_t. */
typedef struct {
    uint8_t kind;
    uint8_t reserved_bytes[3];
    uint16_t market_slot;
    uint16_t reserved_slot;
    uint32_t worker_epoch;
    int32_t status;             /* MARKET_* */
    int32_t min_price_cents;
    int32_t max_price_cents;
    int32_t maker_fee_bps;
    int32_t taker_fee_bps;
    int64_t order_quantity_max;
    int64_t order_amount_max_cents;
    int64_t created_ms;         /* Unix ms; 0 = the venue gives none */
    int64_t trading_start_ms;
    int64_t trading_end_ms;
    int64_t resolution_ms;
    int64_t reserved[21];
} market_rules_record_t;

enum { STOP_GRACEFUL = 0, STOP_IMMEDIATE = 1 }; /* mode of STOP */

enum {
    COMMAND_START = 1,    /* to the gateway (funds the market where nobody has; amount_cents), then to the quoter */
    COMMAND_STOP = 2,     /* to the quoter */
    COMMAND_FUND = 3,     /* to the gateway: amount_cents */
    COMMAND_WITHDRAW = 4, /* to the gateway: amount_cents */
    COMMAND_RESUME = 5,
    COMMAND_ORACLE = 6, /* to ingest: amount_cents = the operator's price, 0 = none any more; until_unix_ms, set_unix_ms */
};

/* What flows control -> supervisor, ingest, gateway, quoters. 248 bytes. */
typedef struct {
    uint8_t kind;
    uint8_t mode;
    uint16_t market_slot;
    uint32_t reserved;
    uint64_t number; /* acknowledged by this number */
    int64_t amount_cents;
    int64_t mono_ns;
    char reason[VENUE_ID_BYTES];
    int64_t set_unix_ms;   /* ORACLE: when the operator said so */
    int64_t until_unix_ms; /* ORACLE: from then on there is no value */
    int64_t padding[17];
} command_record_t;

typedef struct {
    atomic_u64 epoch;        /* written by the supervisor: records of an older epoch are refused */
    atomic_u64 market_count;
    uint64_t padding[6];
} worker_control_t;          /* rings follow */

/* ---- market slots ----------------------------------------------------------------------- */

enum { MARKET_SLOT_FREE = 0, MARKET_SLOT_USED = 1 };

/* written by the supervisor */
typedef struct {
    char market_id[MARKET_ID_BYTES];
    atomic_u64 state;      /* MARKET_SLOT_* */
    atomic_u64 epoch;      /* rises each time the slot changes hands */
    atomic_u64 worker_slot;
    atomic_u64 tick_count;
    uint64_t padding[4];
} market_descriptor_t;

/* A versioned byte string (JSON of the market's effective configuration); writer: supervisor at
 * start, control afterwards. */
typedef struct {
    atomic_u64 sequence; /* odd while written */
    atomic_u64 version;
    atomic_u64 length;
    uint64_t padding[5];
    atomic_u64 words[CONFIG_BYTES_MAX / 8];
} config_slot_t;

/* One whole ladder, exact at `ring_position` of the worker's book ring; writer: ingest. The two
 * copies are written in turn; a reader takes the newer valid one. */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 generation;
    atomic_u64 ring_position;
    atomic_u64 venue_sequence;
    atomic_u64 tick_count;
    atomic_u64 valid;
    atomic_u64 recv_mono_ns;
    atomic_u64 reserved;
    atomic_u64 levels[2 * GRID_TICKS_MAX]; /* bids by tick, then asks by tick */
} book_image_t;

/* The market at a glance, for gateway and tools; writer: ingest. */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 bid_ask_ticks; /* (bid + 1) << 32 | (ask + 1), 0 = side empty */
    atomic_u64 bid_lots;
    atomic_u64 ask_lots;
    atomic_u64 generation;    /* generation << 1 | valid */
    atomic_u64 venue_sequence;
    atomic_u64 recv_mono_ns;
    atomic_u64 trade_count;   /* market trades seen on the trade stream */
} top_row_t;

/* What the feed has brought for this market; writer: ingest. */
typedef struct {
    atomic_u64 messages; /* order-book frames */
    atomic_u64 levels;
    atomic_u64 snapshots;
    atomic_u64 trades;
    atomic_u64 sequence_gaps;
    atomic_u64 refused; /* frames refused: malformed or absurd */
    atomic_u64 connects;
    atomic_u64 snapshot_mono_ns; /* when the last snapshot came */
} feed_row_t;

/* The worker's own view of its market; writer: its quoter. Payload by worker kind: quote_state.h. */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 version;
    atomic_u64 kind;
    atomic_u64 worker_epoch;
    atomic_u64 mono_ns;
    atomic_u64 unix_ns;
    uint64_t padding[2];
    atomic_u64 words[STATE_PAYLOAD_WORDS];
} state_row_t;

enum { LIVE_FREE = 0, LIVE_PENDING = 1, LIVE_ACTIVE = 2, LIVE_UNKNOWN = 3, LIVE_CANCELLING = 4 };

/* One order that is, or may be, live at the venue. 240 bytes of payload. */
typedef struct {
    uint8_t state;     /* LIVE_* */
    uint8_t outcome;
    uint8_t direction;
    uint8_t reserved_byte;
    uint32_t worker_epoch;
    uint64_t intent;
    int32_t price_cents; /* user view */
    int32_t reserved;
    int64_t quantity;
    int64_t remaining;
    int64_t created_ms;
    int64_t frozen_cents;
    char venue_order_id[VENUE_ID_BYTES];
    char client_order_id[VENUE_ID_BYTES];
    int64_t padding[7];
} live_order_t;

/* writer: gateway */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 version;
    atomic_u64 words[ROW_WORDS];
} live_order_row_t;

/* The market's share of the account, as the gateway accounts for it. 240 bytes of payload. */
typedef struct {
    int64_t cash_cents;        /* incl. what own BUY orders freeze */
    int64_t funded;            /* 1 once start money and pairs are booked */
    int64_t status;            /* MARKET_* */
    int64_t status_mono_ns;
    int64_t fills;             /* legs applied since funding */
    int64_t last_client_ms;    /* client order ids never go back behind this */
    int64_t budget_cents;
    int64_t fees_cents;
    char cursor_trade_id[VENUE_ID_BYTES]; /* newest trade counted in cash_cents */
    int64_t outside_cents;     /* part of cash_cents that no ledger row of the market tells of: operators' money */
    int64_t padding[13];
} account_state_t;

/* writer: gateway */
typedef struct {
    atomic_u64 sequence;
    atomic_u64 version;
    atomic_u64 words[ROW_WORDS];
} account_row_t;

typedef struct {
    market_descriptor_t descriptor;
    top_row_t top;
    feed_row_t feed;
    account_row_t account;
    state_row_t state;
    live_order_row_t live_orders[LIVE_ORDER_SLOTS];
    histogram_t tick_to_quote_ns; /* writer: quoter. recv of the bytes -> target decided */
    config_slot_t config;
    book_image_t images[2];
} market_slot_t;

/* ---- header ----------------------------------------------------------------------------- */

/* Written once, by arena_format(). */
typedef struct {
    atomic_u64 ready; /* ARENA_MAGIC, stored last */
    atomic_u64 layout_hash;
    atomic_u64 epoch; /* one life of this arena: creation time in Unix ns */
    atomic_u64 total_bytes;
    atomic_u64 supervisor_pid;
    atomic_u64 market_slots;
    atomic_u64 worker_slots;
    atomic_u64 process_slots;
    atomic_u64 kill_offset;
    atomic_u64 process_offset;
    atomic_u64 process_stride;
    atomic_u64 worker_offset;
    atomic_u64 worker_stride;
    atomic_u64 command_offset;
    atomic_u64 command_stride;
    atomic_u64 market_offset;
    atomic_u64 market_stride;
} arena_header_t;

/* ---- API -------------------------------------------------------------------------------- */

enum {
    ARENA_OK = 0,
    ARENA_TOO_SMALL = -1,
    ARENA_NOT_AN_ARENA = -2,
    ARENA_OTHER_LAYOUT = -3,
    ARENA_OTHER_EPOCH = -4,
    ARENA_BAD_OFFSETS = -5,
};

/* Bytes an arena of this size needs; 0 when the counts are out of range (1..4096 markets, 1..1024 workers). */
uint64_t arena_bytes(uint32_t market_slots, uint32_t worker_slots);
/* Writes the header into zeroed memory of at least arena_bytes(). Returns ARENA_OK or ARENA_TOO_SMALL. */
int arena_format(void *memory, uint64_t bytes, uint32_t market_slots, uint32_t worker_slots, uint64_t epoch,
                 uint64_t supervisor_pid);
/* Checks that memory holds an arena of this very layout. epoch 0 accepts any. Returns ARENA_*. Everything
 * below asks for an arena that was checked. */
int arena_check(const void *memory, uint64_t bytes, uint64_t epoch);
uint64_t arena_layout_hash(void);

/* Accessors return NULL when the index is out of range. */
atomic_u64 *arena_kill_global(void *arena);
atomic_u64 *arena_kill_market(void *arena, uint32_t market_slot);
process_row_t *arena_process(void *arena, uint32_t row);
worker_control_t *arena_worker(void *arena, uint32_t worker_slot);
broadcast_ring_t *arena_book_ring(void *arena, uint32_t worker_slot);
broadcast_ring_t *arena_step_ring(void *arena, uint32_t worker_slot);
message_ring_t *arena_order_ring(void *arena, uint32_t worker_slot);
message_ring_t *arena_execution_ring(void *arena, uint32_t worker_slot);
message_ring_t *arena_command_ring(void *arena, uint32_t row);
market_slot_t *arena_market(void *arena, uint32_t market_slot);

/* Single words, for callers that cannot name an atomic themselves. What the caller wrote before it
 * changes a word is seen by whoever sees the change. The last three return the word before. */
uint64_t cell_load(const atomic_u64 *cell);
void cell_store(atomic_u64 *cell, uint64_t value);
uint64_t cell_or(atomic_u64 *cell, uint64_t bits);
uint64_t cell_clear(atomic_u64 *cell, uint64_t bits);
uint64_t cell_add(atomic_u64 *cell, uint64_t value);

#ifndef CFFI_CDEF
_Static_assert(sizeof(broadcast_slot_t) == 64, "one cache line");
_Static_assert(sizeof(broadcast_ring_t) == 64, "one cache line");
_Static_assert(sizeof(message_slot_t) == 256, "four cache lines");
_Static_assert(sizeof(message_ring_t) == 128, "producer's line, consumer's line");
_Static_assert(offsetof(message_ring_t, consumed) == 64, "consumer's word on its own line");
_Static_assert(sizeof(book_event_t) == 56, "payload of one broadcast slot");
_Static_assert(sizeof(step_record_t) == 56, "payload of one broadcast slot");
_Static_assert(sizeof(order_record_t) == 248, "payload of one message slot");
_Static_assert(sizeof(execution_record_t) == 248, "payload of one message slot");
_Static_assert(sizeof(market_rules_record_t) == 248, "payload of one message slot");
_Static_assert(offsetof(market_rules_record_t, market_slot) == offsetof(execution_record_t, market_slot), "same head");
_Static_assert(sizeof(command_record_t) == 248, "payload of one message slot");
_Static_assert(sizeof(live_order_t) == 240, "payload of one live-order row");
_Static_assert(sizeof(account_state_t) == 240, "payload of one account row");
_Static_assert(sizeof(live_order_row_t) == 256, "four cache lines");
_Static_assert(sizeof(account_row_t) == 256, "four cache lines");
_Static_assert(sizeof(top_row_t) == 64, "one cache line");
_Static_assert(sizeof(state_row_t) == 64 + 1024, "header line and 1 KiB");
_Static_assert(sizeof(market_descriptor_t) == 128, "two cache lines");
_Static_assert(sizeof(worker_control_t) == 64, "one cache line");
_Static_assert(offsetof(process_row_t, doorbell) % 64 == 0, "written by wakers: its own line");
_Static_assert(offsetof(process_row_t, state) % 64 == 0, "the process's own line");
_Static_assert(offsetof(process_row_t, counters) % 64 == 0, "aligned");
_Static_assert(offsetof(process_row_t, alerts) % 64 == 0, "aligned");
_Static_assert(sizeof(arena_header_t) <= ARENA_PAGE_BYTES, "header fits its page");
_Static_assert((BOOK_RING_SLOTS & (BOOK_RING_SLOTS - 1)) == 0, "power of two");
_Static_assert((STEP_RING_SLOTS & (STEP_RING_SLOTS - 1)) == 0, "power of two");
_Static_assert((MESSAGE_RING_SLOTS & (MESSAGE_RING_SLOTS - 1)) == 0, "power of two");
_Static_assert((COMMAND_RING_SLOTS & (COMMAND_RING_SLOTS - 1)) == 0, "power of two");
#endif

#endif
