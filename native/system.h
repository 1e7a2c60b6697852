/* system.h - every system call of the native code: sleeping, waking, clocks.
 *
 * Apart, so that what ring.c does with shared memory can be run by a model checker, which brings a
 * kernel of its own. */
#ifndef COREQUOTE_SYSTEM_H
#define COREQUOTE_SYSTEM_H

#ifndef CFFI_CDEF
#include "atomics.h"

/* Sleeps while the low half of cell equals word, until woken or for timeout_ns (> 0). May return early. */
void futex_sleep(const atomic_u64 *cell, uint32_t word, int64_t timeout_ns);
/* Wakes every sleeper of any process that maps the cell. */
void futex_wake(const atomic_u64 *cell);
/* Makes an eventfd readable. One whose counter is full is readable already. */
void eventfd_raise(int eventfd);
#endif

int64_t mono_now_ns(void);
int64_t unix_now_ns(void);
int32_t current_cpu(void); /* -1 when the kernel does not say */

#endif
