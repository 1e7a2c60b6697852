/* ring.c - see ring.h. Orderings carry a SYNC label; grep it to find both sides. */
#include "ring.h"

#include <string.h>

enum { ROW_TRIES = SIZE_OR_MODEL(1000, 2) };

static const uint64_t SLOT_BUSY = (uint64_t)1 << 63;

static inline void words_store(atomic_u64 *target, const void *source, uint32_t count) {
    const char *bytes = (const char *)source;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word;
        memcpy(&word, bytes + 8 * i, 8);
        ATOMIC_STORE(&target[i], word, RELAXED);
    }
}

static inline void words_load(void *target, const atomic_u64 *source, uint32_t count) {
    char *bytes = (char *)target;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t word = ATOMIC_LOAD(&source[i], RELAXED);
        memcpy(bytes + 8 * i, &word, 8);
    }
}

/* ---- producer role ---- */

static int role_take(atomic_u64 *owner, uint64_t token) {
    uint64_t expected = 0;
    if (token == 0) return RING_BAD_ARGUMENT;
    /* SYNC role: what the former holder left, as the supervisor found it, is seen. */
    return ATOMIC_CAS(owner, &expected, token, ACQUIRE(1)) ? RING_OK : RING_OWNED;
}

static void role_free(atomic_u64 *owner) {
    /* SYNC role: the supervisor has reaped the holder, so all it wrote comes before this. */
    ATOMIC_STORE(owner, 0, RELEASE(2));
}

static inline int role_held(const atomic_u64 *owner, uint64_t token) {
    return token != 0 && ATOMIC_LOAD(owner, RELAXED) == token;
}

int broadcast_acquire(broadcast_ring_t *ring, uint64_t token) {
    int code = role_take(&ring->owner, token);
    if (code == RING_OK) ATOMIC_STORE(&ring->settled, 0, RELAXED);
    return code;
}
int message_acquire(message_ring_t *ring, uint64_t token) { return role_take(&ring->owner, token); }
void broadcast_free_role(broadcast_ring_t *ring) { role_free(&ring->owner); }
void message_free_role(message_ring_t *ring) { role_free(&ring->owner); }

/* ---- slots, of both rings ---- */

static inline int slot_count_legal(uint32_t slot_count) {
    return slot_count >= 4 && (slot_count & (slot_count - 1)) == 0;
}

static inline void slot_fill(atomic_u64 *sequence, atomic_u64 *words, uint32_t word_count, uint64_t position,
                             const void *payload) {
    ATOMIC_STORE(sequence, (position + 1) | SLOT_BUSY, RELAXED);
    /* SYNC slot-busy: whoever sees a word of this payload sees the slot busy, or later. */
    ATOMIC_FENCE(RELEASE(3));
    words_store(words, payload, word_count);
}

static inline void slot_show(atomic_u64 *sequence, uint64_t position) {
    /* SYNC slot-visible: whoever sees this sequence sees all that its producer wrote before. */
    ATOMIC_STORE(sequence, position + 1, RELEASE(4));
}

enum { SLOT_COPIED, SLOT_NOT_YET, SLOT_PASSED };

/* Copies a slot if it holds `position`, whole. */
static inline int slot_copy(const atomic_u64 *sequence, const atomic_u64 *words, uint32_t word_count, uint64_t position,
                            void *out) {
    /* SYNC slot-visible */
    uint64_t found = ATOMIC_LOAD(sequence, ACQUIRE(5));
    if (found != position + 1) return (found & ~SLOT_BUSY) > position + 1 ? SLOT_PASSED : SLOT_NOT_YET;
    words_load(out, words, word_count);
    /* SYNC slot-busy: if a word above was of a later payload, the load below sees that it is. */
    ATOMIC_FENCE(ACQUIRE(6));
    return ATOMIC_LOAD(sequence, RELAXED) == position + 1 ? SLOT_COPIED : SLOT_PASSED;
}

