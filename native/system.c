/* system.c - see system.h. */
#define _GNU_SOURCE
#include "system.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Not FUTEX_PRIVATE_FLAG: sleeper and waker are different processes. */
static void futex(const atomic_u64 *cell, int operation, uint32_t word, const struct timespec *timeout) {
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the futex word is the low half of a little-endian 64-bit word"
#endif
    (void)syscall(SYS_futex, &cell->value, operation, word, timeout, NULL, 0);
}

void futex_sleep(const atomic_u64 *cell, uint32_t word, int64_t timeout_ns) {
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    futex(cell, FUTEX_WAIT, word, &timeout);
}

void futex_wake(const atomic_u64 *cell) { futex(cell, FUTEX_WAKE, INT_MAX, NULL); }

void eventfd_raise(int eventfd) {
    uint64_t one = 1;
    while (write(eventfd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

static int64_t clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t mono_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t unix_now_ns(void) { return clock_ns(CLOCK_REALTIME); }
int32_t current_cpu(void) { return sched_getcpu(); }
