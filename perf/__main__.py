"""``make perf``: every measurement, one JSON file each and one Markdown report, in ``perf/results/``."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "perf" / "results"
SCRIPTS: Final = ("ring", "book", "ingest", "tick_to_quote", "writer", "order_path", "scaling", "exchange")


def markdown(report: dict[str, Any]) -> str:
    """One script's section."""
    lines = [f"## {report['name']} ({report['unit']})", ""]
    lines += ["| who | p50 | p90 | p99 | p99.9 | max | per second |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['who']} | {row['p50']:.1f} | {row['p90']:.1f} | {row['p99']:.1f} | {row['p999']:.1f} "
        f"| {row['max']:.1f} | {row['throughput']:,.0f} |"
        for row in report["rows"]
    ]
    lines += ["", "| ratio | value |", "|---|---|"]
    lines += [
        f"| {name} | {'not measured' if value is None else f'{value:.2f}'} |"
        for name, value in report["ratios"].items()
    ]
    lines += ["", f"{report['discarded']} rounds discarded. Machine: {json.dumps(report['machine'])}", ""]
    return "\n".join(lines + [f"Note: {note}." for note in report["notes"]])


def main() -> int:
    """Exit 0 when every script ran."""
    parser = argparse.ArgumentParser(prog="python -m perf", description="Run measurements.")
    parser.add_argument(
        "scripts", nargs="*", metavar="SCRIPT", help=f"of {', '.join(SCRIPTS)}; all by default"
    )
    wanted = parser.parse_args().scripts or SCRIPTS
    if unknown := set(wanted) - set(SCRIPTS):
        parser.error(f"no such script: {', '.join(sorted(unknown))}")
    RESULTS.mkdir(exist_ok=True)
    sections, failed = [], 0
    for name in wanted:
        print(f"perf {name} ...", flush=True)
        run = subprocess.run(
            [sys.executable, "-m", f"perf.{name}", "--json"],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},  # for the processes it starts, wherever they run
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if run.returncode != 0:
            print(f"perf {name}: exit code {run.returncode}", file=sys.stderr)
            failed += 1
            continue
        (RESULTS / f"{name}.json").write_text(run.stdout)
        sections.append(markdown(json.loads(run.stdout)))
        print(sections[-1], flush=True)
    (RESULTS / "report.md").write_text("# Measurements\n\n" + "\n".join(sections))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
