/* feed_push.c - see feed_push.h. */
#include "feed_push.h"

static const int64_t NS_PER_MS = 1000000;

void feed_level(market_feed_t *feed, int32_t side, int32_t price_ticks, int64_t lots) {
    if (feed->refusal != 0) return;
    if (feed->staged == FEED_EVENTS_MAX) {
        feed->refusal = RING_BAD_ARGUMENT;
        return;
    }
    feed->refusal = orderbook_set_level(feed->book, side, price_ticks, lots);
    book_event_t *event = &feed->events[feed->staged++];
    event->price_ticks = price_ticks;
    event->side = (uint8_t)side;
    event->size_lots = lots;
}

/* The feed row has one writer, so a plain load and store is enough, and cheaper than a locked add. */
static void count_up(atomic_u64 *cell, uint64_t value) {
    ATOMIC_STORE(cell, ATOMIC_LOAD(cell, RELAXED) + value, RELAXED);
}

/* The rest of the staged events: everything that the levels of one frame have in common. */
static void complete(market_feed_t *feed, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        book_event_t event = feed->level;
        event.price_ticks = feed->events[i].price_ticks;
        event.side = feed->events[i].side;
        event.size_lots = feed->events[i].size_lots;
        if (i == count - 1) event.flags = BOOK_EVENT_END;
        feed->events[i] = event;
    }
}

int64_t feed_publish(market_feed_t *feed, int64_t venue_sequence, int64_t venue_unix_ms, int64_t recv_mono_ns) {
    uint32_t count = feed->staged;
    int32_t refusal = feed->refusal;
    feed->staged = 0;
    feed->refusal = 0;
    if (refusal != 0) return refusal;
    feed->next_sequence = venue_sequence + 1;
    feed->published = count;
    count_up(&feed->feed_row->messages, 1);
    if (count == 0) return 0;
    feed->level.venue_sequence = venue_sequence;
    feed->level.venue_unix_ns = venue_unix_ms * NS_PER_MS;
    feed->level.recv_mono_ns = recv_mono_ns;
    complete(feed, count);
    int code = broadcast_publish(feed->ring, BOOK_RING_SLOTS, feed->token, feed->events, count);
    if (code != RING_OK) return code;
    bell_ring(feed->quoter, -1);
    count_up(&feed->feed_row->levels, count);
    feed_write_top(feed, recv_mono_ns);
    return (int64_t)broadcast_position(feed->ring);
}

int64_t feed_delta(market_feed_t *feed, const char *frame, uint32_t length, int64_t recv_mono_ns) {
    platform_delta_t delta;
    if (feed->next_sequence == 0 ||
        !platform_delta_read(frame, length, feed->market_id, feed->market_id_length, &delta) ||
        delta.sequence != feed->next_sequence)
        return 0;
    for (uint32_t i = 0; i < delta.level_count; i++)
        feed_level(feed, delta.levels[i].side, delta.levels[i].price_ticks, delta.levels[i].lots);
    return feed_publish(feed, delta.sequence, delta.unix_ms, recv_mono_ns);
}

static int64_t best_lots(const market_feed_t *feed, int32_t side, int32_t best_ticks) {
    return best_ticks == ORDERBOOK_NO_TICK ? 0 : orderbook_level(feed->book, ORDERBOOK_TOTAL, side, best_ticks);
}

void feed_write_top(market_feed_t *feed, int64_t recv_mono_ns) {
    const book_metrics_t *metrics = orderbook_metrics(feed->book);
    top_t *top = &feed->top;
    top->bid_ticks = metrics->bid.best_ticks;
    top->ask_ticks = metrics->ask.best_ticks;
    top->bid_lots = best_lots(feed, ORDERBOOK_BID, top->bid_ticks);
    top->ask_lots = best_lots(feed, ORDERBOOK_ASK, top->ask_ticks);
    top->venue_sequence = feed->level.venue_sequence;
    top->recv_mono_ns = recv_mono_ns;
    top_write(feed->top_row, top);
}
