/* libFuzzer: any byte string is a program that alternates book, price and plan operations. */
#include "book_operations.h"
#include "plan_operations.h"
#include "quote_operations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static book_pair_t pair;
    static quote_state_t quote;
    static plan_state_t plan;
    if (pair.book == NULL) {
        pair.memory_bytes = orderbook_bytes(PRICE_GRID_TICKS_MAX);
        pair.book = malloc(pair.memory_bytes);
        CHECK(pair.book != NULL);
    }
    pair_change_grid(&pair, bytes ? data[0] : 0);
    quote_state_init(&quote);
    plan_state_init(&plan);
    for (size_t at = 1; at + OPERATION_BYTES <= bytes; at += OPERATION_BYTES) {
        const uint8_t *operation = data + at;
        if (operation[15] % 4 == 2)
            plan_operation(&plan, operation);
        else if (operation[15] & 1)
            quote_operation(&quote, pair.book, operation);
        else
            book_operation(&pair, operation);
    }
    quote_decide(&quote, pair.book);
    return 0;
}