static inline void head_store(atomic_u64 *published, uint64_t position) {
    /* SYNC head: whoever sees this count sees what was written before the newest slot was begun: the
     * image that makes up for older events, and that slot's busy mark. Relaxed, because the fence in
     * slot_fill() stands between. */
    ATOMIC_STORE(published, position, RELAXED);
}

static inline uint64_t head_load(const atomic_u64 *published) {
    return ATOMIC_LOAD(published, ACQUIRE(7)); /* SYNC head */
}

/* Where a reader begins, and lands after a loss: near enough to the producer to be fresh, far enough
 * not to be lapped again at once. */
static uint64_t quarter_behind(uint64_t published, uint32_t slot_count) {
    return published > slot_count / 4 ? published - slot_count / 4 : 0;
}

/* Returns 0 when the head does not show the loss yet. */
static int cursor_jump(broadcast_cursor_t *cursor, uint64_t published, uint32_t slot_count) {
    uint64_t target = quarter_behind(published, slot_count);
    if (target <= cursor->position) return 0;
    cursor->lost += target - cursor->position;
    cursor->laps += 1;
    cursor->position = target;
    return 1;
}

/* ---- broadcast ring ---- */

static inline broadcast_slot_t *broadcast_slot(broadcast_ring_t *ring, uint32_t slot_count, uint64_t position) {
    return (broadcast_slot_t *)(ring + 1) + (position & (slot_count - 1));
}

/* Where a new producer goes on. A predecessor that died inside broadcast_publish() left a batch that is
 * shown but not counted, or begun but not shown. The one is counted now. The other is taken back:
 * otherwise a slot of it would follow the last slot of a shorter batch. */
static uint64_t settle(broadcast_ring_t *ring, uint32_t slot_count) {
    uint64_t position = ATOMIC_LOAD(&ring->published, RELAXED);
    for (uint32_t i = 0; i < slot_count; i++, position++)
        if (ATOMIC_LOAD(&broadcast_slot(ring, slot_count, position)->sequence, RELAXED) != position + 1) break;
    for (uint64_t stale = position; stale < position + slot_count / 4; stale++) {
        atomic_u64 *sequence = &broadcast_slot(ring, slot_count, stale)->sequence;
        if (ATOMIC_LOAD(sequence, RELAXED) == stale + 1) ATOMIC_STORE(sequence, (stale + 1) | SLOT_BUSY, RELAXED);
    }
    ATOMIC_STORE(&ring->settled, 1, RELAXED);
    return position;
}

int broadcast_publish(broadcast_ring_t *ring, uint32_t slot_count, uint64_t token, const void *payloads,
                      uint32_t count) {
    if (!role_held(&ring->owner, token)) return RING_NOT_OWNER;
    if (!slot_count_legal(slot_count) || count > slot_count / 4) return RING_BAD_ARGUMENT;
    if (count == 0) return RING_OK;
    const char *payload = (const char *)payloads;
    uint64_t first = ATOMIC_LOAD(&ring->settled, RELAXED) ? ATOMIC_LOAD(&ring->published, RELAXED)
                                                          : settle(ring, slot_count);
    broadcast_slot_t *first_slot = broadcast_slot(ring, slot_count, first);
    slot_fill(&first_slot->sequence, first_slot->words, BROADCAST_WORDS, first, payload);
    for (uint64_t position = first + 1; position < first + count; position++) {
        broadcast_slot_t *slot = broadcast_slot(ring, slot_count, position);
        payload += 8 * BROADCAST_WORDS;
        slot_fill(&slot->sequence, slot->words, BROADCAST_WORDS, position, payload);
        /* relaxed: nobody comes here but past the first slot, which is shown last */
        ATOMIC_STORE(&slot->sequence, position + 1, RELAXED);
    }
    slot_show(&first_slot->sequence, first);
    head_store(&ring->published, first + count);
    return RING_OK;
}

