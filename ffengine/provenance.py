"""How a result was obtained: versions, revision, device, data."""

import platform
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ffengine.datasets import Datasets, figures_version
from ffengine.plugins import REGISTRY
from ffengine.results import DatasetProvenance, PluginUse, Provenance, WeightsProvenance
from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec, digest
from ffengine.version import VERSION

DRIVER = Path("/proc/driver/nvidia/version")


class Stopwatch:
    """Measures wall-clock seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside the context to a phase.

        **Arguments:**

        - `name`: of the phase.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def provenance(
    spec: TrainSpec | CheckSpec | ForecastSpec,
    datasets: Datasets,
    device: torch.device,
    stopwatch: Stopwatch,
    *,
    label_strength: float | None = None,
    trained: TrainSpec | None = None,
    weights: WeightsProvenance | None = None,
) -> Provenance:
    """Collect what a reader needs to trust or repeat a result.

    **Arguments:**

    - `spec`: the run.
    - `datasets`: where its data set is.
    - `device`: where it ran.
    - `stopwatch`: the seconds of its phases.
    - `label_strength`: how strong label inputs were, see `Samples.label_strength`.
    - `trained`: of a check at trained weights, the run that they are of.
    - `weights`: of a check of uploaded weights, which they are.

    **Returns:**

    The provenance.
    """
    facts = datasets.facts_of(spec.dataset.name)
    return Provenance(
        spec_digest=digest(spec),
        engine_version=figures_version(facts.name),
        fflab_version=VERSION,
        git_revision=git_revision(),
        python_version=platform.python_version(),
        torch_version=torch.__version__,
        numpy_version=np.__version__,
        device=str(device),
        device_name=device_name(device),
        gpu_software=gpu_software(device),
        threads=torch.get_num_threads(),
        dtype=spec.precision if isinstance(spec, CheckSpec) else "float32",
        precision="float32" if isinstance(spec, ForecastSpec) else spec.precision,
        dataset=DatasetProvenance(
            name=facts.name,
            digest=datasets.loaded(facts.name).digest,
            preprocess=spec.dataset.preprocess,
            train_samples=spec.dataset.train_count(facts),
            validation_samples=spec.dataset.validation_samples,
            test_samples=spec.dataset.test_count(facts),
            label_strength=label_strength,
        ),
        weights=weights,
        seeds=spec.seeds,
        plugins=_plugins(spec, trained),
        wall_seconds={phase: round(seconds, 3) for phase, seconds in stopwatch.seconds.items()},
    )


def _plugins(
    spec: TrainSpec | CheckSpec | ForecastSpec, trained: TrainSpec | None
) -> tuple[PluginUse, ...]:
    """Return the plug-ins whose entries a run uses, with those of the run that it is a check of."""
    used = {plugin.package: plugin for plugin in REGISTRY.used_by(spec)}
    for plugin in REGISTRY.used_by(trained) if trained else ():
        entries = {*plugin.entries, *getattr(used.get(plugin.package), "entries", ())}
        used[plugin.package] = plugin.model_copy(update={"entries": tuple(sorted(entries))})
    return tuple(used[package] for package in sorted(used))


def device_name(device: torch.device) -> str:
    """Return the name of the processor of a device.

    **Arguments:**

    - `device`: a CPU or a GPU.

    **Returns:**

    The name, such as "NVIDIA H100 80GB HBM3".
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return platform.processor() or platform.machine()


def gpu_software(device: torch.device) -> str | None:
    """Return the versions of what lies between PyTorch and a GPU, on which last bits depend.

    **Arguments:**

    - `device`: a CPU or a GPU.

    **Returns:**

    Such as "CUDA 13.0, cuDNN 9.15.1, driver 580.95.05"; None for a CPU.
    """
    if device.type != "cuda":
        return None
    number = torch.backends.cudnn.version() or 0
    driver = driver_version(DRIVER.read_text()) if DRIVER.is_file() else None
    found = {
        "CUDA": torch.version.cuda,
        "cuDNN": f"{number // 10_000}.{number // 100 % 100}.{number % 100}" if number else None,
        "driver": driver,
    }
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


def driver_version(text: str) -> str | None:
    """Read the version out of what the driver of NVIDIA says of itself; None: it says none.

    **Arguments:**

    - `text`: such as "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  ...".
    """
    found = re.search(r"^NVRM version:.*?\b(\d+(?:\.\d+)+)\b", text, re.MULTILINE)
    return found[1] if found else None


@cache
def git_revision() -> str | None:
    """Return the commit that the engine runs from.

    **Returns:**

    40 hexadecimal digits, with `-dirty` where files were changed; None outside a checkout.
    """
    command = [
        "git",
        "-C",
        str(Path(__file__).parent),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=40",
        "--match=",
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
