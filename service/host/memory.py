"""How much memory the processes of this machine may use: what it has, less what limits them.

A container and a job of Slurm or systemd are limited by their cgroup, a shell by `ulimit -v`. What
lies beyond the limit is there for others: who uses it is killed.
"""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

# cgroup v1 says "no limit" as the largest multiple of a page below 2^63
UNLIMITED_BYTES = 2**60
CONTROLLER = "memory"  # of cgroup v1


def usable_memory(installed: int, root: Path = Path("/")) -> int:
    """The smallest of the machine's memory, the cgroup's limit and that of the address space.

    **Arguments:**

    - `installed`: what the machine has, in bytes.
    - `root`: the folder below which `proc` and `sys` lie.
    """
    spaces = [
        limit
        for limit in resource.getrlimit(resource.RLIMIT_AS)
        if limit not in (0, resource.RLIM_INFINITY)
    ]
    return min([installed, *_cgroup_limits(root), *spaces])


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Every limit that this process is under: that of its group, and of the groups around it."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # another system than Linux
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0" and not controllers:
            yield from _limits_above(mounted, group, "memory.max")
            yield from _limits_above(mounted / "unified", group, "memory.max")
        elif CONTROLLER in controllers.split(","):
            yield from _limits_above(mounted / CONTROLLER, group, "memory.limit_in_bytes")


def _limits_above(mounted: Path, group: str, name: str) -> Iterator[int]:
    """The limits in the files of that name, from a group up to the root of its tree.

    A container may see its own group as the root, under a path that is not there: the root counts.
    """
    path = PurePosixPath(group.lstrip("/"))
    for folder in (path, *path.parents):
        if ".." in folder.parts:
            continue
        try:
            said = (mounted / folder / name).read_text().strip()
        except OSError:
            continue
        if said.isdigit() and 0 < int(said) < UNLIMITED_BYTES:
            yield int(said)


def memory_kills(root: Path = Path("/")) -> int:
    """How many processes the kernel has killed since it started because memory ran out.

    Those of any cgroup of the machine count; 0 where the kernel does not say.

    **Arguments:**

    - `root`: the folder below which `proc` lies.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0
