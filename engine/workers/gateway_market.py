"""One market as the gateway accounts for it: its orders, its share of the account, its rules.

Owns the market slot's 64 live-order rows and its account row. Everything a successor needs after a
``kill -9`` is in those rows or at the venue: an order is in its row before its request leaves, cash and the
trade it includes up to are one row written at once.

Writes: live-order rows and account row of its market slot.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections import OrderedDict, deque
from typing import Any, Final

import structlog
from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, cell, check, padded, unpadded
from engine.config import QuoteConfig, RiskConfig, market_from_json
from engine.events import Direction, MarketStatus, Outcome, Scenario, Side
from engine.quoting.inventory import Stock, buy_freeze_cents
from engine.risk.breakers import Breakers, Control
from engine.risk.exposure import Commitment, order_loss_cents, stock_loss_cents
from engine.risk.pretrade import Candidate
from engine.risk.rate import BurstBucket, TokenBucket
from engine.risk.staleness import Signs
from engine.venues.platform_wire import MarketDetail
from engine.workers.gateway_account import MarketAccount

_log = structlog.get_logger()

NO_LIVE_SLOT: Final = 0xFFFF
CLIENT_ID_CHARS_MAX: Final = 64
_SEQUENCES_PER_MS: Final = 999
_CLOSED_MAX: Final = 256  # orders remembered after they are gone
_EARLY_FILLS_MAX: Final = 256  # fills of orders whose acknowledgement is still under way


class LiveOrder(Struct, kw_only=True, eq=False):
    """An order that is, or may be, live at the venue; mirrored in arena row ``slot``.

    ``busy``: a request about it is under way. ``sent``: its own request may have left this process.
    ``announced``: an ORDER record of a SYNC told the quoter of it before it was acknowledged.
    """

    slot: int
    number: int  # rises with every order of this gateway: who was first
    outcome: Outcome
    direction: Direction
    price_cents: int  # user view
    quantity: int
    remaining: int
    worker_epoch: int
    intent: int
    client_order_id: str
    created_ms: int
    side: Side  # of the YES book
    book_price_cents: int  # YES terms
    frozen_cents: int = 0  # cash a BUY holds
    acked_mono_ns: int = 0
    replaces: LiveOrder | None = None
    venue_order_id: str = ""
    state: int = lib.LIVE_PENDING
    busy: bool = True
    sent: bool = False
    announced: bool = False
    cancel_sent_mono_ns: int = 0  # when the bytes of the cancel that ended it left

    @property
    def filled(self) -> int:
        return self.quantity - self.remaining

    def gone(self) -> bool:
        """Nothing is live any more: the row has been freed."""
        return bool(self.state == lib.LIVE_FREE)


class StartFailure(Struct, frozen=True, kw_only=True):
    """Why a market cannot be quoted: the venue's code or a LOCAL_* one, and words for a person."""

    code: int
    reason: str


class MarketRules(Struct, frozen=True, kw_only=True):
    """What the venue says of the market, apart from its status."""

    min_price_cents: int
    max_price_cents: int
    maker_fee_bps: int
    taker_fee_bps: int
    order_quantity_max: int
    order_amount_max_cents: int
    created_ms: int
    trading_start_ms: int
    trading_end_ms: int
    resolution_ms: int

    @classmethod
    def of(cls, detail: MarketDetail) -> MarketRules:
        def ms(name: str) -> int:
            instant = getattr(detail, name)
            return 0 if instant is None else int(instant.timestamp() * 1_000)

        return cls(
            min_price_cents=detail.min_price_cents,
            max_price_cents=detail.max_price_cents,
            maker_fee_bps=detail.maker_fee_bps,
            taker_fee_bps=detail.taker_fee_bps,
            order_quantity_max=detail.max_order_quantity,
            order_amount_max_cents=detail.max_order_amount_cents,
            created_ms=ms("created_at"),
            trading_start_ms=ms("trading_start_at"),
            trading_end_ms=ms("trading_end_at"),
            resolution_ms=ms("resolution_date"),
        )


