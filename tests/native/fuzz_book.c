/* libFuzzer: any byte string is a program of book operations, compared with plain arrays after each. */
#include "book_operations.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static book_pair_t pair;
    if (pair.book == NULL) {
        pair.memory_bytes = orderbook_bytes(PRICE_GRID_TICKS_MAX);
        pair.book = malloc(pair.memory_bytes);
        CHECK(pair.book != NULL);
    }
    pair_change_grid(&pair, bytes ? data[0] : 0);
    for (size_t at = 1; at + OPERATION_BYTES <= bytes; at += OPERATION_BYTES) book_operation(&pair, data + at);
    pair_compare(&pair);
    return 0;
}
