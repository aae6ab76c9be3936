"""Processes of this machine: tied to their parent, killed with their session, told apart.

Also a program: `python processes.py PARENT SIGNAL COMMAND...` ties itself to PARENT (when that is
gone, killed or not, the kernel signals it) and becomes the command. That needs no code between fork
and exec, where a process with threads must not run any.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
HOME_VARIABLE = b"FFLAB_HOME="


def tether(parent: int, number: int) -> None:
    """Have this process signalled when the thread of `parent` that started it ends; at once if the
    parent is gone already.
    """
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def tethered(command: Sequence[str], number: int) -> list[str]:
    """The command that runs `command` tied to the calling process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *command]


def kill_group(leader: int) -> None:
    """SIGKILL to what is left of a session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def started_at(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks: with the pid it names one process for
    ever. None: there is none.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def works_for(pid: int, home: Path) -> bool | None:
    """Whether a process is one of the stack in a home: by its environment, or by where it runs.
    None: it does not let us see.

    Redis writes its title over its environment, so that only its folder tells.
    """
    try:
        if Path(f"/proc/{pid}/cwd").samefile(home / "redis"):
            return True
    except OSError:
        pass
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    named = next(
        (
            entry[len(HOME_VARIABLE) :]
            for entry in environment.split(b"\0")
            if entry.startswith(HOME_VARIABLE)
        ),
        None,
    )
    return None if named is None else Path(os.fsdecode(named)).resolve() == home.resolve()


def main(arguments: Sequence[str]) -> None:
    """Become the command, tied."""
    parent, number, *command = arguments
    tether(int(parent), int(number))
    signal.signal(
        signal.SIGPIPE, signal.SIG_DFL
    )  # Python ignores it, and what is ignored stays so across exec
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
