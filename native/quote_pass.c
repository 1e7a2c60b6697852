/* quote_pass.c - see quote_pass.h. */
#include "quote_pass.h"

#include <string.h>

static void set_valid(quote_market_t *market, uint32_t valid) {
    if (market->book_valid != valid) market->news |= PASS_VALIDITY;
    market->book_valid = valid;
}

/* Starts a market from its newest book image. Returns 1 when a valid one was loaded. */
static int load(quote_market_t *market) {
    image_header_t header;
    if (image_read(market->images, &header, market->levels, market->tick_count) != RING_OK ||
        header.tick_count != market->tick_count || !header.valid ||
        orderbook_load(market->book, market->levels, market->levels + market->tick_count, (int32_t)market->tick_count) !=
            ORDERBOOK_OK) {
        set_valid(market, 0);
        return 0;
    }
    market->generation = (uint32_t)header.generation;
    market->image_position = header.ring_position;
    market->venue_sequence = header.venue_sequence;
    set_valid(market, 1);
    market->news |= PASS_BOOK;
    return 1;
}

static void on_link(quote_market_t *market, const book_event_t *event) {
    market->link_up = event->status == LINK_UP;
    market->news |= PASS_LINK;
}

static void forget_oracle(oracle_view_t *oracle) {
    oracle->price_ticks = oracle->last_ticks = oracle->previous_ticks = ORACLE_NO_PRICE;
    oracle->unix_ms = oracle->recv_mono_ns = 0;
}

void quote_market_init(quote_market_t *market) { forget_oracle(&market->oracle); }

static void on_oracle(quote_market_t *market, const book_event_t *event) {
    oracle_view_t *oracle = &market->oracle;
    market->news |= PASS_ORACLE;
    if (event->status == ORACLE_VALUE && event->price_ticks > 0 && event->price_ticks < (int32_t)market->tick_count) {
        oracle->updates += 1;
        if (oracle->last_ticks != ORACLE_NO_PRICE) {
            int32_t move = event->price_ticks - oracle->last_ticks;
            if (move != 0) oracle->previous_ticks = oracle->last_ticks;
            if (move > oracle->rise_ticks) oracle->rise_ticks = move;
            if (-move > oracle->fall_ticks) oracle->fall_ticks = -move;
        }
        oracle->price_ticks = oracle->last_ticks = event->price_ticks;
        oracle->unix_ms = event->venue_unix_ns / 1000000;
        oracle->recv_mono_ns = event->recv_mono_ns;
        return;
    }
    oracle->failures += 1;
    oracle->price_ticks = ORACLE_NO_PRICE;
    if (event->status == ORACLE_WITHDRAWN) forget_oracle(oracle);
}

static void on_generation(quote_market_t *market, const book_event_t *event) {
    if (event->status != GENERATION_VALID) {
        market->generation = event->generation;
        set_valid(market, 0);
        return;
    }
    /* the image was written before this event was published, so it is at least as new */
    (void)load(market);
}

/* Invariant: a level is applied only to a book of its own generation, because a change after a gap
 * would land on levels nobody knows. Returns 1 when it was applied. */
static int on_level(quote_market_t *market, const book_event_t *event) {
    if (!market->book_valid || event->generation != market->generation) return 0;
    if (orderbook_set_level(market->book, event->side, event->price_ticks, event->size_lots) != ORDERBOOK_OK) {
        set_valid(market, 0); /* ingest checked it: what does not fit is not this book */
        return 0;
    }
    market->venue_sequence = event->venue_sequence;
    market->news |= PASS_BOOK;
    return 1;
}

static void on_trade(quote_market_t *market, const book_event_t *event, int64_t unix_ms) {
    market->trade_count += 1;
    market->last_trade_price_ticks = event->price_ticks;
    market->news |= PASS_TRADE;
    (void)tape_append(market->tape, unix_ms, event->price_ticks, event->side, event->size_lots);
    if (market->params == NULL) return;
    int32_t price_e4 = price_grid_tick_to_price_e4(&market->book->grid, event->price_ticks);
    (void)quote_on_trade(market->trades, market->params, price_e4, event->side, unix_ms);
}

static void on_event(quote_market_t *market, const book_event_t *event, uint64_t position, int64_t unix_ms) {
    if (event->kind == BOOK_ORACLE) { /* another venue's word: it says nothing of this feed */
        on_oracle(market, event);
        return;
    }
    market->link_mono_ns = event->recv_mono_ns;
    if (event->kind == BOOK_LINK) {
        on_link(market, event);
        return;
    }
    if (event->kind == BOOK_TRADE) {
        on_trade(market, event, unix_ms);
    } else if (position >= market->image_position) {
        if (event->kind == BOOK_LEVEL) market->deltas += (uint64_t)on_level(market, event);
        if (event->kind == BOOK_GENERATION) {
            market->generations += 1;
            on_generation(market, event);
        }
    }
    if ((event->flags & BOOK_EVENT_END) == 0) return;
    feed_delay_add(&market->delay, event->venue_unix_ns, event->recv_mono_ns);
    if (event->kind != BOOK_TRADE) market->messages += 1;
    if (market->batch_recv_ns == 0) market->batch_recv_ns = event->recv_mono_ns;
    market->trigger_recv_ns = market->batch_recv_ns;
}

int32_t quote_market_compute(quote_market_t *market, int64_t unix_ms) {
    if (market->params == NULL || !market->book_valid) return QUOTE_INPUTS_INVALID;
    market->inputs->now_ms = unix_ms;
    market->last_code = quote_compute(market->params, market->trades, market->book, market->inputs, market->output);
    if (market->last_code == QUOTE_CHANGED) market->news |= PASS_TARGET;
    return market->last_code;
}

