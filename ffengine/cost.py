"""What a spec costs: operations, peak memory, bytes on the disk, seconds by kind of device."""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field, computed_field

from ffengine.advice import Advice, advice_on
from ffengine.baseline_plan import legs
from ffengine.baselines import Baseline
from ffengine.datasets import Dataset, Datasets
from ffengine.label_codes import OneHot
from ffengine.layer_kinds import samples_at_once
from ffengine.negatives import Relabelling
from ffengine.objectives import Whitened
from ffengine.onset import onset_before
from ffengine.optimizers import AnyOptimizer
from ffengine.results import Onset
from ffengine.search import Params, example_cells, searched
from ffengine.spec import (
    LARGEST_SIDE,
    MOST_PUSHED,
    PUSHERS,
    CheckSpec,
    ForecastSpec,
    PhasesSpec,
    StudySpec,
    TrainSpec,
)
from ffengine.study import Cell, GridError
from ffengine.text import bytes_in_words

# Sustained rates of float32 products, operations per second: an order of magnitude for planning.
DEVICE_FLOPS: dict[str, float] = {"cpu": 5e10, "cuda": 1e13}
# What a run takes beside its products, measured with small runs on two cores: to be claimed, begun
# and stored; then for each step of training, and for each batch of a layer that is measured, calls
# of torch that take as long for ten samples as for a hundred.
RUN_OVERHEAD_SECONDS = 1.0
STEP_SECONDS = 0.001
BASELINE_STEP_SECONDS = 0.001
MEASURED_BATCH_SECONDS = 0.01
SINGULAR_FLOPS = 30.0  # of singular values: on one thread and half of it without products
BASIS = (
    f"{DEVICE_FLOPS['cpu']:.0e} operations a second on a CPU, {DEVICE_FLOPS['cuda']:.0e} on a GPU; "
    f"{RUN_OVERHEAD_SECONDS:.0f} s a run, {1e3 * STEP_SECONDS:.0f} ms a step, "
    f"{1e3 * MEASURED_BATCH_SECONDS:.0f} ms a measured batch of a layer; one worker on a machine "
    f"that does nothing else (beside other busy processes several times as long)"
)
BYTES = 4  # float32
# What a job leaves on the disk, measured with SQLite. The database has each row three times: as a
# row, in an event of the job's stream, and in the result.
EPOCH_ROW_BYTES = 4_000
CELL_BYTES = 1_350
JOB_BYTES = 16_000  # spec, provenance, findings, indexes, the events of states
EVENT_BYTES = 350  # of progress
TRIAL_BYTES = 90  # a learning rate that was tried
FIGURE_BYTES = 400  # accuracy, measures and baselines: numbers of one seed, layer and partition
ACCURACY_BYTES = 160  # a row of accuracy by epoch in the result,
KEPT_ACCURACY_BYTES = 75  # and in a checkpoint
CLASS_BYTES = 60  # what measures and ensembles say of one class
PAIR_BYTES = 22  # what ensembles say of two classes
USAGE_BYTES, SELECTIVITY_BYTES, LESION_BYTES, OOD_BYTES = 520, 780, 210, 260  # rows in a result
ANGLES_BYTES = 12_000  # the angles between the samples of a check
POTENTIALS_BYTES = 600  # of a seed, at the samples of both splits
PUSHES_BYTES = 3_200  # of a split: who pushes, by each relation and angle
PUSHED_BYTES = 700  # of a sample that is pushed most, with its pushers
PICTURE_BYTES = 100  # of a sample, beside its pixels
# in the result of a study, over all seeds: of a layer, of a cell of a check, and of a forecast of
# one width
LAYER_SUMMARY_BYTES, CELL_SUMMARY_BYTES, FORECAST_SUMMARY_BYTES = 6_200, 2_500, 500
STUDY_EVENTS_BYTES = 100_000
HEADER_BYTES = 600  # of a file of weights, beside LAYER_BYTES for each layer
LAYER_BYTES = 250
MARGIN_BYTES = 19  # of a sample, see ffengine.margin_files
MARGIN_HEADER_BYTES = 1_800  # of a cell
POINT_BYTES = 1_200  # of a forecast, as EPOCH_ROW_BYTES, without its blocks
BLOCK_BYTES = 120  # of a point
FORECAST_ROW_BYTES = 450
DECOMPOSED_BYTES = 200  # of a pair at a pair, where margins are split by who pushes
UNIT_SUMS = 9  # tensors of float64 for each activation of a batch that is measured
EVALUATED_SAMPLES = 1_000  # that are evaluated together
# a run that goes on needs the optimiser's states: of the newest two epochs, and within an epoch
STATES_KEPT = 2


