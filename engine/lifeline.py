"""Binds a process's life to its parent's, so that nothing outlives a killed supervisor.

Imported, :func:`bind` does it for the calling process. Run as a script, with nothing but the standard
library, it does it for a program that cannot do so itself, and then becomes that program::

    python -I -S lifeline.py PARENT_PID PROGRAM [ARGUMENT ...]
"""

import ctypes
import os
import signal
import sys

EXIT_ORPHAN = 76
_EXIT_USAGE = 2
_PR_SET_PDEATHSIG = 1


def bind(parent_pid: int) -> None:
    """Asks the kernel for SIGKILL when the parent's starting thread dies; exits when the parent already has.

    Raises OSError when the kernel refuses. Survives execve.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    # The parent may have died between its fork and our prctl, and then no signal will ever come.
    if os.getppid() != parent_pid:
        sys.exit(EXIT_ORPHAN)


def main(arguments: list[str]) -> None:
    """Replaces this process by ``PROGRAM``; does not return."""
    if len(arguments) < 2 or not arguments[0].isascii() or not arguments[0].isdigit():
        print("usage: lifeline.py PARENT_PID PROGRAM [ARGUMENT ...]", file=sys.stderr)
        sys.exit(_EXIT_USAGE)
    bind(int(arguments[0]))
    os.execv(arguments[1], arguments[1:])  # noqa: S606 - the program is named by our own code


if __name__ == "__main__":
    main(sys.argv[1:])
