"""Ties a process to its parent: when the parent is gone, killed or not, the kernel signals the child.

Also a program: `python tether.py PARENT SIGNAL COMMAND...` ties itself and becomes the command. That needs no code between
fork and exec, where a process with threads must not run any.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1


def tether(parent: int, number: int) -> None:
    """Have this process signalled when the thread of `parent` that started it ends; at once if the parent is gone already."""
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def tethered(command: Sequence[str], number: int) -> list[str]:
    """The command that runs `command` tied to the calling process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *command]


def main(arguments: Sequence[str]) -> None:
    """Become the command, tied."""
    parent, number, *command = arguments
    tether(int(parent), int(number))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and what is ignored stays so across exec
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
