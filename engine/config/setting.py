"""How one parameter is declared: type, unit, range, default, reload class, source and reason, at one place.

A parameter is a field of a Struct whose annotation carries :func:`setting`. Decoder, validator, override
layer, ``corequote config`` and ``docs/configuration.md`` all read that declaration.
"""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from msgspec import Meta, Struct, structs

#: H from the next cycle after a reload; W the same, with immediate effect on safety; C at the next start;
#: L fixed for the life of the market.
Hot = Literal["H", "W", "C", "L"]

RELOADABLE: Final = frozenset({"H", "W"})


def setting(
    hot: Hot,
    source: str,
    why: str,
    *,
    unit: str = "",
    ge: float | None = None,
    le: float | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    aliases: tuple[str, ...] = (),
    unset: str = "",
) -> Meta:
    """Declares one parameter (market-making §10).

    ``source`` is S, A, H, C or D as there; ``aliases`` are other dotted names it goes by; ``unset`` says
    what a default of None stands for.
    """
    bounds: dict[str, Any] = {"ge": ge, "le": le, "max_length": max_length, "pattern": pattern}
    return Meta(
        description=why,
        extra={"hot": hot, "source": source, "unit": unit, "aliases": aliases, "unset": unset},
        **{name: bound for name, bound in bounds.items() if bound is not None},
    )


class Parameter(Struct, frozen=True, kw_only=True):
    """One declared parameter, by its dotted name."""

    name: str
    kind: type  # int, float, bool, str, tuple or list
    choices: tuple[str, ...]  # str only; () = free text
    optional: bool  # None is a value: ``unset`` says what it stands for
    default: Any
    ge: float | None
    le: float | None
    hot: Hot
    source: str
    unit: str
    why: str
    aliases: tuple[str, ...]
    unset: str


def _unwrapped(annotation: Any) -> tuple[Any, Meta | None, bool]:
    """(bare type, its Meta, whether None is allowed) of a field's annotation."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        (annotation,) = (arg for arg in get_args(annotation) if arg is not type(None))
        optional = True
    meta = None
    if get_origin(annotation) is Annotated:
        annotation, *metas = get_args(annotation)
        meta = next((found for found in metas if isinstance(found, Meta)), None)
    return annotation, meta, optional


def parameters(section: type[Struct], prefix: str = "") -> Iterator[Parameter]:
    """Every parameter of a section and of the sections inside it, in the order of declaration."""
    hints = get_type_hints(section, include_extras=True)
    for field in structs.fields(section):
        bare, meta, optional = _unwrapped(hints[field.name])
        name = prefix + field.name
        if isinstance(bare, type) and issubclass(bare, Struct):
            yield from parameters(bare, name + ".")
            continue
        if meta is None or meta.extra is None:
            raise TypeError(f"{section.__name__}.{field.name}: declared without setting()")
        origin = get_origin(bare)
        choices = get_args(bare) if origin is Literal else ()
        yield Parameter(
            name=name,
            kind=str if choices else origin or bare,
            choices=choices,
            optional=optional,
            default=field.default,
            ge=meta.ge,
            le=meta.le,
            why=meta.description or "",
            **meta.extra,
        )