def market_status(name: str) -> MarketStatus:
    """The venue's word for a status; one we do not know is UNKNOWN, which nothing may be sent in."""
    return MarketStatus.__members__.get(name, MarketStatus.UNKNOWN)


class GatewayMarket:
    """State of one market slot. Only the gateway's event loop touches it."""

    def __init__(
        self, arena: Arena, slot: int, *, risk: RiskConfig, full_mono_ns: int, client_ms_min: int = 0
    ) -> None:
        """``full_mono_ns``: when its token buckets were full. ``client_ms_min``: the newest time in a client
        order id of an earlier life, by the journal."""
        self.slot: Final = slot
        self.market_id: Final = arena.market_id(slot)
        self.worker: Final = arena.market_worker(slot)
        self.config_version, payload = arena.config_bytes(slot)
        self.quote: QuoteConfig = market_from_json(payload).quote
        self._arena: Final = arena  # pointers below are into its mapping
        self._market = arena.market(slot)
        self._kill_word = arena.kill_market(slot)
        self._kill_global = arena.kill_global()
        self._epoch_word = cell(arena.worker(self.worker), "epoch")
        self._trade_count_word = cell(self._market.top, "trade_count")
        self._top_row = ffi.addressof(self._market, "top")
        self._top: Any = ffi.new("top_t *")
        self._config_version_word = cell(self._market.config, "version")
        self._snapshot_word = cell(self._market.feed, "snapshot_mono_ns")
        self._feed_beat = cell(arena.process(lib.PROCESS_INGEST), "heartbeat_mono_ns")
        self._worker_beat = cell(arena.process(lib.PROCESS_QUOTER_FIRST + self.worker), "heartbeat_mono_ns")

        self.rules: MarketRules | None = None
        self.status = MarketStatus.UNKNOWN
        self.status_mono_ns = 0
        self.open_for_orders = False  # recovered and funded
        self.sweeping = False  # orders are being pulled: none may go out
        self.handled_kill_word = 0
        self.handled_epoch = self.worker_epoch()
        self.seen_trade_count = self.trade_count()
        self.replace_tokens = TokenBucket(self.quote.replace_rate_limit, full_mono_ns)
        self.breakers: Final = Breakers(risk)
        self.order_tokens = BurstBucket(
            per_s=risk.market_rate_per_s, burst=risk.market_rate_burst, now_mono_ns=full_mono_ns
        )
        self.tripped: Control | None = None  # a control that its fills have set off
        self.paused_until_mono_ns = 0  # while a control's pause lasts
        self.reconcile_due = False  # something happened that asks for the venue's word (market-making §7.5)
        self.seen_generation = 0  # of the feed's book; a new one is a reconnect or a gap
        self.reconciled_mono_ns = 0  # when the venue's word on shares was last taken
        self.supply_busy = False  # a mint or burn is under way: positions are in motion
        self.resolved_pairs = 0  # of a predecessor's mint or burn, for the quoter to be told of once
        self.pairs_under_way = 0  # of a mint (> 0) or burn (< 0) that the venue may have carried out
        self.flows_cents = 0  # operators' deposits less withdrawals
        self.start_failure: StartFailure | None = None

        self.orders: dict[int, LiveOrder] = {}
        self.by_venue_id: dict[str, LiveOrder] = {}
        self.by_client_id: dict[str, LiveOrder] = {}
        # oldest freed first, so that a slot number is reused as late as possible
        self._free_slots = deque(range(lib.LIVE_ORDER_SLOTS))
        self._early_fills: OrderedDict[str, int] = OrderedDict()
        self._closed_mono_ns: OrderedDict[str, int] = OrderedDict()
        self._order_row = ffi.new("live_order_t *")
        self._order_number = 0
        self._commitment = Commitment()
        self._commitment_of: Stock | None = None  # the stock it was counted from
        self._orders_changed = True
        self.moved = asyncio.Event()  # set at every change of an order, of ``sweeping``, and by admit()

        self.account: Final = MarketAccount(
            self.market_id, ffi.addressof(self._market, "account"), client_ms_min=client_ms_min
        )
        self._client_ms = self.account.client_ms
        self._client_sequence = _SEQUENCES_PER_MS  # the predecessor may have used all of its last ms

    def admit(self) -> None:
        """Recovered and funded: orders may go out."""
        self.open_for_orders = True
        self.moved.set()

    # -- shared words

    def take_config(self) -> bool:
        """Hot reload (§10): the slot's newest version holds from here on in every limit of ``quote``.

        True when it is news. ArenaError: the slot cannot be read now, what was in force stays so.
        """
        if int(lib.cell_load(self._config_version_word)) == self.config_version:
            return False
        self.config_version, payload = self._arena.config_bytes(self.slot)
        self.quote = market_from_json(payload).quote
        return True

    def killed(self) -> int:
        """KILL_* bits in force: the market's and the global ones."""
        return int(lib.cell_load(self._kill_word) | lib.cell_load(self._kill_global))

    def raise_kill(self, bit: int) -> None:
        """Raises a bit of the market's kill word."""
        lib.cell_or(self._kill_word, bit)

    def lower_pause(self) -> None:
        """A pause is over; the bit is the gateway's own."""
        self.paused_until_mono_ns = 0
        lib.cell_clear(self._kill_word, lib.KILL_PAUSE)

    def worker_epoch(self) -> int:
        return int(lib.cell_load(self._epoch_word))

    def trade_count(self) -> int:
        """Market trades the feed has seen; moves before our fills can be listed."""
        return int(lib.cell_load(self._trade_count_word))

    # -- what is booked

    def supply(self, pairs: int) -> None:
        """Books a mint (``pairs`` > 0) or a burn (< 0)."""
        self.reconcile_due |= self.account.book_supply(pairs)

    def set_status(self, status: MarketStatus, now_mono_ns: int) -> bool:
        """Notes what the venue says now; True when that is news."""
        changed = status != self.status
        self.status = status
        self.status_mono_ns = now_mono_ns
        self.account.set_status(status, now_mono_ns, changed=changed)
        return changed

    def apply_leg(
        self,
        *,
        trade_id: str,
        scenario: Scenario,
        side: Side,
        price_cents: int,
        quantity: int,
        fee_cents: int,
        order_id: str,
        newest: bool = True,
    ) -> LiveOrder | None:
        """Books one leg of ours: account, breakers and the order's remainder. Returns that order.

        ``newest`` False: the market has booked later ones, and the cursor stays at the latest.

        The one place where a trade changes anything in the gateway; the caller has made sure that the leg
        is applied for the first time. ValueError: the leg is impossible.
        """
        self.reconcile_due |= self.account.book_leg(
            trade_id=trade_id,
            scenario=scenario,
            side=side,
            price_cents=price_cents,
            quantity=quantity,
            fee_cents=fee_cents,
            newest=newest,
        )
        if self.open_for_orders:  # what is caught up with after a start is no burst of now
            self.tripped = self.breakers.filled(side, quantity, lib.mono_now_ns()) or self.tripped
        order = self.by_venue_id.get(order_id)
        if order is None:
            if order_id:
                self._early_fills[order_id] = self._early_fills.get(order_id, 0) + quantity
                if len(self._early_fills) > _EARLY_FILLS_MAX:
                    self._early_fills.popitem(last=False)
            return None
        order.remaining = max(0, order.remaining - quantity)
        self.write(order)
        return order

    def resting_at(self, side: Side, book_price_cents: int, *, closing: bool) -> str:
        """Venue id of our oldest order at a price that buys (or, ``closing``, sells) shares; empty: none."""
        direction = Direction.SELL if closing else Direction.BUY
        found = [
            order
            for order in self.by_venue_id.values()
            if order.side is side
            and order.direction is direction
            and order.book_price_cents == book_price_cents
            and order.remaining
        ]
        return min(found, key=lambda order: order.number).venue_order_id if found else ""

    # -- orders

    def open_order(
        self, candidate: Candidate, *, worker_epoch: int, intent: int, now_ms: int
    ) -> LiveOrder | None:
        """Takes responsibility for a new order: its row, PENDING, before any send. None: no row is free."""
        if not self._free_slots:
            return None
        self._order_number += 1
        client_order_id, created_ms = self._next_client_id(candidate, now_ms)
        order = LiveOrder(
            slot=self._free_slots.popleft(),
            number=self._order_number,
            outcome=candidate.outcome,
            direction=candidate.direction,
            price_cents=candidate.price_cents,
            quantity=candidate.quantity,
            remaining=candidate.quantity,
            worker_epoch=worker_epoch,
            intent=intent,
            client_order_id=client_order_id,
            created_ms=created_ms,
            side=candidate.side,
            book_price_cents=candidate.book_price_cents,
        )
        self.orders[order.slot] = order
        self.by_client_id[client_order_id] = order
        self.write(order)
        return order

    def _next_client_id(self, candidate: Candidate, now_ms: int) -> tuple[str, int]:
        """§2.3: ``amm_{market}_{side}_{direction}_{ms}_{seq}``, never going back in time."""
        if now_ms > self._client_ms:
            self._client_ms, self._client_sequence = now_ms, 1
        elif self._client_sequence < _SEQUENCES_PER_MS:
            self._client_sequence += 1
        else:
            self._client_ms, self._client_sequence = self._client_ms + 1, 1
        if self._client_sequence == 1:
            self.account.set_client_ms(self._client_ms)
        text = client_order_id(
            self.market_id,
            candidate.outcome,
            candidate.direction,
            unix_ms=self._client_ms,
            sequence=self._client_sequence,
        )
        return text, self._client_ms

    def acknowledge(self, order: LiveOrder, venue_order_id: str) -> None:
        """The venue has the order under this id; fills that were listed before we knew are its own."""
        order.venue_order_id = venue_order_id
        order.acked_mono_ns = lib.mono_now_ns()
        order.remaining -= min(order.remaining, self._early_fills.pop(venue_order_id, 0))
        order.state = lib.LIVE_ACTIVE
        order.busy = False
        order.replaces = None
        self.by_venue_id[venue_order_id] = order
        self.write(order)

    def at_rest(self) -> bool:
        """Open, and no request about an order under way."""
        return (
            self.open_for_orders
            and not self.sweeping
            and not any(order.busy for order in self.orders.values())
        )

    def set_state(self, order: LiveOrder, state: int, *, busy: bool) -> None:
        order.state = state
        order.busy = busy
        self.write(order)

    def close(self, order: LiveOrder) -> None:
        """The order is gone; its row is free again."""
        if order.gone():
            return
        order.busy = False
        order.state = lib.LIVE_FREE
        self.write(order)
        if order.venue_order_id:
            self._closed_mono_ns[order.venue_order_id] = lib.mono_now_ns()
            if len(self._closed_mono_ns) > _CLOSED_MAX:
                self._closed_mono_ns.popitem(last=False)
        del self.orders[order.slot]
        del self.by_client_id[order.client_order_id]
        self.by_venue_id.pop(order.venue_order_id, None)
        self._free_slots.append(order.slot)

    def closed_since(self, venue_order_id: str, mono_ns: int) -> bool:
        """Whether an order of ours was closed after ``mono_ns``: a listing asked for then may show it."""
        return self._closed_mono_ns.get(venue_order_id, 0) >= mono_ns

    def write(self, order: LiveOrder) -> None:
        """Publishes the order's row."""
        row = self._order_row
        row.state = order.state
        row.outcome = order.outcome
        row.direction = order.direction
        row.worker_epoch = order.worker_epoch
        row.intent = order.intent
        row.price_cents = order.price_cents
        row.quantity = order.quantity
        row.remaining = order.remaining
        row.created_ms = order.created_ms
        row.frozen_cents = order.frozen_cents = self._frozen_cents(order)
        row.venue_order_id = padded(order.venue_order_id, lib.VENUE_ID_BYTES)
        row.client_order_id = padded(order.client_order_id, lib.VENUE_ID_BYTES)
        lib.live_order_write(ffi.addressof(self._market.live_orders[order.slot]), row)
        self._orders_changed = True
        self.moved.set()

    def left_over_client_ids(self) -> list[str]:
        """Client ids of the rows a predecessor left; the rows are freed. For the start only."""
        found = []
        for slot in range(lib.LIVE_ORDER_SLOTS):
            row = ffi.addressof(self._market.live_orders[slot])
            check(lib.live_order_read(row, self._order_row), "live-order row")
            if self._order_row.state != lib.LIVE_FREE:
                found.append(unpadded(self._order_row.client_order_id))
                self._order_row.state = lib.LIVE_FREE
                lib.live_order_write(row, self._order_row)
        return found

    def _frozen_cents(self, order: LiveOrder) -> int:
        if order.direction != Direction.BUY or self.rules is None:
            return 0
        return buy_freeze_cents(order.price_cents, order.remaining, self.rules.taker_fee_bps)

    # -- what the last hop looks at

    def top(self) -> Any:
        """The market's ``top_t`` as the feed has it; its ``valid`` is 0 when no stable copy could be had."""
        if lib.top_read(self._top_row, self._top) != lib.RING_OK:
            self._top.valid = 0
        return self._top

    def signs(self) -> Signs:
        """When feed, quoter and venue last gave a sign of life; reads the top row anew."""
        return Signs(
            book_valid=bool(self.top().valid),
            feed_mono_ns=int(lib.cell_load(self._feed_beat)),
            snapshot_mono_ns=int(lib.cell_load(self._snapshot_word)),
            worker_mono_ns=int(lib.cell_load(self._worker_beat)),
            reconciled_mono_ns=self.reconciled_mono_ns,
        )

    def commitment(self) -> Commitment:
        """What the market holds of the account; counted anew only after an order or the stock has changed."""
        if self._commitment_of is not self.account.stock or self._orders_changed:
            losses = {Side.BID: 0, Side.ASK: 0}
            frozen_cents = 0
            for order in self.orders.values():
                losses[order.side] += order_loss_cents(order.side, order.book_price_cents, order.remaining)
                frozen_cents += order.frozen_cents
            self._commitment = Commitment(
                frozen_cents=frozen_cents,
                worst_loss_cents=stock_loss_cents(self.account.stock) + max(losses.values()),
            )
            self._commitment_of, self._orders_changed = self.account.stock, False
        return self._commitment


def client_order_id(
    market_id: str, outcome: Outcome, direction: Direction, *, unix_ms: int, sequence: int
) -> str:
    """§2.3: the plain form; where that is too long, ``m`` and 16 hex digits of SHA-256 name the market."""
    text = f"amm_{market_id}_{outcome.name}_{direction.name}_{unix_ms}_{sequence:03d}"
    if len(text) <= CLIENT_ID_CHARS_MAX:
        return text
    return f"amm_{short_market_id(market_id)}_{outcome.name}_{direction.name}_{unix_ms}_{sequence:03d}"


@functools.cache
def short_market_id(market_id: str) -> str:
    """Stand-in of fixed length for a market id in keys that hold at most 64 characters."""
    return "m" + hashlib.sha256(market_id.encode()).hexdigest()[:16]
