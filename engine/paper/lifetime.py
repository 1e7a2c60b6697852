"""How long a process of the paper exchange lives: not longer than the process that started it.

A parent that wants its child to die with it sets ``COREQUOTE_PARENT_PID`` to its own pid in the child's
environment. Without the variable the process was started by hand and lives until it is told to stop.
"""

import os
import signal
from collections.abc import Mapping

from engine import lifeline

PARENT_PID_VARIABLE = "COREQUOTE_PARENT_PID"


def bind_to_parent(environment: Mapping[str, str] | None = None) -> bool:
    """Tie this process to its parent: SIGKILL when it dies, SIGINT ignored (the parent handles Ctrl-C).

    Call it first thing in ``main``, from the main thread. Returns whether a parent was named. Exits when
    that parent is already dead; raises ``ValueError`` when the variable is not a pid, and ``OSError`` when
    the kernel refuses.
    """
    value = (os.environ if environment is None else environment).get(PARENT_PID_VARIABLE)
    if value is None:
        return False
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise ValueError(f"{PARENT_PID_VARIABLE}={value!r}: must be the pid of the parent process")
    lifeline.bind(int(value))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return True
