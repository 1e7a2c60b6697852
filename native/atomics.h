/* atomics.h - the only place that names C11 atomics.
 *
 * A shared word is an `atomic_u64`. Payload that may be read while it is written is an array of them
 * accessed relaxed, so a torn read is a value to be discarded, never undefined behaviour. It is a
 * one-member struct so that cffi can declare it: to Python it is a struct with a plain word inside,
 * which only C functions touch.
 *
 * Every ordering stronger than relaxed carries a number of its own. tests/native/race_shim.h puts a
 * model checker's atomics in this file's place and weakens the ordering of one number by one step;
 * `make race` proves for each number that the weaker program fails. An ordering that no such proof
 * asks for is relaxed. */
#ifndef COREQUOTE_ATOMICS_H
#define COREQUOTE_ATOMICS_H

#ifdef CFFI_CDEF
typedef struct {
    uint64_t value;
} atomic_u64;
#else
#include <stdatomic.h>
#include <stdint.h>

typedef struct {
    _Atomic uint64_t value;
} atomic_u64;

#define RELAXED memory_order_relaxed
#define ACQUIRE(number) memory_order_acquire
#define RELEASE(number) memory_order_release
#define ACQ_REL(acquire_number, release_number) memory_order_acq_rel
#define SEQ_CST(number) memory_order_seq_cst

#define ATOMIC_LOAD(cell, order) atomic_load_explicit(&(cell)->value, order)
#define ATOMIC_STORE(cell, word, order) atomic_store_explicit(&(cell)->value, word, order)
#define ATOMIC_OR(cell, bits, order) atomic_fetch_or_explicit(&(cell)->value, bits, order)
#define ATOMIC_AND(cell, bits, order) atomic_fetch_and_explicit(&(cell)->value, bits, order)
#define ATOMIC_ADD(cell, word, order) atomic_fetch_add_explicit(&(cell)->value, word, order)
/* Relaxed when it fails: the word found is not acted upon. */
#define ATOMIC_CAS(cell, expected, desired, order) \
    atomic_compare_exchange_strong_explicit(&(cell)->value, expected, desired, order, memory_order_relaxed)
#define ATOMIC_FENCE(order) atomic_thread_fence(order)

/* Tells the core that it runs in a waiting loop. */
static inline void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Asks the core for the cache lines of `bytes` from address on, so that their misses overlap. A hint: any address. */
static inline void prefetch_lines(const void *address, uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)address + at);
}
#endif

#endif
