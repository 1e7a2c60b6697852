/* ring.c - see ring.h. Orderings carry a SYNC label; grep it to find both sides. */
#define _GNU_SOURCE
#include "ring.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROW_TRIES = 1000, BROADCAST_WORDS = 7, MESSAGE_WORDS = 31, ROW_WORDS = 30 };

static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline void words_store(atomic_u64 *target, const void *source, uint32_t count) {
    const char *bytes = source;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value;
        memcpy(&value, bytes + 8 * i, 8);
        ATOMIC_STORE(&target[i], value, relaxed);
    }
}

static inline void words_load(void *target, const atomic_u64 *source, uint32_t count) {
    char *bytes = target;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t value = ATOMIC_LOAD(&source[i], relaxed);
        memcpy(bytes + 8 * i, &value, 8);
    }
}

/* ---- producer role ---- */

static int acquire_role(atomic_u64 *owner, uint64_t token) {
    uint64_t expected = 0;
    if (token == 0) return RING_BAD_ARGUMENT;
    return ATOMIC_CAS(owner, &expected, token, acq_rel) ? RING_OK : RING_OWNED;
}

int broadcast_acquire(broadcast_ring_t *ring, uint64_t token) { return acquire_role(&ring->owner, token); }
int message_acquire(message_ring_t *ring, uint64_t token) { return acquire_role(&ring->owner, token); }
void broadcast_free_role(broadcast_ring_t *ring) { ATOMIC_STORE(&ring->owner, 0, release); }
void message_free_role(message_ring_t *ring) { ATOMIC_STORE(&ring->owner, 0, release); }

/* ---- broadcast ring ---- */

static inline broadcast_slot_t *broadcast_slots(broadcast_ring_t *ring) { return (broadcast_slot_t *)(ring + 1); }

int broadcast_publish(broadcast_ring_t *ring, uint32_t slot_count, uint64_t token, const void *payloads,
                      uint32_t count) {
    if (ATOMIC_LOAD(&ring->owner, relaxed) != token) return RING_NOT_OWNER;
    uint64_t position = ATOMIC_LOAD(&ring->published, relaxed);
    const char *payload = payloads;
    for (uint32_t i = 0; i < count; i++, position++, payload += 8 * BROADCAST_WORDS) {
        broadcast_slot_t *slot = &broadcast_slots(ring)[position & (slot_count - 1)];
        ATOMIC_STORE(&slot->sequence, 0, relaxed);
        /* SYNC slot-busy: no word of the new payload is visible before the sequence is 0; pairs
         * with the acquire fence in slot_copy(). */
        ATOMIC_FENCE(release);
        words_store(slot->words, payload, BROADCAST_WORDS);
        /* SYNC slot-visible: pairs with the acquire load in slot_copy(). */
        ATOMIC_STORE(&slot->sequence, position + 1, release);
    }
    /* SYNC ring-head: pairs with broadcast_position() and the lap check. */
    ATOMIC_STORE(&ring->published, position, release);
    return RING_OK;
}

uint64_t broadcast_position(const broadcast_ring_t *ring) { return ATOMIC_LOAD(&ring->published, acquire); }

/* Copies one slot if it holds `position`, whole. */
static inline int slot_copy(const atomic_u64 *sequence, const atomic_u64 *words, uint32_t word_count, uint64_t position,
                            void *out) {
    /* SYNC slot-visible: the words stored before this sequence are seen. */
    if (ATOMIC_LOAD(sequence, acquire) != position + 1) return 0;
    words_load(out, words, word_count);
    /* SYNC slot-busy: if any word above was of a later payload, the load below sees 0 or later. */
    ATOMIC_FENCE(acquire);
    return ATOMIC_LOAD(sequence, relaxed) == position + 1;
}

/* After a loss a reader lands a quarter ring behind the producer: near enough to be fresh, far
 * enough not to be lapped again at once. */
static void cursor_jump(broadcast_cursor_t *cursor, uint64_t published, uint32_t slot_count) {
    uint64_t oldest = published > slot_count / 4 ? published - slot_count / 4 : 0;
    if (oldest < cursor->position) oldest = cursor->position;
    cursor->lost += oldest - cursor->position;
    cursor->laps += 1;
    cursor->position = oldest;
}

