/* ring.h - everything that moves through the arena: two rings, one row, one bell.
 *
 *   broadcast ring   one producer, any readers, overwrites. A reader owns its cursor; being lapped
 *                    is counted, and the reader recovers from the book image.
 *   message ring     one producer, one consumer that holds it back. Full is an error.
 *   row              newest value of a fixed-size payload under a sequence lock.
 *   bell             futex or eventfd: wakes a consumer that said it sleeps, and only then.
 *
 * Payload words are relaxed atomics: what a reader copied is judged by the sequence around it.
 * Nothing here allocates, and every loop is bounded. */
#ifndef COREQUOTE_RING_H
#define COREQUOTE_RING_H

#ifndef CFFI_CDEF
#include "arena.h"
#include "system.h"
#endif

enum {
    RING_OK = 0,
    RING_FULL = -10,       /* message ring: the consumer has not made room */
    RING_OWNED = -11,      /* another process holds the producer role */
    RING_NOT_OWNER = -12,  /* publishing without the producer role */
    RING_BAD_ARGUMENT = -13,
    ROW_BUSY = -14,        /* no stable copy within the bounded number of tries */
};

/* -- producer role: taken explicitly, refused the second time, freed by the supervisor alone -- */
int broadcast_acquire(broadcast_ring_t *ring, uint64_t token);
int message_acquire(message_ring_t *ring, uint64_t token);
void broadcast_free_role(broadcast_ring_t *ring);
void message_free_role(message_ring_t *ring);

/* -- broadcast ring -- */

/* slot_count, of both rings: a power of two, at least 4; the same for all who use the ring.
 *
 * Publishes count payloads of 56 bytes as one batch, at most a quarter ring: a reader sees nothing of
 * it before all of it is there. token must hold the role. Returns RING_OK, RING_NOT_OWNER or
 * RING_BAD_ARGUMENT. */
int broadcast_publish(broadcast_ring_t *ring, uint32_t slot_count, uint64_t token, const void *payloads,
                      uint32_t count);
/* Events published so far. What their producer wrote before (book images) is seen by who sees the
 * count. Readers may be ahead of it by the batch that is just being published. */
uint64_t broadcast_position(const broadcast_ring_t *ring);

typedef struct {
    uint64_t position; /* next event to read */
    uint64_t lost;     /* events overwritten before they were read */
    uint64_t laps;     /* times that happened */
} broadcast_cursor_t;

/* Where a reader begins: a quarter ring behind the producer. Image first or ring first does not
 * matter to a level's absolute total; an image loaded after this is exact at the cursor or later,
 * because its writer renews it before the first event it lacks is a quarter ring old. */
void broadcast_attach(const broadcast_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor);

/* Copies up to capacity payloads in order into out and advances the cursor. Returns how many.
 * When the producer has lapped the reader, returns what was read before the loss (0 or more) with
 * *lapped = 1 and the cursor moved to the oldest event that is safe to read: the events between
 * are added to lost, and the caller recovers its state before reading on. */
uint32_t broadcast_read(const broadcast_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor, void *out,
                        uint32_t capacity, int *lapped);

/* The same two calls bound to what stays the same from one to the next. A call from Python costs by the
 * argument: bound, it costs half. */
typedef struct {
    broadcast_ring_t *ring;
    const void *payloads;
    uint64_t token;
    uint32_t slot_count;
    uint32_t count; /* payloads of the next batch */
} broadcast_writer_t;
int broadcast_write(const broadcast_writer_t *writer);

typedef struct {
    const broadcast_ring_t *ring;
    void *payloads;
    broadcast_cursor_t cursor;
    uint32_t slot_count;
    uint32_t capacity;
    int lapped; /* set by each call */
} broadcast_reader_t;
uint32_t broadcast_next(broadcast_reader_t *reader);

/* -- message ring -- */
int message_publish(message_ring_t *ring, uint32_t slot_count, uint64_t token, const void *payload);
uint32_t message_space(const message_ring_t *ring, uint32_t slot_count);
/* The named consumer's read: copies up to capacity payloads of 248 bytes, returns how many, and
 * leaves them in the ring until message_release(count): a crash between the two repeats them. */
