"""Which device `auto` is: from facts, with real files and real locks between descriptors."""

from pathlib import Path

import pytest

from workers.devices import GpuLocks, Gpus, NoDevice, choose, has_nvidia

OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version 11040)"


def test_auto_is_the_cpu_only_where_there_is_no_gpu(tmp_path: Path) -> None:
    locks = GpuLocks(tmp_path)
    assert choose("auto", Gpus((), nvidia=False, fault="not compiled"), locks.take) == "cpu"
    with pytest.raises(NoDevice, match="too old") as refused:
        choose("auto", Gpus((), nvidia=True, fault=OLD), locks.take)
    assert len(str(refused.value).splitlines()) == 1
    for named in ("cpu", "cuda:3"):
        assert choose(named, Gpus((), nvidia=True, fault=OLD), locks.take) == named


def test_a_gpu_shows_in_its_files_or_by_its_tool(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/null").touch()
    assert not has_nvidia(tmp_path, path=str(tmp_path))
    tool = tmp_path / "nvidia-smi"
    tool.touch(0o755)
    assert has_nvidia(tmp_path, path=str(tmp_path))
    tool.unlink()
    (tmp_path / "dev/nvidia0").touch()
    assert has_nvidia(tmp_path, path=str(tmp_path))


def test_each_worker_takes_a_gpu_that_no_other_has(tmp_path: Path) -> None:
    gpus = Gpus(("GPU-a/1", "GPU-b/2"), nvidia=True)
    first, second, third = (GpuLocks(tmp_path) for _ in range(3))
    assert choose("auto", gpus, first.take) == "cuda:0"
    assert choose("auto", gpus, second.take) == "cuda:1"
    with pytest.raises(NoDevice, match="each of the 2 GPUs"):
        choose("auto", gpus, third.take)
    first.release()
    assert choose("auto", gpus, third.take) == "cuda:0"


def test_a_runner_takes_over_the_gpu_of_the_one_before(tmp_path: Path) -> None:
    old, new, other = (GpuLocks(tmp_path) for _ in range(3))
    assert old.take("a")
    waiting = new.take_when_free("a")
    assert waiting.is_alive()
    old.release()
    waiting.join(30.0)
    assert not waiting.is_alive()
    assert not other.take("a")
    new.release()
    assert other.take("a")


def test_the_lock_of_another_user_is_only_read(tmp_path: Path) -> None:
    (tmp_path / "fflab-gpu-a.lock").touch(0o444)
    first, second = GpuLocks(tmp_path), GpuLocks(tmp_path)
    assert first.take("a")
    assert not second.take("a")
    (tmp_path / "fflab-gpu-b.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        first.take("b")