uint32_t broadcast_read(const broadcast_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor, void *out,
                        uint32_t capacity, int *lapped) {
    const broadcast_slot_t *slots = (const broadcast_slot_t *)(ring + 1);
    char *target = out;
    uint32_t count = 0;
    *lapped = 0;
    uint64_t published = broadcast_position(ring);
    while (count < capacity && cursor->position < published) {
        const broadcast_slot_t *slot = &slots[cursor->position & (slot_count - 1)];
        if (!slot_copy(&slot->sequence, slot->words, BROADCAST_WORDS, cursor->position, target)) {
            cursor_jump(cursor, broadcast_position(ring), slot_count);
            *lapped = 1;
            break;
        }
        cursor->position += 1;
        target += 8 * BROADCAST_WORDS;
        count += 1;
    }
    return count;
}

/* ---- message ring ---- */

static inline message_slot_t *message_slots(message_ring_t *ring) { return (message_slot_t *)(ring + 1); }
static inline const message_slot_t *message_slots_const(const message_ring_t *ring) {
    return (const message_slot_t *)(ring + 1);
}

int message_publish(message_ring_t *ring, uint32_t slot_count, uint64_t token, const void *payload) {
    if (ATOMIC_LOAD(&ring->owner, relaxed) != token) return RING_NOT_OWNER;
    if (message_space(ring, slot_count) == 0) return RING_FULL;
    uint64_t position = ATOMIC_LOAD(&ring->published, relaxed);
    message_slot_t *slot = &message_slots(ring)[position & (slot_count - 1)];
    ATOMIC_STORE(&slot->sequence, 0, relaxed);
    ATOMIC_FENCE(release); /* SYNC slot-busy: a tap may be reading the record this one replaces */
    words_store(slot->words, payload, MESSAGE_WORDS);
    ATOMIC_STORE(&slot->sequence, position + 1, release); /* SYNC slot-visible */
    ATOMIC_STORE(&ring->published, position + 1, release); /* SYNC ring-head */
    return RING_OK;
}

uint32_t message_space(const message_ring_t *ring, uint32_t slot_count) {
    uint64_t published = ATOMIC_LOAD(&ring->published, relaxed);
    /* SYNC slot-free: pairs with message_release(); the consumer is done with what it released. */
    uint64_t used = published - ATOMIC_LOAD(&ring->consumed, acquire);
    return used >= slot_count ? 0 : slot_count - (uint32_t)used;
}

uint32_t message_peek(const message_ring_t *ring, uint32_t slot_count, void *out, uint32_t capacity) {
    uint64_t position = ATOMIC_LOAD(&ring->consumed, relaxed);
    /* The head commits, not the slot: a producer that died between the two leaves a record that its
     * successor writes over, so nobody may have acted on it. */
    uint64_t published = message_published(ring);
    char *target = out;
    uint32_t count = 0;
    while (count < capacity && position < published) {
        const message_slot_t *slot = &message_slots_const(ring)[position & (slot_count - 1)];
        if (!slot_copy(&slot->sequence, slot->words, MESSAGE_WORDS, position, target)) break;
        position += 1;
        target += 8 * MESSAGE_WORDS;
        count += 1;
    }
    return count;
}

void message_release(message_ring_t *ring, uint32_t count) {
    uint64_t consumed = ATOMIC_LOAD(&ring->consumed, relaxed);
    ATOMIC_STORE(&ring->consumed, consumed + count, release); /* SYNC slot-free */
}

uint64_t message_published(const message_ring_t *ring) { return ATOMIC_LOAD(&ring->published, acquire); }
uint64_t message_consumed(const message_ring_t *ring) { return ATOMIC_LOAD(&ring->consumed, acquire); }

uint32_t message_tap(const message_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor, void *out,
                     uint32_t capacity, int *lapped) {
    char *target = out;
    uint32_t count = 0;
    *lapped = 0;
    uint64_t published = message_published(ring);
    while (count < capacity && cursor->position < published) {
        const message_slot_t *slot = &message_slots_const(ring)[cursor->position & (slot_count - 1)];
        if (!slot_copy(&slot->sequence, slot->words, MESSAGE_WORDS, cursor->position, target)) {
            cursor_jump(cursor, message_published(ring), slot_count);
            *lapped = 1;
            break;
        }
        cursor->position += 1;
        target += 8 * MESSAGE_WORDS;
        count += 1;
    }
    return count;
}

