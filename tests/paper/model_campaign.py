"""``make model``: hundreds of thousands of random operations through the core, against the obvious model.

    python -m tests.paper.model_campaign [--operations N] [--seed S]

Round k of a seed is always the same: four users (one of them the market maker) send 500 random commands to
two markets whose fees and limits the round chooses, and both markets are settled at its end. After every
command each balance, position, pool, order and trade must equal the model's, and every invariant of contract
section 7 must hold. Finished rounds are kept in ``build/model/SEED.jsonl``; started again, the campaign goes
on behind them. The first difference ends it with exit code 1 and the round that shows it.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.paper.core_pair import Pair

OPERATIONS = 200_000
ROUND = 500
RECORDS = Path("build/model")
SEED_STRIDE = 1_000_000
"""Rounds of different seeds never meet."""


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One finished round; ``codes`` counts as met every refusal that came up, 0 for a success."""

    number: int
    operations: int
    trades: int
    codes: list[int]


def finished(record: Path) -> Iterator[Round]:
    """Rounds of an earlier run; a torn last line is none."""
    if record.exists():
        for line in record.read_bytes().splitlines():
            try:
                yield msgspec.json.decode(line, type=Round)
            except msgspec.DecodeError:
                return


def play(seed: int, number: int) -> Round:
    """Round ``number``; raises AssertionError with the first difference."""
    pair = Pair(seed * SEED_STRIDE + number)
    codes = pair.run(ROUND)
    fills = sum(not trade.is_audit for trade in pair.state.trades.values())
    return Round(number=number, operations=ROUND, trades=fills, codes=sorted(codes))


def main(arguments: list[str] | None = None) -> int:
    """Play what is missing, print the result line; 1 at the first difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.paper.model_campaign", description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="at least (default 200000)")
    parser.add_argument("--seed", type=int, default=1, help="0 or more (default 1)")
    options = parser.parse_args(arguments)
    RECORDS.mkdir(parents=True, exist_ok=True)
    record = RECORDS / f"{options.seed}.jsonl"
    rounds = list(finished(record))
    record.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rounds))
    wanted = -(-options.operations // ROUND)
    print(f"seed {options.seed}, {len(rounds)} of {wanted} rounds of {ROUND} operations are done", flush=True)
    begun = time.monotonic()
    with record.open("ab", buffering=0) as file:
        for number in range(len(rounds), wanted):
            try:
                rounds.append(play(options.seed, number))
            except AssertionError as difference:
                print(f"seed {options.seed}, round {number}: {difference}", file=sys.stderr)
                print(f"core differs from the model after {number * ROUND} operations that agreed")
                return 1
            file.write(msgspec.json.encode(rounds[-1]) + b"\n")
            if number % 20 == 19:
                print(f"{(number + 1) * ROUND} operations, {time.monotonic() - begun:.0f} s", flush=True)
    operations, trades = sum(row.operations for row in rounds), sum(row.trades for row in rounds)
    codes = sorted({code for row in rounds for code in row.codes if code})
    print(f"refusals met: {', '.join(map(str, codes))}; {trades} trades")
    print(f"core equals the model: {operations}/{operations} operations, seed {options.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
