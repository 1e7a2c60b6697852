/* quoter_inputs.h - what a decision rests on, from the worker's memory into its state row's payload. */
#ifndef COREQUOTE_QUOTER_INPUTS_H
#define COREQUOTE_QUOTER_INPUTS_H

#ifndef CFFI_CDEF
#include "quote_pass.h"
#include "quoter_state.h"
#endif

/* Fills the fields of quoter_state_t that say so and no others. unix_minus_mono_ns as in feed_delay.h. */
void quoter_state_inputs(quoter_state_t *state, const quote_market_t *market, int64_t unix_minus_mono_ns);

#endif