/* ---- rows ---- */

/* A writer that died inside a row left it odd; its successor goes on from there, so the row is
 * odd while written and even when whole whatever was found. */
static uint64_t row_open(atomic_u64 *sequence) {
    uint64_t odd = ATOMIC_LOAD(sequence, relaxed) | 1;
    ATOMIC_STORE(sequence, odd, relaxed);
    ATOMIC_FENCE(release); /* SYNC row-busy: pairs with the acquire fence in row_stable() */
    return odd;
}

static void row_close(atomic_u64 *sequence, uint64_t odd) {
    ATOMIC_STORE(sequence, odd + 1, release); /* SYNC row-visible: pairs with row_begin() */
}

static uint64_t row_begin(const atomic_u64 *sequence) {
    return ATOMIC_LOAD(sequence, acquire); /* SYNC row-visible */
}

static int row_stable(const atomic_u64 *sequence, uint64_t began) {
    ATOMIC_FENCE(acquire); /* SYNC row-busy */
    return (began & 1) == 0 && ATOMIC_LOAD(sequence, relaxed) == began;
}

static void row30_write(atomic_u64 *sequence, atomic_u64 *version, atomic_u64 *words, const void *payload) {
    uint64_t odd = row_open(sequence);
    ATOMIC_STORE(version, ATOMIC_LOAD(version, relaxed) + 1, relaxed);
    words_store(words, payload, ROW_WORDS);
    row_close(sequence, odd);
}

static int row30_read(const atomic_u64 *sequence, const atomic_u64 *words, void *payload) {
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(sequence);
        words_load(payload, words, ROW_WORDS);
        if (row_stable(sequence, began)) return RING_OK;
        cpu_relax();
    }
    return ROW_BUSY;
}

void live_order_write(live_order_row_t *row, const live_order_t *payload) {
    row30_write(&row->sequence, &row->version, row->words, payload);
}
int live_order_read(const live_order_row_t *row, live_order_t *payload) {
    return row30_read(&row->sequence, row->words, payload);
}
void account_write(account_row_t *row, const account_state_t *payload) {
    row30_write(&row->sequence, &row->version, row->words, payload);
}
int account_read(const account_row_t *row, account_state_t *payload) {
    return row30_read(&row->sequence, row->words, payload);
}

int state_write(state_row_t *row, uint64_t kind, uint64_t worker_epoch, int64_t mono_ns, int64_t unix_ns,
                const void *payload, uint32_t payload_bytes) {
    if (payload_bytes > 8 * STATE_PAYLOAD_WORDS || payload_bytes % 8 != 0) return RING_BAD_ARGUMENT;
    uint64_t odd = row_open(&row->sequence);
    ATOMIC_STORE(&row->version, ATOMIC_LOAD(&row->version, relaxed) + 1, relaxed);
    ATOMIC_STORE(&row->kind, kind, relaxed);
    ATOMIC_STORE(&row->worker_epoch, worker_epoch, relaxed);
    ATOMIC_STORE(&row->mono_ns, (uint64_t)mono_ns, relaxed);
    ATOMIC_STORE(&row->unix_ns, (uint64_t)unix_ns, relaxed);
    words_store(row->words, payload, payload_bytes / 8);
    row_close(&row->sequence, odd);
    return RING_OK;
}

int state_read(const state_row_t *row, state_header_t *header, void *payload, uint32_t payload_bytes) {
    if (payload_bytes > 8 * STATE_PAYLOAD_WORDS || payload_bytes % 8 != 0) return RING_BAD_ARGUMENT;
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(&row->sequence);
        header->version = ATOMIC_LOAD(&row->version, relaxed);
        header->kind = ATOMIC_LOAD(&row->kind, relaxed);
        header->worker_epoch = ATOMIC_LOAD(&row->worker_epoch, relaxed);
        header->mono_ns = (int64_t)ATOMIC_LOAD(&row->mono_ns, relaxed);
        header->unix_ns = (int64_t)ATOMIC_LOAD(&row->unix_ns, relaxed);
        words_load(payload, row->words, payload_bytes / 8);
        if (row_stable(&row->sequence, began)) return RING_OK;
        cpu_relax();
    }
    return ROW_BUSY;
}

