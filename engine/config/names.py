"""The names a quote table may use: aliases become the declared name, retired names are dropped with a
warning, and values no parameter may have are refused before any typing.

A table is plain data as TOML or JSON yields it; sections are tables inside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from engine.config.errors import ConfigError
from engine.config.quote import QuoteConfig
from engine.config.setting import Parameter, parameters

Table = dict[str, Any]
Warn = Callable[[str], None]

#: Every parameter of a quote table by dotted name, in the order of declaration.
PARAMETERS: Final[dict[str, Parameter]] = {found.name: found for found in parameters(QuoteConfig)}

#: Other names, [H]'s, by dotted name.
ALIASES: Final[dict[str, str]] = {
    alias: name for name, found in PARAMETERS.items() for alias in found.aliases
}

#: Ratios of [H] that decision D12 replaced by cents: accepted, ignored, warned about.
RETIRED: Final = {"oracle_deviation_warning": (0.01, 0.20), "oracle_deviation_halt": (0.05, 0.50)}


def no_warning(_line: str) -> None:
    """For callers that have warned before."""


def merged(base: Table, over: Table) -> Table:
    """``over`` laid on ``base``, section by section."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def flat(table: Table, prefix: str = "") -> Table:
    """The table's values by dotted name."""
    found: Table = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def nested(values: Table) -> Table:
    """Inverse of :func:`flat`. Raises ConfigError when a name is a value and a section at once."""
    table: Table = {}
    for name, value in values.items():
        *sections, key = name.split(".")
        place: Any = table
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{section}: is a section, {name} lies in it")
        if isinstance(place.get(key), dict):
            raise ConfigError(f"{name}: is a section")
        place[key] = value
    return table


def check_value(name: str, value: object) -> None:
    """Refuses what no parameter may be: not a number, infinite, or HALT. Raises ConfigError."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{name}={value}: must be a finite number")
    if value == "HALT":
        raise ConfigError(f"{name}=HALT: refused, the market maker never halts a market")


def _check_retired(name: str, value: object) -> None:
    low, high = RETIRED[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(
            f"{name}={value!r}: must be a number from {low} to {high} (retired, without effect)"
        )


def canonical(table: Table, where: str, warn: Warn) -> Table:
    """The table under declared names only; unknown names stay, for the decoder to refuse.

    ``where`` names the table in messages. A ``gradient.*`` alias gives way to the phase's own value; any
    other alias beside its parameter is a contradiction. Raises ConfigError.
    """
    values = flat(table)
    result: Table = {}
    for name, value in values.items():
        try:
            check_value(name, value)
            if name in RETIRED:
                _check_retired(name, value)
                warn(f"{where}: {name} is retired and has no effect; use oracle_deviation_cents")
                continue
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from None
        declared = ALIASES.get(name, name)
        if declared != name and declared in values:
            if not name.startswith("gradient."):
                raise ConfigError(f"{where}: {name} and {declared} are one parameter, given twice")
            continue
        if declared != name and declared in result:
            raise ConfigError(f"{where}: {declared} is given by two aliases")
        result[declared] = value
    # an empty section says nothing, yet it may be unknown: it stays for the decoder
    try:
        filled = nested(result)
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None
    return merged({key: {} for key, value in table.items() if value == {}}, filled)
