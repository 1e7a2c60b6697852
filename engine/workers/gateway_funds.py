"""Money and pairs: funding a market at its first start, mint and burn, cash from the ledger (§8 step 4, §9).

Each market has its share of the account's cash (D17): what it was funded with, plus its fills, plus burns,
minus mints, together with the newest trade that figure includes, in one row. Where that row cannot be
trusted (the exchange runs the market already, a mint was under way when the gateway died) the figure is
taken from the venue's ledger, which is absolute.

A mint or burn's key is on disk before its first request and stays the same for all of them.

Reads: GET /account/ledger, /account/balance.  Writes: account rows, ``RUN/facts/{market}.supply.json``.
"""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog
from msgspec import Struct

from engine._native import lib
from engine.arena import ArenaError
from engine.booking_journal import Baseline, BookedSupply
from engine.durable import write_durably
from engine.events import OVER, PAID_OUT, Kill, LocalReject, MarketStatus, OrderKind
from engine.quoting.effects import PAIR_CENTS
from engine.quoting.inventory import free_pairs, frozen_by
from engine.risk.rate import WindowLimit
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import Answered, NotSent, ReadError, Refused, Unknown
from engine.venues.platform_wire import AmmStartBody, SupplyBody
from engine.workers.client_ids import CLIENT_ID_CHARS_MAX, short_market_id
from engine.workers.clock import unix_ms
from engine.workers.gateway_cancels import INCONCLUSIVE
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_fills import TradeFeed
from engine.workers.gateway_flows import TRANSFER_CENTS_MAX, MoneyFlows
from engine.workers.gateway_intents import Intent
from engine.workers.gateway_market import GatewayMarket, StartFailure
from engine.workers.intent_journal import JournalError, Sent

_log = structlog.get_logger()

_RETRY_S_MIN: Final = 0.2
_RETRY_S_MAX: Final = 2.0
_FREEZES: Final = frozenset({"ORDER_FREEZE", "ORDER_UNFREEZE"})
_TRIES: Final = 5
_STARTS_PER_MINUTE: Final = 10  # platform §1.7, class admin
_HTTP_INTERNAL: Final = 500
_STANDING_KILLS: Final = Kill.ADMIN | Kill.RISK
_HTTP_NO_ROUTE: Final = frozenset({403, 404})

SupplyKind = Literal["mint", "burn"]


class FundingError(Exception):
    """The venue will not let this account be a market maker; the message is one line for a person."""


class StartRefusedError(Exception):
    """This market cannot be started; the account's others can. ``code`` is the venue's or a LOCAL_* one."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.failure: Final = StartFailure(code=int(code), reason=reason)


class StartLaterError(Exception):
    """Not now: the market is not ACTIVE (3002), or the venue's limit of starts is reached (9001)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"{code}: later")
        self.code: Final = code


