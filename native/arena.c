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

static void plan(arena_header_t *header, uint32_t market_slots, uint32_t worker_slots) {
    header->market_slots = market_slots;
    header->worker_slots = worker_slots;
    header->process_slots = PROCESS_QUOTER_FIRST + worker_slots;
    header->kill_offset = ARENA_PAGE_BYTES;
    header->process_offset = header->kill_offset + page_up((1 + (uint64_t)market_slots) * CACHE_LINE_BYTES);
    header->process_stride = page_up(sizeof(process_row_t));
    header->worker_offset = header->process_offset + header->process_slots * header->process_stride;
    header->worker_stride = worker_bytes();
    header->command_offset = header->worker_offset + worker_slots * header->worker_stride;
    header->command_stride = page_up(message_bytes(COMMAND_RING_SLOTS));
    header->market_offset = header->command_offset + header->process_slots * header->command_stride;
    header->market_stride = page_up(sizeof(market_slot_t));
    header->total_bytes = header->market_offset + market_slots * header->market_stride;
}

static int counts_legal(uint32_t market_slots, uint32_t worker_slots) {
    return market_slots >= 1 && market_slots <= MARKET_SLOTS_LIMIT && worker_slots >= 1 &&
           worker_slots <= WORKER_SLOTS_LIMIT;
}

uint64_t arena_bytes(uint32_t market_slots, uint32_t worker_slots) {
    if (!counts_legal(market_slots, worker_slots)) return 0;
    arena_header_t header;
    plan(&header, market_slots, worker_slots);
    return header.total_bytes;
}

uint64_t arena_layout_hash(void) { return COREQUOTE_LAYOUT_HASH; }

int arena_format(void *memory, uint64_t bytes, uint32_t market_slots, uint32_t worker_slots, uint64_t epoch,
                 uint64_t supervisor_pid) {
    uint64_t needed = arena_bytes(market_slots, worker_slots);
    if (needed == 0 || bytes < needed) return ARENA_TOO_SMALL;
    arena_header_t *header = memory;
    plan(header, market_slots, worker_slots);
    header->layout_hash = arena_layout_hash();
    header->epoch = epoch;
    header->supervisor_pid = supervisor_pid;
    /* SYNC arena-ready: pairs with the acquire load in arena_check(). */
    ATOMIC_STORE(&header->ready, ARENA_MAGIC, release);
    return ARENA_OK;
}

int arena_check(const void *memory, uint64_t bytes, uint64_t epoch) {
    if (memory == NULL || bytes < sizeof(arena_header_t)) return ARENA_TOO_SMALL;
    const arena_header_t *header = memory;
    /* SYNC arena-ready: everything the creator wrote before is visible. */
    if (ATOMIC_LOAD(&header->ready, acquire) != ARENA_MAGIC) return ARENA_NOT_AN_ARENA;
    if (header->layout_hash != arena_layout_hash()) return ARENA_OTHER_LAYOUT;
    if (!counts_legal(header->market_slots, header->worker_slots)) return ARENA_BAD_OFFSETS;
    arena_header_t expected;
    plan(&expected, header->market_slots, header->worker_slots);
    if (header->total_bytes != expected.total_bytes || bytes < expected.total_bytes ||
        header->kill_offset != expected.kill_offset || header->process_offset != expected.process_offset ||
        header->process_stride != expected.process_stride || header->process_slots != expected.process_slots ||
        header->worker_offset != expected.worker_offset || header->worker_stride != expected.worker_stride ||
        header->command_offset != expected.command_offset || header->command_stride != expected.command_stride ||
        header->market_offset != expected.market_offset || header->market_stride != expected.market_stride)
        return ARENA_BAD_OFFSETS;
    if (epoch != 0 && header->epoch != epoch) return ARENA_OTHER_EPOCH;
    return ARENA_OK;
}

static const arena_header_t *header_of(const void *arena) { return arena; }

static void *at(void *arena, uint64_t offset) { return (char *)arena + offset; }

atomic_u64 *arena_kill_global(void *arena) { return at(arena, header_of(arena)->kill_offset); }

atomic_u64 *arena_kill_market(void *arena, uint32_t market_slot) {
    if (market_slot >= header_of(arena)->market_slots) return NULL;
    return at(arena, header_of(arena)->kill_offset + (1 + (uint64_t)market_slot) * CACHE_LINE_BYTES);
}

process_row_t *arena_process(void *arena, uint32_t row) {
    if (row >= header_of(arena)->process_slots) return NULL;
    return at(arena, header_of(arena)->process_offset + row * header_of(arena)->process_stride);
}

static void *in_worker(void *arena, uint32_t worker_slot, uint64_t offset) {
    if (worker_slot >= header_of(arena)->worker_slots) return NULL;
    return at(arena, header_of(arena)->worker_offset + worker_slot * header_of(arena)->worker_stride + offset);
}

worker_control_t *arena_worker(void *arena, uint32_t worker_slot) { return in_worker(arena, worker_slot, 0); }
broadcast_ring_t *arena_book_ring(void *arena, uint32_t worker_slot) {
    return in_worker(arena, worker_slot, worker_book_offset());
}
broadcast_ring_t *arena_step_ring(void *arena, uint32_t worker_slot) {
    return in_worker(arena, worker_slot, worker_step_offset());
}
message_ring_t *arena_order_ring(void *arena, uint32_t worker_slot) {
    return in_worker(arena, worker_slot, worker_order_offset());
}
message_ring_t *arena_execution_ring(void *arena, uint32_t worker_slot) {
    return in_worker(arena, worker_slot, worker_execution_offset());
}

message_ring_t *arena_command_ring(void *arena, uint32_t row) {
    if (row >= header_of(arena)->process_slots) return NULL;
    return at(arena, header_of(arena)->command_offset + row * header_of(arena)->command_stride);
}

market_slot_t *arena_market(void *arena, uint32_t market_slot) {
    if (market_slot >= header_of(arena)->market_slots) return NULL;
    return at(arena, header_of(arena)->market_offset + market_slot * header_of(arena)->market_stride);
}

uint64_t cell_load(const atomic_u64 *cell) { return ATOMIC_LOAD(cell, acquire); }
void cell_store(atomic_u64 *cell, uint64_t value) { ATOMIC_STORE(cell, value, release); }
uint64_t cell_or(atomic_u64 *cell, uint64_t bits) { return ATOMIC_OR(cell, bits, acq_rel); }
uint64_t cell_clear(atomic_u64 *cell, uint64_t bits) { return ATOMIC_AND(cell, ~bits, acq_rel); }
uint64_t cell_add(atomic_u64 *cell, uint64_t value) { return ATOMIC_ADD(cell, value, acq_rel); }
