"""The OpenAPI description: what Litestar knows of the routes, plus the types the routes decode and answer.

Routes read their bodies with strict typed decoders of their own, which Litestar cannot see. Each says in its
``opt`` what those are (:func:`told`), and the description is completed from that, once.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Request
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.routes import HTTPRoute

from engine.paper.envelope import Envelope
from engine.paper.requests import NO_MORE

_REFS: Final = "#/components/schemas/{name}"
_TOLD: Final = "told"


class Fault(msgspec.Struct, frozen=True):
    """An error status any route may answer: its meaning and the types of its body; none means plain text."""

    status: int
    meaning: str
    bodies: tuple[Any, ...]
    headers: tuple[str, ...] = ()
    """Headers that come with it, whole numbers all."""


class Told(msgspec.Struct, frozen=True):
    """Types of one route: its body, its query, the data it answers, and the statuses of success.

    ``public``: it needs no token.
    """

    answer: Any
    body: type[msgspec.Struct] | None
    query: type[msgspec.Struct] | None
    statuses: tuple[int, ...]
    enveloped: bool
    public: bool


def told(
    answer: Any,
    *statuses: int,
    body: type[msgspec.Struct] | None = None,
    query: type[msgspec.Struct] | None = None,
    enveloped: bool = True,
    public: bool = False,
) -> dict[str, Any]:
    """The ``opt`` of a route handler; success is 200 unless other statuses are named."""
    return {_TOLD: Told(answer, body, query, statuses or (200,), enveloped, public)}


class CompletedJson(JsonRenderPlugin):
    """Serves the completed description as JSON."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(path=["/openapi.json", "/"])
        self._faults: Final = faults
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The description as bytes, made at the first request."""
        if self._rendered is None:
            routes = [route for route in request.app.routes if isinstance(route, HTTPRoute)]
            _complete(openapi_schema, routes, self._faults)
            self._rendered = msgspec.json.encode(openapi_schema)
        return self._rendered


def _complete(document: dict[str, Any], routes: list[HTTPRoute], faults: Sequence[Fault]) -> None:
    types: set[Any] = {Envelope, *(body for fault in faults for body in fault.bodies)}
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
    ordered = sorted(types, key=str)
    references, schemas = msgspec.json.schema_components(
        ordered,
        schema_hook=lambda _: {"description": "any value"},
        ref_template=_REFS,
    )
    _as_ecma(schemas)
    reference_of = dict(zip(ordered, references, strict=True))
    document.setdefault("components", {})["schemas"] = schemas
    document["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    errors = {str(fault.status): _error(fault, reference_of) for fault in faults}
    for operation, facts in operations:
        _complete_operation(operation, facts, reference_of, schemas)
        operation["responses"] |= errors


def _error(fault: Fault, reference_of: dict[Any, Any]) -> dict[str, Any]:
    bodies = [reference_of[body] for body in fault.bodies]
    if not bodies:
        content = {"text/plain": {"schema": {"type": "string"}}}
    else:
        content = _json(bodies[0] if len(bodies) == 1 else {"anyOf": bodies})
    headers = {name: {"schema": {"type": "integer"}} for name in fault.headers}
    return {"description": fault.meaning, "content": content, "headers": headers}


def _as_ecma(schema: Any) -> None:
    """Write "nothing may follow" as ``$``, which in the description's dialect admits no trailing newline."""
    if isinstance(schema, list):
        for member in schema:
            _as_ecma(member)
    elif isinstance(schema, dict):
        if isinstance(pattern := schema.get("pattern"), str):
            schema["pattern"] = pattern.replace(NO_MORE, "$")
        for member in schema.values():
            _as_ecma(member)


def _complete_operation(
    operation: dict[str, Any], facts: Told, reference_of: dict[Any, Any], schemas: dict[str, Any]
) -> None:
    operation["security"] = [] if facts.public else [{"bearer": []}]
    if facts.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(reference_of[facts.body])}
    if facts.query is not None:
        members = schemas[facts.query.__name__]["properties"]
        operation["parameters"] = [
            *operation.get("parameters", []),
            *({"name": name, "in": "query", "required": False, "schema": members[name]} for name in members),
        ]
    success = reference_of[facts.answer]
    if facts.enveloped:
        success = {"allOf": [reference_of[Envelope], {"properties": {"code": {"const": 0}, "data": success}}]}
    operation["responses"] = {
        str(status): {"description": "success", "content": _json(success)} for status in facts.statuses
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
