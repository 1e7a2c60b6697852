"""The order book as two dicts: what ``native/orderbook.h`` promises, in the most obvious words."""

from __future__ import annotations

from collections.abc import Iterable

from engine._native import lib

BID, ASK = 0, 1
TOTAL, FOREIGN = 0, 1
LOTS_MAX = 2**62
MASK = 2**64 - 1

Segment = tuple[int, int, int]  # tick count, start price, step; prices in 1/10,000 dollar


def grid_prices(segments: Iterable[Segment]) -> list[int]:
    """Price of every tick of a grid."""
    return [start + k * step for count, start, step in segments for k in range(count)]


class ReferenceBook:
    """Same calls and codes as the kernel; ``prices[tick]`` is the grid."""

    def __init__(self, prices: list[int]) -> None:
        self.prices = prices
        self.lots: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.own: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def clear(self) -> None:
        for side in (BID, ASK):
            self.lots[side].clear()

    def clear_own(self) -> None:
        for side in (BID, ASK):
            self.own[side].clear()

    def _place_code(self, side: int, tick: int) -> int:
        if side not in (BID, ASK):
            return int(lib.ORDERBOOK_SIDE_INVALID)
        if not 0 < tick < len(self.prices) - 1:
            return int(lib.ORDERBOOK_TICK_OUT_OF_RANGE)
        return int(lib.ORDERBOOK_OK)

    def set_level(self, side: int, tick: int, lots: int) -> int:
        code = self._place_code(side, tick)
        if code:
            return code
        if lots < 0:
            return int(lib.ORDERBOOK_SIZE_NEGATIVE)
        levels = self.lots[side]
        if sum(levels.values()) - levels.get(tick, 0) + lots > LOTS_MAX:
            return int(lib.ORDERBOOK_SIZE_OVERFLOW)
        levels.pop(tick, None)
        if lots:
            levels[tick] = lots
        return int(lib.ORDERBOOK_OK)

    def add_level(self, side: int, tick: int, change: int) -> int:
        code = self._place_code(side, tick)
        return code or self.set_level(side, tick, self.lots[side].get(tick, 0) + change)

    def set_own(self, side: int, tick: int, lots: int) -> int:
        code = self._place_code(side, tick)
        if code:
            return code
        if lots < 0:
            return int(lib.ORDERBOOK_SIZE_NEGATIVE)
        if lots > LOTS_MAX:
            return int(lib.ORDERBOOK_SIZE_OVERFLOW)
        self.own[side][tick] = lots
        return int(lib.ORDERBOOK_OK)

    def levels(self, view: int, side: int) -> list[tuple[int, int]]:
        """(tick, lots) best first."""
        shown = {
            tick: lots if view == TOTAL else max(0, lots - self.own[side].get(tick, 0))
            for tick, lots in self.lots[side].items()
        }
        return sorted(((t, q) for t, q in shown.items() if q > 0), reverse=side == BID)

    def best(self, view: int, side: int) -> int:
        levels = self.levels(view, side)
        return levels[0][0] if levels else -1

    def _summed(self, levels: list[tuple[int, int]]) -> tuple[int, int, int, int]:
        """(lots, value in e4 x lots, number of levels, worst tick)."""
        return (
            sum(q for _, q in levels),
            sum(self.prices[t] * q for t, q in levels),
            len(levels),
            levels[-1][0] if levels else -1,
        )

    def depth(self, view: int, side: int, level_max: int) -> tuple[int, int, int, int]:
        return self._summed(self.levels(view, side)[:level_max])

    def depth_to_lots(self, view: int, side: int, wanted: int) -> tuple[int, int, int, int]:
        taken = []
        for tick, lots in self.levels(view, side):
            if wanted == 0:
                break
            taken.append((tick, min(lots, wanted)))
            wanted -= taken[-1][1]
        return self._summed(taken)

    def depth_within(self, view: int, side: int, distance: int) -> tuple[int, int, int, int]:
        best = self.best(view, side)
        return self._summed([(t, q) for t, q in self.levels(view, side) if abs(t - best) <= distance])

    def cross(self, view: int) -> int:
        bid, ask = self.best(view, BID), self.best(view, ASK)
        if bid < 0 or ask < 0 or bid < ask:
            return int(lib.ORDERBOOK_CROSS_NONE)
        return int(lib.ORDERBOOK_CROSS_LOCKED if bid == ask else lib.ORDERBOOK_CROSS_CROSSED)

    def digest(self) -> int:
        return sum(digest_level(s, t, q) for s in (BID, ASK) for t, q in self.lots[s].items()) & MASK

    def mirrored(self) -> ReferenceBook:
        """The NO book: a bid at tick t is an ask at last - t."""
        last = len(self.prices) - 1
        other = ReferenceBook([self.prices[-1] - p for p in reversed(self.prices)])
        for side in (BID, ASK):
            other.lots[1 - side].update({last - t: q for t, q in self.lots[side].items()})
            other.own[1 - side].update({last - t: q for t, q in self.own[side].items()})
        return other


def digest_level(side: int, tick: int, lots: int) -> int:
    """The mix that ``orderbook_digest_level`` documents."""
    x = (lots * 0x9E3779B97F4A7C15 + (2 * tick + side + 1) * 0xD1B54A32D192ED03) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)
