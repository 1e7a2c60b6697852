/* line_walk SETS CORE COUNT INTERVAL_NS: COUNT walks over the lines of a set drawn by chance, one every INTERVAL_NS;
 * perf/scaling.py runs it as the floor of a message among SETS markets.
 *
 * A set is as much memory as a market of 99 ticks has in ingest and quoter together, and a walk touches as many cache
 * lines of it as a message and its decision do, in two steps for each of the two: a step's place is read from the step
 * before, as a book is found through its market. Nothing else is done with what is read. All on huge pages, which is
 * better than any program can have it whose objects are Python's.
 *
 * Prints doubles: ns per walk. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { LINE_WORDS = 8, SET_LINES = 289, STEPS = 4, STEP_LINES = 12, HUGE_PAGE_BYTES = 2 << 20 };

/* Lines of a step stand apart, so that no neighbour is brought along; SET_LINES is odd, so that all lines of a cache are
 * used alike. */
enum { APART_LINES = SET_LINES / (STEPS * STEP_LINES) };

static uint64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000000u + (uint64_t)at.tv_nsec;
}

static uint64_t *line(uint64_t *set, uint64_t step, uint64_t index) {
    return set + (step * STEP_LINES + index) * APART_LINES * LINE_WORDS;
}

/* The first word of a step's first line is the next step's number; all others are 0. */
static uint64_t walk(uint64_t *set) {
    uint64_t step = 0;
    for (int i = 0; i < STEPS; i++) {
        uint64_t next = 0;
        for (uint64_t index = 0; index < STEP_LINES; index++) next += *line(set, step, index);
        step = next;
    }
    return step;
}

static void fail(const char *what) {
    fprintf(stderr, "line_walk: %s\n", what);
    exit(1);
}

int main(int count, char **arguments) {
    if (count != 5) fail("SETS CORE COUNT INTERVAL_NS");
    uint64_t sets = strtoull(arguments[1], NULL, 10);
    uint64_t walks = strtoull(arguments[3], NULL, 10);
    uint64_t interval_ns = strtoull(arguments[4], NULL, 10);
    if (sets < 1 || sets > 100000 || walks < 1 || walks > 10000000) fail("SETS 1..100,000, COUNT 1..10,000,000");
    cpu_set_t core;
    CPU_ZERO(&core);
    CPU_SET(strtoull(arguments[2], NULL, 10), &core);
    if (sched_setaffinity(0, sizeof core, &core) != 0) fail("cannot pin itself");
    uint64_t set_words = SET_LINES * LINE_WORDS;
    uint64_t bytes = (sets * set_words * 8 + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    uint64_t *memory = aligned_alloc(HUGE_PAGE_BYTES, bytes);
    double *costs = malloc(walks * sizeof *costs);
    if (memory == NULL || costs == NULL) fail("no memory");
    (void)madvise(memory, bytes, MADV_HUGEPAGE); /* where there are none, usual pages do */
    for (uint64_t i = 0; i < bytes / 8; i++) memory[i] = 0;
    for (uint64_t set = 0; set < sets; set++)
        for (uint64_t step = 0; step + 1 < STEPS; step++) *line(memory + set * set_words, step, 0) = step + 1;
    uint64_t chance = 1, due = now_ns();
    for (uint64_t i = 0; i < walks; i++) {
        chance = chance * 6364136223846793005u + 1442695040888963407u;
        uint64_t *set = memory + (chance >> 33) % sets * set_words;
        uint64_t began;
        due += interval_ns;
        while ((began = now_ns()) < due) continue;
        if (walk(set) != 0) fail("a walk went astray");
        costs[i] = (double)(now_ns() - began);
    }
    fwrite(costs, sizeof *costs, walks, stdout);
    return 0;
}