uint64_t broadcast_position(const broadcast_ring_t *ring) { return head_load(&ring->published); }

void broadcast_attach(const broadcast_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor) {
    cursor->position = quarter_behind(broadcast_position(ring), slot_count);
    cursor->lost = 0;
    cursor->laps = 0;
}

uint32_t broadcast_read(const broadcast_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor, void *out,
                        uint32_t capacity, int *lapped) {
    const broadcast_slot_t *slots = (const broadcast_slot_t *)(ring + 1);
    char *target = (char *)out;
    uint32_t count = 0;
    *lapped = 0;
    if (!slot_count_legal(slot_count)) return 0;
    for (; count < capacity; count++, target += 8 * BROADCAST_WORDS) {
        const broadcast_slot_t *slot = &slots[cursor->position & (slot_count - 1)];
        int state = slot_copy(&slot->sequence, slot->words, BROADCAST_WORDS, cursor->position, target);
        if (state == SLOT_PASSED) *lapped = cursor_jump(cursor, broadcast_position(ring), slot_count);
        if (state != SLOT_COPIED) break;
        cursor->position += 1;
    }
    return count;
}

int broadcast_write(const broadcast_writer_t *writer) {
    return broadcast_publish(writer->ring, writer->slot_count, writer->token, writer->payloads, writer->count);
}

uint32_t broadcast_next(broadcast_reader_t *reader) {
    return broadcast_read(reader->ring, reader->slot_count, &reader->cursor, reader->payloads, reader->capacity,
                          &reader->lapped);
}

/* ---- message ring ---- */

static inline const message_slot_t *message_slots(const message_ring_t *ring) {
    return (const message_slot_t *)(ring + 1);
}

int message_publish(message_ring_t *ring, uint32_t slot_count, uint64_t token, const void *payload) {
    if (!role_held(&ring->owner, token)) return RING_NOT_OWNER;
    if (!slot_count_legal(slot_count)) return RING_BAD_ARGUMENT;
    if (message_space(ring, slot_count) == 0) return RING_FULL;
    uint64_t position = ATOMIC_LOAD(&ring->published, RELAXED);
    message_slot_t *slot = (message_slot_t *)(ring + 1) + (position & (slot_count - 1));
    slot_fill(&slot->sequence, slot->words, MESSAGE_WORDS, position, payload);
    slot_show(&slot->sequence, position);
    head_store(&ring->published, position + 1);
    return RING_OK;
}

uint64_t message_published(const message_ring_t *ring) { return head_load(&ring->published); }

uint64_t message_consumed(const message_ring_t *ring) {
    return ATOMIC_LOAD(&ring->consumed, ACQUIRE(8)); /* SYNC consumed */
}

uint32_t message_space(const message_ring_t *ring, uint32_t slot_count) {
    uint64_t used = ATOMIC_LOAD(&ring->published, RELAXED) - message_consumed(ring);
    return used >= slot_count ? 0 : slot_count - (uint32_t)used;
}

/* Copies the slots from *position on that are published. Returns how many; *passed = 1 when one of
 * them was overwritten first. */
static uint32_t message_copy(const message_ring_t *ring, uint32_t slot_count, uint64_t position, char *out,
                             uint32_t capacity, int *passed) {
    uint64_t published = message_published(ring);
    uint32_t count = 0;
    *passed = 0;
    if (!slot_count_legal(slot_count)) return 0;
    for (; count < capacity && position < published; count++, position++, out += 8 * MESSAGE_WORDS) {
        const message_slot_t *slot = &message_slots(ring)[position & (slot_count - 1)];
        int state = slot_copy(&slot->sequence, slot->words, MESSAGE_WORDS, position, out);
        *passed = state == SLOT_PASSED;
        if (state != SLOT_COPIED) break;
    }
    return count;
}

uint32_t message_peek(const message_ring_t *ring, uint32_t slot_count, void *out, uint32_t capacity) {
    int passed;
    return message_copy(ring, slot_count, ATOMIC_LOAD(&ring->consumed, RELAXED), (char *)out, capacity, &passed);
}

