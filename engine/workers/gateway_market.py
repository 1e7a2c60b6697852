"""One market as the gateway accounts for it: its rules and status, its limits, what the last hop looks at.

Its orders (``gateway_live.py``) and its share of the account (``gateway_account.py``) are parts of it.
Everything a successor needs after a ``kill -9`` is in their rows or at the venue.

Reads: config slot, kill words, top row, heartbeats.  Writes: its bits of the market's kill word.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog
from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.config import QuoteConfig, RiskConfig, market_from_json
from engine.events import Direction, MarketStatus, Side
from engine.quoting.inventory import Leg, Stock, buy_freeze_cents
from engine.risk.breakers import Breakers, Control
from engine.risk.exposure import Commitment, order_loss_cents, stock_loss_cents
from engine.risk.rate import BurstBucket, TokenBucket
from engine.risk.staleness import Signs
from engine.venues.platform_wire import MarketDetail
from engine.workers.client_ids import ClientIds
from engine.workers.gateway_account import MarketAccount
from engine.workers.gateway_live import LiveOrder, LiveOrders

_log = structlog.get_logger()


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

        self._commitment = Commitment()
        self._commitment_of: Stock | None = None  # the stock it was counted from
        self._commitment_at = -1  # changes of orders that it has counted
        self.moved: Final = asyncio.Event()  # at every change of an order, of ``sweeping``, and by admit()

        self.account: Final = MarketAccount(
            self.market_id, ffi.addressof(self._market, "account"), client_ms_min=client_ms_min
        )
        self.orders: Final = LiveOrders(
            self._market.live_orders,
            ids=ClientIds(self.market_id, self.account),
            frozen_cents=self._frozen_cents,
            moved=self.moved,
        )

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

    def apply_leg(self, leg: Leg, *, order_id: str, newest: bool = True) -> LiveOrder | None:
        """Books a leg: account, breakers and the order's remainder. Returns that order.

        ``newest`` False: the market has booked later ones, and the cursor stays at the latest.

        The one place where a trade changes anything in the gateway; the caller has made sure that the leg
        is applied for the first time. ValueError: the leg is impossible.
        """
        self.reconcile_due |= self.account.book_leg(leg, newest=newest)
        if self.open_for_orders:  # what is caught up with after a start is no burst of now
            tripped = self.breakers.filled(leg.book_side, leg.quantity, lib.mono_now_ns())
            self.tripped = tripped or self.tripped
        return self.orders.filled(order_id, leg.quantity)

    def at_rest(self) -> bool:
        """Open, and no request about an order under way."""
        return self.open_for_orders and not self.sweeping and not self.orders.any_busy

    def _frozen_cents(self, order: LiveOrder) -> int:
        """Cash that an order holds."""
        if order.direction != Direction.BUY or self.rules is None:
            return 0
        return buy_freeze_cents(order.price_cents, order.remaining, self.rules.taker_fee_bps)

    # -- what the last hop looks at

    def top(self) -> Any:
        """The market's ``top_t`` as the feed has it; its ``valid`` is 0 when no stable copy could be had."""
        if lib.top_read(self._top_row, self._top) != lib.RING_OK:
            self._top.valid = 0
        return self._top

    def signs(self, top: Any) -> Signs:
        """When feed, quoter and venue last gave a sign of life; ``top`` is the top row as just read."""
        return Signs(
            book_valid=bool(top.valid),
            feed_mono_ns=int(lib.cell_load(self._feed_beat)),
            snapshot_mono_ns=int(lib.cell_load(self._snapshot_word)),
            worker_mono_ns=int(lib.cell_load(self._worker_beat)),
            reconciled_mono_ns=self.reconciled_mono_ns,
        )

    def commitment(self) -> Commitment:
        """What the market holds of the account; counted anew only after an order or the stock has changed."""
        if self._commitment_of is not self.account.stock or self._commitment_at != self.orders.changes:
            losses = {Side.BID: 0, Side.ASK: 0}
            frozen_cents = 0
            for order in self.orders:
                losses[order.side] += order_loss_cents(order.side, order.book_price_cents, order.remaining)
                frozen_cents += order.frozen_cents
            self._commitment = Commitment(
                frozen_cents=frozen_cents,
                worst_loss_cents=stock_loss_cents(self.account.stock) + max(losses.values()),
            )
            self._commitment_of, self._commitment_at = self.account.stock, self.orders.changes
        return self._commitment
