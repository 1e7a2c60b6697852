/* stress_kernels SEED OPERATIONS: that many random operations on the book, the price kernel and the plan of a ladder,
 * all of them checked.
 *
 * Built twice by test_kernels.py: under AddressSanitizer and UndefinedBehaviorSanitizer, and plainly with the linker's
 * --wrap, where any allocation after init ends the process. */
#include <inttypes.h>

#include "book_operations.h"
#include "plan_operations.h"
#include "quote_operations.h"

#ifdef FORBID_ALLOCATION
/* -Wl,--wrap=malloc,... sends every call of the linked files here. */
static volatile int is_sealed; /* volatile: a compiler knows that malloc reads no variable of ours */

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void __wrap_free(void *block);

void *__wrap_malloc(size_t bytes) {
    CHECK(!is_sealed);
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes) {
    (void)count, (void)bytes;
    CHECK(!"calloc is never called");
    return NULL;
}

void *__wrap_realloc(void *block, size_t bytes) {
    (void)block, (void)bytes;
    CHECK(!"realloc is never called");
    return NULL;
}

void __wrap_free(void *block) {
    (void)block;
    CHECK(!"free is never called");
}
#endif

/* splitmix64 */
static uint64_t next_random(uint64_t *state) {
    uint64_t x = *state += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    uint64_t random = strtoull(argv[1], NULL, 10);
    uint64_t operation_count = strtoull(argv[2], NULL, 10);
    static book_pair_t pair;
    static quote_state_t quote;
    static plan_state_t plan;
    pair.memory_bytes = orderbook_bytes(PRICE_GRID_TICKS_MAX);
    pair.book = malloc(pair.memory_bytes);
    CHECK(pair.book != NULL);
#ifdef FORBID_ALLOCATION
    if (operation_count == 0) is_sealed = 1, pair.book = malloc(1); /* shows that the seal holds */
    is_sealed = 1;
#endif
    pair_change_grid(&pair, 0);
    quote_state_init(&quote);
    plan_state_init(&plan);
    /* That the run met quotes and full books, and did not spend itself on refusals. */
    uint64_t ladder_count = 0;
    uint64_t level_count = 0;
    uint64_t action_count = 0;
    for (uint64_t i = 0; i < operation_count; i++) {
        uint64_t words[2] = {next_random(&random), next_random(&random)};
        uint8_t bytes[OPERATION_BYTES];
        memcpy(bytes, words, sizeof bytes);
        /* Rare ones are rarer here, or the book would never grow: they are the last kinds of book_operation(). */
        int is_rare = bytes[0] >= 252 && next_random(&random) % 64 != 0;
        if (i % 8 == 1) {
            plan_operation(&plan, bytes);
            action_count += plan.plan.action_count > 1;
        } else if (i % 4 == 3) {
            quote_operation(&quote, pair.book, bytes);
            ladder_count += quote.output.target.ask_count + quote.output.target.bid_count > 1;
            level_count += (uint64_t)orderbook_metrics(pair.book)->bid.level_count;
        } else if (!is_rare)
            book_operation(&pair, bytes);
    }
    pair_compare(&pair);
    CHECK(operation_count < 10000 || (ladder_count > operation_count / 32 && level_count > operation_count));
    CHECK(operation_count < 10000 || action_count > operation_count / 64);
    printf("operations %" PRIu64 " digest %016" PRIx64 "\n", operation_count, orderbook_digest(pair.book));
    return 0;
}