int message_release(message_ring_t *ring, uint32_t count) {
    uint64_t consumed = ATOMIC_LOAD(&ring->consumed, RELAXED);
    if (count > message_published(ring) - consumed) return RING_BAD_ARGUMENT;
    /* SYNC consumed: whoever sees the record released sees what its consumer did about it, and the
     * producer writes into its slot only after the consumer has read it. */
    ATOMIC_STORE(&ring->consumed, consumed + count, RELEASE(9));
    return RING_OK;
}

uint32_t message_tap(const message_ring_t *ring, uint32_t slot_count, broadcast_cursor_t *cursor, void *out,
                     uint32_t capacity, int *lapped) {
    int passed;
    uint32_t count = message_copy(ring, slot_count, cursor->position, (char *)out, capacity, &passed);
    cursor->position += count;
    *lapped = passed && cursor_jump(cursor, message_published(ring), slot_count);
    return count;
}

/* ---- rows ---- */

/* A writer that died inside a row left it odd; its successor goes on from there, so the row is
 * odd while written and even when whole whatever was found. */
static uint64_t row_open(atomic_u64 *sequence) {
    uint64_t odd = ATOMIC_LOAD(sequence, RELAXED) | 1;
    ATOMIC_STORE(sequence, odd, RELAXED);
    /* SYNC row-busy: whoever sees a word of this payload sees the row odd, or later. */
    ATOMIC_FENCE(RELEASE(10));
    return odd;
}

static void row_close(atomic_u64 *sequence, uint64_t odd) {
    /* SYNC row-visible: whoever sees this sequence sees the whole payload. */
    ATOMIC_STORE(sequence, odd + 1, RELEASE(11));
}

static uint64_t row_begin(const atomic_u64 *sequence) {
    return ATOMIC_LOAD(sequence, ACQUIRE(12)); /* SYNC row-visible */
}

static int row_stable(const atomic_u64 *sequence, uint64_t began) {
    /* SYNC row-busy: if a word read above was of a later payload, the load below sees that it is. */
    ATOMIC_FENCE(ACQUIRE(13));
    return (began & 1) == 0 && ATOMIC_LOAD(sequence, RELAXED) == began;
}

static void row30_write(atomic_u64 *sequence, atomic_u64 *version, atomic_u64 *words, const void *payload) {
    uint64_t odd = row_open(sequence);
    ATOMIC_STORE(version, ATOMIC_LOAD(version, RELAXED) + 1, RELAXED);
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
    ATOMIC_STORE(&row->version, ATOMIC_LOAD(&row->version, RELAXED) + 1, RELAXED);
    ATOMIC_STORE(&row->kind, kind, RELAXED);
    ATOMIC_STORE(&row->worker_epoch, worker_epoch, RELAXED);
    ATOMIC_STORE(&row->mono_ns, (uint64_t)mono_ns, RELAXED);
    ATOMIC_STORE(&row->unix_ns, (uint64_t)unix_ns, RELAXED);
    words_store(row->words, payload, payload_bytes / 8);
    row_close(&row->sequence, odd);
    return RING_OK;
}

int state_read(const state_row_t *row, state_header_t *header, void *payload, uint32_t payload_bytes) {
    if (payload_bytes > 8 * STATE_PAYLOAD_WORDS || payload_bytes % 8 != 0) return RING_BAD_ARGUMENT;
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(&row->sequence);
        header->version = ATOMIC_LOAD(&row->version, RELAXED);
        header->kind = ATOMIC_LOAD(&row->kind, RELAXED);
        header->worker_epoch = ATOMIC_LOAD(&row->worker_epoch, RELAXED);
        header->mono_ns = (int64_t)ATOMIC_LOAD(&row->mono_ns, RELAXED);
        header->unix_ns = (int64_t)ATOMIC_LOAD(&row->unix_ns, RELAXED);
        words_load(payload, row->words, payload_bytes / 8);
        if (row_stable(&row->sequence, began)) return RING_OK;
        cpu_relax();
    }
    return ROW_BUSY;
}

