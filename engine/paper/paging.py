"""Pages of rows, newest first, with a cursor that means "strictly older than" (contract section 1.5)."""

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from engine.paper.views import Item, PageView

Row = TypeVar("Row")


def older_than(
    rows: Sequence[Row], key: Callable[[Row], str | int], cursor: str | int | None
) -> Iterator[Row]:
    """Rows of an ascending sequence backwards, from below ``cursor``; all of them if it does not fit."""
    end = len(rows)
    if cursor is not None and rows and type(key(rows[0])) is type(cursor):
        end = bisect_left(rows, cursor, key=key)
    return (rows[index] for index in range(end - 1, -1, -1))


def newer_than(ids: Sequence[str], known_id: str) -> Iterator[str]:
    """Ids of an ascending sequence forwards, from above ``known_id``."""
    return (ids[index] for index in range(bisect_right(ids, known_id), len(ids)))


def page(
    rows: Iterable[Row],
    limit: int,
    row_id: Callable[[Row], str | int],
    render: Callable[[Row], Sequence[Item]],
) -> PageView[Item]:
    """Render rows until ``limit`` items are reached. What one row renders to is never split over pages."""
    items: list[Item] = []
    last_id: str | int | None = None
    for row in rows:
        if len(items) >= limit:
            assert last_id is not None
            return PageView(items=items, next_cursor=encode_cursor(last_id), has_more=True)
        items.extend(render(row))
        last_id = row_id(row)
    return PageView(items=items, next_cursor=None, has_more=False)


def encode_cursor(last_id: str | int) -> str:
    """The opaque text that continues after ``last_id``."""
    return base64.b64encode(msgspec.json.encode({"id": last_id})).decode()
