"""Which device `auto` is, and which `all` are: free GPUs, else a refusal.

Where the machine has no GPU, `auto` is the CPU. A CPU in the place of a GPU that does not work
would claim jobs and take a hundred times as long. This module decides from facts, and does not
import torch.
"""

import fcntl
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

AUTO = "auto"
ALL = "all"


class NoDevice(Exception):
    """There is no device to compute on; the message is one line that says why and what to do."""


class Gpus(NamedTuple):
    """The GPUs of a machine.

    **Attributes:**

    - `ids`: those that PyTorch can use, in its order; each has the same id for all processes.
    - `nvidia`: whether the machine has one of NVIDIA's, usable or not.
    - `fault`: why PyTorch can use none; empty where it can.
    """

    ids: Sequence[str]
    nvidia: bool
    fault: str = ""


def has_nvidia(root: Path = Path("/"), path: str | None = None) -> bool:
    """Whether the machine has a GPU of NVIDIA: a device file, or the tool of the driver.

    **Arguments:**

    - `root`: the folder below which `dev` lies.
    - `path`: where programs are looked for; None: where the environment says.
    """
    return any((root / "dev").glob("nvidia*")) or bool(shutil.which("nvidia-smi", path=path))


def choose(asked: str, gpus: Gpus, take: Callable[[str], bool]) -> str:
    """The torch device for auto, cpu or cuda:N.

    **Arguments:**

    - `asked`: what the operator said.
    - `gpus`: those of this machine.
    - `take`: holds the GPU of an id for this worker; False where another worker holds it.

    **Raises:**

    - `NoDevice`: `auto`, and every GPU is taken, or there is one that PyTorch cannot use.
    """
    if asked != AUTO:
        return asked
    for number, identity in enumerate(gpus.ids):
        if take(identity):
            return f"cuda:{number}"
    _refuse_without(gpus)
    return "cpu"


def choose_all(gpus: Gpus, is_free: Callable[[str], bool]) -> list[str]:
    """The torch devices for `all`: each GPU that no other worker holds.

    **Arguments:**

    - `gpus`: those of this machine.
    - `is_free`: whether no worker holds the GPU of an id.

    **Raises:**

    - `NoDevice`: there is none, each is taken, or there is one that PyTorch cannot use.
    """
    free = [f"cuda:{number}" for number, identity in enumerate(gpus.ids) if is_free(identity)]
    if not free:
        _refuse_without(gpus)
        raise NoDevice(
            "--device all is for each GPU of NVIDIA, and this machine has none: start the worker "
            "with --device cpu"
        )
    return free


def _refuse_without(gpus: Gpus) -> None:
    """Raise NoDevice where all GPUs are taken, or there is one that PyTorch cannot use."""
    if gpus.ids:
        count = "the GPU" if len(gpus.ids) == 1 else f"each of the {len(gpus.ids)} GPUs"
        raise NoDevice(
            f"another worker has {count} of this machine: end it, or name a device, as --device "
            f"cuda:0 or --device cpu"
        )
    if gpus.nvidia:
        raise NoDevice(
            f"there is an NVIDIA GPU that PyTorch cannot use: {gpus.fault}; repair that, or "
            f"start the worker with --device cpu"
        )


class GpuLocks:
    """Holds GPUs for a process, by a lock of a file for each: the kernel lets go when it ends.

    The files lie in the folder of temporary files, for a home may be shared between machines.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.gettempdir())
        self._held: list[int] = []

    def take(self, identity: str) -> bool:
        """Hold a GPU; False where another process holds it."""
        file = self._open(identity)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._held.append(file)
        return True

    def is_free(self, identity: str) -> bool:
        """Whether no process holds a GPU; it is not held by this one afterwards."""
        file = self._open(identity)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(file)
        return True

    def take_when_free(self, identity: str) -> threading.Thread:
        """Hold a GPU as soon as nobody else does, without waiting for it here.

        An operator may name one GPU for two workers, and a new runner takes over from the old one.
        """
        file = self._open(identity)
        self._held.append(file)
        waiting = threading.Thread(
            target=fcntl.flock, args=(file, fcntl.LOCK_EX), name="gpu-lock", daemon=True
        )
        waiting.start()
        return waiting

    def release(self) -> None:
        """Let go of all GPUs."""
        for file in self._held:
            os.close(file)
        self._held.clear()

    def _open(self, identity: str) -> int:
        """Open the file of a GPU, which may belong to another user: reading is enough for a lock.

        A lock that cannot be had must not be taken for one that is.
        """
        name = re.sub(r"[^A-Za-z0-9.-]", "-", identity)
        path = self.folder / f"fflab-gpu-{name}.lock"
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            return os.open(path, flags | os.O_CREAT, 0o644)