uint32_t message_peek(const message_ring_t *ring, uint32_t slot_count, void *out, uint32_t capacity);
/* Returns RING_OK, or RING_BAD_ARGUMENT when fewer than count are there. */
int message_release(message_ring_t *ring, uint32_t count);
uint64_t message_published(const message_ring_t *ring);
uint64_t message_consumed(const message_ring_t *ring);
/* Anyone else's read, with a cursor like a broadcast reader's. */
uint32_t message_tap(const message_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor, void *out,
                     uint32_t capacity, int *lapped);

/* -- rows: one writer, whole payloads -- */
void live_order_write(live_order_row_t *row, const live_order_t *payload);
int live_order_read(const live_order_row_t *row, live_order_t *payload);
void account_write(account_row_t *row, const account_state_t *payload);
int account_read(const account_row_t *row, account_state_t *payload);
/* payload_bytes at most 1024; the tail of the row is left as it is. Returns RING_OK or RING_BAD_ARGUMENT. */
int state_write(state_row_t *row, uint64_t kind, uint64_t worker_epoch, int64_t mono_ns, int64_t unix_ns,
                const void *payload, uint32_t payload_bytes);
typedef struct {
    uint64_t version;
    uint64_t kind;
    uint64_t worker_epoch;
    int64_t mono_ns;
    int64_t unix_ns;
} state_header_t;
int state_read(const state_row_t *row, state_header_t *header, void *payload, uint32_t payload_bytes);
int config_write(config_slot_t *slot, uint64_t version, const void *bytes, uint32_t length);
/* Returns the length copied (>= 0) or ROW_BUSY. */
int config_read(const config_slot_t *slot, uint64_t *version, void *bytes, uint32_t capacity);

typedef struct {
    int32_t bid_ticks, ask_ticks; /* -1 = side empty */
    int64_t bid_lots, ask_lots;
    uint32_t generation;
    uint32_t valid;
    int64_t venue_sequence;
    int64_t recv_mono_ns;
    uint64_t trade_count;
} top_t;
void top_write(top_row_t *row, const top_t *payload);
int top_read(const top_row_t *row, top_t *payload);

/* -- book image -- */
typedef struct {
    uint64_t generation;
    uint64_t ring_position;
    int64_t venue_sequence;
    uint32_t tick_count;
    uint32_t valid;
    int64_t recv_mono_ns;
} image_header_t;
/* Writes the older of the two copies. levels: bids then asks, 2 * tick_count values. */
int image_write(book_image_t images[2], const image_header_t *header, const int64_t *levels);
/* Copies the newer valid copy. levels has room for 2 * capacity_ticks values. Returns RING_OK,
 * ROW_BUSY (no stable copy: try again), or RING_BAD_ARGUMENT (the image is larger than that). */
int image_read(const book_image_t images[2], image_header_t *header, int64_t *levels, uint32_t capacity_ticks);

/* -- bells -- */

/* Producer's side: after publishing. Rings only a sleeper. eventfd < 0: wakes the futex in row. */
void bell_ring(process_row_t *row, int eventfd);
/* Consumer without an event loop: spins spin_count times over the doorbell word, then sleeps on it
 * until rung or timeout_ns. seen: the value of bell_value() taken before the last look at the rings. */
uint64_t bell_value(const process_row_t *row);
void bell_wait(process_row_t *row, uint64_t seen, uint32_t spin_count, int64_t timeout_ns);
/* Consumer with an event loop: says "I sleep"; the caller must look at its rings once more after. */
void bell_sleep(process_row_t *row);
void bell_awake(process_row_t *row);

/* -- histograms -- */
uint32_t histogram_bucket(uint64_t value_ns);
uint64_t histogram_bucket_floor_ns(uint32_t bucket);
void histogram_record(histogram_t *histogram, uint64_t value_ns); /* single writer */
/* Counts one pass of a process loop in its own row; passes longer than slow_ns are slow. */
void process_pass(process_row_t *row, int64_t pass_ns, uint64_t work, int64_t slow_ns);

#ifndef CFFI_CDEF
_Static_assert(sizeof(top_t) == 56, "matches seven words");
#endif
#endif
