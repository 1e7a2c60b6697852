/* libFuzzer: order records that say anything at all, in bursts, through the gateway's last hop.
 *
 * The input is a program: bytes that become records of an order ring, and between bursts answers, fills, refusals and
 * lost outcomes for the orders that came of them. Nothing may be undefined, every request must be whole, what left must
 * be in the journal, and the sums over the live orders must be those of a count from the start. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "last_hop.h"
#include "system.h"

enum { MARKETS = 2, CONNECTIONS = 4, STEP_BYTES = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct {
    account_books_t account;
    market_books_t markets[MARKETS];
    account_state_t account_states[MARKETS];
    market_slot_t slots[MARKETS];
    worker_control_t worker;
    process_row_t ingest, quoter;
    atomic_u64 kill_global, kill_words[MARKETS];
    market_books_t *by_slot[MARKETS];
    journal_segment_t journal;
    int32_t connections[CONNECTIONS], ends[CONNECTIONS];
    last_hop_t hop;
    hop_reader_t reader;
} gateway_t;

static gateway_t *gateway;

static void open_connections(void) {
    for (int i = 0; i < CONNECTIONS; i++) {
        int pair[2];
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
        gateway->connections[i] = pair[0];
        gateway->ends[i] = pair[1];
    }
}

static void begin(void) {
    static int has_begun;
    int fd = has_begun ? gateway->journal.fd : memfd_create("journal", 0);
    int32_t connections[CONNECTIONS], ends[CONNECTIONS];
    if (!has_begun) {
        gateway = malloc(sizeof *gateway);
        CHECK(gateway != NULL && fd >= 0);
        open_connections();
        has_begun = 1;
    }
    memcpy(connections, gateway->connections, sizeof connections);
    memcpy(ends, gateway->ends, sizeof ends);
    memset(gateway, 0, sizeof *gateway);
    memcpy(gateway->connections, connections, sizeof connections);
    memcpy(gateway->ends, ends, sizeof ends);
    CHECK(ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0);
    gateway->journal.fd = fd;

    int64_t now = mono_now_ns();
    cell_store(&gateway->ingest.heartbeat_mono_ns, (uint64_t)now);
    cell_store(&gateway->quoter.heartbeat_mono_ns, (uint64_t)now);
    account_books_t *account = &gateway->account;
    account->kill_global = &gateway->kill_global;
    account->feed_beat = &gateway->ingest.heartbeat_mono_ns;
    account->beat_stale_ns = account->reconcile_stale_ns = (int64_t)3600 * 1000000000;
    account->engine_loss_max_cents = -1;
    account->unallocated_known = account->admitting = 1;
    account->collar_ladder_cents = 30;
    account->limits = (pretrade_limits_t){500, 25000, 20, 40, 1000, 2, 90, 1000};
    bucket_init(&account->order_tokens, 1 << 20, 1 << 20, now);
    for (uint32_t i = 0; i < MARKETS; i++) {
        market_books_t *market = &gateway->markets[i];
        market_slot_t *slot = &gateway->slots[i];
        books_init(market);
        market->account = account;
        market->rows = slot->live_orders;
        market->account_row = &slot->account;
        market->account_state = &gateway->account_states[i];
        market->top_row = &slot->top;
        market->kill_word = &gateway->kill_words[i];
        market->worker_epoch = &gateway->worker.epoch;
        market->worker_beat = &gateway->quoter.heartbeat_mono_ns;
        market->snapshot = &slot->feed.snapshot_mono_ns;
        market->trade_count = &slot->top.trade_count;
        memset(market->market_id, 'M', i == 0 ? 8 : MARKET_ID_BYTES);
        memcpy(market->short_id, "m0123456789abcdef", 18);
        market->stock = (stock_t){1000, 1000, 50000, 50000, 100000};
        market->position_limit = 5000;
        market->loss_limit_cents = 500000;
        market->max_spread_cents = 15;
        market->snapshot_stale_ns = account->beat_stale_ns;
        market->reconciled_mono_ns = now;
        market->order_quantity_max = 10000;
        market->order_amount_max_cents = 1000000;
        market->max_price_cents = 99;
        market->taker_fee_bps = 20;
        market->status = MARKET_ACTIVE;
        market->open_for_orders = 1;
        bucket_init(&market->order_tokens, 1 << 20, 1 << 20, now);
        bucket_init(&market->replace_tokens, 1 << 20, 1 << 20, now);
        cell_store(&slot->feed.snapshot_mono_ns, (uint64_t)now);
        top_t top = {.bid_ticks = 40, .ask_ticks = 60, .bid_lots = 9, .ask_lots = 9, .valid = 1};
        top_write(&slot->top, &top);
        books_recount(market);
        gateway->by_slot[i] = market;
    }
    gateway->hop = (last_hop_t){
        .markets = gateway->by_slot,
        .market_count = MARKETS,
        .connections = gateway->connections,
        .place_head = "POST /orders ",
        .place_head_bytes = 13,
        .replace_head = "POST /replace ",
        .replace_head_bytes = 14,
        .heads_until_mono_ns = INT64_MAX,
        .journal = &gateway->journal,
    };
}

/* ---- what must hold ---- */

