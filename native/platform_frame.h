/* platform_frame.h - a DELTA of the platform's order-book stream, in the one form in which the platform writes it.
 *
 *   {"type":"ORDERBOOK_UPDATE","update_type":"DELTA","sequence_id":N,"market_id":"ID","timestamp_ms":N,
 *    "yes":{"bids":[{"price_cents":N,"total_quantity":N},...],"asks":[...]}}          without spaces or line ends
 *
 * Not a JSON reader: it recognises these bytes or it does not. What it takes obeys every rule of the contract (section
 * 3), because nothing else has a place in this form; whatever it does not take (spaces, another order of keys, an
 * escape, a snapshot, a frame that breaks a rule) is decided by engine/venues/platform_feed.py, which knows all of JSON
 * and says why. tests/property/test_platform_frame.py holds the two against each other.
 *
 * Why: the typed decoder makes nine Python objects of a frame to carry four integers, at half of ingest's time per
 * message (perf/ingest.py has it as its floor row). */
#ifndef COREQUOTE_PLATFORM_FRAME_H
#define COREQUOTE_PLATFORM_FRAME_H

#ifndef CFFI_CDEF
#include "orderbook.h"
#endif

enum {
    PLATFORM_PRICE_MAX = 99,   /* cents = ticks; the least is 1 */
    PLATFORM_LEVELS_MAX = 198, /* of a frame: every price of both sides */
};

typedef struct {
    int64_t sequence;
    int64_t unix_ms;
    uint32_t level_count;
    uint32_t reserved; /* 0 */
    book_delta_t levels[PLATFORM_LEVELS_MAX];
} platform_delta_t;

/* Reads a frame of `length` bytes. market_id is the id as it stands between the quotes. Returns 1 when the frame is a
 * DELTA of that market in the form above with at least one level; else 0, and *delta holds nothing of use. */
int platform_delta_read(const char *frame, uint32_t length, const char *market_id, uint32_t market_id_length,
                        platform_delta_t *delta);

#endif
