"""The operators' door (§8 Admin API): HTTP on ``RUN/admin.sock``, a 0600 socket in a 0700 directory.

Whoever can open the socket is the engine's own user. Bodies are decoded strictly; every call that would
change something is one line of the audit log, whatever came of it. Answers are enveloped as the platform's:
``code`` 0 is success, else the platform's code where it has one, else the HTTP status.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
import structlog
from litestar import Litestar, MediaType, Request, Response, Router, get, post, put
from litestar.exceptions import HTTPException
from msgspec import Meta, Struct

from engine import audit, kill_files
from engine._native import lib
from engine.config import MARKET_ID_PATTERN, ConfigError
from engine.config.edit import Edit
from engine.config.override import override_table
from engine.events import Kill
from engine.snapshot import market_view, plain
from engine.workers.control_answers import AMM_RUNNING, Author, RefusedError, known
from engine.workers.control_commands import CommandRefusedError, Commands, NoAnswerError, names_of
from engine.workers.control_config import Overrides
from engine.workers.control_life import MarketLives, MoneyRequest, StartRequest, StopRequest
from engine.workers.process import WorkerProcess
from engine.workers.redis_link import RedisAddress, RedisFaultError, RedisLink

BODY_BYTES_MAX: Final = 64 * 1024

_log: Final = structlog.get_logger()

MarketId = Annotated[str, Meta(pattern=MARKET_ID_PATTERN)]
Web = Request[Any, Any, Any]


class KillRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop one market, or all."""

    market_id: MarketId | None = None
    all: bool = False
    reason: str
    by: Author = ""


class ResumeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Let a killed market go on; ``config`` changes limits first, in the same request."""

    market_id: MarketId
    reason: str
    config: dict[str, Any] | None = None
    by: Author = ""


class ConfigRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Change a market's override: typed values by dotted name."""

    market_id: MarketId
    config: dict[str, Any]
    ttl_ms: Annotated[int, Meta(ge=1)] | None = None
    reset: bool = False
    by: Author = ""


class Admin:
    """What the routes do."""

    def __init__(
        self, proc: WorkerProcess, commands: Commands, overrides: Overrides, address: RedisAddress
    ) -> None:
        self._proc = proc
        self._commands = commands
        self._overrides = overrides
        self._address = address
        self.lives = MarketLives(proc, commands)
        self._timeout_s = proc.config.redis.timeout_ms / 1000

    async def kill(self, wish: KillRequest) -> dict[str, Any]:
        kill_files.check_reason(wish.reason)
        if wish.all == (wish.market_id is not None):
            raise RefusedError(400, 400, "name a market_id, or say all, not both")
        chosen = list(self._commands.slots) if wish.market_id is None else [self._known(wish.market_id)]
        for market_id in chosen:
            self._commands.kill(market_id, reason=wish.reason, by=wish.by)
        return {"killed": chosen}

    async def resume(self, wish: ResumeRequest) -> dict[str, Any]:
        kill_files.check_reason(wish.reason)
        slot = self._commands.slots[self._known(wish.market_id)]
        if not self._is_killed(slot):
            raise RefusedError(409, AMM_RUNNING, f"{wish.market_id}: is not killed")
        version = None
        if wish.config is not None:
            edit = Edit(values=override_table(wish.config, "config"), by=wish.by)
            version = await self._change(wish.market_id, edit)
        try:
            await self._commands.resume(wish.market_id, reason=wish.reason)
        except CommandRefusedError as error:
            data = {"causes": names_of(error.causes)}
            raise RefusedError(409, 409, f"{wish.market_id}: not resumed: {error}", data) from None
        except NoAnswerError as error:
            raise RefusedError(503, 503, f"{wish.market_id}: not known to be resumed: {error}") from None
        return {"market_id": wish.market_id, "config_version": version}

    async def start(self, wish: StartRequest) -> dict[str, Any]:
        self.lives.check_start(wish)
        if wish.config_override is not None:
            edit = Edit(values=override_table(wish.config_override, "config_override"), by=wish.by)
            await self._change(wish.market_id, edit)
        return await self.lives.start(wish)

    async def change_config(self, wish: ConfigRequest) -> dict[str, Any]:
        edit = Edit(
            values=override_table(wish.config, "config"), reset=wish.reset, ttl_ms=wish.ttl_ms, by=wish.by
        )
        version = await self._change(self._known(wish.market_id), edit)
        return {"market_id": wish.market_id, "config_version": version}

    def status(self, market_id: str | None) -> dict[str, Any]:
        chosen = list(self._commands.slots) if market_id is None else [self._known(market_id)]
        arena = self._proc.arena
        views = {name: plain(market_view(arena, self._commands.slots[name])) for name in chosen}
        return {"markets": views}

    async def _change(self, market_id: str, edit: Edit) -> int:
        try:
            link = await RedisLink.connect(self._address, timeout_s=self._timeout_s)
            try:
                return (await self._overrides.change(link, market_id, edit)).version
            finally:
                link.close()
        except RedisFaultError as error:
            raise RefusedError(503, 503, f"Redis: {error.fault.value}: {error}") from None

    def _known(self, market_id: str) -> str:
        known(self._commands.slots, market_id)
        return market_id

    def _is_killed(self, slot: int) -> bool:
        arena = self._proc.arena
        word = lib.cell_load(arena.kill_market(slot)) & (Kill.ADMIN | Kill.RISK)
        state = market_view(arena, slot).state
        return bool(word) or (state is not None and bool(state.kill_causes))


