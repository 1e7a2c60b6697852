"""Money that operators move: deposits for a market, withdrawals from it, each exactly once (§8 Admin API).

The venue's deposit and withdrawal have no key of their own. What is asked for is on disk before the first
request, together with the newest row of the account's ledger; whether an unanswered one was carried out is
told by the rows that came after it, at once or by a successor at its start. It is never sent again. One
transfer of the account is under way at a time, so that a row belongs to one transfer only.

The venue's ledger does not know which market such money is for: the file does, and what it adds up to is part
of the market's cash.

Reads: GET /account/ledger.  Writes: ``RUN/facts/{market}.flows.json``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog
from msgspec import Struct, structs

from engine.arena import ArenaError
from engine.durable import write_durably
from engine.events import LocalReject
from engine.venues import platform_rest as venue
from engine.venues.platform_rest import Answered, NotSent, ReadError, Refused
from engine.workers.gateway_context import GatewayContext
from engine.workers.gateway_market import GatewayMarket

_log = structlog.get_logger()

TRANSFER_CENTS_MAX: Final = 10_000_000
_RETRY_S: Final = 0.5
_NOT_SENT_TRIES: Final = 10
_SEARCHES: Final = 6  # readings of the ledger for the row of a transfer without an answer

TransferKind = Literal["deposit", "withdraw"]
_ENTRY_TYPES: Final[dict[TransferKind, str]] = {"deposit": "DEPOSIT", "withdraw": "WITHDRAW"}


class Transfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A deposit or withdrawal whose request may have left.

    ``key`` names what it is for; ``after_entry`` is the newest ledger row before it was sent.
    """

    kind: TransferKind
    amount_cents: int
    key: str
    after_entry: int
    is_flow: bool  # an operator's, not the money of the start

    @property
    def signed_cents(self) -> int:
        return self.amount_cents if self.kind == "deposit" else -self.amount_cents


