"""Memory of C structs that each market of a process has: side by side, and on huge pages when they are many.

``ffi.new`` asks malloc for every struct, so that those of one market lie on many pages: among a thousand
markets a message would wait for page tables more often than for data. Structs made here lie in the order in
which they were asked for, each from a cache line on, in pieces of memory that are never given back: a
process makes its markets once. The pointers own nothing, on purpose. A buffer that Python objects in a
reference cycle export is cleared by the garbage collector in an order that it cannot survive.
"""

from __future__ import annotations

import mmap
from typing import Any, Final

from engine._native import ffi

_LINE_BYTES: Final = 64
# A process of a few markets needs no more than the first piece; a huge page would cost it memory for nothing.
_FIRST_PIECE_BYTES: Final = 256 << 10
_PIECE_BYTES: Final = 4 << 20
_HUGE_PAGE_BYTES: Final = 2 << 20


class NativeMemory:
    """Zeroed memory, handed out from the beginning of a piece to its end. Nothing is handed out twice."""

    def __init__(self) -> None:
        self._pieces: list[mmap.mmap] = []
        self._next = 0  # address of the first byte that is free
        self._room_bytes = 0
        self._piece_bytes = _FIRST_PIECE_BYTES

    def new(self, pointer_type: str, size: int | None = None) -> Any:
        """A zeroed ``pointer_type`` at the beginning of a cache line, valid as long as this object lives.

        ``size`` in bytes, by default that of what it points to.
        """
        if size is None:
            size = ffi.sizeof(ffi.typeof(pointer_type).item)
        room = -(-size // _LINE_BYTES) * _LINE_BYTES
        if room > self._room_bytes:
            self._begin_piece(max(self._piece_bytes, room))
            self._piece_bytes = _PIECE_BYTES
        address = self._next
        self._next += room
        self._room_bytes -= room
        return ffi.cast(pointer_type, address)

    def _begin_piece(self, size: int) -> None:
        huge = size >= _HUGE_PAGE_BYTES
        spare = _HUGE_PAGE_BYTES if huge else 0  # to begin where a huge page may
        pages = mmap.mmap(-1, size + spare, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if huge:
            pages.madvise(mmap.MADV_HUGEPAGE)
        with memoryview(pages) as view:
            address = int(ffi.cast("uintptr_t", ffi.from_buffer(view)))
        self._pieces.append(pages)
        self._next = address + (-address % _HUGE_PAGE_BYTES if huge else 0)
        self._room_bytes = size


# The process's own, because its markets share pages by it.
new_native: Final = NativeMemory().new