def build_app(proc: WorkerProcess, admin: Admin) -> Litestar:
    """The routes, below /admin/amm."""

    async def answer(
        request: Web, kind: type[Struct], action: Callable[[Any], Awaitable[dict[str, Any]]]
    ) -> Response[bytes]:
        body = await request.body()
        name = request.url.path.rsplit("/", 1)[-1]
        try:
            wish = msgspec.json.decode(body, type=kind, strict=True)
        except msgspec.DecodeError as error:
            _audit(proc, name, "refused: body", request=body[:1_000].decode(errors="replace"))
            return _enveloped(400, 400, f"body: {error}")
        try:
            data = await action(wish)
        except RefusedError as error:
            _audit(proc, name, f"refused: {error}", request=wish)
            return _enveloped(error.status, error.code, str(error), error.data)
        except ConfigError as error:
            _audit(proc, name, f"refused: {error}", request=wish)
            return _enveloped(422, 422, f"{error}; nothing changed")
        except OSError as error:
            _audit(proc, name, f"failed: {error}", request=wish)
            return _enveloped(500, 500, f"{error.strerror or error}")
        _audit(proc, name, "done", request=wish)
        return _enveloped(200, 0, "success", data)

    @post("/kill")
    async def kill(request: Web) -> Response[bytes]:
        return await answer(request, KillRequest, admin.kill)

    @post("/resume")
    async def resume(request: Web) -> Response[bytes]:
        return await answer(request, ResumeRequest, admin.resume)

    @post("/start")
    async def start(request: Web) -> Response[bytes]:
        return await answer(request, StartRequest, admin.start)

    @post("/stop")
    async def stop(request: Web) -> Response[bytes]:
        return await answer(request, StopRequest, admin.lives.stop)

    @post("/fund")
    async def fund(request: Web) -> Response[bytes]:
        return await answer(request, MoneyRequest, admin.lives.fund)

    @post("/withdraw")
    async def withdraw(request: Web) -> Response[bytes]:
        return await answer(request, MoneyRequest, admin.lives.withdraw)

    @put("/config")
    async def config(request: Web) -> Response[bytes]:
        return await answer(request, ConfigRequest, admin.change_config)

    @get("/status")
    async def status(market_id: str | None = None) -> Response[bytes]:
        try:
            return _enveloped(200, 0, "success", admin.status(market_id))
        except RefusedError as error:
            return _enveloped(error.status, error.code, str(error))

    routes = [kill, resume, start, stop, fund, withdraw, config, status]
    return Litestar(
        route_handlers=[Router(path="/admin/amm", route_handlers=routes)],
        exception_handlers={HTTPException: _answer_http_error, Exception: _answer_bug},
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
        openapi_config=None,
    )


def _audit(proc: WorkerProcess, action: str, outcome: str, *, request: Struct | str) -> None:
    by = getattr(request, "by", "")
    try:
        audit.append(proc.run_dir, action, by=by, outcome=outcome, request=msgspec.to_builtins(request))
    except OSError as error:  # what was done is done: the log says that its record is missing
        _log.error("audit_not_written", action=action, outcome=outcome, error=str(error))


def _enveloped(status: int, code: int, message: str, data: Any = None) -> Response[bytes]:
    envelope = {
        "code": code,
        "message": message,
        "data": data,
        "timestamp": datetime.now(UTC),
        "request_id": f"req_{os.urandom(6).hex()}",
    }
    body = msgspec.json.encode(envelope)
    return Response(body, status_code=status, media_type=MediaType.JSON)


def _answer_http_error(request: Web, error: HTTPException) -> Response[bytes]:  # noqa: ARG001
    """What the framework refuses before a route runs: unknown path, wrong method, oversized body."""
    return _enveloped(error.status_code, error.status_code, error.detail)


def _answer_bug(request: Web, error: Exception) -> Response[bytes]:
    """Anything unforeseen: logged with its trace, answered without it."""
    _log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    return _enveloped(500, 500, "internal error")