static void check_sums(void) {
    market_sums_t all = {0};
    for (uint32_t i = 0; i < MARKETS; i++) {
        market_books_t *market = &gateway->markets[i];
        market_sums_t before = market->sums;
        books_recount(market);
        CHECK(memcmp(&before, &market->sums, sizeof before) == 0);
        CHECK(before.orders == __builtin_popcountll(market->used));
        CHECK(market->free_count + (uint32_t)before.orders == LIVE_ORDER_SLOTS);
        all.orders += before.orders;
        all.frozen_cents += before.frozen_cents;
        all.worst_loss_cents += before.worst_loss_cents;
        all.cash_cents += before.cash_cents;
        all.loss_limit_cents += before.loss_limit_cents;
    }
    CHECK(memcmp(&all, &gateway->account.sums, sizeof all) == 0);
}

static uint32_t journal_lines(void) {
    static char text[1 << 20];
    ssize_t length = pread(gateway->journal.fd, text, sizeof text, 0);
    CHECK(length == gateway->journal.bytes);
    uint32_t lines = 0;
    for (ssize_t i = 0; i < length; i++) {
        CHECK(text[i] == '\n' || (unsigned char)text[i] >= 0x20);
        lines += text[i] == '\n';
    }
    CHECK(length == 0 || text[length - 1] == '\n');
    return lines;
}

static void check_request(const hop_result_t *result) {
    CHECK(result->body_at < result->tail_bytes && result->tail_bytes <= HOP_TAIL_BYTES);
    CHECK((uint32_t)strtoul(result->tail, NULL, 10) == result->tail_bytes - result->body_at);
    CHECK(result->tail[result->body_at] == '{' && result->tail[result->tail_bytes - 1] == '}');
}

/* ---- steps ---- */

static uint32_t run(uint32_t may_wait) {
    uint32_t sent = 0;
    gateway->hop.connections_used = 0;
    gateway->hop.connection_count = CONNECTIONS;
    while (gateway->reader.end < gateway->reader.count) {
        uint32_t begin_at = gateway->reader.end;
        last_hop_run(&gateway->hop, &gateway->reader, (int32_t)may_wait);
        for (uint32_t i = begin_at; i < gateway->reader.end; i++) {
            const hop_result_t *result = &gateway->reader.results[i];
            if (result->step == HOP_SENT || result->step == HOP_WAITS) check_request(result);
            sent += result->step == HOP_SENT;
            if (result->step == HOP_REFUSED || result->step == HOP_REJECTED) CHECK(result->code != 0);
        }
        if (gateway->reader.end < gateway->reader.count) gateway->reader.end++; /* neither order nor cancel */
    }
    char request[4096];
    for (int i = 0; i < CONNECTIONS; i++)
        while (recv(gateway->ends[i], request, sizeof request, 0) > 0) {
        }
    gateway->reader.count = gateway->reader.end = 0;
    return sent;
}

static order_record_t record_of(const uint8_t *step) {
    order_record_t record = {
        .kind = step[1] % 16 == 15 ? step[1] : 1 + step[1] % 2,
        .outcome = step[2] % 16 == 15 ? step[2] : step[2] % 2,
        .direction = step[3] % 16 == 15 ? step[3] : step[3] % 2,
        .market_slot = step[4] % 32 == 31 ? 999 : step[4] % MARKETS,
        .live_slot = step[5] % 72,
        .worker_epoch = step[6] == 255,
        .price_cents = step[7] == 255 ? INT32_MIN + step[8] : step[7] == 254 ? INT32_MAX : 30 + step[7] % 41,
        .quantity = step[9] == 255 ? INT64_MAX : step[9] == 254 ? INT32_MAX : step[9],
        .intent = step[10],
        .decided_mono_ns = step[11] == 255 ? INT64_MIN : mono_now_ns(),
        .basis_fair_cents = step[12] == 255 ? 65535 : 50,
        .basis_defense = step[13] % 64 < 4 ? step[13] % 4 : 0,
        .basis_gates = step[14] == 255 ? UINT32_MAX : 0,
    };
    if (step[15] % 4 == 3) memset(record.target_order_id, step[15], VENUE_ID_BYTES);
    return record;
}

static void answer(const uint8_t *step) {
    market_books_t *market = &gateway->markets[step[1] % MARKETS];
    uint32_t slot = step[2] % LIVE_ORDER_SLOTS;
    booked_order_t *order = &market->orders[slot];
    if (!(market->used >> slot & 1)) return;
    switch (step[3] % 4) {
    case 0: /* acknowledged; its old order is gone */
        if (books_replaced(market, order) != NULL) books_close(market, order->replaces_slot);
        order->row.state = LIVE_ACTIVE;
        order->busy = 0;
        order->replaces = 0;
        memset(order->row.venue_order_id, 1 + step[4] % 255, 1 + step[5] % VENUE_ID_BYTES);
        break;
    case 1:
        order->row.state = LIVE_UNKNOWN;
        order->busy = 1;
        break;
    case 2:
        order->row.remaining -= order->row.remaining < step[4] ? order->row.remaining : step[4];
        break;
    default:
        books_close(market, slot);
        return;
    }
    books_publish(market, slot);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    begin();
    uint32_t sent = 0;
    for (; bytes >= STEP_BYTES; data += STEP_BYTES, bytes -= STEP_BYTES) {
        if (data[0] % 4 != 0) {
            gateway->reader.records[gateway->reader.count++] = record_of(data);
            if (gateway->reader.count < HOP_BURST_MAX && data[0] % 4 != 3) continue;
            sent += run(1);
        } else {
            answer(data);
        }
        check_sums();
    }
    sent += run(1);
    check_sums();
    CHECK(journal_lines() == sent);
    return 0;
}
