"""Hot reload: ``amm:config`` is polled, laid on the file's values, checked whole and handed over.

Each market is looked at every ``config_reload_interval_ms`` and acted upon when its config_version is another
one, or when an override's time is over. What is accepted goes into the market's config slot in the arena as
a new version, which its quoter takes up at its next cycle; what is refused changes nothing. A slot version
never lies below the config_version it was made from, so ``config_applied >= config_version`` says that it
arrived.

Starting is harmless: the slot is written only when its content would change. A Redis that is away leaves
everything as it is.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import hiredis
import msgspec
import structlog

from engine import override_store
from engine._native import lib
from engine.alerts import Alert, Severity
from engine.arena import Arena
from engine.config import ConfigError, MarketConfig, market_from_json, market_json
from engine.config.edit import Edit, Edited, edited
from engine.config.override import apply_override, parse_override
from engine.config_state import STATE_FILE, OverridesState, Refused
from engine.durable import write_durably
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import RedisFault, RedisFaultError, RedisLink, fault_of

_log: Final = structlog.get_logger()


#: Stands for a key that holds something else than a hash: it has no config_version, so it is refused.
_NOT_A_HASH: Final = {b"": b""}


def _hash_or_odd(reply: Any) -> Mapping[bytes, bytes]:
    """A HGETALL reply; what concerns one market only is no fault of the source."""
    if isinstance(reply, hiredis.ReplyError) and fault_of(reply) is RedisFault.WRONG_TYPE:
        return _NOT_A_HASH
    return override_store.as_hash(reply)


class MarketOverride:
    """One market's hash as last seen, and the slot it is handed over through."""

    def __init__(self, arena: Arena, slot: int, base: MarketConfig) -> None:
        self.slot = slot
        self.base = base
        self.worker_row = lib.PROCESS_QUOTER_FIRST + arena.market_worker(slot)
        self.due_mono_ns = 0
        self._arena = arena
        self._seen: bytes | None = None  # config_version acted upon; None = not looked at yet
        self._expires_at_ms: int | None = None

    def in_force(self) -> tuple[int, MarketConfig]:
        """(slot version, what the market runs on)."""
        version, payload = self._arena.config_bytes(self.slot)
        return version, market_from_json(payload)

    def is_news(self, raw: Mapping[bytes, bytes], now_ms: int) -> bool:
        expired = self._expires_at_ms is not None and now_ms >= self._expires_at_ms
        return expired or raw.get(b"config_version", b"" if not raw else b"?") != self._seen

    def take(self, raw: Mapping[bytes, bytes], now_ms: int) -> int:
        """Acts upon a hash; the new slot version, 0 when nothing changed. Raises ConfigError."""
        self._seen = raw.get(b"config_version", b"" if not raw else b"?")
        self._expires_at_ms = None
        override = parse_override(raw) if raw else None
        version, current = self.in_force()
        market = apply_override(self.base, override, now_ms=now_ms, in_force=current.quote)
        if market.override is not None:
            self._expires_at_ms = market.override.expires_at_ms
        if market == current:
            return 0
        payload = market_json(market)
        if len(payload) > lib.CONFIG_BYTES_MAX:
            raise ConfigError(f"takes {len(payload)} bytes as JSON, limit {lib.CONFIG_BYTES_MAX}")
        new_version = max(version + 1, override.version if override is not None else 0)
        self._arena.write_config(self.slot, new_version, payload)
        return new_version

    def due_after(self, now_mono_ns: int, now_ms: int) -> int:
        """When to look again: after the interval, or when the override's time is over."""
        wait_ms = self.base.quote.config_reload_interval_ms
        if self._expires_at_ms is not None:
            wait_ms = min(wait_ms, max(0, self._expires_at_ms - now_ms))
        return now_mono_ns + wait_ms * 1_000_000


