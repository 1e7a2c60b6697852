/* arena.c - formatting, checking and indexing of the shared segment declared in arena.h. */
#include "arena.h"

#include <string.h>

#ifndef COREQUOTE_LAYOUT_HASH
#error "COREQUOTE_LAYOUT_HASH is set by native/build_native.py"
#endif

enum { MARKET_SLOTS_LIMIT = 4096, WORKER_SLOTS_LIMIT = 1024 };

static uint64_t page_up(uint64_t bytes) {
    return (bytes + ARENA_PAGE_BYTES - 1) / ARENA_PAGE_BYTES * ARENA_PAGE_BYTES;
}

static uint64_t broadcast_bytes(uint64_t slots) {
    return sizeof(broadcast_ring_t) + slots * sizeof(broadcast_slot_t);
}

static uint64_t message_bytes(uint64_t slots) {
    return sizeof(message_ring_t) + slots * sizeof(message_slot_t);
}

/* Rings of a worker slot, in this order, each on its own page. */
static uint64_t worker_book_offset(void) { return page_up(sizeof(worker_control_t)); }
static uint64_t worker_step_offset(void) { return worker_book_offset() + page_up(broadcast_bytes(BOOK_RING_SLOTS)); }
static uint64_t worker_order_offset(void) { return worker_step_offset() + page_up(broadcast_bytes(STEP_RING_SLOTS)); }
static uint64_t worker_execution_offset(void) {
    return worker_order_offset() + page_up(message_bytes(MESSAGE_RING_SLOTS));
}
static uint64_t worker_bytes(void) { return worker_execution_offset() + page_up(message_bytes(MESSAGE_RING_SLOTS)); }

/* Where everything is: the header's sections, all of which follow from the two counts. */
typedef struct {
    uint64_t market_slots, worker_slots, process_slots;
    uint64_t kill_offset;
    uint64_t process_offset, process_stride;
    uint64_t worker_offset, worker_stride;
    uint64_t command_offset, command_stride;
    uint64_t market_offset, market_stride;
    uint64_t total_bytes;
} plan_t;

static plan_t plan(uint64_t market_slots, uint64_t worker_slots) {
    plan_t plan;
    plan.market_slots = market_slots;
    plan.worker_slots = worker_slots;
    plan.process_slots = PROCESS_QUOTER_FIRST + worker_slots;
    plan.kill_offset = ARENA_PAGE_BYTES;
    plan.process_offset = plan.kill_offset + page_up((1 + market_slots) * CACHE_LINE_BYTES);
    plan.process_stride = page_up(sizeof(process_row_t));
    plan.worker_offset = plan.process_offset + plan.process_slots * plan.process_stride;
    plan.worker_stride = worker_bytes();
    plan.command_offset = plan.worker_offset + worker_slots * plan.worker_stride;
    plan.command_stride = page_up(message_bytes(COMMAND_RING_SLOTS));
    plan.market_offset = plan.command_offset + plan.process_slots * plan.command_stride;
    plan.market_stride = page_up(sizeof(market_slot_t));
    plan.total_bytes = plan.market_offset + market_slots * plan.market_stride;
    return plan;
}

static int counts_legal(uint64_t market_slots, uint64_t worker_slots) {
    return market_slots >= 1 && market_slots <= MARKET_SLOTS_LIMIT && worker_slots >= 1 &&
           worker_slots <= WORKER_SLOTS_LIMIT;
}

uint64_t arena_bytes(uint32_t market_slots, uint32_t worker_slots) {
    if (!counts_legal(market_slots, worker_slots)) return 0;
    return plan(market_slots, worker_slots).total_bytes;
}

uint64_t arena_layout_hash(void) { return COREQUOTE_LAYOUT_HASH; }

/* One field of the header, as written and as expected. */
typedef struct {
    atomic_u64 *field;
    uint64_t word;
} header_field_t;

enum { HEADER_FIELDS = 13 };

static void header_fields(arena_header_t *header, const plan_t *plan, header_field_t fields[HEADER_FIELDS]) {
    header_field_t all[HEADER_FIELDS] = {
        {&header->market_slots, plan->market_slots},
        {&header->worker_slots, plan->worker_slots},
        {&header->process_slots, plan->process_slots},
        {&header->kill_offset, plan->kill_offset},
        {&header->process_offset, plan->process_offset},
        {&header->process_stride, plan->process_stride},
        {&header->worker_offset, plan->worker_offset},
        {&header->worker_stride, plan->worker_stride},
        {&header->command_offset, plan->command_offset},
        {&header->command_stride, plan->command_stride},
        {&header->market_offset, plan->market_offset},
        {&header->market_stride, plan->market_stride},
        {&header->total_bytes, plan->total_bytes},
    };
    memcpy(fields, all, sizeof all);
}

int arena_format(void *memory, uint64_t bytes, uint32_t market_slots, uint32_t worker_slots, uint64_t epoch,
                 uint64_t supervisor_pid) {
    if (!counts_legal(market_slots, worker_slots)) return ARENA_TOO_SMALL;
    plan_t sections = plan(market_slots, worker_slots);
    if (bytes < sections.total_bytes) return ARENA_TOO_SMALL;
    arena_header_t *header = (arena_header_t *)memory;
    header_field_t fields[HEADER_FIELDS];
    header_fields(header, &sections, fields);
    for (int i = 0; i < HEADER_FIELDS; i++) ATOMIC_STORE(fields[i].field, fields[i].word, RELAXED);
    ATOMIC_STORE(&header->layout_hash, arena_layout_hash(), RELAXED);
    ATOMIC_STORE(&header->epoch, epoch, RELAXED);
    ATOMIC_STORE(&header->supervisor_pid, supervisor_pid, RELAXED);
    /* SYNC arena-ready: whoever sees the magic sees the rest. */
    ATOMIC_STORE(&header->ready, ARENA_MAGIC, RELEASE(18));
    return ARENA_OK;
}

