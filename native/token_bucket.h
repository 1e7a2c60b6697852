/* token_bucket.h - limits that keep a venue's fixed window whatever the window's phase.
 *
 * Tokens up to a capacity, so many more each minute. Counted in token-nanoseconds (one token is BUCKET_WINDOW_NS of
 * them), so nothing is lost to rounding. Time is an argument: no clock, no allocation. engine/risk/rate.py makes them
 * and says which capacity keeps which limit. */
#ifndef COREQUOTE_TOKEN_BUCKET_H
#define COREQUOTE_TOKEN_BUCKET_H

#ifndef CFFI_CDEF
#include <stdint.h>
#endif

enum { BUCKET_WINDOW_MS = 60000 };

typedef struct {
    int64_t capacity;           /* tokens; at most 2^26 */
    int64_t gain_per_minute;    /* tokens; at most 2^26 */
    int64_t units;              /* what is in it, token-nanoseconds; below zero when overdrawn */
    int64_t at_mono_ns;         /* what it has gained up to then is in it; never goes back */
    int64_t shut_until_mono_ns; /* the venue said 429: nothing goes out before */
} token_bucket_t;

/* Full at now_mono_ns. */
void bucket_init(token_bucket_t *bucket, int64_t capacity, int64_t gain_per_minute, int64_t now_mono_ns);
/* Requests that may be sent now: 0 while shut, never negative. */
int64_t bucket_tokens(token_bucket_t *bucket, int64_t now_mono_ns);
/* Accounts for one request that goes out. One that must go may overdraw the bucket. */
void bucket_take(token_bucket_t *bucket, int64_t now_mono_ns);

#endif
