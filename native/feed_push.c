/* feed_push.c - see feed_push.h. */
#include "feed_push.h"

static const int64_t NS_PER_MS = 1000000;

/* A quarter ring less what a frame may add on either side of the look. */
static const uint64_t RENEW_AFTER_SLOTS = BOOK_RING_SLOTS / 4 - 2 * FEED_EVENTS_MAX;

void feed_level(market_feed_t *feed, int32_t side, int32_t price_ticks, int64_t lots) {
    if (feed->refusal != 0) return;
    if (feed->staged == FEED_EVENTS_MAX) {
        feed->refusal = RING_BAD_ARGUMENT;
        return;
    }
    feed->refusal = orderbook_set_level(feed->book, side, price_ticks, lots);
    book_event_t *event = &feed->output->events[feed->staged++];
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
    book_event_t *events = feed->output->events;
    for (uint32_t i = 0; i < count; i++) {
        book_event_t event = feed->level;
        event.price_ticks = events[i].price_ticks;
        event.side = events[i].side;
        event.size_lots = events[i].size_lots;
        if (i == count - 1) event.flags = BOOK_EVENT_END;
        events[i] = event;
    }
}

/* ---- images ---- */

static void image_lacks(market_feed_t *feed, uint64_t position) {
    feed_output_t *output = feed->output;
    if (feed->is_stale) return;
    feed->is_stale = 1;
    feed->image_lacks = position;
    feed->stale_before = output->stale_last;
    feed->stale_after = NULL;
    if (output->stale_last != NULL)
        output->stale_last->stale_after = feed;
    else
        output->stale_first = feed;
    output->stale_last = feed;
}

static void image_is_exact(market_feed_t *feed) {
    feed_output_t *output = feed->output;
    if (!feed->is_stale) return;
    feed->is_stale = 0;
    if (feed->stale_before != NULL)
        feed->stale_before->stale_after = feed->stale_after;
    else
        output->stale_first = feed->stale_after;
    if (feed->stale_after != NULL)
        feed->stale_after->stale_before = feed->stale_before;
    else
        output->stale_last = feed->stale_before;
}

int feed_write_image(market_feed_t *feed, uint64_t ring_position, int64_t recv_mono_ns) {
    int64_t *levels = feed->output->levels;
    int32_t tick_count = feed->book->tick_count;
    int code = orderbook_export(feed->book, levels, levels + tick_count, tick_count);
    if (code != ORDERBOOK_OK) return code;
    image_header_t header = {.generation = feed->top.generation,
                             .ring_position = ring_position,
                             .venue_sequence = feed->level.venue_sequence,
                             .tick_count = (uint32_t)tick_count,
                             .valid = feed->top.valid,
                             .recv_mono_ns = recv_mono_ns};
    code = image_write(feed->images, &header, levels);
    if (code != RING_OK) return code;
    image_is_exact(feed);
    return RING_OK;
}

int feed_renew_images(feed_output_t *output, uint64_t ring_position) {
    market_feed_t *oldest;
    while ((oldest = output->stale_first) != NULL && ring_position >= oldest->image_lacks + RENEW_AFTER_SLOTS) {
        int code = feed_write_image(oldest, ring_position, oldest->top.recv_mono_ns);
        if (code != RING_OK) return code; /* it stays in the list, and the loop would not end */
    }
    return RING_OK;
}

/* ---- frames ---- */

int64_t feed_publish(market_feed_t *feed, int64_t venue_sequence, int64_t venue_unix_ms, int64_t recv_mono_ns) {
    feed_output_t *output = feed->output;
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
    int code = broadcast_publish(output->ring, BOOK_RING_SLOTS, output->token, output->events, count);
    if (code != RING_OK) return code;
    bell_ring(output->quoter, -1);
    count_up(&feed->feed_row->levels, count);
    feed_write_top(feed, recv_mono_ns);
    uint64_t end = broadcast_position(output->ring);
    image_lacks(feed, end - count);
    code = feed_renew_images(output, end);
    return code == RING_OK ? (int64_t)end : code;
}

int64_t feed_delta(market_feed_t *feed, const char *frame, uint32_t length, int64_t recv_mono_ns) {
    platform_delta_t delta;
    /* With many markets most of this one is in no cache: its misses overlap while the frame is read. */
    prefetch_lines(feed, sizeof *feed);
    prefetch_lines(feed->top_row, sizeof *feed->top_row);
    prefetch_lines(feed->feed_row, sizeof *feed->feed_row);
    orderbook_prefetch(feed->book);
    if (feed->next_sequence == 0 ||
        !platform_delta_read(frame, length, feed->market_id, feed->market_id_length, &delta) ||
        delta.sequence != feed->next_sequence)
        return 0;
    for (uint32_t i = 0; i < delta.level_count; i++) orderbook_prefetch_level(feed->book, delta.levels[i].price_ticks);
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