int config_write(config_slot_t *slot, uint64_t version, const void *bytes, uint32_t length) {
    if (length > CONFIG_BYTES_MAX) return RING_BAD_ARGUMENT;
    const char *source = bytes;
    uint64_t odd = row_open(&slot->sequence);
    ATOMIC_STORE(&slot->version, version, relaxed);
    ATOMIC_STORE(&slot->length, length, relaxed);
    for (uint32_t offset = 0; offset < length; offset += 8) {
        uint64_t value = 0;
        uint32_t left = length - offset;
        memcpy(&value, source + offset, left < 8 ? left : 8);
        ATOMIC_STORE(&slot->words[offset / 8], value, relaxed);
    }
    row_close(&slot->sequence, odd);
    return RING_OK;
}

int config_read(const config_slot_t *slot, uint64_t *version, void *bytes, uint32_t capacity) {
    char *target = bytes;
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(&slot->sequence);
        *version = ATOMIC_LOAD(&slot->version, relaxed);
        uint64_t length = ATOMIC_LOAD(&slot->length, relaxed);
        if (length > CONFIG_BYTES_MAX || length > capacity) {
            if (row_stable(&slot->sequence, began)) return RING_BAD_ARGUMENT;
            continue;
        }
        for (uint64_t offset = 0; offset < length; offset += 8) {
            uint64_t value = ATOMIC_LOAD(&slot->words[offset / 8], relaxed);
            uint64_t left = length - offset;
            memcpy(target + offset, &value, left < 8 ? left : 8);
        }
        if (row_stable(&slot->sequence, began)) return (int)length;
        cpu_relax();
    }
    return ROW_BUSY;
}

void top_write(top_row_t *row, const top_t *payload) {
    uint64_t ticks = (uint64_t)(uint32_t)(payload->bid_ticks + 1) << 32 | (uint32_t)(payload->ask_ticks + 1);
    uint64_t odd = row_open(&row->sequence);
    ATOMIC_STORE(&row->bid_ask_ticks, ticks, relaxed);
    ATOMIC_STORE(&row->bid_lots, (uint64_t)payload->bid_lots, relaxed);
    ATOMIC_STORE(&row->ask_lots, (uint64_t)payload->ask_lots, relaxed);
    ATOMIC_STORE(&row->generation, (uint64_t)payload->generation << 1 | (payload->valid & 1), relaxed);
    ATOMIC_STORE(&row->venue_sequence, (uint64_t)payload->venue_sequence, relaxed);
    ATOMIC_STORE(&row->recv_mono_ns, (uint64_t)payload->recv_mono_ns, relaxed);
    ATOMIC_STORE(&row->trade_count, payload->trade_count, relaxed);
    row_close(&row->sequence, odd);
}

int top_read(const top_row_t *row, top_t *payload) {
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(&row->sequence);
        uint64_t ticks = ATOMIC_LOAD(&row->bid_ask_ticks, relaxed);
        payload->bid_ticks = (int32_t)(ticks >> 32) - 1;
        payload->ask_ticks = (int32_t)(uint32_t)ticks - 1;
        payload->bid_lots = (int64_t)ATOMIC_LOAD(&row->bid_lots, relaxed);
        payload->ask_lots = (int64_t)ATOMIC_LOAD(&row->ask_lots, relaxed);
        uint64_t generation = ATOMIC_LOAD(&row->generation, relaxed);
        payload->generation = (uint32_t)(generation >> 1);
        payload->valid = (uint32_t)(generation & 1);
        payload->venue_sequence = (int64_t)ATOMIC_LOAD(&row->venue_sequence, relaxed);
        payload->recv_mono_ns = (int64_t)ATOMIC_LOAD(&row->recv_mono_ns, relaxed);
        payload->trade_count = ATOMIC_LOAD(&row->trade_count, relaxed);
        if (row_stable(&row->sequence, began)) return RING_OK;
        cpu_relax();
    }
    return ROW_BUSY;
}

