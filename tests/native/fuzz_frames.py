"""From the bytes of a frame to the book ring, with everything that can become of a recorded frame::

    python -m tests.native.fuzz_frames [--all] [--seconds N] [--seed S]
    python -m tests.native.fuzz_frames --repeat FILE

``--all`` goes through the systematic corpus once; otherwise, for N seconds, systematic mutations alternate
with stacked ones. Each frame is judged by ``tests/native/frame_path.py``. One on which ingest and contract
disagree is made as short as it still disagrees, and written to ``build/fuzz/`` with what repeats it.

It is also the target ``frames`` of ``make fuzz``.
"""

from __future__ import annotations

import argparse
import base64
import gc
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

import psutil

from tests.native.frame_mutations import Mutation, stacked, systematic
from tests.native.frame_path import (
    DisagreementError,
    FramePath,
    Recorded,
    Recording,
    Verdict,
    load_recording,
    quiet,
)

FINDINGS: Final = Path(__file__).resolve().parents[2] / "build" / "fuzz"
FINDINGS_MAX: Final = 20  # a campaign that found so many has something to say
SHORTENINGS_MAX: Final = 2_000
RSS_GROWTH_BYTES_MAX: Final = 10_000_000  # reliability F13
WARM_UP: Final = 1_000  # frames before memory is measured


class Campaign:
    """Judges frames and counts what became of them."""

    def __init__(self, recording: Recording, seed: int) -> None:
        self._recording = recording
        self._seed = seed
        self._path = FramePath(recording.market_id)
        self._process = psutil.Process()
        self._rss_bytes = 0
        self.tried = 0
        self.verdicts: Counter[Verdict] = Counter()
        self.disagreements = 0
        self.crashes = 0
        self.findings: list[Path] = []
        self.rss_growth_bytes = 0

    @property
    def clean(self) -> bool:
        return self.disagreements == self.crashes == 0 and self.rss_growth_bytes <= RSS_GROWTH_BYTES_MAX

    def run(self, mutations: Iterator[Mutation], *, deadline_s: float = float("inf")) -> None:
        """Judges until the mutations are over, the deadline (monotonic s) is past, or too much is found."""
        for mutation in mutations:
            if time.monotonic() >= deadline_s or len(self.findings) >= FINDINGS_MAX:
                break
            self._judge(mutation)
            if self.tried == WARM_UP:
                gc.collect()
                self._rss_bytes = self._process.memory_info().rss
        gc.collect()
        if self.tried > WARM_UP:
            self.rss_growth_bytes = max(0, self._process.memory_info().rss - self._rss_bytes)

    def _judge(self, mutation: Mutation) -> None:
        self.tried += 1
        recorded = self._recording.frames[mutation.frame_index]
        try:
            self.verdicts[self._path.judge(recorded, mutation.payload)] += 1
        except Exception as error:  # whatever it is, it is the finding
            if isinstance(error, DisagreementError):
                self.disagreements += 1
            else:
                self.crashes += 1
            self.findings.append(self._keep(mutation, error))
            self._path = FramePath(self._recording.market_id)

    def _keep(self, mutation: Mutation, error: Exception) -> Path:
        recorded = self._recording.frames[mutation.frame_index]
        payload = shortest(self._recording.market_id, recorded, mutation.payload, type(error))
        finding = {
            "frame_index": mutation.frame_index,
            "mutation": mutation.name,
            "seed": self._seed,
            "reason": f"{type(error).__name__}: {error}",
            "payload": base64.b64encode(payload).decode(),
            "text": payload[:1_000].decode("utf-8", "backslashreplace"),
        }
        FINDINGS.mkdir(parents=True, exist_ok=True)
        file = FINDINGS / f"frames-{self._seed}-{len(self.findings)}.json"
        file.write_text(json.dumps(finding, indent=1))
        return file

    def report(self) -> str:
        """One line with every count."""
        return (
            f"seed {self._seed}: {self.tried} frames tried, {self.verdicts[Verdict.REFUSED]} refused, "
            f"{self.verdicts[Verdict.ACCEPTED]} accepted and legal, {self.disagreements} wrongly judged, "
            f"{self.crashes} crashes, RSS grew by {self.rss_growth_bytes // 1_000} kB"
        )


