"""The kernel book equals a dict book after any sequence of operations, on every grid it may change to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine._native import ffi, lib
from tests.reference.kernel import CENTS, GRIDS, KernelBook
from tests.reference.orderbook import (
    ASK,
    BID,
    FOREIGN,
    LOTS_MAX,
    TOTAL,
    ReferenceBook,
    digest_level,
    grid_prices,
)

SIDES = st.sampled_from((BID, ASK))
VIEWS = st.sampled_from((TOTAL, FOREIGN))
LOTS = st.one_of(
    st.just(0), st.integers(1, 200), st.integers(0, 2**40), st.integers(LOTS_MAX // 2 - 3, LOTS_MAX // 2 + 3)
)
ANY_INT32 = st.integers(-(2**31), 2**31 - 1)
ANY_INT64 = st.integers(-(2**63), 2**63 - 1)


class BookMachine(RuleBasedStateMachine):
    """Every operation on both books; every observable compared after every step."""

    @initialize(segments=st.sampled_from(GRIDS))
    def start(self, segments: tuple[tuple[int, int, int], ...]) -> None:
        self.kernel = KernelBook(segments)
        self.model = ReferenceBook(grid_prices(segments))

    def tick(self, share: float) -> int:
        """A tradable tick; the middle is crowded so that levels collide."""
        last = len(self.model.prices) - 2
        return 1 + int(share * (last - 1) + 0.5)

    near = st.one_of(st.floats(0.45, 0.55), st.floats(0, 1))

    @rule(side=SIDES, share=near, lots=LOTS)
    def set_level(self, side: int, share: float, lots: int) -> None:
        tick = self.tick(share)
        code = lib.orderbook_set_level(self.kernel.pointer, side, tick, lots)
        assert code == self.model.set_level(side, tick, lots)

    @rule(side=SIDES, lots=LOTS, rank=st.integers(0, 5))
    def set_existing(self, side: int, lots: int, rank: int) -> None:
        levels = self.model.levels(TOTAL, side)
        if rank < len(levels):
            code = lib.orderbook_set_level(self.kernel.pointer, side, levels[rank][0], lots)
            assert code == self.model.set_level(side, levels[rank][0], lots)

    @rule(side=SIDES, share=near, change=st.one_of(st.integers(-300, 300), ANY_INT64))
    def add_level(self, side: int, share: float, change: int) -> None:
        tick = self.tick(share)
        code = lib.orderbook_add_level(self.kernel.pointer, side, tick, change)
        assert code == self.model.add_level(side, tick, change)

    @rule(side=ANY_INT32, tick=ANY_INT32, lots=ANY_INT64)
    def set_anything(self, side: int, tick: int, lots: int) -> None:
        code = lib.orderbook_set_level(self.kernel.pointer, side, tick, lots)
        assert code == self.model.set_level(side, tick, lots)
        assert lib.orderbook_add_level(self.kernel.pointer, side, tick, lots) == self.model.add_level(
            side, tick, lots
        )
        assert lib.orderbook_set_own(self.kernel.pointer, side, tick, lots) == self.model.set_own(
            side, tick, lots
        )

    @rule(
        deltas=st.lists(
            st.tuples(st.sampled_from((0, 1, 2)), st.sampled_from((0, 0, 1, 1, 5)), near, LOTS), max_size=20
        )
    )
    def apply(self, deltas: list[tuple[int, int, float, int]]) -> None:
        batch = ffi.new("book_delta_t[]", max(1, len(deltas)))
        expected, expected_code = len(deltas), int(lib.ORDERBOOK_OK)
        for index, (kind, side, share, lots) in enumerate(deltas):
            batch[index] = (self.tick(share), side, kind, lots)
        for index, (kind, side, share, lots) in enumerate(deltas):
            tick = self.tick(share)
            if side not in (BID, ASK):
                code = int(lib.ORDERBOOK_SIDE_INVALID)
            elif kind == lib.BOOK_DELTA_SET:
                code = self.model.set_level(side, tick, lots)
            elif kind == lib.BOOK_DELTA_ADD:
                code = self.model.add_level(side, tick, lots)
            else:
                code = int(lib.ORDERBOOK_ARGUMENT_INVALID)
            if code:
                expected, expected_code = index, code
                break
        code_out = ffi.new("int32_t *")
        assert lib.orderbook_apply(self.kernel.pointer, batch, len(deltas), code_out) == expected
        assert code_out[0] == expected_code

    @rule(side=SIDES, share=near, lots=LOTS)
    def set_own(self, side: int, share: float, lots: int) -> None:
        tick = self.tick(share)
        code = lib.orderbook_set_own(self.kernel.pointer, side, tick, lots)
        assert code == self.model.set_own(side, tick, lots)

    @rule()
    def clear_own(self) -> None:
        lib.orderbook_clear_own(self.kernel.pointer)
        self.model.clear_own()

    @rule()
    def clear(self) -> None:
        lib.orderbook_clear(self.kernel.pointer)
        self.model.clear()

    @rule(segments=st.sampled_from(GRIDS))
    def change_grid(self, segments: tuple[tuple[int, int, int], ...]) -> None:
        self.kernel.change_grid(segments)
        self.model = ReferenceBook(grid_prices(segments))

    @rule(view=VIEWS, side=SIDES, limit=st.one_of(st.integers(1, 12), st.integers(1, 2**31 - 1)))
    def depths(self, view: int, side: int, limit: int) -> None:
        assert self.kernel.depth(view, side, limit) == self.model.depth(view, side, limit)
        assert self.kernel.depth_within(view, side, limit) == self.model.depth_within(view, side, limit)
        assert self.kernel.depth_within(view, side, 0) == self.model.depth_within(view, side, 0)

    @rule(view=VIEWS, side=SIDES, wanted=st.one_of(st.integers(1, 500), st.integers(1, 2**63 - 1)))
    def depth_to_lots(self, view: int, side: int, wanted: int) -> None:
        assert self.kernel.depth_to_lots(view, side, wanted) == self.model.depth_to_lots(view, side, wanted)

    @precondition(lambda self: len(self.model.prices) <= 1001)
    @rule()
    def export_and_load(self) -> None:
        bids, asks = self.kernel.export()
        for side, ladder in ((BID, bids), (ASK, asks)):
            assert {t: q for t, q in enumerate(ladder) if q} == self.model.lots[side]
        lib.orderbook_clear(self.kernel.pointer)
        assert lib.orderbook_load(self.kernel.pointer, bids, asks, len(bids)) == lib.ORDERBOOK_OK

    @rule(data=st.data())
    def refused_image(self, data: st.DataObject) -> None:
        bids, asks = self.kernel.export()
        digest = lib.orderbook_digest(self.kernel.pointer)
        ladder = data.draw(st.sampled_from((bids, asks)))
        place = data.draw(st.sampled_from(("low bound", "high bound", "negative", "overflow")))
        if place == "low bound":
            ladder[0] = 1
        elif place == "high bound":
            ladder[-1] = 1
        elif place == "negative":
            ladder[1] = -1
        else:
            ladder[1], ladder[2] = LOTS_MAX, 1
        assert lib.orderbook_load(self.kernel.pointer, bids, asks, len(bids)) < 0
        assert (
            lib.orderbook_load(self.kernel.pointer, bids, asks, len(bids) - 1) == lib.ORDERBOOK_IMAGE_INVALID
        )
        assert lib.orderbook_digest(self.kernel.pointer) == digest

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "kernel"):
            return
        pointer, model = self.kernel.pointer, self.model
        assert lib.orderbook_check(pointer) == 0
        assert self.kernel.metrics() == [
            (model.best(TOTAL, side), len(model.lots[side]), model.depth(TOTAL, side, 3))
            for side in (BID, ASK)
        ]
        assert lib.orderbook_digest(pointer) == model.digest()
        for view in (TOTAL, FOREIGN):
            assert lib.orderbook_cross(pointer, view) == model.cross(view)
            for side in (BID, ASK):
                levels = model.levels(view, side)
                assert self.kernel.levels(view, side) == levels
                assert self.kernel.levels(view, side, 2) == levels[:2]
                assert lib.orderbook_best(pointer, view, side) == model.best(view, side)
                for tick, lots in levels:
                    assert lib.orderbook_level(pointer, view, side, tick) == lots
                total = sum(lots for _, lots in levels)
                for wanted in (
                    {1, levels[0][1] + 1, total // 2, total - 1, total, total + 1} if levels else {1}
                ):
                    if wanted >= 1:
                        assert self.kernel.depth_to_lots(view, side, wanted) == model.depth_to_lots(
                            view, side, wanted
                        )
                for limit in (1, 2, 4):
                    assert self.kernel.depth(view, side, limit) == model.depth(view, side, limit)
                    assert self.kernel.depth_within(view, side, limit) == model.depth_within(
                        view, side, limit
                    )
        for side in (BID, ASK):
            for tick, lots in model.own[side].items():
                assert lib.orderbook_own(pointer, side, tick) == lots


TestBookMachine = BookMachine.TestCase
TestBookMachine.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

LEVELS = st.dictionaries(st.integers(1, 99), st.integers(1, 10**6), max_size=12)


@given(bids=LEVELS, asks=LEVELS, own_bids=LEVELS, own_asks=LEVELS)
def test_the_no_book_mirrors_every_output(
    bids: dict[int, int], asks: dict[int, int], own_bids: dict[int, int], own_asks: dict[int, int]
) -> None:
    yes, no = KernelBook(CENTS), KernelBook(CENTS)
    for side, levels, own in ((BID, bids, own_bids), (ASK, asks, own_asks)):
        for tick, lots in levels.items():
            lib.orderbook_set_level(yes.pointer, side, tick, lots)
            lib.orderbook_set_level(no.pointer, 1 - side, 100 - tick, lots)
        for tick, lots in own.items():
            lib.orderbook_set_own(yes.pointer, side, tick, lots)
            lib.orderbook_set_own(no.pointer, 1 - side, 100 - tick, lots)
    for view in (TOTAL, FOREIGN):
        assert lib.orderbook_cross(yes.pointer, view) == lib.orderbook_cross(no.pointer, view)
        for side in (BID, ASK):
            mirrored = [(100 - tick, lots) for tick, lots in yes.levels(view, side)]
            assert no.levels(view, 1 - side) == mirrored
            for limit in (1, 3, 99):
                for name in ("depth", "depth_within", "depth_to_lots"):
                    lots, value, count, worst = getattr(yes, name)(view, side, limit)
                    expected = (lots, lots * 10000 - value, count, worst if worst < 0 else 100 - worst)
                    assert getattr(no, name)(view, 1 - side, limit) == expected


@pytest.mark.parametrize("segments", GRIDS)
def test_grid_maps_every_tick_to_its_price_and_back(segments: tuple[tuple[int, int, int], ...]) -> None:
    book = KernelBook(segments)
    grid = ffi.addressof(book.pointer, "grid")
    prices = grid_prices(segments)
    ticks = {price: tick for tick, price in enumerate(prices)}
    assert [lib.price_grid_tick_to_price_e4(grid, tick) for tick in range(len(prices))] == prices
    for price in range(-2, 10003):
        assert lib.price_grid_price_e4_to_tick(grid, price) == ticks.get(price, lib.ORDERBOOK_NO_TICK)
    assert lib.price_grid_tick_to_price_e4(grid, -1) == -1
    assert lib.price_grid_tick_to_price_e4(grid, len(prices)) == -1


@given(ANY_INT32, ANY_INT32, ANY_INT64)
def test_digest_of_a_level_is_the_documented_mix(side: int, tick: int, lots: int) -> None:
    assert lib.orderbook_digest_level(side, tick, lots) == digest_level(side, tick, lots)


@given(
    count=st.integers(-1, 9),
    total=ANY_INT32,
    runs=st.lists(st.tuples(ANY_INT32, ANY_INT32, ANY_INT32, ANY_INT32), min_size=8, max_size=8),
    honest=st.booleans(),
)
def test_grid_check_accepts_exactly_the_rising_contiguous_grids(
    count: int, total: int, runs: list[tuple[int, int, int, int]], honest: bool
) -> None:
    if honest:  # small numbers, so that many are legal
        runs = [(0, abs(c) % 40, abs(p) % 10000, abs(s) % 300) for _, c, p, s in runs]
        starts = [sum(c for _, c, _, _ in runs[:i]) for i in range(8)]
        runs = [(start, c, p, s) for start, (_, c, p, s) in zip(starts, runs, strict=True)]
        total = sum(c for _, c, _, _ in runs[:count]) if count > 0 else 0
    grid = ffi.new("price_grid_t *")
    grid.tick_count, grid.segment_count = total, count
    for index, run in enumerate(runs):
        grid.segments[index] = run
    used = runs[: max(count, 0)]
    legal = 1 <= count <= 8 and all(1 <= c <= 10001 and s >= 1 for _, c, _, s in used)
    if legal:
        prices = grid_prices([(c, p, s) for _, c, p, s in used])
        legal = (
            [start for start, _, _, _ in used] == [sum(c for _, c, _, _ in used[:i]) for i in range(count)]
            and 3 <= len(prices) <= 10001
            and len(prices) == total
            and prices[0] >= 0
            and prices[-1] < 2**31
            and all(low < high for low, high in itertools.pairwise(prices))
        )
    assert lib.price_grid_check(grid) == (lib.ORDERBOOK_OK if legal else lib.ORDERBOOK_GRID_INVALID)
