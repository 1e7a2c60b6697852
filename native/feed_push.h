/* feed_push.h - one order-book frame of a market, into shared memory.
 *
 *   feed_delta(): bytes of the usual frame --+
 *                                            +--> ladder --> book ring, feed row, top row, bell
 *   feed_level() ..., feed_publish(): -------+
 *   levels of any other that Python decoded
 *
 * A frame is one batch: readers see all of its levels or none, END on the last.
 *
 * Reads: nothing shared. Writes: the worker's book ring (role held by `token`), the market's feed and top rows, the
 * images of the worker's markets, and rings the quoter's bell. Single threaded, no allocation. */
#ifndef COREQUOTE_FEED_PUSH_H
#define COREQUOTE_FEED_PUSH_H

#ifndef CFFI_CDEF
#include "orderbook.h"
#include "platform_frame.h"
#include "ring.h"
#endif

enum { FEED_EVENTS_MAX = 256 }; /* levels of one frame: 99 a side on the platform's grid */

typedef struct market_feed market_feed_t;

/* What the markets of one worker share. Two linked ends: the markets whose image lacks a change, in the order of the
 * first change it lacks. */
typedef struct {
    broadcast_ring_t *ring;
    process_row_t *quoter;
    book_event_t *events; /* scratch, FEED_EVENTS_MAX */
    int64_t *levels;      /* scratch, 2 * ticks of the largest grid among the markets */
    uint64_t token;
    market_feed_t *stale_first;
    market_feed_t *stale_last;
} feed_output_t;

/* One market as ingest carries it. Pointers are ingest's own memory, except the arena's rows, images and id. */
struct market_feed {
    feed_output_t *output;
    orderbook_t *book;
    top_row_t *top_row;
    feed_row_t *feed_row;
    book_image_t *images;
    const char *market_id;
    uint32_t market_id_length;
    int32_t refusal;       /* code of the first level that the ladder refused */
    int64_t next_sequence; /* number of the next delta; 0 = the ladder is unreliable and takes none */
    book_event_t level;    /* what the LEVEL events of the next frame share: market, kind, generation */
    top_t top;             /* as last written; generation, validity and trade count are the caller's */
    uint32_t staged;       /* levels since the last feed_publish() */
    uint32_t published;    /* levels of the last frame */
    uint32_t is_stale;     /* 1 = the image lacks a change, and the market is in its output's list */
    uint32_t reserved;
    uint64_t image_lacks;  /* ring position of the first change that is not in the image, while is_stale */
    market_feed_t *stale_before;
    market_feed_t *stale_after;
};

/* Takes a whole frame that is the market's next delta in the platform's usual form (platform_frame.h). Returns 0, having
 * done nothing, when it is anything else; otherwise as feed_publish(). */
int64_t feed_delta(market_feed_t *feed, const char *frame, uint32_t length, int64_t recv_mono_ns);

/* Takes one level of the frame at hand: its new absolute total, 0 = gone. A level that the ladder refuses, or one too
 * many, is reported by feed_publish(), and nothing of the frame is published. */
void feed_level(market_feed_t *feed, int32_t side, int32_t price_ticks, int64_t lots);

/* Ends the frame: its levels become visible at once, and images that would soon be too old are renewed (see
 * feed_renew_images()). A frame without levels is counted and changes nothing.
 * Returns the ring's position after it, 0 for a frame without levels, or a negative code: ORDERBOOK_* of the refused
 * level, RING_BAD_ARGUMENT for too many levels, RING_NOT_OWNER. After an error the ladder is not what the venue meant. */
int64_t feed_publish(market_feed_t *feed, int64_t venue_sequence, int64_t venue_unix_ms, int64_t recv_mono_ns);

/* Writes the top row from the ladder. */
void feed_write_top(market_feed_t *feed, int64_t recv_mono_ns);

/* Renews the market's image from the ladder: exact for a reader that goes on at ring_position. Returns RING_OK, or the
 * code of a ladder that is no book. */
int feed_write_image(market_feed_t *feed, uint64_t ring_position, int64_t recv_mono_ns);

/* For whoever published anything up to ring_position. Invariant: every market's image is renewed before the first
 * change it lacks is a quarter ring old, because that is where a lapped reader lands (ring.h). The cost of a message
 * does not grow with the number of markets by more than one such image per message. Returns as feed_write_image(). */
int feed_renew_images(feed_output_t *output, uint64_t ring_position);

#endif
