"""The peak memory that a theorem check needs beside its arguments: run as a process of its own,
`python -m benchmarks.memory WIDTH`.
"""

import json
import sys
from pathlib import Path

import torch

import ffengine


def main() -> None:
    """Print the extra bytes as JSON."""
    width = int(sys.argv[1])
    x, weight = torch.rand(60_000, 784), torch.randn(width, 784) / 28
    ffengine.theorem1(weight[:16], x[:100])  # libraries' own buffers are not the check's
    before = peak()
    ffengine.theorem1(weight, x)
    print(json.dumps({"width": width, "extra_bytes": peak() - before}))


def peak() -> int:
    """The largest resident size of this process so far, in bytes; getrusage would count what the
    parent had.
    """
    status = Path("/proc/self/status").read_text()
    return 1024 * next(
        int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")
    )


if __name__ == "__main__":
    main()
