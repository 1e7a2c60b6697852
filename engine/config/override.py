"""The topmost layer: the Redis hash ``amm:config:{market_id}`` laid on a market of the file (§10 Layering).

The hash holds strings only:

    config_version    int, raised with every change; without it nothing is taken over
    14 flat fields    FLAT_FIELDS, each as text
    override_json     object of dotted names and JSON values, any reloadable parameter
    updated_at        Unix ms
    updated_by        free text
    override_ttl_ms   counted from updated_at; afterwards the file's values hold again

A flat field beats the same name in override_json. One bad value refuses the whole update. Pure: time is an
argument.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct, structs

from engine.config.errors import ConfigError
from engine.config.file import AppliedOverride, MarketConfig, Origins, validation_line
from engine.config.names import (
    ALIASES,
    PARAMETERS,
    RETIRED,
    Table,
    canonical,
    flat,
    merged,
    nested,
    no_warning,
)
from engine.config.quote import QuoteConfig
from engine.config.rules import broken_rules
from engine.config.setting import RELOADABLE, Parameter

#: The parameters the seed's hash has as fields of their own.
FLAT_FIELDS: Final = (
    "budget_limit_cents",
    "position_limit",
    "max_loss_daily_cents",
    "base_spread_cents",
    "max_spread_cents",
    "gamma_short",
    "gamma_mid",
    "gamma_long",
    "time_smoothing_kappa",
    "oracle_stale_ms",
    "oracle_deviation_cents",
    "oracle_gap_cents",
    "lvr_velocity_threshold",
    "lvr_cooldown_ms",
)

#: Limits that one update may raise tenfold at most: more is a slip of the finger.
LIMITS: Final = ("budget_limit_cents", "position_limit", "max_loss_daily_cents")
LIMIT_RAISE_MAX: Final = 10

VERSION_MAX: Final = 2**31 - 1  # order records carry the version in 32 bits
_TTL_MS_MAX: Final = 366 * 86_400_000
_MOMENT_MS_MAX: Final = 2**53
_JSON_BYTES_MAX: Final = 64 * 1024
_TEXT_CHARACTERS_MAX: Final = 256
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][-+]?[0-9]{1,2})?")
_SWITCH: Final = {"true": True, "false": False}
_META: Final = ("config_version", "override_json", "updated_at", "updated_by", "override_ttl_ms")


class Override(Struct, frozen=True, kw_only=True):
    """What one ``amm:config`` hash says, typed, under declared names; not yet checked against a market."""

    version: int
    flat: Table  # declared name -> value
    json: Table
    updated_at_ms: int  # 0 = not given
    updated_by: str
    ttl_ms: int | None

    @property
    def expires_at_ms(self) -> int | None:
        """When the file's values hold again; None = never."""
        return None if self.ttl_ms is None else self.updated_at_ms + self.ttl_ms

    def expired(self, now_ms: int) -> bool:
        return self.expires_at_ms is not None and now_ms >= self.expires_at_ms


def config_key(market_id: str) -> str:
    """The market's hash in Redis."""
    return f"amm:config:{market_id}"


def _integer(name: str, text: str, low: int, high: int) -> int:
    if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
        raise ConfigError(f"{name}={text!r}: must be an integer from {low} to {high}")
    return int(text)


def value_from_text(name: str, text: str) -> Any:
    """The text of a parameter as its type. Raises ConfigError that names value and rule.

    Integers are plain decimal digits, numbers decimal with a point or exponent and finite, switches ``true``
    or ``false``, lists JSON. Nothing is trimmed, rounded or guessed.
    """
    parameter = _declared(name)
    if parameter.kind is bool:
        if text not in _SWITCH:
            raise ConfigError(f"{name}={text!r}: must be true or false")
        return _SWITCH[text]
    if parameter.kind is int:
        if not _INTEGER.fullmatch(text):
            raise ConfigError(f"{name}={text!r}: must be an integer")
        return int(text)
    if parameter.kind is float:
        if not _DECIMAL.fullmatch(text) or not math.isfinite(float(text)):
            raise ConfigError(f"{name}={text!r}: must be a decimal number")
        return float(text)
    if parameter.kind is tuple:
        try:
            return msgspec.json.decode(text, type=list[int])
        except msgspec.DecodeError as error:
            raise ConfigError(f"{name}={text!r}: must be a JSON list of integers ({error})") from None
    if not text:
        raise ConfigError(f"{name}='': must not be empty")
    return text


