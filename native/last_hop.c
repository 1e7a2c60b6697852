/* last_hop.c - see last_hop.h. */
#define _GNU_SOURCE
#include "last_hop.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "system.h"

static const int64_t QUANTITY_MAX = INT32_MAX; /* times any price it still is a number of cents that a row can hold */

static inline void reach(const last_hop_t *hop, int32_t place) {
    if (hop->reach != NULL) hop->reach(place);
}

/* ---- text ---- */

typedef struct {
    char *bytes;
    uint32_t length, capacity;
} text_t;

static void put(text_t *text, const char *bytes, size_t count) {
    assert(count <= text->capacity - text->length); /* capacities cover the longest ids, every byte of them escaped */
    memcpy(text->bytes + text->length, bytes, count);
    text->length += (uint32_t)count;
}

static inline void put_text(text_t *text, const char *literal) { put(text, literal, strlen(literal)); }

static void put_number(text_t *text, uint64_t number) {
    char digits[20];
    uint32_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    put(text, digits + at, sizeof digits - at);
}

/* A NUL-padded field as the inside of a JSON string: the venue chose its ids, not we. */
static void put_field(text_t *text, const char *field, size_t size) {
    static const char HEX[] = "0123456789abcdef";
    for (size_t i = 0; i < size && field[i] != '\0'; i++) {
        unsigned char byte = (unsigned char)field[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\') {
            put(text, field + i, 1);
        } else {
            char escaped[] = {'\\', 'u', '0', '0', HEX[byte >> 4], HEX[byte & 15]};
            put(text, escaped, sizeof escaped);
        }
    }
}

static void put_side_and_direction(text_t *text, const live_order_t *row) {
    put_text(text, "\"side\":\"");
    put_text(text, row->outcome == OUTCOME_YES ? "YES" : "NO");
    put_text(text, "\",\"direction\":\"");
    put_text(text, row->direction == DIRECTION_BUY ? "BUY" : "SELL");
    put_text(text, "\"");
}

/* ---- the intent journal (engine/workers/intent_journal.py has the format) ---- */

int32_t journal_append(journal_segment_t *segment, const char *lines, uint32_t length) {
    ssize_t written;
    do {
        written = write(segment->fd, lines, length);
    } while (written < 0 && errno == EINTR);
    if (written < 0) return errno;
    if ((uint32_t)written != length) { /* a full disk takes the first part: it must not look like a line */
        return ftruncate(segment->fd, segment->bytes) == 0 ? ENOSPC : errno;
    }
    segment->bytes += written;
    if (segment->sync_each && fdatasync(segment->fd) != 0) return errno;
    cell_store(&segment->dirty, 1);
    return 0;
}

/* I4: the intent is in the journal before its bytes go; what cannot be written is not sent. */
static int write_down(last_hop_t *hop, market_books_t *market, const booked_order_t *order) {
    char bytes[JOURNAL_LINE_BYTES];
    text_t line = {.bytes = bytes, .capacity = sizeof bytes};
    const live_order_t *row = &order->row;
    put_text(&line, "{\"type\":\"sent\",\"at_ms\":");
    put_number(&line, (uint64_t)row->created_ms);
    put_text(&line, order->replaces == 0 ? ",\"op\":\"place\"" : ",\"op\":\"replace\"");
    put_text(&line, ",\"market\":\"");
    put_field(&line, market->market_id, sizeof market->market_id);
    put_text(&line, "\",\"id\":\"");
    put_field(&line, row->client_order_id, sizeof row->client_order_id);
    put_text(&line, "\",");
    put_side_and_direction(&line, row);
    put_text(&line, ",\"price\":");
    put_number(&line, (uint64_t)row->price_cents);
    put_text(&line, ",\"quantity\":");
    put_number(&line, (uint64_t)row->quantity);
    if (order->replaces != 0) {
        const booked_order_t *old = &market->orders[order->replaces_slot];
        put_text(&line, ",\"order\":\"");
        if (old->number == order->replaces) put_field(&line, old->row.venue_order_id, sizeof old->row.venue_order_id);
        put_text(&line, "\"");
    }
    put_text(&line, ",\"epoch\":");
    put_number(&line, row->worker_epoch);
    put_text(&line, ",\"intent\":");
    put_number(&line, row->intent);
    put_text(&line, "}\n");
    hop->journal_error = journal_append(hop->journal, line.bytes, line.length);
    return hop->journal_error == 0;
}

