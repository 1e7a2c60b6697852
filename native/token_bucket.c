/* token_bucket.c - see token_bucket.h. */
#include "token_bucket.h"

__extension__ typedef __int128 wide_t;

static const int64_t WINDOW_NS = (int64_t)BUCKET_WINDOW_MS * 1000000;

void bucket_init(token_bucket_t *bucket, int64_t capacity, int64_t gain_per_minute, int64_t now_mono_ns) {
    *bucket = (token_bucket_t){
        .capacity = capacity,
        .gain_per_minute = gain_per_minute,
        .units = capacity * WINDOW_NS,
        .at_mono_ns = now_mono_ns,
    };
}

static void gain(token_bucket_t *bucket, int64_t now_mono_ns) {
    if (now_mono_ns <= bucket->at_mono_ns) return; /* a clock that steps back gives nothing twice */
    wide_t units = (wide_t)(now_mono_ns - bucket->at_mono_ns) * bucket->gain_per_minute + bucket->units;
    wide_t full = (wide_t)bucket->capacity * WINDOW_NS;
    bucket->units = (int64_t)(units < full ? units : full);
    bucket->at_mono_ns = now_mono_ns;
}

int64_t bucket_tokens(token_bucket_t *bucket, int64_t now_mono_ns) {
    if (now_mono_ns < bucket->shut_until_mono_ns) return 0;
    gain(bucket, now_mono_ns);
    return bucket->units > 0 ? bucket->units / WINDOW_NS : 0;
}

void bucket_take(token_bucket_t *bucket, int64_t now_mono_ns) {
    gain(bucket, now_mono_ns);
    bucket->units -= WINDOW_NS;
}
