/* ring_hop KIND COUNT CORE CORE: COUNT messages between two threads, each on its core; perf/ring.py runs it.
 *
 *   line     a number bounces between two cache lines: what the machine takes for one crossing, at the least
 *   ring     one event per call through a broadcast ring, and back through another
 *   batched  64 events per broadcast_publish(), up to 256 per broadcast_read(), one way
 *
 * Prints doubles: for line and ring ns per one-way hop (half a round trip, each round trip timed), for batched ns per
 * event in each sixteenth of the run. Every event is checked; a wrong or lost one ends the program. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ring.h"

/* SLOTS: perf/ring.py's */
enum { SLOTS = 8192, TOKEN = 7, BATCH = 64, DRAIN = 256, PARTS = 16, AHEAD_MAX = SLOTS / 2 };

typedef struct {
    alignas(ARENA_PAGE_BYTES) broadcast_ring_t head;
    broadcast_slot_t slots[SLOTS];
} ring_memory_t;

typedef struct {
    alignas(2 * CACHE_LINE_BYTES) atomic_u64 word;
} line_t;

static ring_memory_t there, back;
static line_t line_there, line_back, progress;
static const char *kind;
static uint64_t count;
static int cores[2];

static void fail(const char *what) {
    fprintf(stderr, "ring_hop %s: %s\n", kind, what);
    exit(1);
}

static void pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0) fail("cannot pin a thread");
}

static void line_send(line_t *line, uint64_t number) { ATOMIC_STORE(&line->word, number, memory_order_release); }

static void line_await(line_t *line, uint64_t number) {
    while (ATOMIC_LOAD(&line->word, memory_order_acquire) != number) {
    }
}

static void ring_send(ring_memory_t *ring, uint64_t number) {
    uint64_t event[BROADCAST_WORDS] = {number, number, number, number, number, number, number};
    if (broadcast_publish(&ring->head, SLOTS, TOKEN, event, 1) != RING_OK) fail("not published");
}

static void ring_await(ring_memory_t *ring, broadcast_cursor_t *cursor, uint64_t number) {
    uint64_t event[BROADCAST_WORDS];
    int lapped;
    while (broadcast_read(&ring->head, SLOTS, cursor, event, 1, &lapped) == 0) {
    }
    if (event[0] != number || event[BROADCAST_WORDS - 1] != number || lapped) fail("wrong event");
}

static void *echo(void *unused) {
    broadcast_cursor_t cursor = {0, 0, 0};
    pin(cores[1]);
    for (uint64_t number = 1; number <= count; number++) {
        if (kind[0] == 'l') {
            line_await(&line_there, number);
            line_send(&line_back, number);
        } else {
            ring_await(&there, &cursor, number);
            ring_send(&back, number);
        }
    }
    return unused;
}

static void round_trips(double *samples) {
    broadcast_cursor_t cursor = {0, 0, 0};
    for (uint64_t number = 1; number <= count; number++) {
        int64_t began_ns = mono_now_ns();
        if (kind[0] == 'l') {
            line_send(&line_there, number);
            line_await(&line_back, number);
        } else {
            ring_send(&there, number);
            ring_await(&back, &cursor, number);
        }
        samples[number - 1] = (double)(mono_now_ns() - began_ns) / 2;
    }
}

static void *produce(void *unused) {
    static uint64_t events[BATCH * BROADCAST_WORDS];
    uint64_t read = 0;
    pin(cores[1]);
    for (uint64_t position = 0; position < count; position += BATCH) {
        for (uint64_t i = 0; i < BATCH; i++) events[i * BROADCAST_WORDS] = position + i;
        while (position + BATCH - read > AHEAD_MAX) read = ATOMIC_LOAD(&progress.word, memory_order_acquire);
        if (broadcast_publish(&there.head, SLOTS, TOKEN, events, BATCH) != RING_OK) fail("not published");
    }
    return unused;
}

static void consume(double *samples) {
    static uint64_t events[DRAIN * BROADCAST_WORDS];
    broadcast_cursor_t cursor = {0, 0, 0};
    uint64_t part_at = 0;
    int64_t began_ns = mono_now_ns();
    while (cursor.position < count) {
        uint64_t position = cursor.position;
        int lapped;
        uint32_t found = broadcast_read(&there.head, SLOTS, &cursor, events, DRAIN, &lapped);
        if (lapped) fail("lapped");
        for (uint32_t i = 0; i < found; i++)
            if (events[i * BROADCAST_WORDS] != position + i) fail("wrong event");
        ATOMIC_STORE(&progress.word, cursor.position, memory_order_release);
        if (cursor.position - part_at < count / PARTS) continue;
        int64_t now_ns = mono_now_ns();
        *samples++ = (double)(now_ns - began_ns) / (double)(cursor.position - part_at);
        began_ns = now_ns;
        part_at = cursor.position;
    }
}

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    kind = argv[1];
    count = strtoull(argv[2], NULL, 10);
    cores[0] = atoi(argv[3]);
    cores[1] = atoi(argv[4]);
    int batched = strcmp(kind, "batched") == 0;
    double *samples = calloc(count, sizeof *samples);
    pthread_t other;
    if (samples == NULL || broadcast_acquire(&there.head, TOKEN) != RING_OK ||
        broadcast_acquire(&back.head, TOKEN) != RING_OK || pthread_create(&other, NULL, batched ? produce : echo, NULL))
        fail("cannot start");
    pin(cores[0]);
    if (batched)
        consume(samples);
    else
        round_trips(samples);
    pthread_join(other, NULL);
    uint64_t made = 0;
    while (made < count && samples[made] != 0) made++;
    return fwrite(samples, sizeof *samples, made, stdout) == made ? 0 : 1;
}