static void decide(quote_market_t *market, int64_t unix_ms) {
    (void)quote_market_compute(market, unix_ms);
    int64_t now_ns = mono_now_ns();
    int64_t recv_ns = market->batch_recv_ns; /* another process's word: not to be subtracted unseen */
    histogram_record(market->tick_to_quote_ns, recv_ns > 0 && recv_ns < now_ns ? (uint64_t)(now_ns - recv_ns) : 0);
    market->batch_recv_ns = 0;
}

/* Lapped: events of any market may be among the lost ones, so every ladder is taken anew. A market
 * whose image is not valid stays invalid until its next generation. */
static void reload_all(quote_worker_t *worker) {
    for (uint32_t slot = 0; slot < worker->market_count; slot++)
        if (worker->markets[slot] != NULL) (void)load(worker->markets[slot]);
}

/* An event that happened before this worker looked: it changes the ladder and nothing else. */
static void catch_up(quote_market_t *market, const book_event_t *event, uint64_t position) {
    if (event->kind == BOOK_LINK) on_link(market, event);
    if (event->kind == BOOK_ORACLE) on_oracle(market, event);
    if (position < market->image_position) return;
    if (event->kind == BOOK_LEVEL) (void)on_level(market, event);
    if (event->kind == BOOK_GENERATION) on_generation(market, event);
}

void quote_join(quote_worker_t *worker, int64_t mono_ns) {
    book_event_t events[PASS_BATCH_EVENTS];
    quote_market_t **markets = worker->markets;
    broadcast_cursor_t *cursor = &worker->cursor;
    broadcast_attach(worker->ring, BOOK_RING_SLOTS, cursor);
    uint64_t now_at = broadcast_position(worker->ring);
    for (uint32_t slot = 0; slot < worker->market_count; slot++) {
        if (markets[slot] == NULL) continue;
        markets[slot]->link_up = (uint32_t)load(markets[slot]);
        markets[slot]->link_mono_ns = mono_ns;
    }
    while (cursor->position < now_at) {
        int lapped = 0;
        uint64_t position = cursor->position;
        uint64_t left = now_at - position;
        uint32_t count = broadcast_read(worker->ring, BOOK_RING_SLOTS, cursor, events,
                                        left < PASS_BATCH_EVENTS ? (uint32_t)left : PASS_BATCH_EVENTS, &lapped);
        for (uint32_t i = 0; i < count; i++) {
            uint16_t slot = events[i].market_slot;
            if (slot < worker->market_count && markets[slot] != NULL) catch_up(markets[slot], &events[i], position + i);
        }
        if (lapped) reload_all(worker);
        if (count == 0 && !lapped) return; /* the head runs ahead of what it counts: quote_pass() goes on from here */
    }
}

/* With many markets most of each is in no cache. All that its event and its decision will read is asked for at once,
 * so that a message waits for memory twice (the market, then what it points to) and not thirty times. */
static void prefetch(const quote_worker_t *worker, const book_event_t *events, uint32_t count) {
    uint32_t last = worker->market_count;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t slot = events[i].market_slot;
        if (slot == last || slot >= worker->market_count || worker->markets[slot] == NULL) continue;
        prefetch_lines(worker->markets[slot], QUOTE_MARKET_HOT_BYTES);
        last = slot;
    }
    last = worker->market_count;
    for (uint32_t i = 0; i < count; i++) {
        uint16_t slot = events[i].market_slot;
        if (slot == last || slot >= worker->market_count || worker->markets[slot] == NULL) continue;
        const quote_market_t *market = worker->markets[slot];
        orderbook_prefetch(market->book);
        prefetch_lines(market->inputs, sizeof *market->inputs);
        prefetch_lines(market->output, sizeof *market->output);
        prefetch_lines(market->trades, 64);
        prefetch_lines(market->tick_to_quote_ns, 64);
        last = slot;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint16_t slot = events[i].market_slot;
        if (events[i].kind != BOOK_LEVEL || slot >= worker->market_count || worker->markets[slot] == NULL) continue;
        orderbook_prefetch_level(worker->markets[slot]->book, events[i].price_ticks);
    }
}

uint32_t quote_pass(quote_worker_t *worker, int64_t unix_ms) {
    book_event_t events[PASS_BATCH_EVENTS];
    quote_market_t **markets = worker->markets;
    int lapped = 0;
    uint64_t position = worker->cursor.position;
    uint32_t count =
        broadcast_read(worker->ring, BOOK_RING_SLOTS, &worker->cursor, events, PASS_BATCH_EVENTS, &lapped);
    worker->news_count = 0;
    prefetch(worker, events, count);
    for (uint32_t i = 0; i < count; i++, position++) {
        uint16_t slot = events[i].market_slot;
        if (slot >= worker->market_count || markets[slot] == NULL) continue;
        if (markets[slot]->news == 0) worker->news_slots[worker->news_count++] = slot;
        on_event(markets[slot], &events[i], position, unix_ms);
        /* every event leaves news behind, so a slot is listed once */
        if (markets[slot]->news == 0) markets[slot]->news = PASS_BOOK;
    }
    for (uint32_t i = 0; i < worker->news_count; i++) {
        quote_market_t *market = markets[worker->news_slots[i]];
        if (market->batch_recv_ns != 0) decide(market, unix_ms);
    }
    if (lapped) {
        reload_all(worker);
        worker->news_count = 0;
        for (uint32_t slot = 0; slot < worker->market_count; slot++) {
            if (markets[slot] == NULL) continue;
            (void)quote_market_compute(markets[slot], unix_ms);
            worker->news_slots[worker->news_count++] = (uint16_t)slot;
        }
    }
    return count;
}
