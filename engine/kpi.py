"""Quoting quality of one market (market-making §12): what happened, folded into exact integer sums.

A :class:`MarketKpis` is told what changed and when; it keeps one :class:`Tally` for everything and one for
each UTC day and phase. Shares of time are sums of nanoseconds, averages over time are sums of value times
nanoseconds, money is cents: nothing is rounded before somebody looks (:mod:`engine.kpi_figures`), tallies
add up, and memory is bounded whatever the length of a run.

The PnL identity is computed twice. The assets' change comes from a ledger (§2.6 effects applied to stock and
cash); its parts come from the formula ``Σ dir·(p-s)·Q + Σ(Y-N)·Δs - Σ fees + flows``. What the venue's word
changes beyond both is booked as ``unexplained``, so that an error shows and does not hide in another part.

Who feeds it: the recorder process in production, the scenario suite from the exchange's own journal.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import Final

from msgspec import Struct, structs

from engine.kpi_values import DEPTH_CENTS, MARKOUT_S, Condition, Fill, MarketRecord, OwnQuotes, Tally
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.inventory import Stock, apply_trade, assets_cents

DAYS_MAX: Final = 7
"""UTC days kept apart; the total goes on when the oldest leaves."""
PENDING_FILLS_MAX: Final = 65_536
"""Fills per horizon that wait for their markout; beyond it the oldest has none."""
_MARKS_MAX: Final = 1_024
_NS_PER_S: Final = 1_000_000_000
_NS_PER_DAY: Final = 86_400 * _NS_PER_S
_BP: Final = 10_000


class _Waiting(Struct, frozen=True):
    due_ns: int
    fill: Fill
    tallies: tuple[Tally, ...]


class MarketKpis:
    """Folds one market's events. Times are Unix ns and do not go back: an earlier one counts as the last.

    A mark is the fair price (§3.3) the market is valued at. Nothing is counted as time before
    :meth:`resume`.
    """

    def __init__(self, record: MarketRecord) -> None:
        self.record: Final = record
        self._now_ns: int | None = None
        self._quotes = OwnQuotes()
        self._oracle_cents: int | None = None
        self._marks: deque[tuple[int, int]] = deque(maxlen=_MARKS_MAX)
        self._waiting: Final = tuple(deque[_Waiting](maxlen=PENDING_FILLS_MAX) for _ in MARKOUT_S)
        self._day_end_ns = 0
        self._tallies: tuple[Tally, ...] = (record.total,)

    # ---- time --------------------------------------------------------------------------------

    def resume(self, at_ns: int) -> None:
        """From here on somebody looks; the time before was not observed."""
        self._now_ns = at_ns
        self._quotes = OwnQuotes()
        self._choose_tallies(at_ns)

    def advance(self, at_ns: int) -> None:
        """Counts the time up to ``at_ns`` as spent in what holds now, split at midnight UTC."""
        assert self._now_ns is not None, "resume() comes first"
        while at_ns > self._now_ns:
            if self._now_ns >= self._day_end_ns:
                self._choose_tallies(self._now_ns)
            until_ns = min(at_ns, self._day_end_ns)
            self._settle_markouts(until_ns)
            for tally in self._tallies:
                self._count_time(tally, until_ns - self._now_ns)
            self._now_ns = until_ns
        if self._now_ns >= self._day_end_ns:
            self._choose_tallies(self._now_ns)

    def _choose_tallies(self, at_ns: int) -> None:
        """The tallies of this moment's day and phase, beside the total."""
        day_index = at_ns // _NS_PER_DAY
        self._day_end_ns = (day_index + 1) * _NS_PER_DAY
        if self.record.condition is None:
            self._tallies = (self.record.total,)
            return
        day = day_name(at_ns)
        phases = self.record.days.setdefault(day, {})
        tally = phases.setdefault(self.record.condition.phase, Tally())
        while len(self.record.days) > DAYS_MAX:
            del self.record.days[min(self.record.days)]
        self._tallies = (self.record.total, tally)

    def _count_time(self, tally: Tally, elapsed_ns: int) -> None:
        tally.observed_ns += elapsed_ns
        self._count_stock(tally, elapsed_ns)
        if self._oracle_cents is not None and self.record.mark_cents is not None:
            tally.oracle_ns += elapsed_ns
            tally.oracle_cents_ns += abs(self.record.mark_cents - self._oracle_cents) * elapsed_ns
        condition = self.record.condition
        if condition is None:
            return
        _add(tally.level_ns, condition.level, elapsed_ns)
        for gate in condition.gates:
            _add(tally.gate_ns, gate, elapsed_ns)
        for kill in condition.kills:
            _add(tally.kill_ns, kill, elapsed_ns)
        if not condition.active:
            return
        tally.active_ns += elapsed_ns
        tally.free_ns += elapsed_ns if condition.free else 0
        if self._quotes.both:
            tally.quoted_ns += elapsed_ns
            tally.quoted_free_ns += elapsed_ns if condition.free else 0
            self._count_quotes(tally, elapsed_ns)

    def _count_quotes(self, tally: Tally, elapsed_ns: int) -> None:
        bids, asks, mark = self._quotes.bids, self._quotes.asks, self.record.mark_cents
        bid, ask = max(bids), min(asks)
        tally.spread_cents_ns += (ask - bid) * elapsed_ns
        tally.touch_shares_ns += (bids[bid] + asks[ask]) * elapsed_ns
        if mark is None:
            return
        tally.marked_quoted_ns += elapsed_ns
        tally.half_bid_cents_ns += (mark - bid) * elapsed_ns
        tally.half_ask_cents_ns += (ask - mark) * elapsed_ns
        for index, reach in enumerate(DEPTH_CENTS):
            shares = sum(size for price, size in (*bids.items(), *asks.items()) if abs(price - mark) <= reach)
            tally.near_shares_ns[index] += shares * elapsed_ns

    def _count_stock(self, tally: Tally, elapsed_ns: int) -> None:
        stock = self.record.stock
        if stock is None:
            return
        exposure = abs(stock.yes_volume - stock.no_volume)
        tally.exposure_shares_ns += exposure * elapsed_ns
        tally.exposure_shares_max = max(tally.exposure_shares_max, exposure)
        total = stock.yes_volume + stock.no_volume
        skew_bp = _BP * exposure // total if total else 0
        tally.skew_ns += elapsed_ns
        tally.skew_bp_ns += skew_bp * elapsed_ns
        percent = skew_bp // 100
        tally.skew_percent_ns[percent] = tally.skew_percent_ns.get(percent, 0) + elapsed_ns

    # ---- what holds --------------------------------------------------------------------------

    def hold(self, at_ns: int, condition: Condition) -> None:
        """From ``at_ns`` on this holds. Entries of gates and kills are counted where they begin."""
        self.advance(at_ns)
        before = self.record.condition
        if condition == before:
            return
        self.record.condition = condition
        self._choose_tallies(self._moment())
        gates = set(condition.gates) - set(before.gates if before else ())
        kills = set(condition.kills) - set(before.kills if before else ())
        for tally in self._tallies:
            for gate in gates:
                _add(tally.gate_entries, gate, 1)
            for kill in kills:
                _add(tally.kill_entries, kill, 1)

    def quote(self, at_ns: int, quotes: OwnQuotes) -> None:
        """From ``at_ns`` on these rest."""
        self.advance(at_ns)
        self._quotes = quotes

    def oracle(self, at_ns: int, cents: int | None) -> None:
        """From ``at_ns`` on the oracle says this, or nothing."""
        self.advance(at_ns)
        self._oracle_cents = cents

    def mark(self, at_ns: int, cents: int) -> None:
        """From ``at_ns`` on the fair price is this."""
        self.advance(at_ns)
        before = self.record.mark_cents
        if cents == before:
            return
        stock = self.record.stock
        if before is not None and stock is not None:
            gain = (stock.yes_volume - stock.no_volume) * (cents - before)
            change = assets_cents(stock, cents) - assets_cents(stock, before)
            for tally in self._tallies:
                tally.inventory_cents += gain
                self._assets_changed(tally, change)
        self.record.mark_cents = cents
        self._marks.append((self._moment(), cents))

    def mark_at(self, at_ns: int) -> int | None:
        """The fair price that held at a moment of the recent past; the oldest known for an earlier one."""
        found = self._marks[0][1] if self._marks else self.record.mark_cents
        for since_ns, cents in reversed(self._marks):
            if since_ns <= at_ns:
                return cents
        return found

    # ---- what happens ------------------------------------------------------------------------

    def fill(self, at_ns: int, fill: Fill, *, traded_ns: int | None = None) -> None:
        """A fill is known at ``at_ns``; it is valued at the fair price of ``traded_ns``, when it happened.

        ValueError when the known stock cannot have given it.
        """
        self.advance(at_ns)
        traded_ns = min(traded_ns, self._moment()) if traded_ns is not None else self._moment()
        stock, mark = self.record.stock, self.mark_at(traded_ns)
        for tally in self._tallies:
            tally.fills += 1
            tally.filled_shares += fill.quantity
        if stock is None or mark is None or self.record.mark_cents is None:
            return
        after = apply_trade(
            stock,
            scenario=fill.scenario,
            book_side=fill.side,
            price_cents=fill.price_cents,
            quantity=fill.quantity,
            own_fee_cents=fill.fee_cents,
        )
        change = assets_cents(after, self.record.mark_cents) - assets_cents(stock, self.record.mark_cents)
        capture = fill.sold * (fill.price_cents - mark) * fill.quantity
        # Known only now, it has moved with the fair price since it was traded.
        since = -fill.sold * fill.quantity * (self.record.mark_cents - mark)
        self.record.stock = after
        for tally in self._tallies:
            tally.priced_shares += fill.quantity
            tally.capture_cents += capture
            tally.inventory_cents += since
            tally.fees_cents += fill.fee_cents
            self._assets_changed(tally, change)
        for horizon_s, waiting in zip(MARKOUT_S, self._waiting, strict=True):
            waiting.append(_Waiting(traded_ns + horizon_s * _NS_PER_S, fill, self._tallies))

    def supply(self, at_ns: int, pairs: int) -> None:
        """Pairs minted (> 0) or burned (< 0) at 100 cents: assets do not change (§2.6)."""
        self.advance(at_ns)
        stock = self.record.stock
        if stock is None:
            return
        self.record.stock = structs.replace(
            stock,
            yes_volume=stock.yes_volume + pairs,
            no_volume=stock.no_volume + pairs,
            cash_cents=stock.cash_cents - PAIR_CENTS * pairs,
        )

    def flow(self, at_ns: int, cents: int) -> None:
        """Cash paid in (> 0) or taken out (< 0)."""
        self.advance(at_ns)
        stock = self.record.stock
        if stock is None:
            return
        self.record.stock = structs.replace(stock, cash_cents=stock.cash_cents + cents)
        for tally in self._tallies:
            tally.flows_cents += cents
            tally.assets_change_cents += cents

    def venue_stock(self, at_ns: int, stock: Stock, *, settled: bool = False) -> None:
        """The venue's word on volumes and cash. The first one opens the ledger; a later one checks it, and
        what differs is ``unexplained``, or the ``settlement`` of a market that is resolved."""
        self.advance(at_ns)
        known, self.record.stock = self.record.stock, stock
        if known is None:
            return
        mark = self.record.mark_cents
        change = assets_cents(stock, mark) - assets_cents(known, mark) if mark is not None else 0
        for tally in self._tallies:
            tally.venue_checks += 1
            if settled:
                tally.settlement_cents += change
            else:
                tally.unexplained_cents += change
                tally.unexplained_abs_cents += abs(change)
            self._assets_changed(tally, change)

    def request(self, at_ns: int) -> None:
        """A place, replace or cancel was asked for."""
        self.advance(at_ns)
        for tally in self._tallies:
            tally.requests += 1

    def outcome(self, at_ns: int, name: str, *, posted_shares: int = 0) -> None:
        """A request was answered: how, and what is new in the book."""
        self.advance(at_ns)
        for tally in self._tallies:
            _add(tally.outcomes, name, 1)
            tally.posted_shares += posted_shares

    def latency(self, *, replace_bucket: int | None = None, cancel_bucket: int | None = None) -> None:
        """How long the replace or cancel just answered took (bucket of a latency histogram)."""
        for tally in self._tallies:
            if replace_bucket is not None:
                tally.replace_ns[replace_bucket] = tally.replace_ns.get(replace_bucket, 0) + 1
            if cancel_bucket is not None:
                tally.cancel_ns[cancel_bucket] = tally.cancel_ns.get(cancel_bucket, 0) + 1

    # ---- within ------------------------------------------------------------------------------

    def _moment(self) -> int:
        assert self._now_ns is not None, "resume() comes first"
        return self._now_ns

    def _settle_markouts(self, until_ns: int) -> None:
        """Fills whose horizon ends before ``until_ns`` are compared with the fair price of that moment."""
        if self.record.mark_cents is None:
            return
        for index, waiting in enumerate(self._waiting):
            while waiting and waiting[0].due_ns <= until_ns:
                entry = waiting.popleft()
                mark = self.mark_at(entry.due_ns)
                assert mark is not None, "there is one now, so there is an oldest"
                gain = entry.fill.sold * (entry.fill.price_cents - mark) * entry.fill.quantity
                for tally in entry.tallies:
                    tally.markout_cents[index] += gain
                    tally.markout_shares[index] += entry.fill.quantity

    @staticmethod
    def _assets_changed(tally: Tally, cents: int) -> None:
        tally.assets_change_cents += cents
        tally.peak_pnl_cents = max(tally.peak_pnl_cents, tally.pnl_cents)
        tally.drawdown_cents = max(tally.drawdown_cents, tally.peak_pnl_cents - tally.pnl_cents)


def day_name(unix_ns: int) -> str:
    """The UTC day of a moment, YYYY-MM-DD."""
    return datetime.fromtimestamp(unix_ns // _NS_PER_S, UTC).date().isoformat()


def _add(counts: dict[str, int], name: str, amount: int) -> None:
    counts[name] = counts.get(name, 0) + amount
