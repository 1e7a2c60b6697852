"""Named places at which a process can be told to kill itself, for the fault campaign (reliability §2).

``COREQUOTE_CRASH_POINT=gateway.after_journal:40`` in the engine's environment lets the gateway end with
SIGKILL when it comes to that place for the 40th time; once in a run directory, so that its successor lives.
Unarmed, a place costs one look at :data:`armed`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

VARIABLE: Final = "COREQUOTE_CRASH_POINT"

POINTS: Final = (
    "quoter.after_read",  # events taken from the book ring, nothing decided
    "quoter.before_emit",  # decided, the intent not yet in the ring
    "quoter.after_emit",
    "quoter.before_release",  # fills applied, their records still in the ring
    "gateway.after_take",  # the order has its row, nothing checked
    "gateway.after_risk",  # checked, not written down
    "gateway.after_journal",  # written down, not sent
    "gateway.after_send",
    "gateway.before_reply",  # the answer is here, nobody was told
    "gateway.after_reply",
    "gateway.mid_cancel",
    "gateway.mid_sweep",
    "gateway.after_fill",  # the quoter is told, the account's row does not have it
    "ingest.before_parse",
    "ingest.mid_slot",  # a slot is marked as being written, and stays so
    "ingest.after_publish",
    "ingest.in_snapshot",  # the image is written, its generation not announced
    "writer.after_collect",
    "writer.mid_pipeline",
    "writer.after_ack",
    "supervisor.mid_transition",  # a dead quoter's markets are killed, its epoch not yet raised
)

armed = False
_name = ""
_left = 0
_marker = Path()


class CrashPointError(Exception):
    """The variable names no place, or no count; the message is one line."""


def arm(process: str, run_dir: Path) -> None:
    """Reads the variable; arms the place if it is this process's. Raises CrashPointError."""
    global armed, _name, _left, _marker
    text = os.environ.get(VARIABLE, "")
    if not text:
        return
    name, _, count = text.partition(":")
    if name not in POINTS or not count.isdecimal() or int(count) < 1:
        raise CrashPointError(f"{VARIABLE}={text!r}: must be NAME:COUNT with NAME one of {', '.join(POINTS)}")
    marker = run_dir / f"crashed-{name}"
    if name.partition(".")[0] == process and not marker.exists():
        armed, _name, _left, _marker = True, name, int(count), marker


def due(name: str) -> bool:
    """Whether this process is to end here and now; says so once per run directory."""
    global _left, armed  # noqa: PLW0603
    if name != _name:
        return False
    _left -= 1
    if _left > 0:
        return False
    armed = False
    try:
        os.close(os.open(_marker, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:  # another worker of this kind was first
        return False
    return True


def reach(name: str) -> None:
    """The process is at this place. Ends it when it is armed; call it behind ``if crash_points.armed``."""
    if due(name):
        end_process()


def end_process() -> None:
    """SIGKILL to ourselves: nothing is flushed, nothing is said."""
    os.kill(os.getpid(), signal.SIGKILL)