int config_write(config_slot_t *slot, uint64_t version, const void *bytes, uint32_t length) {
    if (length > CONFIG_BYTES_MAX) return RING_BAD_ARGUMENT;
    const char *source = (const char *)bytes;
    uint64_t odd = row_open(&slot->sequence);
    ATOMIC_STORE(&slot->version, version, RELAXED);
    ATOMIC_STORE(&slot->length, length, RELAXED);
    for (uint32_t offset = 0; offset < length; offset += 8) {
        uint64_t value = 0;
        uint32_t left = length - offset;
        memcpy(&value, source + offset, left < 8 ? left : 8);
        ATOMIC_STORE(&slot->words[offset / 8], value, RELAXED);
    }
    row_close(&slot->sequence, odd);
    return RING_OK;
}

int config_read(const config_slot_t *slot, uint64_t *version, void *bytes, uint32_t capacity) {
    char *target = (char *)bytes;
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(&slot->sequence);
        *version = ATOMIC_LOAD(&slot->version, RELAXED);
        uint64_t length = ATOMIC_LOAD(&slot->length, RELAXED);
        if (length > CONFIG_BYTES_MAX || length > capacity) {
            if (row_stable(&slot->sequence, began)) return RING_BAD_ARGUMENT;
            continue;
        }
        for (uint64_t offset = 0; offset < length; offset += 8) {
            uint64_t value = ATOMIC_LOAD(&slot->words[offset / 8], RELAXED);
            uint64_t left = length - offset;
            memcpy(target + offset, &value, left < 8 ? left : 8);
        }
        if (row_stable(&slot->sequence, began)) return (int)length;
        cpu_relax();
    }
    return ROW_BUSY;
}

void top_write(top_row_t *row, const top_t *payload) {
    /* in unsigned arithmetic: a row of garbage must not be an overflow */
    uint64_t ticks = (uint64_t)((uint32_t)payload->bid_ticks + 1) << 32 | ((uint32_t)payload->ask_ticks + 1);
    uint64_t odd = row_open(&row->sequence);
    ATOMIC_STORE(&row->bid_ask_ticks, ticks, RELAXED);
    ATOMIC_STORE(&row->bid_lots, (uint64_t)payload->bid_lots, RELAXED);
    ATOMIC_STORE(&row->ask_lots, (uint64_t)payload->ask_lots, RELAXED);
    ATOMIC_STORE(&row->generation, (uint64_t)payload->generation << 1 | (payload->valid & 1), RELAXED);
    ATOMIC_STORE(&row->venue_sequence, (uint64_t)payload->venue_sequence, RELAXED);
    ATOMIC_STORE(&row->recv_mono_ns, (uint64_t)payload->recv_mono_ns, RELAXED);
    ATOMIC_STORE(&row->trade_count, payload->trade_count, RELAXED);
    row_close(&row->sequence, odd);
}

int top_read(const top_row_t *row, top_t *payload) {
    for (int i = 0; i < ROW_TRIES; i++) {
        uint64_t began = row_begin(&row->sequence);
        uint64_t ticks = ATOMIC_LOAD(&row->bid_ask_ticks, RELAXED);
        payload->bid_ticks = (int32_t)((uint32_t)(ticks >> 32) - 1);
        payload->ask_ticks = (int32_t)((uint32_t)ticks - 1);
        payload->bid_lots = (int64_t)ATOMIC_LOAD(&row->bid_lots, RELAXED);
        payload->ask_lots = (int64_t)ATOMIC_LOAD(&row->ask_lots, RELAXED);
        uint64_t generation = ATOMIC_LOAD(&row->generation, RELAXED);
        payload->generation = (uint32_t)(generation >> 1);
        payload->valid = (uint32_t)(generation & 1);
        payload->venue_sequence = (int64_t)ATOMIC_LOAD(&row->venue_sequence, RELAXED);
        payload->recv_mono_ns = (int64_t)ATOMIC_LOAD(&row->recv_mono_ns, RELAXED);
        payload->trade_count = ATOMIC_LOAD(&row->trade_count, RELAXED);
        if (row_stable(&row->sequence, began)) return RING_OK;
        cpu_relax();
    }
    return ROW_BUSY;
}