/* ---- the request (platform §2.3, §2.6) ---- */

static void put_new_order(text_t *text, const market_books_t *market, const booked_order_t *order) {
    put_text(text, "{\"client_order_id\":\"");
    put_field(text, order->row.client_order_id, sizeof order->row.client_order_id);
    put_text(text, "\",\"market_id\":\"");
    put_field(text, market->market_id, sizeof market->market_id);
    put_text(text, "\",");
    put_side_and_direction(text, &order->row);
    put_text(text, ",\"price_cents\":");
    put_number(text, (uint64_t)order->row.price_cents);
    put_text(text, ",\"quantity\":");
    put_number(text, (uint64_t)order->row.quantity);
    put_text(text, ",\"time_in_force\":\"GTC\"}");
}

/* The length of the body, the end of the head, and the body. */
static void write_tail(const market_books_t *market, const booked_order_t *order, const booked_order_t *old,
                       hop_result_t *result) {
    char bytes[HOP_TAIL_BYTES - 16];
    text_t body = {.bytes = bytes, .capacity = sizeof bytes};
    if (old != NULL) {
        put_text(&body, "{\"old_order_id\":\"");
        put_field(&body, old->row.venue_order_id, sizeof old->row.venue_order_id);
        put_text(&body, "\",\"new_order\":");
    }
    put_new_order(&body, market, order);
    if (old != NULL) put_text(&body, "}");
    text_t tail = {.bytes = result->tail, .capacity = sizeof result->tail};
    put_number(&tail, body.length);
    put_text(&tail, "\r\n\r\n");
    result->body_at = tail.length;
    put(&tail, body.bytes, body.length);
    result->tail_bytes = tail.length;
}

