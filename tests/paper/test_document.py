"""docs/paper-exchange.md, followed word by word: its shell blocks run in order and show what it promises."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/paper-exchange.md").read_text()
PORT = "8000"
DEADLINE_S = 60.0


def shell_blocks(heading: str) -> list[str]:
    section = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def port(home: Path) -> Iterator[int]:
    """The document's first block, started on a free port and a fresh home; the port it listens on."""
    chosen = free_port()
    start = shell_blocks("Start it")[0].replace(f"--port {PORT}", f"--port {chosen}")
    assert f"--port {chosen} --data ~/exchange" in start
    # exec: the signal at the end is meant for the exchange, not for the shell round it
    *exports, command = start.strip().splitlines()
    script = "\n".join([*exports, f"exec {command}"])
    environment = {**os.environ, "HOME": str(home)}
    process = subprocess.Popen(["bash", "-ec", script], cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    try:
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{chosen}/health", timeout=5).close()
                break
            except OSError:  # refused while it starts, or slow
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield chosen
        process.terminate()
        said, _ = process.communicate(timeout=DEADLINE_S)
        assert said.decode() == f"paper exchange listening on http://127.0.0.1:{chosen}\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


def test_first_trade(home: Path, port: int) -> None:
    blocks = [*shell_blocks("A first trade, by hand"), shell_blocks("Streams")[0]]
    marked = []
    for number, block in enumerate(blocks):
        marked += [f"echo @@ {number}", block.replace(f":{PORT}/", f":{port}/")]
    run = subprocess.run(
        ["bash", "-eu", "-o", "pipefail"],
        input="\n".join(marked),
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    said = {
        int(part.partition("\n")[0]): part.partition("\n")[2].splitlines()
        for part in run.stdout.split("@@ ")[1:]
    }
    helpers, people, bid, trade, end, stream = (said[number] for number in sorted(said))
    assert helpers == []
    for line in (*people, *bid, *trade, *end[:-1]):
        assert json.loads(line)["code"] == 0, line
    assert [json.loads(line)["data"].get("username") for line in people[:2]] == ["alice", "bob"]

    markets, placed, balance, book = (json.loads(line)["data"] for line in bid)
    assert "MKT-BTC-100K-2026" in {market["id"] for market in markets["items"]}
    assert (placed["order"]["status"], placed["trades"]) == ("OPEN", [])
    assert balance["frozen_balance_cents"] == 6_513
    assert book["yes"]["bids"] == [{"price_cents": 65, "total_quantity": 100}]

    taken, trades, position, balance, ledger = (json.loads(line)["data"] for line in trade)
    assert (taken["order"]["status"], taken["trades"][0]["scenario"]) == ("FILLED", "MINT")
    assert trades["items"][0]["trade_id"] == taken["trades"][0]["trade_id"]
    assert (position["yes"]["volume"], position["yes"]["cost_sum_cents"]) == (100, 6_500)
    assert balance["available_balance_cents"] == 996_493
    assert 1_000_000 + sum(entry["amount_cents"] for entry in ledger["items"]) == 993_493
    assert all(text in DOCUMENT for text in ("993,493", "996,493", "fee of 7 cents"))

    assert json.loads(end[0])["data"]["all_passed"] is True
    assert json.loads(end[1])["data"]["resolution_result"] == "YES"
    assert end[-1] == "$10,034.93"
    assert f"The last line prints `{end[-1]}`" in DOCUMENT

    (snapshot,) = (json.loads(line) for line in stream)
    assert (snapshot["type"], snapshot["update_type"]) == ("ORDERBOOK_UPDATE", "SNAPSHOT")
    assert snapshot["market_id"] == "MKT-ETH-10K-2026"


def test_every_option_is_in_the_table() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "engine.paper", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    ).stdout
    options = set(re.findall(r"--[a-z][a-z-]+", said)) - {"--help"}
    listed = set(re.findall(r"^\| `(--[a-z-]+)", DOCUMENT, re.MULTILINE))
    assert listed == options
