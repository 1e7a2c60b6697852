"""One market as the gateway accounts for it: its rules and status, its limits, what the last hop looks at.

Its orders (``gateway_live.py``) and its share of the account (``gateway_account.py``) are parts of it.
Everything a successor needs after a ``kill -9`` is in their rows or at the venue. What the last hop counts
with is in ``books`` (``native/gateway_books.h``) and nowhere else, or copied there by whatever sets it.

Reads: config slot, kill words, top row, heartbeats.  Writes: its bits of the market's kill word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog
from msgspec import Struct

from engine._native import ffi, lib
from engine.arena import Arena, cell
from engine.config import QuoteConfig, market_from_json
from engine.events import MarketStatus, Stale
from engine.quoting.inventory import Leg
from engine.risk.breakers import Breakers, Control
from engine.risk.rate import BurstBucket, TokenBucket
from engine.venues.platform_wire import MarketDetail
from engine.workers.client_ids import short_market_id
from engine.workers.gateway_account import MarketAccount
from engine.workers.gateway_books import AccountBooks
from engine.workers.gateway_live import LiveOrder, LiveOrders

_log = structlog.get_logger()

_NS_PER_MS: Final = 1_000_000
#: Of the rules, what the last hop looks at.
_RULES_OF_ORDERS: Final = (
    "min_price_cents",
    "max_price_cents",
    "taker_fee_bps",
    "order_quantity_max",
    "order_amount_max_cents",
)


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
        self, account_books: AccountBooks, arena: Arena, slot: int, *, client_ms_min: int = 0
    ) -> None:
        """``client_ms_min``: the newest time in a client order id of an earlier life, by the journal."""
        self.slot: Final = slot
        self.market_id: Final = arena.market_id(slot)
        self.worker: Final = arena.market_worker(slot)
        self.config_version, payload = arena.config_bytes(slot)
        self._arena: Final = arena  # pointers below are into its mapping
        self._market = arena.market(slot)
        self._kill_word = arena.kill_market(slot)
        self._kill_global = arena.kill_global()
        self._epoch_word = cell(arena.worker(self.worker), "epoch")
        self._trade_count_word = cell(self._market.top, "trade_count")
        self._top_row = ffi.addressof(self._market, "top")
        self._top: Any = ffi.new("top_t *")
        self._config_version_word = cell(self._market.config, "version")
        self._account_books: Final = account_books  # kept: the books point to it
        self.books: Final = self._new_books(account_books.native)
        self._set_quote(market_from_json(payload).quote)

        self._rules: MarketRules | None = None
        self.status = MarketStatus.UNKNOWN
        self.status_mono_ns = 0
        self.handled_kill_word = 0
        self.handled_epoch = self.worker_epoch()
        self.seen_trade_count = self.trade_count()
        risk, full_mono_ns = account_books.risk, account_books.full_mono_ns
        self.replace_tokens: Final = TokenBucket(
            self.quote.replace_rate_limit, full_mono_ns, at=ffi.addressof(self.books, "replace_tokens")
        )
        self.breakers: Final = Breakers(risk)
        self.order_tokens: Final = BurstBucket(
            per_s=risk.market_rate_per_s,
            burst=risk.market_rate_burst,
            now_mono_ns=full_mono_ns,
            at=ffi.addressof(self.books, "order_tokens"),
        )
        self.tripped: Control | None = None  # a control that its fills have set off
        self.paused_until_mono_ns = 0  # while a control's pause lasts
        self.reconcile_due = False  # something happened that asks for the venue's word (market-making §7.5)
        self.seen_generation = 0  # of the feed's book; a new one is a reconnect or a gap
        self.supply_busy = False  # a mint or burn is under way: positions are in motion
        self.resolved_pairs = 0  # of a predecessor's mint or burn, for the quoter to be told of once
        self.flows_cents = 0  # operators' deposits less withdrawals
        self.start_failure: StartFailure | None = None

        self.moved: Final = asyncio.Event()  # at every change of an order, of ``sweeping``, and by admit()

        self.account: Final = MarketAccount(
            self.market_id, ffi.addressof(self._market, "account"), self.books, client_ms_min=client_ms_min
        )
        self.orders: Final = LiveOrders(self.books, moved=self.moved)

    def _new_books(self, account: Any) -> Any:
        """The market's ``market_books_t *``, nothing in it yet."""
        arena, books = self._arena, ffi.new("market_books_t *")
        lib.books_init(books)
        books.account = account
        books.rows = self._market.live_orders
        books.top_row = self._top_row
        books.kill_word = self._kill_word
        books.worker_epoch = self._epoch_word
        books.worker_beat = cell(arena.process(lib.PROCESS_QUOTER_FIRST + self.worker), "heartbeat_mono_ns")
        books.snapshot = cell(self._market.feed, "snapshot_mono_ns")
        books.trade_count = self._trade_count_word
        books.market_id = self.market_id.encode()
        books.short_id = short_market_id(self.market_id).encode()
        books.worker = self.worker
        return books

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
        self._set_quote(market_from_json(payload).quote)
        return True

    def _set_quote(self, quote: QuoteConfig) -> None:
        self.quote = quote
        books = self.books
        books.position_limit = quote.position_limit
        books.loss_limit_cents = quote.budget_limit_cents
        books.max_spread_cents = quote.max_spread_cents
        books.snapshot_stale_ns = 2 * quote.ws_snapshot_interval_ms * _NS_PER_MS
        lib.books_recount(books)

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

    # -- what the last hop counts with

    @property
    def rules(self) -> MarketRules | None:
        """What the venue says; None: it has not been asked yet."""
        return self._rules

    @rules.setter
    def rules(self, rules: MarketRules) -> None:
        self._rules = rules
        for name in _RULES_OF_ORDERS:
            setattr(self.books, name, getattr(rules, name))

    @property
    def open_for_orders(self) -> bool:
        """Recovered and funded."""
        return bool(self.books.open_for_orders)

    @open_for_orders.setter
    def open_for_orders(self, is_open: bool) -> None:
        self.books.open_for_orders = is_open

    @property
    def sweeping(self) -> bool:
        """Orders are being pulled: none may go out."""
        return bool(self.books.sweeping)

    @sweeping.setter
    def sweeping(self, sweeping: bool) -> None:
        self.books.sweeping = sweeping

    @property
    def pairs_under_way(self) -> int:
        """Of a mint (> 0) or burn (< 0) that the venue may have carried out."""
        return int(self.books.pairs_under_way)

    @pairs_under_way.setter
    def pairs_under_way(self, pairs: int) -> None:
        self.books.pairs_under_way = pairs

    def reconciled(self, mono_ns: int) -> None:
        """The venue's word on shares was taken then."""
        self.books.reconciled_mono_ns = mono_ns

    def stale(self, now_mono_ns: int) -> Stale:
        """What is too old to rest an order on (C14)."""
        return Stale(lib.books_stale(self.books, now_mono_ns))

    # -- what is booked

    def supply(self, pairs: int) -> None:
        """Books a mint (``pairs`` > 0) or a burn (< 0)."""
        self.reconcile_due |= self.account.book_supply(pairs)

    def set_status(self, status: MarketStatus, now_mono_ns: int) -> bool:
        """Notes what the venue says now; True when that is news."""
        changed = status != self.status
        self.status = status
        self.books.status = status
        self.status_mono_ns = now_mono_ns
        self.account.set_status(status, now_mono_ns, changed=changed)
        return changed

    def apply_leg(
        self, leg: Leg, *, order_id: str, tell: Callable[[LiveOrder | None], None], newest: bool = True
    ) -> LiveOrder | None:
        """Books a leg: account, breakers and the order's remainder. Returns that order.

        ``tell`` is called with it before the account's row says that the leg is booked: who dies in between
        has a successor that books and tells it once more, and the quoter knows it by its id. ``newest``
        False: the market has booked later ones, and the cursor stays at the latest.

        The one place where a trade changes anything in the gateway; the caller has made sure that the leg
        is applied for the first time. ValueError: the leg is impossible.
        """
        self.reconcile_due |= self.account.book_leg(leg, newest=newest)
        if self.open_for_orders:  # what is caught up with after a start is no burst of now
            tripped = self.breakers.filled(leg.book_side, leg.quantity, lib.mono_now_ns())
            self.tripped = tripped or self.tripped
        order = self.orders.filled(order_id, leg.quantity)
        tell(order)
        self.account.keep()
        return order

    def at_rest(self) -> bool:
        """Open, and no request about an order under way."""
        return self.open_for_orders and not self.sweeping and not self.orders.any_busy

    def top(self) -> Any:
        """The market's ``top_t`` as the feed has it; its ``valid`` is 0 when no stable copy could be had."""
        if lib.top_read(self._top_row, self._top) != lib.RING_OK:
            self._top.valid = 0
        return self._top