/* ---- book image ---- */

/* A copy is whole when its sequence is even and not 0 (never written). */
static int image_whole(const book_image_t *image, uint64_t *ring_position, uint64_t *began) {
    *began = row_begin(&image->sequence);
    *ring_position = ATOMIC_LOAD(&image->ring_position, relaxed);
    return *began != 0 && (*began & 1) == 0;
}

int image_write(book_image_t images[2], const image_header_t *header, const int64_t *levels) {
    if (header->tick_count == 0 || header->tick_count > GRID_TICKS_MAX) return RING_BAD_ARGUMENT;
    uint64_t position[2], began[2];
    int whole0 = image_whole(&images[0], &position[0], &began[0]);
    int whole1 = image_whole(&images[1], &position[1], &began[1]);
    /* the copy that is torn or older is the one to overwrite */
    int target = !whole0 ? 0 : !whole1 ? 1 : position[0] > position[1] ? 1 : 0;
    book_image_t *image = &images[target];
    uint64_t odd = row_open(&image->sequence);
    ATOMIC_STORE(&image->generation, header->generation, relaxed);
    ATOMIC_STORE(&image->ring_position, header->ring_position, relaxed);
    ATOMIC_STORE(&image->venue_sequence, (uint64_t)header->venue_sequence, relaxed);
    ATOMIC_STORE(&image->tick_count, header->tick_count, relaxed);
    ATOMIC_STORE(&image->valid, header->valid, relaxed);
    ATOMIC_STORE(&image->recv_mono_ns, (uint64_t)header->recv_mono_ns, relaxed);
    words_store(image->levels, levels, 2 * header->tick_count);
    row_close(&image->sequence, odd);
    return RING_OK;
}

static int image_copy(const book_image_t *image, image_header_t *header, int64_t *levels, uint32_t capacity_ticks) {
    uint64_t began = row_begin(&image->sequence);
    if (began == 0 || (began & 1) != 0) return ROW_BUSY;
    uint64_t tick_count = ATOMIC_LOAD(&image->tick_count, relaxed);
    header->generation = ATOMIC_LOAD(&image->generation, relaxed);
    header->ring_position = ATOMIC_LOAD(&image->ring_position, relaxed);
    header->venue_sequence = (int64_t)ATOMIC_LOAD(&image->venue_sequence, relaxed);
    header->tick_count = (uint32_t)tick_count;
    header->valid = (uint32_t)ATOMIC_LOAD(&image->valid, relaxed);
    header->recv_mono_ns = (int64_t)ATOMIC_LOAD(&image->recv_mono_ns, relaxed);
    int fits = tick_count != 0 && tick_count <= capacity_ticks && tick_count <= GRID_TICKS_MAX;
    if (fits) words_load(levels, image->levels, 2 * (uint32_t)tick_count);
    if (!row_stable(&image->sequence, began)) return ROW_BUSY;
    return fits ? RING_OK : RING_BAD_ARGUMENT;
}

int image_read(const book_image_t images[2], image_header_t *header, int64_t *levels, uint32_t capacity_ticks) {
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t position[2], began[2];
        int whole0 = image_whole(&images[0], &position[0], &began[0]);
        int whole1 = image_whole(&images[1], &position[1], &began[1]);
        if (whole0 || whole1) {
            int newer = !whole0 ? 1 : !whole1 ? 0 : position[1] > position[0] ? 1 : 0;
            int result = image_copy(&images[newer], header, levels, capacity_ticks);
            if (result != ROW_BUSY) return result;
        }
        cpu_relax();
    }
    return ROW_BUSY;
}

/* ---- bells ---- */

static uint32_t *futex_word(const process_row_t *row) {
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the futex word is the low half of a little-endian 64-bit word"
#endif
    return (uint32_t *)(uintptr_t)&row->doorbell;
}

