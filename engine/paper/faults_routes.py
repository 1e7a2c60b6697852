"""The operator's hand on the fault switches: PUT and GET /admin/faults."""

from litestar import get, put
from litestar.handlers import HTTPRouteHandler

from engine.paper.config import named_value
from engine.paper.desk import Desk, Web
from engine.paper.envelope import Answer, ok
from engine.paper.faults import BadRulesError, FaultsView, Rules, decode_rules
from engine.paper.faults_switches import Switches
from engine.paper.openapi import told
from engine.paper.refusal import Code, Refusal


def fault_routes(desk: Desk, switches: Switches) -> list[HTTPRouteHandler]:
    """Handlers for administrators of an exchange with fault switches; no rule ever meets them."""

    @put("/admin/faults", opt=told(FaultsView, body=Rules))
    @desk.answering
    async def set_faults(request: Web) -> Answer:
        desk.admin(request)
        try:
            rules = decode_rules(await request.body(), named_value)
        except BadRulesError as error:
            raise Refusal(Code.BAD_REQUEST, f"{error}; the rules stay as they were") from error
        switches.set(rules)
        return ok(switches.view())

    @get("/admin/faults", opt=told(FaultsView))
    @desk.answering
    async def read_faults(request: Web) -> Answer:
        desk.admin(request)
        return ok(switches.view())

    return [set_faults, read_faults]
