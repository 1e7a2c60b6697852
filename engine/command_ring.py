"""Operators' commands as the process takes them that a command ring belongs to.

Reads: the command ring of one process row, as its named consumer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from engine._native import ffi, lib
from engine.arena import Arena


class CommandReader:
    """The ring of ``row_index``, at most ``per_look`` commands at a time."""

    def __init__(self, arena: Arena, row_index: int, *, per_look: int) -> None:
        self._ring = arena.command_ring(row_index)
        self._records = ffi.new("command_record_t[]", per_look)
        self._per_look = per_look

    def take(self) -> Iterable[Any]:
        """The commands that wait, each valid until the next; they leave the ring together after the last one:
        what is taken up by a process that dies is there again for its successor."""
        count = int(lib.message_peek(self._ring, lib.COMMAND_RING_SLOTS, self._records, self._per_look))
        return self._each(count) if count else ()  # nothing is allocated where nothing waits

    def _each(self, count: int) -> Iterator[Any]:
        for index in range(count):
            yield self._records[index]
        lib.message_release(self._ring, count)
