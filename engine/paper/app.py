"""The HTTP surface as one Litestar application (contract section 2)."""

import logging
from collections.abc import Mapping
from typing import Any, Final

from litestar import Litestar, Request, Response, Router, get
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.types import ASGIApp

from engine.paper.desk import Desk, Web
from engine.paper.envelope import Answer, ok
from engine.paper.faults_http import FaultyApp
from engine.paper.faults_routes import fault_routes
from engine.paper.faults_switches import Switches
from engine.paper.openapi import CompletedJson, told
from engine.paper.routes_account import account_routes
from engine.paper.routes_admin import admin_routes
from engine.paper.routes_trading import amm_routes, history_routes, market_routes, order_routes
from engine.paper.settlement import Settlements
from engine.paper.views import Empty

AnyRequest = Request[Any, Any, Any]
BODY_BYTES_MAX: Final = 64 * 1024
_LOG: Final = logging.getLogger("engine.paper")


def build_app(desk: Desk, settlements: Settlements, switches: Switches | None) -> ASGIApp:
    """All routes of the contract below /api/v1, and /health and /schema beside them.

    With ``switches``, /admin/faults exists and requests pass through the fault layer.
    """

    @get("/health", opt=told(Empty, public=True))
    async def health(request: Web) -> Answer:  # noqa: ARG001 - the framework passes it by name
        return ok(Empty())

    api = Router(
        path="/api/v1",
        route_handlers=[
            *account_routes(desk),
            *market_routes(desk),
            *order_routes(desk),
            *history_routes(desk),
            *amm_routes(desk),
            *admin_routes(desk, settlements),
            *(fault_routes(desk, switches) if switches is not None else ()),
        ],
    )

    def answer_http_error(request: AnyRequest, error: HTTPException) -> Response[bytes]:  # noqa: ARG001
        """Errors the framework finds before a route runs: unknown path, wrong method, oversized body."""
        return _framed(desk.dialect.unroutable(error.status_code, error.detail), error.headers)

    def answer_bug(request: AnyRequest, error: Exception) -> Response[bytes]:
        """Anything unforeseen: logged with its trace, answered without it."""
        _LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return _framed(desk.dialect.broke())

    app = Litestar(
        route_handlers=[health, api],
        exception_handlers={HTTPException: answer_http_error, Exception: answer_bug},
        request_max_body_size=BODY_BYTES_MAX,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="corequote paper exchange",
            version="1",
            path="/schema",
            render_plugins=[CompletedJson(desk.dialect.faults)],
        ),
    )
    return app if switches is None else FaultyApp(app, switches, desk)


def _framed(answer: Answer, headers: Mapping[str, str] | None = None) -> Response[bytes]:
    # The framework's error path takes only its own response type.
    return Response(
        answer.body,
        status_code=answer.status,
        headers={**(headers or {}), "content-type": answer.content_type.decode()},
    )
