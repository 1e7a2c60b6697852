/* atomics.h - the only place that names C11 atomics.
 *
 * A shared word is an `atomic_u64`. Payload that may be read while it is written is an array of them
 * accessed relaxed, so a torn read is a value to be discarded, never undefined behaviour. It is a
 * one-member struct so that cffi can declare it: to Python it is a struct with a plain word inside,
 * which only C functions touch. The macros take the order as their last token so that a model
 * checker can substitute its own atomics. */
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

#define ATOMIC_LOAD(cell, order) atomic_load_explicit(&(cell)->value, memory_order_##order)
#define ATOMIC_STORE(cell, word, order) atomic_store_explicit(&(cell)->value, (word), memory_order_##order)
#define ATOMIC_OR(cell, bits, order) atomic_fetch_or_explicit(&(cell)->value, (bits), memory_order_##order)
#define ATOMIC_AND(cell, bits, order) atomic_fetch_and_explicit(&(cell)->value, (bits), memory_order_##order)
#define ATOMIC_ADD(cell, word, order) atomic_fetch_add_explicit(&(cell)->value, (word), memory_order_##order)
#define ATOMIC_CAS(cell, expected, desired, order)                                               \
    atomic_compare_exchange_strong_explicit(&(cell)->value, (expected), (desired), memory_order_##order, \
                                            memory_order_relaxed)
#define ATOMIC_FENCE(order) atomic_thread_fence(memory_order_##order)
#endif

#endif