class Overrides:
    """All markets of the engine; :meth:`poll` is called with an open link."""

    def __init__(self, proc: WorkerProcess) -> None:
        self._proc = proc
        arena = proc.arena
        by_id = {market.id: market for market in proc.config.markets}
        self.markets = {
            arena.market_id(slot): MarketOverride(arena, slot, by_id[arena.market_id(slot)])
            for slot in arena.used_markets()
            if arena.market_id(slot) in by_id
        }
        self._state = OverridesState()
        self._written: OverridesState | None = None

    def due_in_s(self) -> float:
        """Seconds until a market is to be looked at."""
        due = min((market.due_mono_ns for market in self.markets.values()), default=1 << 62)
        return max(0.0, (due - time.monotonic_ns()) / 1e9)

    async def change(self, link: RedisLink, market_id: str, edit: Edit) -> Edited:
        """Writes an operator's change and takes it up at once. The link must be the caller's alone.

        Raises ConfigError, with nothing written, or RedisFaultError.
        """
        market = self.markets[market_id]

        def new_content(raw: Mapping[bytes, bytes]) -> Edited:
            version, current = market.in_force()
            now_ms = time.time_ns() // 1_000_000
            return edited(raw, edit, base=market.base, in_force=current, applied=version, now_ms=now_ms)

        result = await override_store.change(link, market_id, new_content)
        self.look_now(market_id)
        await self.poll(link)
        return result

    def look_now(self, market_id: str) -> None:
        """The market's hash has just been changed: it is looked at with the next poll."""
        self.markets[market_id].due_mono_ns = 0

    async def poll(self, link: RedisLink) -> None:
        """Looks at every market that is due. Raises RedisFaultError."""
        now_mono_ns = time.monotonic_ns()
        due = [market_id for market_id, market in self.markets.items() if market.due_mono_ns <= now_mono_ns]
        if due:
            replies = await override_store.read(link, due)
            now_ms = time.time_ns() // 1_000_000
            for market_id, reply in zip(due, replies, strict=True):
                market = self.markets[market_id]
                self._take(market_id, market, _hash_or_odd(reply), now_ms)
                market.due_mono_ns = market.due_after(now_mono_ns, now_ms)
        self.source_is(None)

    def _take(self, market_id: str, market: MarketOverride, raw: Mapping[bytes, bytes], now_ms: int) -> None:
        if not market.is_news(raw, now_ms):
            return
        refused = dict(self._state.refused)
        refused.pop(market_id, None)
        alert = self._proc.alert
        try:
            version = market.take(raw, now_ms)
        except ConfigError as error:
            seen = raw.get(b"config_version", b"").decode(errors="replace")[:32]
            refused[market_id] = Refused(config_version=seen, reason=str(error), unix_ms=now_ms)
            alert(
                Alert.CONFIG_REJECTED,
                Severity.CRITICAL,
                market=market_id,
                config_version=seen,
                reason=str(error),
            )
        else:
            if version:
                self._proc.ring_bell(market.worker_row)
                override = market.in_force()[1].override
                alert(
                    Alert.CONFIG_APPLIED,
                    Severity.INFO,
                    market=market_id,
                    slot_version=version,
                    config_version=override.version if override else 0,
                    updated_by=override.updated_by if override else "",
                )
        self._write(msgspec.structs.replace(self._state, refused=refused))

    def source_is(self, fault: RedisFaultError | None) -> None:
        """Whether ``amm:config`` can be read; the change is an alert, the state goes on."""
        text = "" if fault is None else f"{fault.fault.value}: {fault}"
        if text and not self._state.source_fault:
            self._proc.alert(Alert.CONFIG_SOURCE_LOST, Severity.WARNING, fault=text)
        elif self._state.source_fault and not text:
            _log.info("config_source_back")
        self._write(msgspec.structs.replace(self._state, source_fault=text))

    def _write(self, state: OverridesState) -> None:
        self._state = state
        if state != self._written:
            write_durably(self._proc.run_dir / STATE_FILE, msgspec.json.encode(state), synced=False)
            self._written = state
