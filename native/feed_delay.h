/* feed_delay.h - how late the feed is: venue time against arrival, over the last messages (market-making 5.3,
 * gate LATENCY).
 *
 * Arrival is on the monotonic clock, venue time on the wall clock. What is kept is their difference; the distance
 * between the two clocks is the same for all of them and is added when the median is asked for. */
#ifndef COREQUOTE_FEED_DELAY_H
#define COREQUOTE_FEED_DELAY_H

#ifndef CFFI_CDEF
#include <stdint.h>
#endif

enum { FEED_DELAY_MESSAGES = 20 };

typedef struct {
    uint64_t count; /* messages ever: message k is in offsets_ns[k % FEED_DELAY_MESSAGES] while it is kept */
    int64_t offsets_ns[FEED_DELAY_MESSAGES]; /* arrival, monotonic, minus venue time, Unix */
} feed_delay_t;

/* Takes the two times of one message; one without a venue time, or with an absurd one, is not counted. */
void feed_delay_add(feed_delay_t *delay, int64_t venue_unix_ns, int64_t recv_mono_ns);

/* Median of the kept messages in ns, the lower one of two; negative where the venue's clock is ahead of ours. 0 with
 * fewer than FEED_DELAY_MESSAGES. unix_minus_mono_ns: what the wall clock shows more than the monotonic one. */
int64_t feed_delay_median_ns(const feed_delay_t *delay, int64_t unix_minus_mono_ns);

#endif
