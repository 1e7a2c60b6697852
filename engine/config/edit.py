"""Changing an ``amm:config`` hash: the whole new content, checked as it will be checked when it is polled.

Pure; :mod:`engine.override_store` reads and writes it in one transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from engine.config.errors import ConfigError
from engine.config.file import MarketConfig
from engine.config.names import Table
from engine.config.override import (
    FLAT_FIELDS,
    Override,
    apply_override,
    check_author,
    check_ttl_ms,
    parse_override,
    text_of,
    version_of,
)


class Edit(Struct, frozen=True, kw_only=True):
    """One change of a market's override, as an operator asks for it."""

    values: Table  # declared name -> typed value
    all_fields: bool = False  # write all flat fields, not only those changed
    reset: bool = False  # forget what the hash held before
    ttl_ms: int | None = None  # None = it holds until it is changed
    by: str = ""


class Edited(Struct, frozen=True, kw_only=True):
    """What the hash shall hold, and what the market will then run on."""

    fields: dict[str, str]
    version: int
    market: MarketConfig


def edited(
    raw: Mapping[bytes, bytes],
    edit: Edit,
    *,
    base: MarketConfig,
    in_force: MarketConfig,
    applied: int,
    now_ms: int,
) -> Edited:
    """The hash after an edit.

    ``base`` is the market by its file, ``in_force`` what it runs on under slot version ``applied``; the new
    config_version lies above every version seen. Raises ConfigError; then nothing may be written.
    """
    check_author(edit.by)
    if edit.ttl_ms is not None:
        check_ttl_ms(edit.ttl_ms)
    before = _before(raw, reset=edit.reset, now_ms=now_ms)
    version = max(before.version, applied) + 1
    override = Override(
        version=version,
        flat=before.flat | {name: value for name, value in edit.values.items() if name in FLAT_FIELDS},
        json={name: value for name, value in before.json.items() if name not in edit.values}
        | {name: value for name, value in edit.values.items() if name not in FLAT_FIELDS},
        updated_at_ms=now_ms,
        updated_by=edit.by,
        ttl_ms=edit.ttl_ms,
    )
    market = apply_override(base, override, now_ms=now_ms, in_force=in_force.quote)
    flat = {name: getattr(market.quote, name) for name in FLAT_FIELDS} if edit.all_fields else override.flat
    return Edited(fields=_fields(override, flat), version=version, market=market)


def _before(raw: Mapping[bytes, bytes], *, reset: bool, now_ms: int) -> Override:
    """What the hash says now; nothing when it is to be forgotten or has expired."""
    version = version_of(raw)
    nothing = Override(version=version, flat={}, json={}, updated_at_ms=0, updated_by="", ttl_ms=None)
    if not raw:
        return nothing
    try:
        before = parse_override(raw)
    except ConfigError as error:
        if reset:
            return nothing
        raise ConfigError(f"the override in Redis is unusable: {error}; --reset forgets it") from None
    return nothing if reset or before.expired(now_ms) else before


def _fields(override: Override, flat: dict[str, Any]) -> dict[str, str]:
    fields = {name: text_of(value) for name, value in flat.items()}
    fields["config_version"] = str(override.version)
    fields["updated_at"] = str(override.updated_at_ms)
    if override.json:
        fields["override_json"] = msgspec.json.encode(override.json, order="sorted").decode()
    if override.updated_by:
        fields["updated_by"] = override.updated_by
    if override.ttl_ms is not None:
        fields["override_ttl_ms"] = str(override.ttl_ms)
    return fields
