"""Powers and exponentials of the price arithmetic, computed once per configuration in decimal.

At run time the kernel only adds, multiplies, divides and takes square roots, so that its Python twin agrees
bit for bit on every machine; whatever a C library might round differently is a table from here. Each entry
is the double nearest to the exact value of the *decimal* number that was configured: 0.7^2 is 0.49,
although the double 0.7 squared is not.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

DECAY_CENTS_COUNT: Final = 101
DECAY_E4_COUNT: Final = 100

# Far more digits than a double holds, so the final rounding to float is the only one that matters.
_CONTEXT: Final = Context(prec=60)


def exact_decimal(value: float) -> Decimal:
    """The decimal number a person wrote when ``value`` was parsed: the shortest one that reads back as it."""
    return Decimal(repr(value))


def power_table(base: float, count: int) -> tuple[float, ...]:
    """``base**i`` for i = 0 .. count-1 (§3.7: 1.05^i and 0.7^i)."""
    exact = exact_decimal(base)
    return tuple(float(_CONTEXT.power(exact, i)) if i else 1.0 for i in range(count))


def decay_tables(lambda_per_cent: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """``e^(-lambda·d)`` (§3.2) for d = 0, 1, .. 100 cents, and for the remaining 0 .. 99 hundredths of a
    cent.

    The kernel multiplies one entry of each; on a grid of whole cents the second factor is 1.
    """
    rate = exact_decimal(lambda_per_cent)
    cents = tuple(float(_CONTEXT.exp(-rate * d)) for d in range(DECAY_CENTS_COUNT))
    hundredths = tuple(float(_CONTEXT.exp(-rate * d / 100)) for d in range(DECAY_E4_COUNT))
    return cents, hundredths
