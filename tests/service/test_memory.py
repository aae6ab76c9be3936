"""How much memory a process may use: files of cgroups in a folder, and a real limit."""

import resource
from collections.abc import Mapping
from pathlib import Path

import pytest

from service.host.memory import usable_memory

GB = 10**9
MACHINE = 64 * GB
V1_UNLIMITED = "9223372036854771712"


@pytest.mark.parametrize(
    ("files", "usable"),
    [
        ({}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{6 * GB}\n"}, 6 * GB),
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/memory.max": "max\n"}, MACHINE),
        # the group around it is the one that is limited
        (
            {
                "proc/self/cgroup": "0::/slurm/job/step\n",
                "sys/fs/cgroup/slurm/job/step/memory.max": "max\n",
                "sys/fs/cgroup/slurm/job/memory.max": f"{9 * GB}\n",
                "sys/fs/cgroup/slurm/memory.max": f"{30 * GB}\n",
            },
            9 * GB,
        ),
        # a container sees its own group as the root, under the path that the host has for it
        (
            {
                "proc/self/cgroup": "3:cpu,memory:/docker/abc\n2:cpuset:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{5 * GB}\n",
            },
            5 * GB,
        ),
        (
            {
                "proc/self/cgroup": "9:memory:/job\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": V1_UNLIMITED,
            },
            MACHINE,
        ),
        # both versions at once: the second one is mounted below the first
        (
            {
                "proc/self/cgroup": "9:memory:/\n0::/unit\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{20 * GB}",
                "sys/fs/cgroup/unified/unit/memory.max": f"{7 * GB}",
            },
            7 * GB,
        ),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/memory.max": "junk"}, MACHINE),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{80 * GB}"}, MACHINE),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, files: Mapping[str, str], usable: int) -> None:
    if resource.getrlimit(resource.RLIMIT_AS) != (resource.RLIM_INFINITY,) * 2:
        pytest.skip("this shell limits the address space")
    for name, content in files.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    assert usable_memory(MACHINE, tmp_path) == usable


def test_the_address_space_limits_as_well(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**46, before[1]))  # far beyond what this process has
    try:
        assert usable_memory(2**50, tmp_path) == 2**46
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