void bell_ring(process_row_t *row, int eventfd) {
    /* SYNC bell: the consumer sets asleep, then looks at its rings; the producer publishes, then
     * looks at asleep. Both fences are sequentially consistent, so one of them sees the other. */
    ATOMIC_FENCE(seq_cst);
    if (ATOMIC_LOAD(&row->asleep, relaxed) == 0) {
        ATOMIC_ADD(&row->doorbell, 1, relaxed);
        return;
    }
    ATOMIC_ADD(&row->doorbell, 1, relaxed);
    ATOMIC_STORE(&row->asleep, 0, relaxed);
    if (eventfd < 0) {
        (void)syscall(SYS_futex, futex_word(row), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
        return;
    }
    uint64_t one = 1;
    /* EAGAIN means the counter is full: the consumer has been told */
    while (write(eventfd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

uint64_t bell_value(const process_row_t *row) { return ATOMIC_LOAD(&row->doorbell, acquire); }

void bell_wait(process_row_t *row, uint64_t seen, uint32_t spin_count, int64_t timeout_ns) {
    for (uint32_t i = 0; i < spin_count; i++) {
        if (ATOMIC_LOAD(&row->doorbell, acquire) != seen) return;
        cpu_relax();
    }
    if (timeout_ns <= 0) return;
    ATOMIC_STORE(&row->asleep, 1, relaxed);
    ATOMIC_FENCE(seq_cst); /* SYNC bell */
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    /* returns at once when the word is no longer what was seen */
    (void)syscall(SYS_futex, futex_word(row), FUTEX_WAIT, (uint32_t)seen, &timeout, NULL, 0);
    ATOMIC_STORE(&row->asleep, 0, relaxed);
}

void bell_sleep(process_row_t *row) {
    ATOMIC_STORE(&row->asleep, 1, relaxed);
    ATOMIC_FENCE(seq_cst); /* SYNC bell */
}

void bell_awake(process_row_t *row) { ATOMIC_STORE(&row->asleep, 0, relaxed); }

/* ---- clocks and histograms ---- */

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t mono_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t unix_now_ns(void) { return clock_ns(CLOCK_REALTIME); }
int32_t current_cpu(void) { return sched_getcpu(); }

/* Log-linear: 32 buckets per power of two, exact below 32 ns, 3 % wide above, last bucket open. */
enum { SUB_BITS = 5, SUB_BUCKETS = 1 << SUB_BITS };

uint32_t histogram_bucket(uint64_t value_ns) {
    if (value_ns < SUB_BUCKETS) return (uint32_t)value_ns;
    uint32_t exponent = 63 - (uint32_t)__builtin_clzll(value_ns);
    uint32_t shift = exponent - SUB_BITS;
    uint32_t bucket = (shift + 1) * SUB_BUCKETS + (uint32_t)((value_ns >> shift) & (SUB_BUCKETS - 1));
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

uint64_t histogram_bucket_floor_ns(uint32_t bucket) {
    if (bucket < SUB_BUCKETS) return bucket;
    uint32_t shift = bucket / SUB_BUCKETS - 1;
    return (uint64_t)(SUB_BUCKETS + bucket % SUB_BUCKETS) << shift;
}

static void word_add(atomic_u64 *cell, uint64_t value) {
    /* single writer: a plain load and store is enough, and cheaper than a locked add */
    ATOMIC_STORE(cell, ATOMIC_LOAD(cell, relaxed) + value, relaxed);
}

void histogram_record(histogram_t *histogram, uint64_t value_ns) {
    word_add(&histogram->buckets[histogram_bucket(value_ns)], 1);
    word_add(&histogram->count, 1);
    word_add(&histogram->sum_ns, value_ns);
    if (value_ns > ATOMIC_LOAD(&histogram->max_ns, relaxed)) ATOMIC_STORE(&histogram->max_ns, value_ns, relaxed);
}

void process_pass(process_row_t *row, int64_t pass_ns, uint64_t work, int64_t slow_ns) {
    uint64_t took = pass_ns > 0 ? (uint64_t)pass_ns : 0;
    word_add(&row->pass_count, 1);
    word_add(&row->work_count, work);
    if (work == 0) return; /* idle passes would drown the ones that did something */
    histogram_record(&row->pass_ns, took);
    if (took > ATOMIC_LOAD(&row->longest_pass_ns, relaxed)) ATOMIC_STORE(&row->longest_pass_ns, took, relaxed);
    if (pass_ns > slow_ns) word_add(&row->slow_pass_count, 1);
}
