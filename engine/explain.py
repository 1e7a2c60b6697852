"""Why a market quotes what it quotes: the current decision as steps from inputs to prices.

Pure: one market's view of the arena (engine/snapshot.py) in, parts of lines out (engine/explain_lines.py).
"""

from __future__ import annotations

from msgspec import Struct

from engine.explain_lines import Explainer, Line
from engine.snapshot import MarketView


class Part(Struct, frozen=True, kw_only=True):
    title: str
    lines: tuple[Line, ...]


class Explanation(Struct, frozen=True, kw_only=True):
    """One market's current decision. ``decided_unix_ms`` is 0 when there was none yet."""

    market_id: str
    looked_unix_ms: int
    decided_unix_ms: int
    config_version: int
    parts: tuple[Part, ...]
    market: MarketView  # every number above, and those that are not shown


def explain(market: MarketView, *, unix_ns: int, mono_ns: int) -> Explanation:
    """The market as it stood in the arena at these two times."""
    state = market.state
    explained = Explainer(market, state, unix_ns=unix_ns, mono_ns=mono_ns) if state is not None else None
    parts = (
        Part(title=title, lines=tuple(lines(explained)))
        for title, lines in (
            ("may it quote", Explainer.permission),
            ("what it sees", Explainer.inputs),
            ("what it is worth", Explainer.fair),
            ("where it stands", Explainer.reservation),
            ("how wide", Explainer.spread),
            ("what it wants", Explainer.target),
            ("what is live", Explainer.live),
            ("under which rules", Explainer.rules),
        )
        if explained is not None
    )
    return Explanation(
        market_id=market.market_id,
        looked_unix_ms=unix_ns // 1_000_000,
        decided_unix_ms=state.target_unix_ms if state is not None else 0,
        config_version=market.config_version,
        parts=tuple(parts),
        market=market,
    )