def text_of(value: object) -> str:
    """Inverse of :func:`value_from_text`."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _declared(name: str) -> Parameter:
    parameter = PARAMETERS.get(ALIASES.get(name, name))
    if parameter is None:
        raise ConfigError(f"{name}: no such parameter; docs/configuration.md lists them all")
    return parameter


def check_reloadable(name: str) -> None:
    """Refuses what an override may not change. Raises ConfigError."""
    hot = _declared(name).hot
    if hot == "L":
        raise ConfigError(f"{name}: is fixed for the life of a market, no override may change it")
    if hot not in RELOADABLE:
        raise ConfigError(f"{name}: takes a restart; change the configuration file instead")


def check_author(text: str) -> None:
    """``updated_by`` is one printable line. Raises ConfigError."""
    if len(text) > _TEXT_CHARACTERS_MAX or not text.isprintable():
        raise ConfigError(
            f"updated_by: must be one printable line of {_TEXT_CHARACTERS_MAX} characters at most"
        )


def check_ttl_ms(ttl_ms: int) -> None:
    """How long an override may hold. Raises ConfigError."""
    _integer("override_ttl_ms", str(ttl_ms), 1, _TTL_MS_MAX)


def _text(raw: Mapping[bytes, bytes]) -> dict[str, str]:
    try:
        return {name.decode(): value.decode() for name, value in raw.items()}
    except UnicodeDecodeError as error:
        raise ConfigError(f"a field is not UTF-8: {error.object[:32]!r}") from None


def override_table(document: object, where: str) -> Table:
    """Typed values of reloadable parameters by dotted name, or in sections -> by declared name.

    Raises ConfigError; whether the values are in range is for :func:`apply_override` to say.
    """
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise ConfigError(f"{where}: must be an object of names, is {type(document).__name__}")
    values = flat(document)
    if any(value == {} for value in document.values()) or len(values) != len(flat(nested(values))):
        raise ConfigError(f"{where}: a section is empty, or a name is given twice")
    for name in values:
        if name not in RETIRED:
            check_reloadable(name)
    table = flat(canonical(nested(values), where, no_warning))
    for name, value in table.items():
        if PARAMETERS[name].kind is bool and isinstance(value, str):
            table[name] = value_from_text(name, value)
    return table


def version_of(raw: Mapping[bytes, bytes]) -> int:
    """The config_version of a hash whose other fields may be anything; 0 when it has none."""
    try:
        text = raw.get(b"config_version", b"").decode()
        return _integer("config_version", text, 1, VERSION_MAX)
    except (ConfigError, UnicodeDecodeError):
        return 0


def _json_table(text: str) -> Table:
    """override_json: an object of dotted names, or of sections."""
    if len(text) > _JSON_BYTES_MAX:
        raise ConfigError(f"override_json: {len(text)} characters, limit {_JSON_BYTES_MAX}")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigError(f"override_json: not valid JSON: {error}") from None
    return override_table(document, "override_json")


def parse_override(raw: Mapping[bytes, bytes]) -> Override:
    """The hash as Redis holds it (not empty) -> Override. Raises ConfigError with one line."""
    fields = _text(raw)
    if "config_version" not in fields:
        raise ConfigError("config_version is missing: raise it with every change")
    values: Table = {}
    for name, text in fields.items():
        if name in _META:
            continue
        declared = ALIASES.get(name, name)
        if declared not in FLAT_FIELDS:
            _declared(name)
            raise ConfigError(f"{name}: is no field of its own, put it into override_json")
        if declared in values:
            raise ConfigError(f"{name} and {declared} are one parameter, given twice")
        values[declared] = value_from_text(name, text)
    updated_at_ms = 0
    if "updated_at" in fields:
        updated_at_ms = _integer("updated_at", fields["updated_at"], 1, _MOMENT_MS_MAX)
    ttl_ms = None
    if "override_ttl_ms" in fields:
        ttl_ms = _integer("override_ttl_ms", fields["override_ttl_ms"], 1, _TTL_MS_MAX)
        if not updated_at_ms:
            raise ConfigError("override_ttl_ms counts from updated_at, which is missing")
    updated_by = fields.get("updated_by", "")
    if len(updated_by) > _TEXT_CHARACTERS_MAX or not (updated_by.isprintable()):
        raise ConfigError(
            f"updated_by: must be one printable line of at most {_TEXT_CHARACTERS_MAX} characters"
        )
    return Override(
        version=_integer("config_version", fields["config_version"], 1, VERSION_MAX),
        flat=values,
        json=_json_table(fields["override_json"]) if "override_json" in fields else {},
        updated_at_ms=updated_at_ms,
        updated_by=updated_by,
        ttl_ms=ttl_ms,
    )


def apply_override(
    base: MarketConfig, override: Override | None, *, now_ms: int, in_force: QuoteConfig | None = None
) -> MarketConfig:
    """The market in force: ``base`` (of the file) under an override that has not expired.

    ``in_force`` is what holds now; one update may raise a limit tenfold over it at most. Raises ConfigError
    with one line; then nothing of the override may be used.
    """
    if override is None or override.expired(now_ms):
        return structs.replace(base, override=None)
    table = override.json | override.flat  # a flat field beats the same name
    document = merged(msgspec.to_builtins(base.quote), nested(table))
    try:
        quote = msgspec.convert(document, QuoteConfig, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(validation_line("", document, error).removeprefix(": ")) from None
    for line in broken_rules(quote):
        raise ConfigError(line)
    _check_limits(quote, in_force or base.quote)
    changed = set(table)
    return structs.replace(
        base,
        quote=quote,
        origins=Origins(
            file_global=tuple(name for name in base.origins.file_global if name not in changed),
            file_market=tuple(name for name in base.origins.file_market if name not in changed),
            redis_flat=tuple(sorted(override.flat)),
            redis_json=tuple(sorted(changed - set(override.flat))),
        ),
        override=AppliedOverride(
            version=override.version,
            updated_at_ms=override.updated_at_ms,
            updated_by=override.updated_by,
            expires_at_ms=override.expires_at_ms,
        ),
    )


def _check_limits(quote: QuoteConfig, in_force: QuoteConfig) -> None:
    for name in LIMITS:
        new, old = getattr(quote, name), getattr(in_force, name)
        if new > LIMIT_RAISE_MAX * old:
            raise ConfigError(f"{name}={new}: raises {old} more than tenfold at once")
