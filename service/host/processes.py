"""Processes of this machine: ended with their parent, killed by group, and identified.

Also a program: `python processes.py PARENT SIGNAL COMMAND...` asks the kernel to signal it when
PARENT ends, for whatever reason, and then becomes COMMAND. So no code has to run between fork and
exec, where a process with threads must not run any.
"""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1


def set_parent_death_signal(parent: int, number: int) -> None:
    """Have the kernel send this process a signal when the thread of `parent` that started it ends.

    If the parent has ended already, the signal is sent at once. psutil has no call for this.
    """
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def with_parent_death_signal(command: Sequence[str], number: int) -> list[str]:
    """The command that runs `command` and has it signalled when the calling process ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *command]


def kill_group(leader: int) -> None:
    """Send SIGKILL to what is left of a process group.

    psutil finds descendants by their parents, and so misses those whose parent has ended.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def start_ticks(pid: int) -> str | None:
    """When a process was started, in clock ticks since boot; None if there is no live one.

    Process id and ticks together identify one process for ever. psutil's `create_time` does not: it
    changes when the clock of the machine is set.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def belongs_to_home(pid: int, home: Path) -> bool | None:
    """Whether a process is part of the stack in a home; None if that cannot be seen.

    Its environment names the home. Redis overwrites its environment, but runs in a folder of the
    home.
    """
    import psutil  # not above: the program below runs without site-packages

    try:
        process = psutil.Process(pid)
        if _is_folder(process.cwd(), home / "redis"):
            return True
        named = process.environ().get("FFLAB_HOME")
    except (psutil.Error, OSError):
        return None
    return None if named is None else Path(named).resolve() == home.resolve()


def _is_folder(path: str, folder: Path) -> bool:
    try:
        return Path(path).samefile(folder)
    except OSError:
        return False


def main(arguments: Sequence[str]) -> None:
    """Set the signal, then become the command."""
    parent, number, *command = arguments
    set_parent_death_signal(int(parent), int(number))
    # Python ignores SIGPIPE, and exec keeps what is ignored
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
