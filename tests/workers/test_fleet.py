"""Which devices `all` are, and how they are found: from facts, with real locks and processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.waiting import PATIENCE_SECONDS
from workers.devices import GpuLocks, Gpus, NoDevice, choose_all
from workers.fleet import ask_for_gpus


def test_all_are_the_gpus_that_no_other_worker_holds(tmp_path: Path) -> None:
    gpus = Gpus(("GPU-a", "GPU-b", "GPU-c"), nvidia=True)
    locks, other = GpuLocks(tmp_path), GpuLocks(tmp_path)
    assert choose_all(gpus, locks.is_free) == ["cuda:0", "cuda:1", "cuda:2"]
    assert other.take("GPU-b"), "to look at a lock does not hold it"
    assert choose_all(gpus, locks.is_free) == ["cuda:0", "cuda:2"]
    assert other.take("GPU-a")
    assert other.take("GPU-c")
    with pytest.raises(NoDevice, match="each of the 3 GPUs"):
        choose_all(gpus, locks.is_free)


def test_all_is_never_the_cpu(tmp_path: Path) -> None:
    locks = GpuLocks(tmp_path)
    with pytest.raises(NoDevice, match=r"this machine has none: .* --device cpu"):
        choose_all(Gpus((), nvidia=False), locks.is_free)
    with pytest.raises(NoDevice, match="cannot use: too old"):
        choose_all(Gpus((), nvidia=True, fault="too old"), locks.is_free)


@pytest.mark.slow
def test_gpus_are_listed_by_another_process() -> None:
    said = json.dumps(Gpus(["GPU-a"], nvidia=True)._asdict())
    written = [sys.executable, "-c", f"print('a warning'); print({said!r})"]
    assert ask_for_gpus(written) == Gpus(["GPU-a"], nvidia=True)
    with pytest.raises(NoDevice, match="cannot be listed: ImportError: no torch"):
        ask_for_gpus([sys.executable, "-c", "raise ImportError('no torch')"])


@pytest.mark.slow
@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="this machine has a GPU")
def test_without_a_gpu_all_is_refused_in_one_line(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "FFLAB_HOME": str(tmp_path),
        "FFLAB_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    asked = subprocess.run(
        [sys.executable, "-P", "-m", "workers", "--device", "all"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert asked.returncode == 3
    assert "fflab worker cannot start: --device all is for each GPU" in asked.stderr
