"""engine/native_memory.py: structs side by side, zeroed, one line apart at least."""

from __future__ import annotations

import gc

from engine._native import ffi, lib
from engine.native_memory import NativeMemory


def address(pointer: object) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def test_structs_are_zeroed_and_follow_each_other_from_line_to_line() -> None:
    memory = NativeMemory()
    first = memory.new("quote_inputs_t *")
    second = memory.new("quote_inputs_t *")
    assert address(first) % 64 == 0
    assert address(second) - address(first) == -(-ffi.sizeof("quote_inputs_t") // 64) * 64
    assert bytes(ffi.buffer(second)) == bytes(ffi.sizeof("quote_inputs_t"))


def test_structs_in_a_reference_cycle_survive_the_collector() -> None:
    """A market holds its structs and is held by what it holds; interpreters have crashed on clearing that."""
    memory = NativeMemory()
    for _ in range(100):
        cycle: list[object] = [memory.new("quote_inputs_t *") for _ in range(10)]
        cycle.append(cycle)
        del cycle
        gc.collect()
    kept = memory.new("quote_inputs_t *")
    kept.yes_lots = 7
    assert kept.yes_lots == 7


def test_many_books_are_whole_whichever_piece_they_lie_in() -> None:
    memory = NativeMemory()
    grid = ffi.new("price_grid_t *")
    lib.price_grid_cents(grid)
    size = lib.orderbook_bytes(grid.tick_count)
    books = [memory.new("orderbook_t *", size) for _ in range(1_000)]
    for index, book in enumerate(books):
        assert lib.orderbook_init(book, size, grid) == lib.ORDERBOOK_OK
        assert lib.orderbook_set_level(book, lib.ORDERBOOK_BID, 1 + index % 99, 1 + index) == lib.ORDERBOOK_OK
    for index, book in enumerate(books):
        assert lib.orderbook_check(book) == 0
        assert lib.orderbook_level(book, lib.ORDERBOOK_TOTAL, lib.ORDERBOOK_BID, 1 + index % 99) == 1 + index


def test_a_struct_larger_than_a_piece_has_one_of_its_own() -> None:
    memory = NativeMemory()
    large = memory.new("orderbook_t *", 5 << 20)
    assert len(ffi.buffer(large, 5 << 20)) == 5 << 20
    assert bytes(ffi.buffer(large, 5 << 20)[-8:]) == bytes(8)
