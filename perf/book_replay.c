/* book_replay FILE: applies a file of book_delta_t to a fresh book on the cents grid, 64 per call.
 * perf/book.py runs it under callgrind to count the instructions of orderbook_apply(). */
#include <stdio.h>
#include <stdlib.h>

#include "orderbook.h"

enum { BATCH = 64 };

int main(int argc, char **argv) {
    static book_delta_t deltas[BATCH];
    price_grid_t grid;
    price_grid_cents(&grid);
    uint64_t bytes = orderbook_bytes(grid.tick_count);
    orderbook_t *book = malloc(bytes);
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (book == NULL || file == NULL || orderbook_init(book, bytes, &grid) != ORDERBOOK_OK) return 2;
    for (;;) {
        size_t count = fread(deltas, sizeof deltas[0], BATCH, file);
        int32_t code;
        if (count == 0) break;
        if (orderbook_apply(book, deltas, (int32_t)count, &code) != (int32_t)count) return 1;
    }
    printf("%016llx\n", (unsigned long long)orderbook_digest(book));
    return 0;
}
