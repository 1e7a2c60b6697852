"""Reading along: a message ring as seen by somebody who is not its consumer."""

from __future__ import annotations

from typing import Any, Final

from engine._native import ffi, lib

_RECORDS_PER_TAP: Final = 256


class RingTap:
    """One message ring, read along without holding anybody back."""

    def __init__(self, ring: Any, record_type: str, position: int) -> None:
        self._ring: Final = ring
        self._records: Final[Any] = ffi.new(f"{record_type}[]", _RECORDS_PER_TAP)
        self._cursor: Final[Any] = ffi.new("broadcast_cursor_t *", {"position": position})
        self._lapped: Final[Any] = ffi.new("int *")

    @property
    def position(self) -> int:
        return int(self._cursor.position)

    def read(self) -> list[Any]:
        """The next records; they are overwritten by the next call."""
        count = lib.message_tap(
            self._ring,
            lib.MESSAGE_RING_SLOTS,
            self._cursor,
            self._records,
            _RECORDS_PER_TAP,
            self._lapped,
        )
        return [self._records[index] for index in range(count)]

    def take_lost(self) -> int:
        """Records that were overwritten unread since the last call."""
        lost, self._cursor.lost = int(self._cursor.lost), 0
        return lost