/* ---- book image ---- */

/* A copy is whole when its sequence is even and not 0 (never written). */
static inline int image_whole(uint64_t sequence) { return sequence != 0 && (sequence & 1) == 0; }

/* Which copy to read, or -1 when neither is whole. A guess, so relaxed: image_copy() judges, and its
 * fence counts for what was seen here. Who saw one image busy cannot be given the other as it was
 * before the write between, so images never go back in time. */
static int image_newer(const book_image_t images[2]) {
    int whole[2];
    uint64_t position[2];
    for (int i = 0; i < 2; i++) {
        whole[i] = image_whole(ATOMIC_LOAD(&images[i].sequence, RELAXED));
        position[i] = ATOMIC_LOAD(&images[i].ring_position, RELAXED);
    }
    if (whole[0] && whole[1]) return position[1] > position[0];
    return whole[0] ? 0 : whole[1] ? 1 : -1;
}

int image_write(book_image_t images[2], const image_header_t *header, const int64_t *levels) {
    if (header->tick_count == 0 || header->tick_count > GRID_TICKS_MAX) return RING_BAD_ARGUMENT;
    /* the copy that is torn or older is the one to overwrite */
    book_image_t *image = &images[image_newer(images) == 0];
    uint64_t odd = row_open(&image->sequence);
    ATOMIC_STORE(&image->generation, header->generation, RELAXED);
    ATOMIC_STORE(&image->ring_position, header->ring_position, RELAXED);
    ATOMIC_STORE(&image->venue_sequence, (uint64_t)header->venue_sequence, RELAXED);
    ATOMIC_STORE(&image->tick_count, header->tick_count, RELAXED);
    ATOMIC_STORE(&image->valid, header->valid, RELAXED);
    ATOMIC_STORE(&image->recv_mono_ns, (uint64_t)header->recv_mono_ns, RELAXED);
    words_store(image->levels, levels, 2 * header->tick_count);
    row_close(&image->sequence, odd);
    return RING_OK;
}

static int image_copy(const book_image_t *image, image_header_t *header, int64_t *levels, uint32_t capacity_ticks) {
    uint64_t began = row_begin(&image->sequence);
    if (!image_whole(began)) return ROW_BUSY;
    uint64_t tick_count = ATOMIC_LOAD(&image->tick_count, RELAXED);
    header->generation = ATOMIC_LOAD(&image->generation, RELAXED);
    header->ring_position = ATOMIC_LOAD(&image->ring_position, RELAXED);
    header->venue_sequence = (int64_t)ATOMIC_LOAD(&image->venue_sequence, RELAXED);
    header->tick_count = (uint32_t)tick_count;
    header->valid = (uint32_t)ATOMIC_LOAD(&image->valid, RELAXED);
    header->recv_mono_ns = (int64_t)ATOMIC_LOAD(&image->recv_mono_ns, RELAXED);
    int fits = tick_count != 0 && tick_count <= capacity_ticks && tick_count <= GRID_TICKS_MAX;
    if (fits) words_load(levels, image->levels, 2 * (uint32_t)tick_count);
    if (!row_stable(&image->sequence, began)) return ROW_BUSY;
    return fits ? RING_OK : RING_BAD_ARGUMENT;
}

