"""The OpenAPI description: what Litestar knows of the routes, plus the types the routes decode and answer.

Routes read their bodies with strict typed decoders of their own, which Litestar cannot see. Each says in its
``opt`` what those are (:func:`told`), and the description is completed from that, once.
"""

from typing import Any, Final

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute

from engine.paper.envelope import Envelope

_REFS: Final = "#/components/schemas/{name}"
_TOLD: Final = "told"
_ERRORS: Final = {
    "400": "malformed request (code 400)",
    "401": "token missing or refused (code 401), or bad credentials (1003, 1005)",
    "403": "not allowed (codes 403, 6004, 6009)",
    "404": "unknown (codes 404, 3001, 4004, 6002)",
    "405": "method not allowed (code 405)",
    "409": "key or name already used (codes 409, 1001, 1002, 4005, 6006, 6007)",
    "413": "body too large (code 413)",
    "422": "business refusal (codes 1004, 2001 to 2002, 3002 to 3004, 4001 to 4006, 5001, 6001 to 6008)",
    "429": "rate limit (code 9001)",
    "500": "internal error (code 9002)",
}


class Told(msgspec.Struct, frozen=True):
    """Types of one route: its body, its query, the data it answers, and the statuses of success."""

    answer: type[msgspec.Struct]
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    statuses: tuple[int, ...]


def told(
    answer: type[msgspec.Struct],
    *statuses: int,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
) -> dict[str, Any]:
    """The ``opt`` of a route handler; success is 200 unless other statuses are named."""
    return {_TOLD: Told(answer, body, query, statuses or (200,))}


class CompletedJson(JsonRenderPlugin):
    """Serves the completed description as JSON."""

    def __init__(self) -> None:
        super().__init__(path=["/openapi.json", "/"])
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The description as bytes, made at the first request."""
        if self._rendered is None:
            _complete(openapi_schema, [route for route in request.app.routes if isinstance(route, HTTPRoute)])
            self._rendered = msgspec.json.encode(openapi_schema)
        return self._rendered


def _complete(document: dict[str, Any], routes: list[HTTPRoute]) -> None:
    types: set[Any] = {Envelope}
    operations: list[tuple[dict[str, Any], Told]] = []
    for route in routes:
        for handler in route.route_handlers:
            facts = handler.opt.get(_TOLD)
            if facts is None:
                continue
            types |= {kind for kind in (facts.answer, facts.body, facts.query) if kind is not None}
            operations += [
                (document["paths"][route.path_format][method.lower()], facts)
                for method in handler.http_methods
                if method != "OPTIONS"
            ]
    ordered = sorted(types, key=lambda kind: str(kind.__name__))
    references, schemas = msgspec.json.schema_components(
        ordered,
        schema_hook=lambda _: {"description": "any value"},
        ref_template=_REFS,
    )
    reference_of = dict(zip(ordered, references, strict=True))
    document.setdefault("components", {})["schemas"] = schemas
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for operation, facts in operations:
        _complete_operation(operation, facts, reference_of, schemas)


def _complete_operation(
    operation: dict[str, Any], facts: Told, reference_of: dict[Any, Any], schemas: dict[str, Any]
) -> None:
    operation["security"] = [{"bearer": []}]
    if facts.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(reference_of[facts.body])}
    if facts.query is not None:
        members = schemas[facts.query.__name__]["properties"]
        operation["parameters"] = [
            *operation.get("parameters", []),
            *({"name": name, "in": "query", "required": False, "schema": members[name]} for name in members),
        ]
    data = {"properties": {"data": reference_of[facts.answer]}}
    success = {"allOf": [reference_of[Envelope], data]}
    responses = {
        str(status): {"description": "success", "content": _json(success)} for status in facts.statuses
    }
    for status, description in _ERRORS.items():
        responses[status] = {"description": description, "content": _json(reference_of[Envelope])}
    operation["responses"] = responses


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
