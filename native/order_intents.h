/* order_intents.h - from a decision to records in the order ring: what is wanted, and the basis it was decided on.
 *
 * Glue between plan (ladder_plan.h), own orders (own_orders.h) and transport (ring.h); none of them knows this file.
 *
 * Writes: the worker's order ring, rings the gateway's bell; its own memory. */
#ifndef COREQUOTE_ORDER_INTENTS_H
#define COREQUOTE_ORDER_INTENTS_H

#ifndef CFFI_CDEF
#include "ladder_plan.h"
#include "quote_pass.h"
#include "quoter_state.h"
#include "ring.h"
#endif

/* What a market's next intents rest on and answer, as its quoter says it; prices and their parts are read from market. */
typedef struct {
    const quote_market_t *market;
    int64_t inventory_version;
    int64_t decided_mono_ns; /* the inputs of the decision were read then */
    int64_t trigger_mono_ns; /* when the news came; 0 = NEWS_NONE */
    int64_t chosen_mono_ns;  /* the decision was made then; 0 = a record is its own decision */
    uint32_t worker_epoch;
    uint32_t config_version;
    uint32_t gates;
    uint16_t market_slot;
    uint8_t phase;
    uint8_t defense;
    uint8_t trigger;         /* NEWS_* */
    uint8_t waited;
    uint8_t reserved[6];
} intent_basis_t;

/* The way out of one worker: all its markets number their intents here. */
typedef struct {
    message_ring_t *ring;       /* the worker's order ring; token holds its producer's role */
    process_row_t *gateway_row;
    uint64_t token;
    uint64_t intent;            /* number of the last intent; rises by one, also with one that found the ring full */
    uint64_t sent;              /* intents that are in the ring */
    int32_t gateway_eventfd;    /* below 0: its futex */
    uint32_t reserved;
} intent_outbox_t;

/* Everything but the order itself: the basis fields let every order be explained. */
void intent_begin(order_record_t *record, const intent_basis_t *basis);

/* Numbers the record, publishes it and rings the gateway's bell at once: one that is awake takes no notice, and one that
 * sleeps has the first record of a plan in hand while the others are written. Returns what message_publish() returns. */
int32_t intent_send(intent_outbox_t *outbox, order_record_t *record);

/* One market's plan on its way out. */
typedef struct {
    ladder_plan_t *plan;
    intent_basis_t *basis;
    intent_outbox_t *outbox;
    quoter_state_t *counters;
    uint32_t sent;              /* actions of the plan that are in the ring */
    uint32_t order_requests;    /* of these: placements and cancels */
    uint32_t replace_requests;
    uint32_t reserved;
    order_record_t record;
} ladder_sender_t;

/* The decision is made: notes the moment, and that nothing of the plan is sent yet. */
void ladder_chosen(ladder_sender_t *sender);
/* Sends the next count actions, fewer when that is all. Each is an own order's matter from the moment it is in the ring:
 * what is placed counts as live, what is asked to go is leaving. Returns RING_OK, or the code of the first action that
 * did not get into the ring; those before it stand. */
int32_t ladder_send(ladder_sender_t *sender, uint32_t count);

#ifndef CFFI_CDEF
_Static_assert(offsetof(ladder_sender_t, record) % 8 == 0, "a record is whole words");
#endif

#endif