class Limits(BaseModel):
    """The largest run that the service accepts."""

    model_config = ConfigDict(extra="forbid")

    memory_bytes: int = Field(16 * 2**30, description="peak memory of a run")
    flops: float = Field(1e18, description="floating-point operations of a run")
    disk_bytes: int = Field(
        32 * 2**30,
        description="what a job takes up on the disk and in the database; of a study, all its runs",
    )


class DiskBytes(BaseModel):
    """What a job takes up on the disk while it runs, in bytes; after its end it is a little less.

    Charts and reports take up nothing: they are drawn when they are asked for.
    """

    checkpoints: int = Field(
        0, description="weights of every measured epoch, and what an interrupted run goes on from"
    )
    margins: int = Field(0, description="the margins of every sample of a check")
    database: int = Field(0, description="rows, events and results")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> int:
        """All of it."""
        return self.checkpoints + self.margins + self.database


class LeastCost(BaseModel):
    """What a search costs at least: each of its trials with the cheapest values of its space."""

    flops: float
    peak_memory_bytes: int
    disk_bytes: DiskBytes
    seconds: dict[str, float]


class Estimate(BaseModel):
    """The cost of a spec; of a study, the sum over its runs and the peak of any; of a search, as if
    each of its trials had the dearest values of its space.
    """

    runs: int
    flops: float
    peak_memory_bytes: int
    disk_bytes: DiskBytes
    seconds: dict[str, float] = Field(
        description="on each kind of device, as `seconds_based_on` says: for planning"
    )
    problems: list[str]
    advice: list[Advice] = []
    onset: Onset | None = Field(
        None,
        description="what is known of a training run before it begins; null for checks and studies",
    )
    seconds_based_on: str = Field(BASIS, description="what `seconds` takes for granted, in words")
    least: LeastCost | None = Field(
        None,
        description="of a search: what it costs with the cheapest values of its space; null for "
        "all others",
    )


class Cost(NamedTuple):
    """The cost of one run.

    **Attributes:**

    - `flops`: floating-point operations.
    - `memory_bytes`: bytes at the peak.
    - `disk`: bytes that it takes up on the disk.
    - `seconds`: seconds beside those of the operations, on any device.
    """

    flops: float
    memory_bytes: int
    disk: DiskBytes = DiskBytes()
    seconds: float = RUN_OVERHEAD_SECONDS


