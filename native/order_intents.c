/* order_intents.c - see order_intents.h. */
#include "order_intents.h"

#include <assert.h>
#include <string.h>

enum { NO_LIVE_SLOT = 0xFFFF };

void intent_begin(order_record_t *record, const intent_basis_t *basis) {
    const quote_market_t *market = basis->market;
    const quote_fair_t *fair = &market->output->fair;
    *record = (order_record_t){
        .market_slot = basis->market_slot,
        .live_slot = NO_LIVE_SLOT,
        .worker_epoch = basis->worker_epoch,
        .generation = market->generation,
        .config_version = basis->config_version,
        .decided_mono_ns = basis->decided_mono_ns,
        .trigger_mono_ns = basis->trigger_mono_ns,
        .inventory_version = basis->inventory_version,
        .basis_anchor = fair->anchor_cents,
        .basis_micro = fair->micro_cents,
        .basis_posterior = fair->posterior_cents,
        .basis_weight_anchor = (float)fair->anchor_weight,
        .basis_weight_micro = (float)fair->micro_weight,
        .basis_sigma = (float)fair->sigma_cents,
        .basis_gamma = market->params == NULL ? 0.0F : (float)market->params->gamma,
        .basis_tau = (float)fair->tau,
        .basis_skew = (float)fair->inventory_skew,
        .basis_reservation = (float)fair->reservation_cents,
        .basis_multiplier = (float)market->inputs->spread_multiplier,
        .basis_fair_cents = (uint16_t)fair->fair_price_cents,
        .basis_phase = basis->phase,
        .basis_defense = basis->defense,
        .basis_gates = basis->gates,
        .chosen_mono_ns = basis->chosen_mono_ns != 0 ? basis->chosen_mono_ns : mono_now_ns(),
        .trigger = basis->trigger,
        .waited = basis->waited,
    };
}

int32_t intent_send(intent_outbox_t *outbox, order_record_t *record) {
    record->intent = ++outbox->intent;
    int32_t code = message_publish(outbox->ring, MESSAGE_RING_SLOTS, outbox->token, record);
    if (code != RING_OK) return code;
    outbox->sent += 1;
    bell_ring(outbox->gateway_row, outbox->gateway_eventfd);
    return RING_OK;
}

void ladder_chosen(ladder_sender_t *sender) {
    sender->sent = sender->order_requests = sender->replace_requests = 0;
    sender->basis->chosen_mono_ns = mono_now_ns();
}

static void describe(order_record_t *record, const desired_order_t *desired) {
    record->outcome = desired->outcome;
    record->direction = desired->direction;
    record->price_cents = desired->price_cents;
    record->quantity = desired->quantity;
}

static void describe_own(order_record_t *record, const own_order_t *own) {
    record->outcome = own->outcome;
    record->direction = own->direction;
    record->price_cents = own->price_cents;
    record->quantity = own->remaining;
}

/* Which order is meant; none by a placement. */
static void name(order_record_t *record, const own_order_t *own) {
    record->live_slot = own == NULL ? NO_LIVE_SLOT : (uint16_t)own->live_slot;
    if (own == NULL) memset(record->target_order_id, 0, sizeof record->target_order_id);
    else memcpy(record->target_order_id, own->venue_order_id, sizeof record->target_order_id);
}

static void leave(own_order_t *own, uint64_t intent, uint8_t replaced) {
    own->flags = (uint8_t)((own->flags & OWN_ORDER_UNKNOWN) | OWN_ORDER_BUSY | OWN_ORDER_LEAVING | replaced);
    own->leaving_intent = intent;
}

static void asked_for(ladder_sender_t *sender, const desired_order_t *desired, uint64_t intent) {
    own_order_t order = {
        .quantity = desired->quantity,
        .remaining = desired->quantity,
        .created_ms = sender->plan->now_ms,
        .intent = intent,
        .price_cents = desired->price_cents,
        .live_slot = OWN_ORDER_NO_SLOT,
        .outcome = desired->outcome,
        .direction = desired->direction,
        .state = OWN_ORDER_ACTIVE,
        .flags = OWN_ORDER_BUSY,
    };
    own_order_t *added = own_orders_add(sender->plan->orders, &order);
    assert(added != NULL); /* ladder_compare() left what the table has no room for, and funding keeps the ranges */
}

/* What is in the ring now, in our own books. */
static void account(ladder_sender_t *sender, const ladder_action_t *action, uint64_t intent) {
    own_order_t *own = &sender->plan->orders->orders[action->own];
    if (action->kind == ORDER_CANCEL) {
        leave(own, intent, 0);
        sender->counters->cancels += 1;
    } else if (action->kind == ORDER_REPLACE) {
        leave(own, intent, OWN_ORDER_REPLACED);
        asked_for(sender, &action->desired, intent);
        sender->counters->replaces += 1;
    } else {
        asked_for(sender, &action->desired, intent);
        sender->counters->places += 1;
    }
    if (action->kind == ORDER_REPLACE) sender->replace_requests += 1;
    else sender->order_requests += 1;
}

int32_t ladder_send(ladder_sender_t *sender, uint32_t count) {
    const ladder_plan_t *plan = sender->plan;
    order_record_t *record = &sender->record;
    if (sender->sent == 0) intent_begin(record, sender->basis);
    for (; count > 0 && sender->sent < plan->action_count; count--, sender->sent++) {
        const ladder_action_t *action = &plan->actions[sender->sent];
        const own_order_t *own = action->kind == ORDER_PLACE ? NULL : &plan->orders->orders[action->own];
        record->kind = action->kind;
        if (action->kind == ORDER_CANCEL) describe_own(record, own);
        else describe(record, &action->desired);
        name(record, own);
        int32_t code = intent_send(sender->outbox, record);
        if (code != RING_OK) return code;
        account(sender, action, record->intent);
    }
    return RING_OK;
}
