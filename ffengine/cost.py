"""What a spec costs: floating-point operations, peak memory, seconds by kind of device."""

import itertools
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ffengine.advice import Advice, advice_on
from ffengine.datasets import Dataset, Datasets
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import Cell, expand

# Sustained rates of float32 products, operations per second: an order of magnitude for planning.
DEVICE_FLOPS: dict[str, float] = {"cpu": 5e10, "cuda": 1e13}
RUN_OVERHEAD_SECONDS = 1.0
BYTES = 4  # float32


class Limits(BaseModel):
    """The largest run that the service accepts."""

    model_config = ConfigDict(extra="forbid")

    memory_bytes: int = Field(16 * 2**30, description="peak memory of a run")
    flops: float = Field(1e18, description="floating-point operations of a run")


class Estimate(BaseModel):
    """The cost of a spec; of a study, the sum over its runs and the peak of any."""

    runs: int
    flops: float
    peak_memory_bytes: int
    seconds: dict[str, float]
    problems: list[str]
    advice: list[Advice] = []


class Cost(NamedTuple):
    """The cost of one run.

    **Attributes:**

    - `flops`: floating-point operations.
    - `memory_bytes`: bytes at the peak.
    """

    flops: float
    memory_bytes: int


def estimate(
    spec: TrainSpec | CheckSpec | StudySpec,
    limits: Limits | None = None,
    datasets: Datasets | None = None,
    cells: Sequence[Cell] | None = None,
) -> Estimate:
    """Estimate what running a spec costs.

    **Arguments:**

    - `spec`: a run or a study.
    - `limits`: the largest run that is accepted; None takes the defaults.
    - `datasets`: where data sets are; None: where the environment says.
    - `cells`: the runs of a study, where they are known already.

    **Returns:**

    The cost; `problems` names each limit that a run exceeds, and `advice` what of the data the spec
    does not take into account.

    **Raises:**

    - `GridError`: the study cannot be expanded.
    - `DatasetError`: a data set cannot be found.
    """
    limits = limits or Limits()
    if isinstance(spec, StudySpec):
        specs = [cell.spec for cell in (expand(spec) if cells is None else cells)]
    else:
        specs = [spec]
    datasets = datasets or Datasets.of_environment()
    facts_of = cache(datasets.facts_of)
    costs = [cost_of(one, facts_of(one.dataset.name)) for one in specs]
    flops, memory = sum(cost.flops for cost in costs), max(cost.memory_bytes for cost in costs)
    return Estimate(
        runs=len(costs),
        flops=flops,
        peak_memory_bytes=memory,
        seconds={
            kind: round(flops / rate + RUN_OVERHEAD_SECONDS * len(costs), 1)
            for kind, rate in DEVICE_FLOPS.items()
        },
        problems=exceeded_limits(limits, max(cost.flops for cost in costs), memory),
        advice=advice_on(specs, datasets),
    )


def exceeded_limits(limits: Limits, flops: float, memory: int) -> list[str]:
    """Describe the limits that a run exceeds.

    **Arguments:**

    - `limits`: the largest run that is accepted.
    - `flops`: floating-point operations of the run.
    - `memory`: bytes at its peak.

    **Returns:**

    One sentence for each limit that is exceeded.
    """
    problems = []
    if memory > limits.memory_bytes:
        problems.append(
            f"needs about {memory / 2**30:.1f} GiB of memory; the limit is "
            f"{limits.memory_bytes / 2**30:.1f} GiB"
        )
    if flops > limits.flops:
        problems.append(
            f"needs about {flops:.2g} floating-point operations; the limit is {limits.flops:.2g}"
        )
    return problems


def cost_of(spec: TrainSpec | CheckSpec, facts: Dataset) -> Cost:
    """Estimate one run.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Its cost.
    """
    return train_cost(spec, facts) if isinstance(spec, TrainSpec) else check_cost(spec, facts)