def estimate(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec,
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

    The cost; `problems` names each limit that a run exceeds, `advice` what of the data the spec
    does not take into account, and `onset` how a training run is expected to begin.

    **Raises:**

    - `GridError`: the study cannot be expanded.
    - `DatasetError`: a data set cannot be found.
    """
    limits = limits or Limits()
    datasets = datasets or Datasets.of_environment()
    specs: list[TrainSpec | CheckSpec | ForecastSpec]
    if isinstance(spec, StudySpec):
        examples = example_cells(spec) if cells is None else cells
        if searched(spec):
            return _estimate_search(spec, limits, datasets, examples)
        specs = [cell.spec for cell in examples]
    else:
        specs = [spec]
    return _estimate_runs(spec, specs, limits, datasets)


def _estimate_search(
    study: StudySpec, limits: Limits, datasets: Datasets, examples: Sequence[Cell]
) -> Estimate:
    """Estimate a search: each trial as the dearest, and as the cheapest."""
    found = searched(study)
    assert found is not None  # noqa: S101 - narrows the type: the study searches
    cheapest, dearest = (
        _estimate_runs(study, [one], limits, datasets, times=found.search.trials)
        for one in _cost_ends(found.cell, datasets, examples)
    )
    least = LeastCost(
        flops=cheapest.flops,
        peak_memory_bytes=cheapest.peak_memory_bytes,
        disk_bytes=cheapest.disk_bytes,
        seconds=cheapest.seconds,
    )
    return dearest.model_copy(update={"least": least})


def _cost_ends(
    cell_of: Callable[[Params], Cell], datasets: Datasets, examples: Sequence[Cell]
) -> tuple[TrainSpec | CheckSpec | ForecastSpec, TrainSpec | CheckSpec | ForecastSpec]:
    """Return the cheapest and the dearest run of a search, field by field.

    Where such values do not go together, they are the cheapest and the dearest example.
    """

    def flops(cell: Cell) -> float:
        return cost_of(cell.spec, datasets.facts_of(cell.spec.dataset.name)).flops

    first, others = examples[0], examples[1:]
    costs = {id(cell): flops(cell) for cell in examples}
    ends = []
    for choose in (min, max):
        params = dict(first.params)
        for field, value in first.params.items():
            varied = [first, *(one for one in others if one.params[field] != value)]
            params[field] = choose(varied, key=lambda cell: costs[id(cell)]).params[field]
        try:
            ends.append(cell_of(params).spec)
        except GridError:
            ends.append(choose(examples, key=lambda cell: costs[id(cell)]).spec)
    return ends[0], ends[1]


def _estimate_runs(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec,
    specs: Sequence[TrainSpec | CheckSpec | ForecastSpec],
    limits: Limits,
    datasets: Datasets,
    times: int = 1,
) -> Estimate:
    """Estimate a job that has these runs, each so many times."""
    facts_of = cache(datasets.facts_of)
    costs = [cost_of(one, facts_of(one.dataset.name)) for one in specs] * times
    flops, memory = sum(cost.flops for cost in costs), max(cost.memory_bytes for cost in costs)
    disk = disk_of(spec, [*specs] * times, [cost.disk for cost in costs])
    fixed = sum(cost.seconds for cost in costs)
    return Estimate(
        runs=len(costs),
        flops=flops,
        peak_memory_bytes=memory,
        disk_bytes=disk,
        seconds={kind: round(flops / rate + fixed, 1) for kind, rate in DEVICE_FLOPS.items()},
        problems=exceeded_limits(limits, max(cost.flops for cost in costs), memory, disk),
        advice=advice_on(specs, datasets),
        onset=onset_before(spec, datasets) if isinstance(spec, TrainSpec) else None,
    )


def exceeded_limits(
    limits: Limits, flops: float, memory: int, disk: DiskBytes | None = None
) -> list[str]:
    """Describe the limits that a run or study exceeds.

    **Arguments:**

    - `limits`: the largest run that is accepted.
    - `flops`: floating-point operations of the run.
    - `memory`: bytes at its peak.
    - `disk`: bytes that it takes up on the disk; None where these are not asked for.

    **Returns:**

    One sentence for each limit that is exceeded.
    """
    problems = []
    if memory > limits.memory_bytes:
        problems.append(
            f"needs about {bytes_in_words(memory)} of memory; the limit is "
            f"{bytes_in_words(limits.memory_bytes)}"
        )
    if flops > limits.flops:
        problems.append(
            f"needs about {flops:.2g} floating-point operations; the limit is {limits.flops:.2g}"
        )
    if disk and disk.total > limits.disk_bytes:
        problems.append(_too_much_disk(disk, limits.disk_bytes))
    return problems


def _too_much_disk(disk: DiskBytes, limit: int) -> str:
    """Say what takes up the disk, and what to ask for instead."""
    largest = max(("checkpoints", "margins", "database"), key=lambda part: getattr(disk, part))
    of, advice = {
        "checkpoints": (
            "checkpoints",
            "measure fewer epochs (monitor.every_epochs), or train fewer seeds or narrower layers",
        ),
        "margins": ("margins of single samples", "check fewer samples, widths or seeds"),
        "database": ("rows and events", "measure fewer epochs (monitor.every_epochs) or seeds"),
    }[largest]
    part = getattr(disk, largest)
    return (
        f"needs about {bytes_in_words(disk.total)} of disk, {bytes_in_words(part)} of them for "
        f"{of}; the limit is {bytes_in_words(limit)}: {advice}"
    )


def disk_of(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec,
    runs: Sequence[TrainSpec | CheckSpec | ForecastSpec],
    costs: Sequence[DiskBytes],
) -> DiskBytes:
    """Add up what the runs of a job take up on the disk, and what a study adds to them.

    **Arguments:**

    - `spec`: the job.
    - `runs`: its runs; of a job that is no study, itself.
    - `costs`: what each of them takes up.

    **Returns:**

    The sum.
    """
    study = 0
    if isinstance(spec, StudySpec):
        study = JOB_BYTES + STUDY_EVENTS_BYTES
        study += sum(EVENT_BYTES + _summary_bytes(run) for run in runs)
    return DiskBytes(
        checkpoints=sum(cost.checkpoints for cost in costs),
        margins=sum(cost.margins for cost in costs),
        database=study + sum(cost.database for cost in costs),
    )


def _summary_bytes(run: TrainSpec | CheckSpec | ForecastSpec) -> int:
    """How many bytes the summary of a run has: of its layers, its cells, or its widths and their
    limit.
    """
    if isinstance(run, CheckSpec):
        return CELL_SUMMARY_BYTES * _cells(run)
    if isinstance(run, ForecastSpec):
        return FORECAST_SUMMARY_BYTES * (1 + len(run.widths))
    return LAYER_SUMMARY_BYTES * len(run.network.widths)


def _cells(spec: CheckSpec) -> int:
    """How many cells a check has for each seed."""
    widths = 1 if spec.at != "initialization" else len(spec.widths)
    splits = 2 if spec.theorem == 2 else 1
    return widths * len(spec.methods) * splits


def cost_of(spec: TrainSpec | CheckSpec | ForecastSpec, facts: Dataset) -> Cost:
    """Estimate one run.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Its cost.
    """
    if isinstance(spec, ForecastSpec):
        return forecast_cost(spec, facts)
    return train_cost(spec, facts) if isinstance(spec, TrainSpec) else check_cost(spec, facts)


def forecast_cost(spec: ForecastSpec, facts: Dataset) -> Cost:
    """Estimate a forecast: its small run, and four products and a pass for each label and point.

    **Arguments:**

    - `spec`: the forecast.
    - `facts`: the facts of its data set.

    **Returns:**

    Its cost.
    """
    training = spec.training(facts)
    inputs, seeds = training.inputs(facts), len(spec.seeds)
    measured = 1 + -(-training.epochs // spec.every_epochs)
    passes = 2.0 * spec.units * (8 * inputs + 20 * facts.classes)
    small = train_cost(training, facts)
    batch = min(spec.batch_size, spec.measured(facts))
    sums = 8 * UNIT_SUMS * seeds * 2 * batch * spec.units
    points = 2 * seeds * measured
    weights = BYTES * seeds * spec.units * (inputs + spec.network.bias)
    return Cost(
        small.flops + seeds * measured * spec.measured(facts) * passes,
        small.memory_bytes + sums,
        DiskBytes(
            checkpoints=(1 + len(spec.optimizer.slots)) * weights + HEADER_BYTES + LAYER_BYTES,
            database=JOB_BYTES
            + points * (POINT_BYTES + BLOCK_BYTES * spec.blocks)
            + 2 * measured * (1 + len(spec.widths)) * FORECAST_ROW_BYTES
            + training.epochs * EVENT_BYTES,
        ),
        small.seconds,
    )


def train_cost(spec: TrainSpec, facts: Dataset) -> Cost:
    """Estimate a training run.

    A step takes two products for each layer that learns and one for each layer below; a measurement
    takes five and one. Where phases alternate, and without negatives, a step has half as many
    samples. Class vectors take three products in a step. Strategies that ask the network add a
    forward pass for half of the labels, baselines three products a layer.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Its cost.
    """
    inputs = (*spec.fan_in(facts), spec.network.widths[-1])
    products = products_of(spec, facts)
    replicas, samples = len(spec.seeds), spec.dataset.train_count(facts)
    measurements = spec.epochs // spec.monitor.every_epochs + 2
    # of the first layer, under all labels: one-hot ones share a product
    first = products[0] * (1 if spec.dataset.label_code == OneHot() else facts.classes)
    labels = 1 if spec.learns_classes else facts.classes  # passes that tell them apart
    per_sample = 0.0
    for stage in spec.stages:
        below = sum(products[: stage[-1]])
        learning = sum(products[layer] for layer in stage)
        queries = facts.classes / 2 * (below + learning) if spec.negatives.asks_network else 0.0
        sides = 1 if spec.phases.alternate or spec.learns_classes else 2
        per_sample += spec.epochs * samples * sides * (below + 2 * learning + queries)
        per_sample += 6.0 * spec.epochs * samples * sum(head_numbers(spec, facts)[n] for n in stage)
        splits = 1 if spec.learns_classes else 2
        # readings take a step of their own for theorem 1
        passes = 5 + (3 if "readings" in spec.monitor.measures else 0)
        per_sample += measurements * spec.monitored(facts) * splits * (below + passes * learning)
        per_sample += measurements * sum(singular_flops(spec, inputs, n) for n in stage)
        per_sample += spec.epochs * sum(moment_flops(spec, samples, n) for n in stage)
        pairs = decomposed_pairs(spec, facts)
        decomposed = 8.0 * pairs * pairs * sum(inputs[n] + 2 * inputs[n + 1] for n in stage)
        per_sample += len(spec.decomposed_epochs) * decomposed
        if spec.follows_accuracy:  # a product for all labels in the first layer; pairs beside
            told = first + labels * sum(products[1 : stage[-1] + 1])
            pairs_of_layers = 0 if spec.learns_classes else 2 * sum(products[: stage[-1] + 1])
            some = spec.monitored(facts) + spec.dataset.validation_samples
            per_sample += measurements * some * (told + pairs_of_layers)
    per_sample += sum(
        baseline_flops(spec, baseline, products, facts) for baseline in spec.evaluation.baselines
    )
    held_out = spec.dataset.test_count(facts) + spec.dataset.validation_samples
    evaluation = (held_out + samples) * (first + labels * sum(products[1:])) + held_out * 4 * sum(
        products
    )
    evaluation += suite_flops(spec, facts, products, first)
    flops = replicas * (per_sample + evaluation)
    return Cost(
        flops,
        train_memory(spec, facts, inputs),
        train_disk(spec, facts, flops),
        train_seconds(spec, facts),
    )


def lesions_of(spec: TrainSpec) -> int:
    """Count the rows of lesions that a seed has of one network: those of nothing removed, too.

    **Arguments:**

    - `spec`: the run.

    **Returns:**

    How many there are: 0 where the spec does not ask for them.
    """
    asked = spec.evaluation.lesions
    if asked is None:
        return 0
    layers = len(spec.network.widths)
    places = ("network" in asked.where) + layers * ("layer" in asked.where)
    return places * len(asked.remove) * len(asked.by) * (1 + len(asked.shares))


def suite_flops(spec: TrainSpec, facts: Dataset, products: Sequence[float], first: float) -> float:
    """Count the operations of usage, selectivity, ranges, lesions and other data for one seed.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    - `products`: operations of one sample through each layer.
    - `first`: those of the first layer under all labels.

    **Returns:**

    The operations.
    """
    test, once = spec.dataset.test_count(facts), sum(products)
    asked, held_out = spec.evaluation, test + spec.dataset.validation_samples
    labels = 1 if spec.learns_classes else facts.classes
    each = first + labels * sum(products[1:])
    flops = held_out * (once * (asked.usage + asked.selectivity) + each * asked.layer_range)
    if spec.dataset.held_out_classes:
        flops += test * once * (asked.ensembles or asked.usage or asked.selectivity)
    if asked.ood is not None:
        flops += (test + asked.ood.count()) * (each + once)
    if asked.lesions is None:
        return flops
    networks = [each, *(each if one.name == "ff_objective" else once for one in asked.baselines)]
    train = spec.dataset.train_count(facts)
    return flops + sum(lesions_of(spec) * test * one + train * once for one in networks)


def moment_numbers(spec: TrainSpec) -> int:
    """Count the second moments of pairs of units that a goodness keeps of one seed, 4 bytes each.

    **Arguments:**

    - `spec`: the run.

    **Returns:**

    How many there are; 0 where it keeps none.
    """
    if spec.learns_classes or not isinstance(spec.pairwise.goodness, Whitened):
        return 0
    widths = spec.network.widths
    return 0 if spec.pairwise.goodness.diagonal else 2 * sum(width * width for width in widths)


def moment_flops(spec: TrainSpec, samples: int, layer: int) -> float:
    """Count the operations that second moments of pairs of units take in an epoch.

    **Arguments:**

    - `spec`: the run.
    - `samples`: how many it learns from.
    - `layer`: whose they are.

    **Returns:**

    Operations of one seed: moments of each batch, an inverse, and products of samples with it.
    """
    if not moment_numbers(spec):
        return 0.0
    width, steps = spec.network.widths[layer], -(-samples // spec.batch_size)
    return 2.0 * steps * width**3 + 2 * samples * 6.0 * width * width


def singular_flops(spec: TrainSpec, inputs: Sequence[int], layer: int) -> float:
    """Count the operations that the singular values of a layer's weights take.

    **Arguments:**

    - `spec`: the run.
    - `inputs`: m of each layer, then the width of the last.
    - `layer`: the layer.

    **Returns:**

    The operations of one measurement; 0 where the run does not ask for them.
    """
    if "weights" not in spec.monitor.measures:
        return 0.0
    short, long = sorted(inputs[layer : layer + 2])
    return SINGULAR_FLOPS * short**2 * long


def products_of(spec: TrainSpec, facts: Dataset) -> list[float]:
    """Count the operations of one sample through each layer that learns.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Floating-point operations; a convolution does at each position what a dense layer does once.
    """
    if plans := spec.plans(facts):
        return [2.0 * plan.inputs * plan.activations for plan in plans]
    return [2.0 * m * n for m, n in zip(spec.fan_in(facts), spec.network.widths, strict=True)]


def weight_numbers(spec: TrainSpec, facts: Dataset) -> int:
    """Count the weights of all layers of one seed, without biases.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    """
    if plans := spec.plans(facts):
        return sum(plan.inputs * plan.made[0] for plan in plans)
    return sum(m * n for m, n in zip(spec.fan_in(facts), spec.network.widths, strict=True))


def held_numbers(spec: TrainSpec, facts: Dataset, samples: int) -> int:
    """Count the numbers that a seed's layers hold at once of samples that go through together.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    - `samples`: how many samples there are in a batch.
    """
    if plans := spec.plans(facts):
        largest = max(plan.activations for plan in plans)
        received = max(math.prod(plan.received) for plan in plans)
        # all maps of a piece stay while it is evaluated, and one of them is sorted
        together = sum(plan.activations for plan in plans)
        piece = min(samples_at_once(plans), EVALUATED_SAMPLES)
        return max(samples * (3 * received + 12 * largest), piece * (together + 6 * largest))
    inputs = (*spec.fan_in(facts), spec.network.widths[-1])
    return 2 * samples * (3 * max(inputs) + 8 * max(spec.network.widths))


def head_numbers(spec: TrainSpec, facts: Dataset) -> list[int]:
    """Count the numbers of the class vectors of each layer, for one seed.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    C times n; 0 where the objective learns none.
    """
    has_head = spec.learns_classes and spec.over_classes.has_head
    return [facts.classes * width if has_head else 0 for width in spec.network.widths]


def baseline_flops(
    spec: TrainSpec, baseline: Baseline, products: list[float], facts: Dataset
) -> float:
    """Estimate the products of a baseline for one seed.

    **Arguments:**

    - `spec`: the run.
    - `baseline`: one of its baselines.
    - `products`: operations of one sample through each layer.
    - `facts`: the facts of the data set.

    **Returns:**

    Floating-point operations.
    """
    samples, widths = spec.dataset.train_count(facts), spec.network.widths
    readouts = {
        layer: 2.0 * facts.classes * widths[layer] for layer in baseline.readouts(len(widths))
    }
    forward = sum(products) + sum(readouts.values())
    selecting = baseline.select == "best_validation"
    step = chosen = 0.0
    for stage in baseline.stages(spec.stages):
        learning = sum(products[layer] + readouts.get(layer, 0.0) for layer in stage)
        step += baseline.sides * (sum(products[: stage[0]]) + 3 * learning)
        chosen += selecting * forward
    trials, epochs = max(1, len(baseline.rates)), baseline.epochs or spec.epochs
    validation = spec.dataset.validation_samples
    held_out = spec.dataset.test_count(facts) + validation
    return (
        trials * (epochs * (samples * step + validation * chosen) + validation * forward)
        + held_out * forward
    )


def baseline_steps(spec: TrainSpec, samples: int) -> int:
    """Count the steps of a run's baselines.

    **Arguments:**

    - `spec`: the run.
    - `samples`: how many samples training has.
    """
    return sum(leg.epochs * -(-samples // leg.batch_size) for leg in legs(spec))


def train_seconds(spec: TrainSpec, facts: Dataset) -> float:
    """Estimate what a training run takes beside its products.

    All seeds are computed together, so that their number makes no difference.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Seconds.
    """
    samples, layers = spec.dataset.train_count(facts), len(spec.network.widths)
    steps = len(spec.stages) * spec.epochs * -(-samples // spec.batch_size)
    measurements = measurements_of(spec)
    batches = layers * measurements * -(-spec.monitored(facts) // spec.batch_size)
    if spec.follows_accuracy:
        some = -(-spec.monitored(facts) // 1_000) + -(-spec.dataset.validation_samples // 1_000)
        batches += 2 * len(spec.stages) * measurements * some
    return (
        RUN_OVERHEAD_SECONDS
        + STEP_SECONDS * steps
        + BASELINE_STEP_SECONDS * baseline_steps(spec, samples)
        + MEASURED_BATCH_SECONDS * batches
    )


def decomposed_pairs(spec: TrainSpec, facts: Dataset) -> int:
    """Count the pairs of a batch whose pushes are measured.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    B.
    """
    return min(spec.batch_size, spec.monitored(facts))


def decomposition_disk(spec: TrainSpec, facts: Dataset) -> tuple[int, int]:
    """Estimate how large the decomposition of a training run is.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.

    **Returns:**

    Bytes of its rows, which checkpoints have too, and of the pictures in the result.
    """
    batches = len(spec.network.widths) * len(spec.decomposed_epochs)
    pushed = 2 * min(MOST_PUSHED, decomposed_pairs(spec, facts))
    rows = batches * (2 * PUSHES_BYTES * len(spec.seeds) + PUSHED_BYTES * pushed)
    channels, *sides = facts.shape
    pixels = channels * math.prod(min(side, LARGEST_SIDE) for side in sides)
    pictures = min(batches * pushed * (1 + PUSHERS), decomposed_pairs(spec, facts))
    return rows, pictures * (PICTURE_BYTES + 4 * pixels // 3)


def accuracy_rows(spec: TrainSpec) -> int:
    """Count the rows of accuracy by epoch that a training run has.

    **Arguments:**

    - `spec`: the run.

    **Returns:**

    How many there are: 0 where the spec does not ask for them.
    """
    if not spec.follows_accuracy:
        return 0
    # each layer alone, then sets by goodness and by softmax: all layers, and all but the first
    ways = sum(len(stage) + 2 * min(stage[-1], 2) for stage in spec.stages)
    partitions = 2 if spec.dataset.validation_samples else 1
    return len(spec.seeds) * partitions * ways * measurements_of(spec)


def measurements_of(spec: TrainSpec) -> int:
    """Count the epochs at which each layer is measured.

    **Arguments:**

    - `spec`: the run.

    **Returns:**

    How many there are, the initialisation among them.
    """
    return 1 + -(-spec.epochs // spec.monitor.every_epochs)


def train_disk(spec: TrainSpec, facts: Dataset, flops: float) -> DiskBytes:
    """Estimate what a training run takes up on the disk.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    - `flops`: its operations, which say how long it reports its progress.

    **Returns:**

    Bytes.
    """
    replicas, layers = len(spec.seeds), len(spec.network.widths)
    slots = slots_of(spec.optimizer, spec.phases)
    measured = measurements_of(spec)
    biases = spec.network.bias * sum(spec.network.widths)
    weights = BYTES * replicas * (weight_numbers(spec, facts) + biases)
    weights += BYTES * replicas * sum(head_numbers(spec, facts))
    header = HEADER_BYTES + LAYER_BYTES * layers * (1 + slots)
    moments = BYTES * replicas * moment_numbers(spec)
    states = STATES_KEPT * (slots * weights + moments + header) if slots or moments else 0
    files = len(spec.stages) * measured * (weights + header) + states
    within_epoch = (1 + slots) * weights + moments + header
    if spec.evaluation.baselines:  # one that learns is saved beside the network
        learnt = 3 + max(slots_of_baseline(one, spec) for one in spec.evaluation.baselines)
        within_epoch += learnt * (weights + header)
    seconds = flops / DEVICE_FLOPS["cpu"]
    reports = min(spec.epochs * len(spec.stages), 2 * seconds) + seconds / 2
    trials = sum(TRIAL_BYTES * len(one.rates) for one in spec.evaluation.baselines)
    of_baselines = replicas * layers * (3 if spec.dataset.validation_samples else 2) * trials
    partitions = 3 if spec.dataset.validation_samples else 2
    figures = replicas * (layers + 1) * partitions * (4 + 2 * len(spec.evaluation.baselines))
    classes = facts.classes * (
        CLASS_BYTES + (PAIR_BYTES * facts.classes if spec.evaluation.ensembles else 0)
    )
    pushes, pictures = decomposition_disk(spec, facts)
    told = accuracy_rows(spec)
    return DiskBytes(
        # each has the decomposition so far, and the accuracies, of which half on average
        checkpoints=files
        + within_epoch
        + len(spec.stages) * measured * (pushes + told * KEPT_ACCURACY_BYTES // 2),
        database=JOB_BYTES
        + told * ACCURACY_BYTES
        + pushes
        + pictures
        + (1 if spec.learns_classes else 2) * replicas * layers * measured * EPOCH_ROW_BYTES
        + figures * FIGURE_BYTES
        + of_baselines
        + suite_bytes(spec, facts, partitions - 1)
        + replicas * layers * partitions * classes
        + int(reports * EVENT_BYTES),
    )


def slots_of(optimizer: AnyOptimizer, phases: PhasesSpec) -> int:
    """Count the tensors of the weights' shape that an optimiser goes by.

    **Arguments:**

    - `optimizer`: the optimiser.
    - `phases`: whether negative phases have tensors of their own.

    **Returns:**

    How many there are for each weight.
    """
    return len(optimizer.slots) * (2 if phases.own_states else 1)


def slots_of_baseline(baseline: Baseline, spec: TrainSpec) -> int:
    """Count the tensors of the weights' shape that the optimiser of a baseline goes by.

    **Arguments:**

    - `baseline`: how it learns.
    - `spec`: the run.

    **Returns:**

    How many there are for each weight.
    """
    phases = PhasesSpec() if baseline.sides == 1 else spec.phases
    return slots_of(baseline.optimizer or spec.optimizer, phases)


def suite_bytes(spec: TrainSpec, facts: Dataset, partitions: int) -> int:
    """Estimate what the rows of usage, selectivity, lesions and other data take up in a result.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    - `partitions`: how many are held out.

    **Returns:**

    Bytes.
    """
    asked = spec.evaluation
    partitions += bool(spec.dataset.held_out_classes)
    layers = partitions * len(spec.network.widths)
    units = USAGE_BYTES * asked.usage
    units += (SELECTIVITY_BYTES + 5 * facts.classes) * asked.selectivity
    lesions = lesions_of(spec) * (1 + len(asked.baselines)) * LESION_BYTES
    others = (2 * len(spec.network.widths) + 1) * OOD_BYTES * (asked.ood is not None)
    return len(spec.seeds) * (layers * units + lesions + others)


def train_memory(spec: TrainSpec, facts: Dataset, inputs: tuple[int, ...]) -> int:
    """Estimate the peak memory of a training run.

    It counts samples, weights with optimiser states and a checkpoint of them, a batch, negatives
    that are drawn once, the features of a linear classifier, and pushes of pairs at samples.

    **Arguments:**

    - `spec`: the run.
    - `facts`: the facts of its data set.
    - `inputs`: m of each layer, then the width of the last.

    **Returns:**

    Bytes.
    """
    replicas, samples = len(spec.seeds), spec.dataset.train_count(facts)
    everything = samples + spec.dataset.validation_samples + spec.dataset.test_count(facts)
    everything += spec.evaluation.ood.count() if spec.evaluation.ood else 0
    numbers = weight_numbers(spec, facts) + sum(head_numbers(spec, facts))
    slots = slots_of(spec.optimizer, spec.phases)
    weights = numbers * (2 * (1 + slots) + 3) + 4 * moment_numbers(spec)
    batch = held_numbers(
        spec,
        facts,
        max(min(spec.batch_size, samples), min(spec.monitored(facts), spec.batch_size)),
    )
    weights += max(
        (2 * (4 + slots_of_baseline(one, spec)) for one in spec.evaluation.baselines),
        default=0,
    ) * weight_numbers(spec, facts)  # those of a baseline, and a copy
    batch = max(
        batch, *(_baseline_batch(one, spec, facts, samples) for one in spec.evaluation.baselines), 0
    )
    fixed = bank_elements(spec, samples, inputs) if spec.negatives.redraw == "once" else 0
    features = (
        2 * everything * sum(spec.network.widths) // replicas
        if spec.evaluation.linear_classifier
        else 0
    )  # the classifiers of the seeds are fitted one after the other
    of_pairs = DECOMPOSED_BYTES * decomposed_pairs(spec, facts) ** 2
    return BYTES * (
        2 * everything * inputs[0] + replicas * (weights + batch + fixed + features)
    ) + of_pairs * bool(spec.decomposed_epochs)


def _baseline_batch(baseline: Baseline, spec: TrainSpec, facts: Dataset, samples: int) -> int:
    """Count the numbers that autograd holds of a batch, for each seed."""
    size = baseline.sides * min(baseline.batch_size or spec.batch_size, samples)
    if plans := spec.plans(facts):
        return size * 6 * sum(plan.activations + math.prod(plan.received) for plan in plans)
    return size * 6 * sum(spec.network.widths)


def bank_elements(spec: TrainSpec, samples: int, inputs: tuple[int, ...]) -> int:
    """Count the numbers that inputs take for each seed where negatives are drawn once.

    Each layer's are made from those of the layer below. Of the first layer, positives are enough
    where their negatives show the same images.

    **Arguments:**

    - `spec`: the run.
    - `samples`: how many positives there are.
    - `inputs`: m of each layer, then the width of the last.

    **Returns:**

    The most that is held at once.
    """
    shared = (
        isinstance(spec.negatives, Relabelling)
        and spec.negatives.keeps_image
        and spec.dataset.label_code == OneHot()
    )
    stages = [inputs[stage[0]] for stage in spec.stages]
    held = [(1 if shared else 2) * stages[0], *(2 * width for width in stages[1:])]
    together = [below + above for below, above in itertools.pairwise(held)]
    return samples * max(held + together)


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
    return Cost(len(spec.seeds) * (exact + pairs), memory, check_disk(spec, facts))


def check_disk(spec: CheckSpec, facts: Dataset) -> DiskBytes:
    """Estimate what a theorem check takes up on the disk.

    **Arguments:**

    - `spec`: the check.
    - `facts`: the facts of its data set.

    **Returns:**

    Bytes.
    """
    cells = len(spec.seeds) * _cells(spec)
    return DiskBytes(
        margins=cells * (MARGIN_BYTES * spec.checked(facts) + MARGIN_HEADER_BYTES),
        database=JOB_BYTES
        + ANGLES_BYTES
        + len(spec.seeds) * POTENTIALS_BYTES
        + cells * (CELL_BYTES + EVENT_BYTES + PUSHES_BYTES * spec.decomposition),
    )
