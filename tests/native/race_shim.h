/* Stands in for native/atomics.h and native/system.h when native/arena.c and native/ring.c are compiled under the
 * relacy model checker: the same source, with a memory model and a kernel that misbehave as far as C11 and Linux
 * allow.
 *
 * MUTATE=n weakens the ordering numbered n by one step: acquire, release and the halves of acq_rel to nothing,
 * seq_cst to acq_rel. It may be a constant (-DMUTATE=n) or, by default, the variable `mutate`. */
#ifndef COREQUOTE_TESTS_RACE_SHIM_H
#define COREQUOTE_TESTS_RACE_SHIM_H

#include <cstddef>
#include <cstdint>
#include <cstring>

#include <relacy/relacy.hpp>

#define COREQUOTE_ATOMICS_H
#define COREQUOTE_SYSTEM_H
#define COREQUOTE_LAYOUT_HASH UINT64_C(0x1234)
#define SIZE_OR_MODEL(size, model_size) model_size
#define _Static_assert(...) static_assert(true, "layouts are those of the real atomics")

static int mutate;
#ifndef MUTATE
#define MUTATE mutate
#endif

struct atomic_u64 {
    rl::atomic<uint64_t> value;
    atomic_u64() : value(0) {}
};

#define RELAXED rl::mo_relaxed
#define ACQUIRE(number) (MUTATE == (number) ? rl::mo_relaxed : rl::mo_acquire)
#define RELEASE(number) (MUTATE == (number) ? rl::mo_relaxed : rl::mo_release)
#define ACQ_REL(acquire_number, release_number) \
    (MUTATE == (acquire_number) ? rl::mo_release : MUTATE == (release_number) ? rl::mo_acquire : rl::mo_acq_rel)
#define SEQ_CST(number) (MUTATE == (number) ? rl::mo_acq_rel : rl::mo_seq_cst)

/* A process can be killed before any of its stores: a thread with lives_left[thread] >= 0 throws `killed` when it
 * has made that many. */
struct killed {};
static int lives_left[8];

static inline void one_store() {
    int &left = lives_left[rl::thread_index()];
    if (left == 0) throw killed();
    if (left > 0) left--;
}

static inline void model_fence(rl::memory_order order) {
    if (order != rl::mo_relaxed) rl::atomic_thread_fence(order, $);
}

#define ATOMIC_LOAD(cell, order) ((cell)->value.load(order, $))
#define ATOMIC_STORE(cell, word, order) (one_store(), (cell)->value.store(word, order, $))
#define ATOMIC_OR(cell, bits, order) (one_store(), (cell)->value.fetch_or(bits, order, $))
#define ATOMIC_AND(cell, bits, order) (one_store(), (cell)->value.fetch_and(bits, order, $))
#define ATOMIC_ADD(cell, word, order) (one_store(), (cell)->value.fetch_add(word, order, $))
#define ATOMIC_CAS(cell, expected, desired, order) \
    (one_store(), (cell)->value.compare_exchange_strong(*(expected), desired, order, $, rl::mo_relaxed, $))
#define ATOMIC_FENCE(order) model_fence(order)

static inline void cpu_relax() { rl::yield(1, $); }

/* The kernel: one word whose modifications stand for the futex bucket's lock. Comparing and going to sleep is one
 * step under it, so is waking. Nobody ever times out: a wake-up that is lost is a deadlock, which relacy reports. */
static rl::atomic<uint64_t> *kernel_lock;

static inline void futex_sleep(const atomic_u64 *cell, uint32_t word, int64_t) {
    rl::context &c = rl::ctx();
    c.disable_preemption();
    kernel_lock->fetch_add(1, rl::mo_acq_rel, $);
    if ((uint32_t)cell->value.load(rl::mo_relaxed, $) == word)
        const_cast<rl::atomic<uint64_t> &>(cell->value).wait(c, false, false, $);
    c.enable_preemption();
}

static inline void futex_wake(const atomic_u64 *cell) {
    rl::context &c = rl::ctx();
    c.disable_preemption();
    kernel_lock->fetch_add(1, rl::mo_acq_rel, $);
    const_cast<rl::atomic<uint64_t> &>(cell->value).wake(c, 1, $);
    c.enable_preemption();
}

/* One eventfd: its counter is eventfd_count, its sleepers wait on it. */
static rl::atomic<uint64_t> *eventfd_count;

static inline void eventfd_raise(int) {
    rl::context &c = rl::ctx();
    c.disable_preemption();
    eventfd_count->fetch_add(1, rl::mo_acq_rel, $);
    eventfd_count->wake(c, 1, $);
    c.enable_preemption();
}

static inline void eventfd_read() {
    rl::context &c = rl::ctx();
    c.disable_preemption();
    if (eventfd_count->fetch_add(0, rl::mo_acq_rel, $) == 0) eventfd_count->wait(c, false, false, $);
    eventfd_count->exchange(0, rl::mo_acq_rel, $);
    c.enable_preemption();
}

#endif
