"""One parameter at a time: the sweeps of market-making §12, each value a market of its own in one play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct, structs

from tests.scenarios.catalogue import CALM, INFORMED, TREND_UP, Scenario, no_breach


class Variation(Struct, frozen=True, kw_only=True):
    """A parameter, the values it takes, and the flow it is judged on."""

    parameter: str
    values: tuple[float, ...]
    base: Scenario
    note: str = ""

    def settings(self, value: float) -> Mapping[str, Any]:
        """The parameter as a market's ``[quote]`` has it; dots are tables."""
        number = int(value) if value == int(value) and self.parameter not in _FLOATS else float(value)
        result: Any = number
        for name in reversed(self.parameter.split(".")):
            result = {name: result}
        return dict(result)

    def name(self, value: float) -> str:
        return f"{self.parameter.replace('.', '_')}_{value:g}".replace(".", "p")

    def scenario(self, value: float) -> Scenario:
        """The base flow under this value. It keeps the base's seed name, so all values meet one flow."""
        return structs.replace(
            self.base,
            name=self.name(value),
            flow=self.base.name,
            title=f"{self.parameter} = {value:g} on {self.base.name}",
            quote={**self.base.quote, **self.settings(value)},
            criteria=(no_breach,),
        )


_FLOATS: Final = frozenset({"gamma_mid", "base_learning_rate", "exploration.qty_ratio"})

VARIATIONS: Final = (
    Variation(
        parameter="gamma_mid",
        values=(0.5, 1.0, 1.5, 2.0, 3.0),
        base=TREND_UP,
        note="legal range 0.5 to 3; the market lives 60 days",
    ),
    Variation(parameter="base_learning_rate", values=(0.05, 0.10, 0.15, 0.20, 0.30), base=TREND_UP),
    Variation(parameter="base_spread_cents", values=(1, 2, 3, 4, 5), base=INFORMED),
    Variation(parameter="exploration.qty_ratio", values=(0.1, 0.2, 0.25, 0.35, 0.5), base=CALM),
    Variation(parameter="extreme_price_halt", values=(8, 10, 12, 15), base=TREND_UP),
)
SWEEPS: Final = {
    variation.name(value): variation.scenario(value) for variation in VARIATIONS for value in variation.values
}