int image_read(const book_image_t images[2], image_header_t *header, int64_t *levels, uint32_t capacity_ticks) {
    for (int i = 0; i < ROW_TRIES; i++) {
        int newer = image_newer(images);
        int result = newer < 0 ? ROW_BUSY : image_copy(&images[newer], header, levels, capacity_ticks);
        if (result != ROW_BUSY) return result;
        cpu_relax();
    }
    return ROW_BUSY;
}

/* ---- bells ---- */

/* The consumer says that it sleeps and then looks once more; the producer publishes, counts, and then
 * looks whether someone sleeps. One of the two sees the other. The word slept on is `asleep` itself:
 * a wake-up that comes before the sleep has cleared it, so there is no sleep. */

void bell_ring(process_row_t *row, int eventfd) {
    /* SYNC bell-count: whoever has seen this count has seen what was published before. */
    ATOMIC_ADD(&row->doorbell, 1, RELEASE(14));
    ATOMIC_FENCE(SEQ_CST(15)); /* SYNC bell-asleep */
    if (ATOMIC_LOAD(&row->asleep, RELAXED) == 0) return;
    ATOMIC_STORE(&row->asleep, 0, RELAXED);
    if (eventfd < 0)
        futex_wake(&row->asleep);
    else
        eventfd_raise(eventfd);
}

uint64_t bell_value(const process_row_t *row) {
    return ATOMIC_LOAD(&row->doorbell, ACQUIRE(16)); /* SYNC bell-count */
}

void bell_sleep(process_row_t *row) {
    ATOMIC_STORE(&row->asleep, 1, RELAXED);
    ATOMIC_FENCE(SEQ_CST(17)); /* SYNC bell-asleep */
}

void bell_awake(process_row_t *row) { ATOMIC_STORE(&row->asleep, 0, RELAXED); }

void bell_wait(process_row_t *row, uint64_t seen, uint32_t spin_count, int64_t timeout_ns) {
    for (uint32_t i = 0; i < spin_count; i++) {
        if (ATOMIC_LOAD(&row->doorbell, RELAXED) != seen) return;
        cpu_relax();
    }
    if (timeout_ns <= 0) return;
    bell_sleep(row);
    if (ATOMIC_LOAD(&row->doorbell, RELAXED) == seen) futex_sleep(&row->asleep, 1, timeout_ns);
    bell_awake(row);
}

/* ---- histograms ---- */

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
    if (bucket >= HISTOGRAM_BUCKETS) bucket = HISTOGRAM_BUCKETS - 1;
    uint32_t shift = bucket / SUB_BUCKETS - 1;
    return (uint64_t)(SUB_BUCKETS + bucket % SUB_BUCKETS) << shift;
}

static void word_add(atomic_u64 *cell, uint64_t value) {
    /* single writer: a plain load and store is enough, and cheaper than a locked add */
    ATOMIC_STORE(cell, ATOMIC_LOAD(cell, RELAXED) + value, RELAXED);
}

void histogram_record(histogram_t *histogram, uint64_t value_ns) {
    word_add(&histogram->buckets[histogram_bucket(value_ns)], 1);
    word_add(&histogram->count, 1);
    word_add(&histogram->sum_ns, value_ns);
    if (value_ns > ATOMIC_LOAD(&histogram->max_ns, RELAXED)) ATOMIC_STORE(&histogram->max_ns, value_ns, RELAXED);
}

void process_pass(process_row_t *row, int64_t pass_ns, uint64_t work, int64_t slow_ns) {
    uint64_t took = pass_ns > 0 ? (uint64_t)pass_ns : 0;
    word_add(&row->pass_count, 1);
    word_add(&row->work_count, work);
    if (work == 0) return; /* idle passes would drown the ones that did something */
    histogram_record(&row->pass_ns, took);
    if (took > ATOMIC_LOAD(&row->longest_pass_ns, RELAXED)) ATOMIC_STORE(&row->longest_pass_ns, took, RELAXED);
    if (pass_ns > slow_ns) word_add(&row->slow_pass_count, 1);
}