class PendingSupply(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mint or burn whose request may have left: the content of the market's facts file."""

    kind: SupplyKind
    quantity: int
    idempotency_key: str


class MarketFunds:
    """Cash and pairs of the account's markets."""

    def __init__(self, context: GatewayContext, trades: TradeFeed, flows: MoneyFlows) -> None:
        self._context: Final = context
        self._trades: Final = trades
        self._flows: Final = flows
        self._netting_told = False
        self._starts: Final = WindowLimit(_STARTS_PER_MINUTE)
        self._facts: Final = context.proc.run_dir / "facts"

    # -- start

    async def check_account(self) -> None:
        """The account must not net pairs on its own. FundingError when it does; ReadError.

        The as-built platform does not say (platform §2.2); a position that shrinks would show as drift.
        """
        balance = await self._context.rest.balance()
        self._netting_told = balance.auto_netting_enabled is not None
        if not self._netting_told:
            _log.warning("netting_not_told", account=self._context.proc.config.venue.username)
        elif balance.auto_netting_enabled:
            raise FundingError(
                f"account {self._context.proc.config.venue.username}: auto_netting_enabled is "
                f"{balance.auto_netting_enabled}, must be false"
            )

    async def open(self, market: GatewayMarket, *, budget_cents: int = 0) -> None:
        """Brings the market's cash up to date, funding it first where nobody has: with ``budget_cents`` or
        the configured sum. Nothing of the market is published before that has succeeded (§8 step 4).

        Raises ReadError, StartLaterError, StartRefusedError.
        """
        if not (self._netting_told or market.quote.netting_off_confirmed):
            raise StartRefusedError(LocalReject.NOT_READY, "set netting_off_confirmed: netting is not told")
        await self._flows.recover(market)
        pending = self._pending(market)
        if pending is not None:
            refused = await self._send_supply(market, pending)
            if refused is not None and not market.account.funded and refused.code != _HTTP_INTERNAL:
                self._clear_pending(market)
                raise StartRefusedError(refused.code, f"{pending.kind}: {refused.message}")
            await self._cash_from_ledger(market)
            self._clear_pending(market)
            if refused is None:
                market.resolved_pairs = pending.quantity if pending.kind == "mint" else -pending.quantity
        elif not market.account.funded:
            if market.status in OVER:
                raise StartRefusedError(venue.MARKET_NOT_ACTIVE, f"market is {market.status.name}")
            async with self._flows.alone:
                await self._fund(market, budget_cents or market.quote.initial_funding_cents)
        elif market.status in PAID_OUT:
            await self._cash_from_ledger(market)  # the payout may have come while nobody looked
        elif not await self._trades.resume(market):
            _log.warning("cursor_out_of_reach", market=market.market_id, cursor=market.account.cursor)
            await self._cash_from_ledger(market)

    async def _fund(self, market: GatewayMarket, budget_cents: int) -> None:
        body = AmmStartBody(
            market_id=market.market_id,
            initial_budget_cents=budget_cents,
            initial_price_cents=market.quote.initial_price_cents,
        )
        delay_s = _RETRY_S_MIN
        while True:
            if not self._starts.free(lib.mono_now_ns()):
                raise StartLaterError(venue.RATE_LIMITED)
            cursor = await self._trades.newest(market)
            outcome = await self._context.rest.start_amm(body)
            self._starts.take(lib.mono_now_ns())  # one at a time, and not before the venue counted it
            match outcome:
                case Answered(data=started):
                    minted_cents = started.initial_mint_quantity * PAIR_CENTS
                    market.account.set_cash(
                        started.initial_budget_cents - minted_cents,
                        cursor=cursor,
                        funded=True,
                        budget_cents=started.initial_budget_cents,
                    )
                    self.note_baseline(market, started_pairs=started.initial_mint_quantity)
                    break
                case Refused(code=venue.AMM_RUNNING):
                    await self._cash_from_ledger(market)
                    break
                case Refused(code=code, status=status) if status in _HTTP_NO_ROUTE and code == status:
                    await self._deposit_and_mint(market, budget_cents)
                    break
                case Refused(code=venue.RATE_LIMITED):
                    self._context.rate_limited(self._starts, outcome)
                    raise StartLaterError(venue.RATE_LIMITED)
                case Refused(code=venue.MARKET_NOT_ACTIVE):
                    raise StartLaterError(venue.MARKET_NOT_ACTIVE)
                case Refused(code=code, message=message):
                    raise StartRefusedError(code, message)
                case _:
                    # NotSent or unknown: the start is not repeated by the venue, it answers 6007 then
                    pass
            await asyncio.sleep(delay_s)
            delay_s = min(_RETRY_S_MAX, 2 * delay_s)
        _log.info("market_funded", market=market.market_id, cash_cents=market.account.stock.cash_cents)

    async def _deposit_and_mint(self, market: GatewayMarket, budget_cents: int) -> None:
        """For a venue without the start route: money in, then half of it into pairs (D16, D19).

        What earlier tries deposited is in the market's file. A mint that is refused leaves the market
        unfunded; its money is found there by the next try.
        """
        cursor = await self._trades.newest(market)
        while (left_cents := budget_cents - self._flows.of(market).outside_cents) > 0:
            part_cents = min(left_cents, TRANSFER_CENTS_MAX)
            key = f"start {left_cents}"
            refused = await self._flows.move_alone(market, "deposit", part_cents, key=key, is_flow=False)
            if refused is not None:
                raise StartRefusedError(refused.code, f"deposit: {refused.message}")
        pairs = budget_cents // (2 * PAIR_CENTS)
        minted = False
        if pairs > 0:
            pending = self._new_pending(market, "mint", pairs)
            refused = await self._send_supply(market, pending)
            self._clear_pending(market)
            if refused is not None and refused.code != _HTTP_INTERNAL:  # as-built no mint ever works
                raise StartRefusedError(refused.code, f"mint: {refused.message}")
            minted = refused is None
        outside_cents = self._flows.of(market).outside_cents
        market.account.set_cash(
            0, cursor=cursor, funded=True, budget_cents=budget_cents, outside_cents=outside_cents
        )
        self.note_baseline(market)
        if minted:
            market.supply(pairs)

    async def _cash_from_ledger(self, market: GatewayMarket) -> None:
        """Sum of the market's ledger rows: what came in minus what went out, freezes apart (invariant 11);
        and the operators' money, which has no such rows."""
        for _ in range(_TRIES):
            cursor = await self._trades.newest(market)
            fills = market.account.fills
            cash_cents = await self.ledger_cents(market)
            # a fill booked meanwhile, by whoever told it, may be in neither figure: read again
            if await self._trades.newest(market) == cursor and market.account.fills == fills:
                outside_cents = self._flows.of(market).outside_cents
                market.account.set_cash(cash_cents, cursor=cursor, funded=True, outside_cents=outside_cents)
                self.note_baseline(market)
                return
        raise ReadError("/account/ledger", f"market {market.market_id} traded through {_TRIES} readings")

    def note_baseline(self, market: GatewayMarket, *, started_pairs: int = 0) -> None:
        """For whoever folds the bookings: what came before is in the figure."""
        self._context.bookings.append(
            Baseline(
                market=market.market_id,
                cursor=market.account.cursor,
                cash=market.account.stock.cash_cents,
                booked_ms=unix_ms(),
                started_pairs=started_pairs,
            )
        )

    async def ledger_cents(self, market: GatewayMarket) -> int:
        """Sum of all ledger rows of the market, freezes apart. Raises ReadError when a page fails."""
        cash_cents, page_cursor = 0, ""
        while True:
            page = await self._context.rest.ledger(market.market_id, page_cursor)
            cash_cents += sum(entry.amount_cents for entry in page.items if entry.entry_type not in _FREEZES)
            if not page.has_more or not page.next_cursor:
                return cash_cents
            page_cursor = page.next_cursor

    async def rebuild(self, market: GatewayMarket) -> None:
        """Cash anew from the ledger, however often it takes: the trade list was lost sight of."""
        while True:
            try:
                await self._cash_from_ledger(market)
            except ReadError as error:
                _log.warning("ledger_read_failed", market=market.market_id, reason=str(error))
                await asyncio.sleep(_RETRY_S_MAX)
            else:
                return

    # -- mint and burn for a quoter

    def supply(self, market: GatewayMarket, intent: Intent) -> None:
        """A MINT or BURN intent; one at a time per market."""
        kind: SupplyKind = "mint" if intent.kind == OrderKind.MINT else "burn"
        code = self._refusal(market, intent, kind)
        if code is not None:
            self._context.counts.refused += 1
            self._context.reports_of(market).rejected(
                market, code=code, intent=intent.number, worker_epoch=intent.worker_epoch
            )
            return
        self._begin(market, kind, intent.quantity)
        self._context.spawn(self._supply_for(market, intent, kind))

    @staticmethod
    def _begin(market: GatewayMarket, kind: SupplyKind, pairs: int) -> None:
        """From here on no order may count on these shares or this cash."""
        market.supply_busy = True
        market.pairs_under_way = pairs if kind == "mint" else -pairs

    @staticmethod
    def _end(market: GatewayMarket) -> None:
        market.supply_busy, market.pairs_under_way = False, 0

    def _refusal(self, market: GatewayMarket, intent: Intent, kind: SupplyKind) -> LocalReject | None:
        # A burn turns pairs into their cash and risks nothing: a killed market may wind down.
        if market.killed() & ~(_STANDING_KILLS if kind == "burn" else 0):
            return LocalReject.KILLED
        ready = self._context.books.admitting and market.open_for_orders and not market.supply_busy
        if not ready or market.rules is None or not market.account.position_known:
            return LocalReject.NOT_READY
        if intent.quantity <= 0:
            return LocalReject.LIMIT
        stock, frozen = market.account.stock, frozen_by(market.orders, market.rules.taker_fee_bps)
        if kind == "mint":
            if market.status != MarketStatus.ACTIVE:
                return LocalReject.NOT_READY
            free_cents = stock.cash_cents - frozen.cash_cents
            return LocalReject.CASH if intent.quantity * PAIR_CENTS > free_cents else None
        return LocalReject.OVERSELL if intent.quantity > free_pairs(stock, frozen) else None

    async def _supply_for(self, market: GatewayMarket, intent: Intent, kind: SupplyKind) -> None:
        try:
            refused = await self._supply(market, self._new_pending(market, kind, intent.quantity))
        finally:
            self._end(market)
        reports = self._context.reports_of(market)
        if refused is None:
            pairs = intent.quantity if kind == "mint" else -intent.quantity
            reports.supplied(market, pairs=pairs, intent=intent.number, worker_epoch=intent.worker_epoch)
        else:
            reports.rejected(
                market, code=refused.code, intent=intent.number, worker_epoch=intent.worker_epoch
            )

    async def burn_for_operator(self, market: GatewayMarket, pairs: int) -> int:
        """Burns free pairs to pay a withdrawal: 0, or the code of what refused it."""
        if market.supply_busy or not market.account.position_known:
            return int(LocalReject.NOT_READY)
        self._begin(market, "burn", pairs)
        try:
            refused = await self._supply(market, self._new_pending(market, "burn", pairs))
        finally:
            self._end(market)
        if refused is not None:
            return refused.code
        self._context.reports_of(market).supplied(market, pairs=-pairs, intent=0, worker_epoch=0)
        return 0

    async def _supply(self, market: GatewayMarket, pending: PendingSupply) -> Refused | None:
        """Sends until the venue has answered, and books what it did. Returns its refusal."""
        refused = await self._send_supply(market, pending)
        if refused is None:
            market.supply(pending.quantity if pending.kind == "mint" else -pending.quantity)
        self._clear_pending(market)
        return refused

    async def _send_supply(self, market: GatewayMarket, pending: PendingSupply) -> Refused | None:
        """The same key until an answer comes. 6006 and a replay are success: it was applied already."""
        body = SupplyBody(
            market_id=market.market_id,
            quantity=pending.quantity,
            idempotency_key=pending.idempotency_key,
        )
        send = self._context.rest.mint if pending.kind == "mint" else self._context.rest.burn
        delay_s = _RETRY_S_MIN
        journal, key = self._context.journal, pending.idempotency_key
        failures = 0
        while True:
            try:
                journal.record(
                    Sent(
                        at_ms=unix_ms(),
                        op=pending.kind,
                        market=market.market_id,
                        id=key,
                        quantity=pending.quantity,
                    )
                )
            except JournalError as error:
                _log.critical("journal_not_written", reason=str(error))
                await asyncio.sleep(_RETRY_S_MAX)
                continue
            outcome = await send(body)
            match outcome:
                case Answered() | Refused(code=venue.KEY_REUSED):
                    self._note_supply(market, pending)
                    journal.close_intent(key, order=key, at_ms=unix_ms())
                    return None
                case Refused() if outcome.code not in INCONCLUSIVE:
                    journal.close_intent(key, order="", at_ms=unix_ms())
                    return outcome
                case Refused() | NotSent():
                    pass
                case Unknown(status=status, sent_mono_ns=sent_mono_ns):
                    self._context.counts.unknowns += 1
                    failures = failures + 1 if status == _HTTP_INTERNAL else 0
                    if failures == _TRIES:
                        # As-built neither works, ever. Were it applied after all, the next sync shows drift.
                        _log.error("supply_fails", market=market.market_id, kind=pending.kind)
                        return Refused(
                            code=status, status=status, message="HTTP 500", sent_mono_ns=sent_mono_ns
                        )
            await asyncio.sleep(delay_s)
            delay_s = min(_RETRY_S_MAX, 2 * delay_s)

    def _note_supply(self, market: GatewayMarket, done: PendingSupply) -> None:
        self._context.bookings.append(
            BookedSupply(
                market=market.market_id,
                key=done.idempotency_key,
                pairs=done.quantity if done.kind == "mint" else -done.quantity,
                booked_ms=unix_ms(),
            )
        )

    # -- the facts file

    def _path(self, market: GatewayMarket) -> Path:
        return self._facts / f"{market.market_id}.supply.json"

    def _new_pending(self, market: GatewayMarket, kind: SupplyKind, quantity: int) -> PendingSupply:
        """Writes the key to disk (fsync, rename) and returns it."""
        pending = PendingSupply(
            kind=kind, quantity=quantity, idempotency_key=supply_key(market.market_id, kind, quantity)
        )
        self._facts.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._path(market), msgspec.json.encode(pending))
        return pending

    def _pending(self, market: GatewayMarket) -> PendingSupply | None:
        try:
            raw = self._path(market).read_bytes()
        except FileNotFoundError:
            return None
        try:
            return msgspec.json.decode(raw, type=PendingSupply)
        except msgspec.MsgspecError as error:
            raise ArenaError(f"{self._path(market)}: {error}") from None

    def _clear_pending(self, market: GatewayMarket) -> None:
        self._path(market).unlink(missing_ok=True)


def supply_key(market_id: str, kind: SupplyKind, quantity: int) -> str:
    """§6.3: ``amm_mint|burn_{market}_{n}_{random}``, at most 64 characters, never made twice."""
    random = uuid.uuid4().hex[:16]
    for market in (market_id, short_market_id(market_id)):
        text = f"amm_{kind}_{market}_{quantity}_{random}"
        if len(text) <= CLIENT_ID_CHARS_MAX:
            return text
    raise AssertionError(f"supply key of {len(text)} characters: {text}")