def train_cost(spec: TrainSpec, facts: Dataset) -> Cost:
    """Estimate a training run.

    A step takes two products for each layer that learns and one for each layer below; a measurement
    takes five and one. Strategies that ask the network add a forward pass for half of the labels,
    baselines three products a layer.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Its cost.
    """
    inputs = (spec.inputs(facts), *spec.network.widths)
    products = [
        2.0 * m * n for m, n in itertools.pairwise(inputs)
    ]  # operations of one sample through one layer
    replicas, samples = len(spec.seeds), spec.dataset.train_count(facts)
    measurements = spec.epochs // spec.monitor.every_epochs + 2
    per_sample = 0.0
    for stage in spec.stages:
        below = sum(products[: stage[-1]])
        learning = sum(products[layer] for layer in stage)
        queries = facts.classes / 2 * (below + learning) if spec.negatives.asks_network else 0.0
        per_sample += spec.epochs * samples * 2 * (below + 2 * learning + queries)
        per_sample += measurements * spec.monitored(facts) * 2 * (below + 5 * learning)
    per_sample += len(spec.evaluation.baselines) * spec.epochs * samples * 2 * 3 * sum(products)
    held_out = spec.dataset.test_count(facts) + spec.dataset.validation_samples
    evaluation = (held_out + samples) * (
        products[0] + facts.classes * sum(products[1:])
    ) + held_out * 4 * sum(products)
    return Cost(replicas * (per_sample + evaluation), train_memory(spec, facts, inputs))


def train_memory(spec: TrainSpec, facts: Dataset, inputs: tuple[int, ...]) -> int:
    """Estimate the peak memory of a training run.

    It counts samples, weights with optimiser states and a checkpoint of them, a batch, negatives
    that are drawn once, and the features of a linear classifier.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    - `inputs`: m of each layer, then the width of the last.

    **Returns:**

    Bytes.
    """
    replicas, samples = len(spec.seeds), spec.dataset.train_count(facts)
    everything = samples + spec.dataset.validation_samples + spec.dataset.test_count(facts)
    weights = sum(m * n for m, n in itertools.pairwise(inputs)) * (
        2 * (1 + len(spec.optimizer.slots)) + 3
    )
    batch = (
        2
        * max(min(spec.batch_size, samples), min(spec.monitored(facts), spec.batch_size))
        * (3 * max(inputs) + 8 * max(spec.network.widths))
    )
    fixed = 2 * samples * max(inputs[:-1]) if spec.negatives.redraw == "once" else 0
    features = (
        2 * everything * sum(spec.network.widths) // replicas
        if spec.evaluation.linear_classifier
        else 0
    )  # the classifiers of the seeds are fitted one after the other
    return BYTES * (2 * everything * inputs[0] + replicas * (weights + batch + fixed + features))


def check_cost(spec: CheckSpec, facts: Dataset) -> Cost:
    """Estimate a theorem check.

    It takes three products, one more for the observed change, and one over all pairs of samples for
    the infinite width.

    **Arguments:**

    - `spec`: the check.
    - `facts`: the facts of its data set.

    **Returns:**

    Its cost.
    """
    inputs = spec.dataset.inputs(facts, labelled=spec.theorem == 2 and spec.negatives.labelled)
    checked = spec.checked(facts)
    batch = min(spec.batch_size or checked, checked)
    samples = checked * (2 if spec.theorem == 2 else 1)
    exact = (
        sum(8.0 * samples * width * inputs for width in spec.widths)
        if "exact" in spec.methods
        else 0.0
    )
    pairs = (
        2.0 * samples * batch * (2 if spec.theorem == 2 else 1) * inputs
        if "infinite_width" in spec.methods
        else 0.0
    )
    memory = (
        BYTES
        * (
            2 * spec.dataset.train_count(facts) * inputs
            + samples * inputs * 2
            + 4 * max(spec.widths) * inputs
        )
        + 2**29
    )
    return Cost(len(spec.seeds) * (exact + pairs), memory)
