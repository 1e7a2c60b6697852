"""Memory of C structs that each market of a process has: side by side, and on huge pages when they are many.

``ffi.new`` asks malloc for every struct, so that those of one market lie on many pages: among a thousand
markets a message would wait for page tables more often than for data. Structs made here lie in the order in
which they were asked for, each from a cache line on, in pieces of memory that live as long as any of their
structs does.
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
        self._piece = memoryview(b"")
        self._piece_bytes = _FIRST_PIECE_BYTES

    def new(self, pointer_type: str, size: int | None = None) -> Any:
        """A zeroed ``pointer_type`` at the beginning of a cache line.

        ``size`` in bytes, by default that of what it points to. The pointer keeps the memory alive; pointers
        that are taken from it do not.
        """
        if size is None:
            size = ffi.sizeof(ffi.typeof(pointer_type).item)
        room = -(-size // _LINE_BYTES) * _LINE_BYTES
        if room > len(self._piece):
            self._piece = _piece(max(self._piece_bytes, room))
            self._piece_bytes = _PIECE_BYTES
        taken, self._piece = self._piece[:size], self._piece[room:]
        return ffi.from_buffer(pointer_type, taken, require_writable=True)


def _piece(size: int) -> memoryview:
    if size < _HUGE_PAGE_BYTES:
        return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    size = -(-size // _HUGE_PAGE_BYTES) * _HUGE_PAGE_BYTES
    pages = mmap.mmap(-1, size + _HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages.madvise(mmap.MADV_HUGEPAGE)
    address = int(ffi.cast("uintptr_t", ffi.from_buffer(pages)))
    begin = -address % _HUGE_PAGE_BYTES
    return memoryview(pages)[begin : begin + size]


# The process's own, because its markets share pages by it.
new_native: Final = NativeMemory().new