class MarketFlows(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file of one market."""

    outside_cents: int = 0  # cash of the market that no ledger row of the market tells of
    flows_cents: int = 0  # of it: operators' deposits less withdrawals
    last_key: str = ""  # of the last transfer that was booked
    pending: Transfer | None = None


class MoneyFlows:
    """The transfers of all markets of the account."""

    def __init__(self, context: GatewayContext) -> None:
        self._context: Final = context
        self._facts: Final = context.proc.run_dir / "facts"
        self.alone: Final = asyncio.Lock()
        """Held while anything puts money on the account or takes some off it."""
        self._files: Final[dict[int, MarketFlows]] = {}

    def of(self, market: GatewayMarket) -> MarketFlows:
        """What the file says. Raises ArenaError when it cannot be read."""
        if market.slot not in self._files:
            flows = self._files[market.slot] = self._read(market)
            market.flows_cents = flows.flows_cents
        return self._files[market.slot]

    async def recover(self, market: GatewayMarket) -> None:
        """Resolves what a predecessor left under way, however long the venue takes to tell."""
        pending = self.of(market).pending
        if pending is not None:
            async with self.alone:
                if await self._arrives(pending):
                    self._book(market, pending)
                else:
                    _log.warning("transfer_never_arrived", market=market.market_id, key=pending.key)
                    self._write(market, structs.replace(self.of(market), pending=None))
        if market.account.funded:
            market.account.set_outside(self.of(market).outside_cents)

    async def move(
        self, market: GatewayMarket, kind: TransferKind, amount_cents: int, *, key: str
    ) -> Refused | None:
        """Carries out one transfer and books it in the file; None = done, or done before under this key.

        A refusal with the local code NOT_READY: the venue's ledger shows nothing of it. Raises ReadError when
        the ledger cannot be read before anything was sent.
        """
        async with self.alone:
            return await self.move_alone(market, kind, amount_cents, key=key, is_flow=True)

    async def move_alone(
        self, market: GatewayMarket, kind: TransferKind, amount_cents: int, *, key: str, is_flow: bool
    ) -> Refused | None:
        """:meth:`move` for a caller that holds ``alone``."""
        if self.of(market).last_key == key:
            return None
        after_entry = await self._newest_entry()
        transfer = Transfer(
            kind=kind, amount_cents=amount_cents, key=key, after_entry=after_entry, is_flow=is_flow
        )
        self._write(market, structs.replace(self.of(market), pending=transfer))
        refused = await self._send(transfer)
        if refused is None:
            self._book(market, transfer)
        else:
            self._write(market, structs.replace(self.of(market), pending=None))
        return refused

    async def _send(self, transfer: Transfer) -> Refused | None:
        rest = self._context.rest
        send = rest.deposit if transfer.kind == "deposit" else rest.withdraw
        reason = ""
        for _ in range(_NOT_SENT_TRIES):
            outcome = await send(transfer.amount_cents)
            match outcome:
                case Answered():
                    return None
                case Refused(code=code) if code != venue.RATE_LIMITED:
                    return outcome
                case Refused() | NotSent():
                    reason = "the venue cannot be reached"
                    await asyncio.sleep(_RETRY_S)
                case _:
                    if await self._arrives(transfer):
                        return None
                    reason = "no answer, and the venue's ledger does not show it"
                    break
        return Refused(code=LocalReject.NOT_READY, status=0, message=reason, sent_mono_ns=0)

    async def _arrives(self, transfer: Transfer) -> bool:
        """Whether a transfer without an answer was carried out; a slow one is waited for."""
        self._context.counts.unknowns += 1
        searches = 0
        while searches < _SEARCHES:
            await asyncio.sleep(_RETRY_S)
            try:
                if await self._is_listed(transfer):
                    return True
            except ReadError as error:  # no answer is no fact
                _log.warning("ledger_read_failed", reason=str(error))
            else:
                searches += 1
        return False

    async def _newest_entry(self) -> int:
        page = await self._context.rest.ledger("")
        return max((entry.id for entry in page.items), default=0)

    async def _is_listed(self, transfer: Transfer) -> bool:
        """Whether the account's ledger has a row of this transfer after the row it was sent behind."""
        cursor = ""
        while True:
            page = await self._context.rest.ledger("", cursor)
            newer = [entry for entry in page.items if entry.id > transfer.after_entry]
            if any(
                entry.entry_type == _ENTRY_TYPES[transfer.kind]
                and entry.amount_cents == transfer.signed_cents
                for entry in newer
            ):
                return True
            if len(newer) < len(page.items) or not page.has_more or not page.next_cursor:
                return False
            cursor = page.next_cursor

    # -- the file

    def _book(self, market: GatewayMarket, transfer: Transfer) -> None:
        """The transfer happened. The market's row follows; after a crash in between it catches up."""
        flows = self.of(market)
        self._write(
            market,
            MarketFlows(
                outside_cents=flows.outside_cents + transfer.signed_cents,
                flows_cents=flows.flows_cents + (transfer.signed_cents if transfer.is_flow else 0),
                last_key=transfer.key,
            ),
        )
        if market.account.funded:
            market.account.set_outside(self.of(market).outside_cents)
        _log.info(
            "transfer_booked",
            market=market.market_id,
            kind=transfer.kind,
            cents=transfer.amount_cents,
            key=transfer.key,
        )

    def _path(self, market: GatewayMarket) -> Path:
        return self._facts / f"{market.market_id}.flows.json"

    def _read(self, market: GatewayMarket) -> MarketFlows:
        try:
            return msgspec.json.decode(self._path(market).read_bytes(), type=MarketFlows)
        except FileNotFoundError:
            return MarketFlows()
        except msgspec.MsgspecError as error:
            raise ArenaError(f"{self._path(market)}: {error}") from None

    def _write(self, market: GatewayMarket, flows: MarketFlows) -> None:
        self._facts.mkdir(mode=0o700, exist_ok=True)
        write_durably(self._path(market), msgspec.json.encode(flows))
        self._files[market.slot] = flows
        market.flows_cents = flows.flows_cents
