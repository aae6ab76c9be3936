"""What a spec costs: floating-point operations, peak memory, seconds per kind of device, and which limits it passes."""

import itertools
from typing import NamedTuple

from pydantic import BaseModel

from ffengine.datasets import DATASETS
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import expand

# Sustained float32 rates of the products, operations a second. Coarse on purpose: an order of magnitude for planning.
DEVICE_FLOPS: dict[str, float] = {"cpu": 5e10, "cuda": 1e13}
RUN_OVERHEAD_SECONDS = 1.0
BYTES = 4  # float32


class Limits(BaseModel):
    """The largest run that the service accepts."""

    memory_bytes: int = 16 * 2**30
    flops: float = 1e18


class Estimate(BaseModel):
    """The cost of a spec; of a study, the sum over its runs and the peak of any."""

    runs: int
    flops: float
    peak_memory_bytes: int
    seconds: dict[str, float]
    problems: list[str]


class Cost(NamedTuple):
    """Operations and peak memory of one run."""

    flops: float
    memory_bytes: int


def estimate(spec: TrainSpec | CheckSpec | StudySpec, limits: Limits | None = None) -> Estimate:
    """What running `spec` costs; `problems` names each limit that it passes. GridError for a study that cannot be expanded."""
    limits = limits or Limits()
    specs = [cell.spec for cell in expand(spec)] if isinstance(spec, StudySpec) else [spec]
    costs = [train_cost(one) if isinstance(one, TrainSpec) else check_cost(one) for one in specs]
    flops, memory = sum(cost.flops for cost in costs), max(cost.memory_bytes for cost in costs)
    return Estimate(
        runs=len(costs),
        flops=flops,
        peak_memory_bytes=memory,
        seconds={kind: round(flops / rate + RUN_OVERHEAD_SECONDS * len(costs), 1) for kind, rate in DEVICE_FLOPS.items()},
        problems=passed(limits, max(cost.flops for cost in costs), memory),
    )


def passed(limits: Limits, flops: float, memory: int) -> list[str]:
    """One sentence for each limit that a single run passes."""
    problems = []
    if memory > limits.memory_bytes:
        problems.append(f"needs about {memory / 2**30:.1f} GiB of memory; the limit is {limits.memory_bytes / 2**30:.1f} GiB")
    if flops > limits.flops:
        problems.append(f"needs about {flops:.2g} floating-point operations; the limit is {limits.flops:.2g}")
    return problems


def train_cost(spec: TrainSpec) -> Cost:
    """Two products a step for each layer that learns, one for each below it; three and one for what is monitored."""
    inputs = (spec.dataset.facts.inputs, *spec.network.widths)
    products = [2.0 * m * n for m, n in itertools.pairwise(inputs)]  # operations of one sample through one layer
    replicas, samples = len(spec.seeds), spec.dataset.train_count
    measurements = spec.epochs // spec.monitor.every_epochs + 2
    per_sample = 0.0
    for stage in spec.stages:
        below = sum(products[: stage[-1]])
        learning = sum(products[layer] for layer in stage)
        per_sample += spec.epochs * samples * 2 * (below + 2 * learning)
        per_sample += measurements * spec.monitored * 2 * (below + 8 * learning)
    evaluation = (spec.dataset.test_count + samples) * spec.dataset.facts.classes * sum(products)
    weights = sum(m * n for m, n in itertools.pairwise(inputs))
    batch = min(spec.batch_size, samples)
    memory = BYTES * (3 * samples * inputs[0] + replicas * (4 * weights + 2 * batch * (3 * max(inputs) + 6 * max(spec.network.widths))))
    return Cost(replicas * (per_sample + evaluation), memory)


def check_cost(spec: CheckSpec) -> Cost:
    """Three products and one more for the observed change; one over all pairs for the infinite width."""
    facts = DATASETS[spec.dataset.name]
    batch = min(spec.batch_size or spec.checked, spec.checked)
    samples = spec.checked * (2 if spec.theorem == 2 else 1)
    exact = sum(8.0 * samples * width * facts.inputs for width in spec.widths) if "exact" in spec.methods else 0.0
    pairs = 2.0 * samples * batch * (2 if spec.theorem == 2 else 1) * facts.inputs if "infinite_width" in spec.methods else 0.0
    memory = (
        BYTES * (2 * spec.dataset.train_count * facts.inputs + samples * facts.inputs * 2 + 4 * max(spec.widths) * facts.inputs) + 2**29
    )
    return Cost(len(spec.seeds) * (exact + pairs), memory)