def disagreement(market_id: str, recorded: Recorded, payload: bytes) -> Exception | None:
    """What is wrong with how a new ingest treats one frame; None when nothing is."""
    try:
        FramePath(market_id).judge(recorded, payload)
    except Exception as error:  # whatever it is, it is the answer
        return error
    return None


def shortest(market_id: str, recorded: Recorded, payload: bytes, kind: type[Exception]) -> bytes:
    """The payload without every stretch that the disagreement does not need."""
    tries = itertools.count()
    stretch = len(payload)
    while stretch := stretch // 2:
        start = 0
        while start < len(payload) and next(tries) < SHORTENINGS_MAX:
            shorter = payload[:start] + payload[start + stretch :]
            if type(disagreement(market_id, recorded, shorter)) is kind:
                payload = shorter
            else:
                start += stretch
    return payload


def endless(frames: Sequence[bytes], generator: Random) -> Iterator[Mutation]:
    """Systematic and stacked mutations in turn, then stacked ones."""
    rest = systematic(frames, generator)
    while True:
        if (mutation := next(rest, None)) is not None:
            yield mutation
        yield stacked(frames, generator)


def fuzz(seconds: float, seed: int) -> bool:
    """The target ``frames`` of ``make fuzz``: prints what came of it; True when it found nothing."""
    recording = load_recording()
    campaign = Campaign(recording, seed)
    frames = [recorded.payload for recorded in recording.frames]
    with quiet():
        campaign.run(endless(frames, Random(seed)), deadline_s=time.monotonic() + seconds)
    return _tell(campaign, f"{campaign.tried} executions in {seconds} s")


def go_through_all(seed: int) -> bool:
    """The whole systematic corpus, once."""
    recording = load_recording()
    campaign = Campaign(recording, seed)
    with quiet():
        campaign.run(systematic([recorded.payload for recorded in recording.frames], Random(seed)))
    return _tell(campaign, "systematic corpus")


def _tell(campaign: Campaign, what: str) -> bool:
    print(f"fuzz frames: {what}, {campaign.report()}", flush=True)
    for file in campaign.findings:
        print(
            f"fuzz frames: FAILED; repeat with python -m tests.native.fuzz_frames --repeat {file}", flush=True
        )
    return campaign.clean


def repeat(file: Path) -> bool:
    """Judges one finding again."""
    finding: dict[str, Any] = json.loads(file.read_text())
    recording = load_recording()
    payload = base64.b64decode(finding["payload"])
    with quiet():
        error = disagreement(recording.market_id, recording.frames[finding["frame_index"]], payload)
    print(f"{payload[:1_000]!r}\n{type(error).__name__ + ': ' + str(error) if error else 'agreed'}")
    return error is None


def main() -> int:
    """Exit 0 when ingest and contract agree on every frame."""
    parser = argparse.ArgumentParser(prog="python -m tests.native.fuzz_frames", description=__doc__)
    parser.add_argument("--all", action="store_true", help="the whole systematic corpus, once")
    parser.add_argument("--seconds", type=float, default=60.0, help="without --all")
    parser.add_argument("--seed", type=int, help="as printed by the run to be repeated")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="judge one finding again")
    arguments = parser.parse_args()
    if arguments.repeat is not None:
        return int(not repeat(arguments.repeat))
    seed = new_seed() if arguments.seed is None else arguments.seed
    return int(not (go_through_all(seed) if arguments.all else fuzz(arguments.seconds, seed)))


def new_seed() -> int:
    return int.from_bytes(os.urandom(4))


if __name__ == "__main__":
    sys.exit(main())