static void send_request(last_hop_t *hop, int replaces, hop_result_t *result) {
    const char *head = replaces ? hop->replace_head : hop->place_head;
    result->head_bytes = replaces ? hop->replace_head_bytes : hop->place_head_bytes;
    result->connection = hop->connections[hop->connections_used++];
    struct iovec parts[] = {
        {.iov_base = (void *)(uintptr_t)head, .iov_len = result->head_bytes},
        {.iov_base = result->tail, .iov_len = result->tail_bytes},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    result->sent_mono_ns = mono_now_ns();
    ssize_t written = sendmsg(result->connection, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    /* what the socket did not take, also for an error, is the event loop's to write: it finds out what is wrong */
    result->written = written > 0 ? (uint32_t)written : 0;
}

/* ---- one order ---- */

int32_t last_hop_pass(last_hop_t *hop, market_books_t *market, uint32_t slot) {
    booked_order_t *order = &market->orders[slot];
    standing_t standing;
    books_count(market, slot, mono_now_ns(), &standing);
    int32_t reason = pretrade_refusal(&order->candidate, &standing, &market->account->limits);
    if (reason != 0) return reason;
    reach(hop, REACH_AFTER_RISK);
    if (!write_down(hop, market, order)) return LOCAL_JOURNAL;
    reach(hop, REACH_AFTER_JOURNAL);
    int64_t now_mono_ns = mono_now_ns();
    bucket_take(order->replaces != 0 ? &market->replace_tokens : &market->account->order_tokens, now_mono_ns);
    bucket_take(&market->order_tokens, now_mono_ns);
    order->sent = 1;
    return 0;
}

int32_t order_record_makes_sense(const order_record_t *record) {
    return record->kind >= ORDER_PLACE && record->kind <= ORDER_SYNC && record->outcome <= OUTCOME_NO &&
           record->direction <= DIRECTION_SELL && record->scope <= SCOPE_SELL_ONLY &&
           record->quantity >= 0 && record->quantity <= QUANTITY_MAX;
}

/* The live order that a REPLACE means, if there is one that can be asked something of now; NULL and why not. */
static booked_order_t *target(market_books_t *market, const order_record_t *record, int32_t *code) {
    *code = LOCAL_UNKNOWN_ORDER;
    uint32_t slot = record->live_slot;
    if (slot >= LIVE_ORDER_SLOTS || !(market->used >> slot & 1)) return NULL;
    booked_order_t *order = &market->orders[slot];
    /* an order that was announced before it was acknowledged is known to the quoter by slot alone */
    int named = record->target_order_id[0] == '\0' ||
                memcmp(record->target_order_id, order->row.venue_order_id, VENUE_ID_BYTES) == 0;
    if (!named) return NULL;
    *code = LOCAL_NOT_READY;
    return order->busy || order->row.venue_order_id[0] == '\0' ? NULL : order;
}

static void set_state(market_books_t *market, booked_order_t *order, uint8_t state, uint8_t busy) {
    order->row.state = state;
    order->busy = busy;
    books_publish(market, (uint32_t)(order - market->orders));
}

/* Takes responsibility: the new order's row and, for a REPLACE, the mark on the old one. 0, or LOCAL_*: nothing was. */
static int32_t take(last_hop_t *hop, market_books_t *market, const order_record_t *record, booked_order_t **old,
                    hop_result_t *result) {
    int32_t code = LOCAL_NOT_READY;
    *old = NULL;
    if (!market->account->admitting) return code;
    if (record->kind == ORDER_REPLACE && (*old = target(market, record, &code)) == NULL) return code;
    result->slot = books_open(market, record, unix_now_ns() / 1000000);
    if (result->slot == BOOKS_NO_SLOT) return LOCAL_LIMIT;
    reach(hop, REACH_AFTER_TAKE);
    if (*old != NULL) {
        booked_order_t *order = &market->orders[result->slot];
        order->replaces = (*old)->number;
        order->replaces_slot = (uint8_t)(*old - market->orders);
        set_state(market, *old, LIVE_CANCELLING, 1);
    }
    return 0;
}

static int has_connection(const last_hop_t *hop) {
    return hop->connections_used < hop->connection_count && mono_now_ns() < hop->heads_until_mono_ns;
}

static void run_one(last_hop_t *hop, market_books_t *market, const order_record_t *record, hop_result_t *result) {
    booked_order_t *old;
    result->code = take(hop, market, record, &old, result);
    if (result->code != 0) {
        result->step = HOP_REJECTED;
        return;
    }
    uint32_t slot = (uint32_t)result->slot;
    write_tail(market, &market->orders[slot], old, result);
    if (!has_connection(hop)) {
        result->step = HOP_WAITS;
        return;
    }
    result->code = last_hop_pass(hop, market, slot);
    if (result->code != 0) { /* at once: the next order is checked against what there is */
        result->step = HOP_REFUSED;
        books_close(market, slot);
        if (old != NULL) set_state(market, old, LIVE_ACTIVE, 0);
        return;
    }
    result->step = HOP_SENT;
    send_request(hop, old != NULL, result);
    reach(hop, REACH_AFTER_SEND);
}

static int is_cancel(const order_record_t *record) {
    return record->kind == ORDER_CANCEL || record->kind == ORDER_BATCH_CANCEL;
}

int32_t order_records_cancel(const order_record_t *records, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (is_cancel(&records[i])) return 1;
    return 0;
}

void last_hop_run(last_hop_t *hop, hop_reader_t *reader, int32_t may_wait) {
    for (; reader->end < reader->count; reader->end++) {
        const order_record_t *record = &reader->records[reader->end];
        hop_result_t *result = &reader->results[reader->end];
        result->step = HOP_NO_ORDER;
        result->code = 0;
        if (is_cancel(record)) continue;
        if (record->kind != ORDER_PLACE && record->kind != ORDER_REPLACE) return;
        if (!may_wait && !has_connection(hop)) return;
        market_books_t *market = record->market_slot < hop->market_count ? hop->markets[record->market_slot] : NULL;
        if (!order_record_makes_sense(record)) result->step = HOP_SENSELESS;
        else if (market == NULL || market->worker != reader->worker) result->step = HOP_FOREIGN;
        else if (record->worker_epoch != cell_load(market->worker_epoch)) result->step = HOP_FENCED;
        else run_one(hop, market, record, result);
    }
}

uint32_t last_hop_look(last_hop_t *hop, hop_reader_t *const *readers, uint32_t count) {
    uint32_t total = 0;
    for (uint32_t i = 0; i < count; i++) {
        hop_reader_t *reader = readers[i];
        if (reader->count == 0) {
            reader->count = message_peek(reader->ring, MESSAGE_RING_SLOTS, reader->records, HOP_BURST_MAX);
            reader->end = 0;
            if (!order_records_cancel(reader->records, reader->count)) last_hop_run(hop, reader, 0);
        }
        total += reader->count;
    }
    return total;
}

void last_hop_release(hop_reader_t *reader) {
    message_release(reader->ring, reader->count);
    reader->count = 0;
    reader->end = 0;
}
