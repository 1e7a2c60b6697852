/* feed_delay.c - see feed_delay.h. */
#include "feed_delay.h"

static const int64_t TIME_MAX = (int64_t)1 << 61; /* 2043 as Unix ns: differences of two such times cannot overflow */

void feed_delay_add(feed_delay_t *delay, int64_t venue_unix_ns, int64_t recv_mono_ns) {
    if (venue_unix_ns <= 0 || venue_unix_ns > TIME_MAX || recv_mono_ns < 0 || recv_mono_ns > TIME_MAX) return;
    delay->offsets_ns[delay->count % FEED_DELAY_MESSAGES] = recv_mono_ns - venue_unix_ns;
    delay->count += 1;
}

int64_t feed_delay_median_ns(const feed_delay_t *delay, int64_t unix_minus_mono_ns) {
    if (delay->count < FEED_DELAY_MESSAGES) return 0;
    int64_t sorted[FEED_DELAY_MESSAGES];
    for (uint32_t i = 0; i < FEED_DELAY_MESSAGES; i++) {
        uint32_t place = i;
        while (place > 0 && sorted[place - 1] > delay->offsets_ns[i]) {
            sorted[place] = sorted[place - 1];
            place -= 1;
        }
        sorted[place] = delay->offsets_ns[i];
    }
    return sorted[(FEED_DELAY_MESSAGES - 1) / 2] + unix_minus_mono_ns;
}