int arena_check(const void *memory, uint64_t bytes, uint64_t epoch) {
    if (memory == NULL || bytes < sizeof(arena_header_t)) return ARENA_TOO_SMALL;
    arena_header_t *header = (arena_header_t *)(uintptr_t)memory; /* only read */
    /* SYNC arena-ready */
    if (ATOMIC_LOAD(&header->ready, ACQUIRE(19)) != ARENA_MAGIC) return ARENA_NOT_AN_ARENA;
    if (ATOMIC_LOAD(&header->layout_hash, RELAXED) != arena_layout_hash()) return ARENA_OTHER_LAYOUT;
    uint64_t market_slots = ATOMIC_LOAD(&header->market_slots, RELAXED);
    uint64_t worker_slots = ATOMIC_LOAD(&header->worker_slots, RELAXED);
    if (!counts_legal(market_slots, worker_slots)) return ARENA_BAD_OFFSETS;
    plan_t sections = plan(market_slots, worker_slots);
    header_field_t fields[HEADER_FIELDS];
    header_fields(header, &sections, fields);
    for (int i = 0; i < HEADER_FIELDS; i++)
        if (ATOMIC_LOAD(fields[i].field, RELAXED) != fields[i].word) return ARENA_BAD_OFFSETS;
    if (bytes < sections.total_bytes) return ARENA_TOO_SMALL;
    if (epoch != 0 && ATOMIC_LOAD(&header->epoch, RELAXED) != epoch) return ARENA_OTHER_EPOCH;
    return ARENA_OK;
}

/* A field of the header of an arena that was checked. */
#define HEADER(arena, field) ATOMIC_LOAD(&((const arena_header_t *)(arena))->field, RELAXED)

static void *at(void *arena, uint64_t offset) { return (char *)arena + offset; }

atomic_u64 *arena_kill_global(void *arena) { return (atomic_u64 *)at(arena, HEADER(arena, kill_offset)); }

atomic_u64 *arena_kill_market(void *arena, uint32_t market_slot) {
    if (market_slot >= HEADER(arena, market_slots)) return NULL;
    return (atomic_u64 *)at(arena, HEADER(arena, kill_offset) + (1 + (uint64_t)market_slot) * CACHE_LINE_BYTES);
}

process_row_t *arena_process(void *arena, uint32_t row) {
    if (row >= HEADER(arena, process_slots)) return NULL;
    return (process_row_t *)at(arena, HEADER(arena, process_offset) + row * HEADER(arena, process_stride));
}

static void *in_worker(void *arena, uint32_t worker_slot, uint64_t offset) {
    if (worker_slot >= HEADER(arena, worker_slots)) return NULL;
    return at(arena, HEADER(arena, worker_offset) + worker_slot * HEADER(arena, worker_stride) + offset);
}

worker_control_t *arena_worker(void *arena, uint32_t worker_slot) {
    return (worker_control_t *)in_worker(arena, worker_slot, 0);
}
broadcast_ring_t *arena_book_ring(void *arena, uint32_t worker_slot) {
    return (broadcast_ring_t *)in_worker(arena, worker_slot, worker_book_offset());
}
broadcast_ring_t *arena_step_ring(void *arena, uint32_t worker_slot) {
    return (broadcast_ring_t *)in_worker(arena, worker_slot, worker_step_offset());
}
message_ring_t *arena_order_ring(void *arena, uint32_t worker_slot) {
    return (message_ring_t *)in_worker(arena, worker_slot, worker_order_offset());
}
message_ring_t *arena_execution_ring(void *arena, uint32_t worker_slot) {
    return (message_ring_t *)in_worker(arena, worker_slot, worker_execution_offset());
}

message_ring_t *arena_command_ring(void *arena, uint32_t row) {
    if (row >= HEADER(arena, process_slots)) return NULL;
    return (message_ring_t *)at(arena, HEADER(arena, command_offset) + row * HEADER(arena, command_stride));
}

market_slot_t *arena_market(void *arena, uint32_t market_slot) {
    if (market_slot >= HEADER(arena, market_slots)) return NULL;
    return (market_slot_t *)at(arena, HEADER(arena, market_offset) + market_slot * HEADER(arena, market_stride));
}

/* SYNC cell, all of these */
uint64_t cell_load(const atomic_u64 *cell) { return ATOMIC_LOAD(cell, ACQUIRE(20)); }
void cell_store(atomic_u64 *cell, uint64_t value) { ATOMIC_STORE(cell, value, RELEASE(21)); }
uint64_t cell_or(atomic_u64 *cell, uint64_t bits) { return ATOMIC_OR(cell, bits, ACQ_REL(22, 23)); }
uint64_t cell_clear(atomic_u64 *cell, uint64_t bits) { return ATOMIC_AND(cell, ~bits, ACQ_REL(24, 25)); }
uint64_t cell_add(atomic_u64 *cell, uint64_t value) { return ATOMIC_ADD(cell, value, ACQ_REL(26, 27)); }
