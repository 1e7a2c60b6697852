/* platform_frame.c - see platform_frame.h. */
#include "platform_frame.h"

#include <stddef.h>
#include <string.h>

static const int64_t EXACT_MAX = ((int64_t)1 << 53) - 1;          /* sequence numbers, quantities */
static const int64_t UNIX_MS_MAX = INT64_MAX / 1000000 - 1;       /* as nanoseconds it still fits */
enum { DIGITS_MAX = 16 };                                         /* of EXACT_MAX, which is the largest */

/* What is left of the frame; `at` never passes `end`. */
typedef struct {
    const char *at;
    const char *end;
} cursor_t;

static inline int take(cursor_t *cursor, const char *text, size_t length) {
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length) != 0) return 0;
    cursor->at += length;
    return 1;
}

#define TAKE(cursor, literal) take((cursor), (literal), sizeof(literal) - 1)

/* A JSON integer >= 0 without superfluous zeros. */
static inline int take_integer(cursor_t *cursor, int64_t max, int64_t *value) {
    const char *first = cursor->at;
    int64_t sum = 0;
    while (cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9') {
        if (cursor->at - first == DIGITS_MAX) return 0;
        sum = sum * 10 + (*cursor->at++ - '0');
    }
    if (cursor->at == first || (*first == '0' && cursor->at - first > 1) || sum > max) return 0;
    *value = sum;
    return 1;
}

/* The levels of one side up to its "]"; each price once. */
static int take_levels(cursor_t *cursor, int16_t side, platform_delta_t *delta) {
    uint64_t seen[(PLATFORM_PRICE_MAX + 64) / 64] = {0};
    if (TAKE(cursor, "]")) return 1;
    do {
        int64_t price = 0, lots = 0;
        if (!TAKE(cursor, "{\"price_cents\":") || !take_integer(cursor, PLATFORM_PRICE_MAX, &price) || price < 1) return 0;
        if (!TAKE(cursor, ",\"total_quantity\":") || !take_integer(cursor, EXACT_MAX, &lots) || !TAKE(cursor, "}")) return 0;
        uint64_t bit = UINT64_C(1) << (price % 64);
        if (seen[price / 64] & bit) return 0;
        seen[price / 64] |= bit; /* at most 99 levels a side from here on */
        delta->levels[delta->level_count++] = (book_delta_t){(int32_t)price, side, BOOK_DELTA_SET, lots};
    } while (TAKE(cursor, ","));
    return TAKE(cursor, "]");
}

int platform_delta_read(const char *frame, uint32_t length, const char *market_id, uint32_t market_id_length,
                        platform_delta_t *delta) {
    cursor_t cursor = {frame, frame + length};
    delta->level_count = 0;
    return TAKE(&cursor, "{\"type\":\"ORDERBOOK_UPDATE\",\"update_type\":\"DELTA\",\"sequence_id\":") &&
           take_integer(&cursor, EXACT_MAX, &delta->sequence) && TAKE(&cursor, ",\"market_id\":\"") &&
           take(&cursor, market_id, market_id_length) && TAKE(&cursor, "\",\"timestamp_ms\":") &&
           take_integer(&cursor, UNIX_MS_MAX, &delta->unix_ms) && TAKE(&cursor, ",\"yes\":{\"bids\":[") &&
           take_levels(&cursor, ORDERBOOK_BID, delta) && TAKE(&cursor, ",\"asks\":[") &&
           take_levels(&cursor, ORDERBOOK_ASK, delta) && TAKE(&cursor, "}}") && cursor.at == cursor.end &&
           delta->level_count > 0;
}
