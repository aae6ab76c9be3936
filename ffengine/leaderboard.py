"""The protocol of `fflab bench`: ways of training under the same data, widths, seeds and budget,
and what of their results stands in the table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import ValidationError

from ffengine.baselines import CrossEntropy, GreedyCrossEntropy
from ffengine.entry import message_of
from ffengine.intervals import interval
from ffengine.objectives import (
    L2,
    ClassBlock,
    Difference,
    Entmax,
    MeanSquares,
    Polar,
    Prototypes,
    SoftplusLoss,
    SwishLoss,
    TopK,
)
from ffengine.optimizers import Adam, Sgd
from ffengine.presets import HINTON, LOEWE, MONO_FORWARD, TOGETHER
from ffengine.results import BaselineRow, Interval, TrainResult
from ffengine.spec import DatasetSpec, EvaluationSpec, MonitorSpec, TrainSpec

RATE_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # of a method's own learning rate
BATCH = 100


class Method(NamedTuple):
    """A way of training that stands in the table.

    **Attributes:**

    - `name`: its name there.
    - `meaning`: what it is, in a sentence.
    - `run`: a run whose objective, negatives, optimiser, order of layers, labels, preprocessing and
      network, but for its widths, are those of the method.
    """

    name: str
    meaning: str
    run: TrainSpec


class Protocol(NamedTuple):
    """What all methods have in common.

    **Attributes:**

    - `name`: what users write.
    - `meaning`: what it is for, in a sentence.
    - `datasets`: the data, with how many samples train and choose.
    - `widths`: the networks.
    - `seeds`: the seeds of each.
    - `epochs`: the budget: how often each layer sees the training samples.
    """

    name: str
    meaning: str
    datasets: tuple[DatasetSpec, ...]
    widths: tuple[tuple[int, ...], ...]
    seeds: tuple[int, ...]
    epochs: int


class Entry(NamedTuple):
    """A run of the protocol.

    **Attributes:**

    - `method`: the name of its method.
    - `dataset`: the name of its data.
    - `widths`: its network.
    - `lr`: the learning rate that it tries; None where the run's baselines try theirs.
    - `spec`: what runs.
    """

    method: str
    dataset: str
    widths: tuple[int, ...]
    lr: float | None
    spec: TrainSpec


class Standing(NamedTuple):
    """A row of the table: a method on one data set with one network.

    **Attributes:**

    - `method`, `dataset`, `widths`: which.
    - `accuracy`: share of the test samples that is classified correctly, over seeds; None where no
      learning rate of some seed has finite weights.
    - `rates`: the learning rate that the validation samples chose, for each seed.
    - `at_edge`: whether that is, for some seed, the smallest or the largest of those that were
      tried: one beyond may be better.
    - `epochs`: the epoch whose weights they chose, of the last layer, for each seed.
    - `sparsity`: S of each layer on the test samples, over seeds.
    - `dead_units`: share of each layer's units that no test sample activates, over seeds.
    """

    method: str
    dataset: str
    widths: tuple[int, ...]
    accuracy: Interval | None
    rates: tuple[float, ...]
    at_edge: bool
    epochs: tuple[int, ...]
    sparsity: tuple[Interval | None, ...]
    dead_units: tuple[Interval, ...]


def _like_together(
    objective: SoftplusLoss | SwishLoss | Difference, **changes: object
) -> TrainSpec:
    return TOGETHER.model_copy(update={"objective": objective, **changes})


METHODS: tuple[Method, ...] = (
    Method(
        "hinton",
        "Hinton 2022 as his code has it: softplus of sums of squares with the width as threshold, "
        "peer normalisation, negatives under labels that the network finds likely.",
        HINTON,
    ),
    Method(
        "loewe",
        "Löwe 2023: cross-entropy of sums of squares with the width as threshold, peer "
        "normalisation.",
        LOEWE,
    ),
    Method(
        "mean-squares",
        "Softplus of means of squares with threshold 2, inputs of length 1, Adam.",
        TOGETHER,
    ),
    Method(
        "swish",
        "The swish loss of the difference of means of squares, inputs of length 1, Adam.",
        _like_together(SwishLoss(goodness=MeanSquares(), alpha=6.0)),
    ),
    Method(
        "top-k",
        "Softplus of the mean of the 2 % largest activations with threshold 2, Adam.",
        _like_together(
            SoftplusLoss(goodness=TopK(share=0.02, of="activations"), threshold=2.0),
            optimizer=Adam(lr=1e-3),
            network=HINTON.network,
        ),
    ),
    Method(
        "entmax",
        "Softplus of squares weighted by their 1.5-entmax with threshold 2, Adam.",
        _like_together(
            SoftplusLoss(goodness=Entmax(), threshold=2.0),
            optimizer=Adam(lr=1e-3),
            network=HINTON.network,
        ),
    ),
    Method(
        "polar",
        "Polar-FFA (arXiv 2408.09210): a positive and a negative half of each layer, compared by "
        "their lengths, Adam.",
        TOGETHER.model_copy(
            update={
                "objective": Polar(goodness=L2()),
                "optimizer": Adam(lr=1e-3),
                "network": TOGETHER.network.model_copy(update={"normalize": "halves"}),
            }
        ),
    ),
    Method(
        "mono-forward",
        "Mono-Forward (arXiv 2501.09238): each layer learns the labels' cross-entropy with a "
        "matrix of its own, without negatives, Adam.",
        MONO_FORWARD,
    ),
    Method(
        "class-blocks",
        "A block of units for each class, whose mean of squares is the logit; no negatives, Adam.",
        MONO_FORWARD.model_copy(
            update={
                "objective": ClassBlock(power=2),
                "network": MONO_FORWARD.network.model_copy(update={"normalize": "layer"}),
            }
        ),
    ),
    Method(
        "prototypes",
        "Hyperspherical prototypes: the logit is the cosine to a vector of each class; no "
        "negatives, Adam.",
        MONO_FORWARD.model_copy(
            update={
                "objective": Prototypes(),
                "network": MONO_FORWARD.network.model_copy(update={"normalize": "l2"}),
            }
        ),
    ),
    Method(
        "difference",
        "The objective of arXiv 2311.05667: the difference of sums of squares, plain SGD, layers "
        "one after the other.",
        TOGETHER.model_copy(
            update={"objective": Difference(), "optimizer": Sgd(lr=10.0), "layers": "greedy"}
        ),
    ),
)
# Ways without Forward-Forward layers: they are baselines of a run that hardly learns itself.
BASELINES = {
    "backpropagation": "cross_entropy",
    "greedy-cross-entropy": "greedy_cross_entropy",
}
BASELINE_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "small",
            "Bundled data and small networks: minutes of a CPU.",
            (
                DatasetSpec(name="mnist-mini", train_samples=2_000, validation_samples=500),
                DatasetSpec(name="digits", train_samples=1_000, validation_samples=200),
            ),
            ((200, 200),),
            (0, 1, 2),
            10,
        ),
        Protocol(
            "full",
            "All of MNIST and Fashion-MNIST with the networks of the publications: for a GPU.",
            (
                DatasetSpec(name="mnist", validation_samples=10_000),
                DatasetSpec(name="fashion-mnist", validation_samples=10_000),
            ),
            ((1_000, 1_000), (2_000,) * 4),
            (0, 1, 2, 3, 4),
            60,
        ),
    )
}


def entries(protocol: Protocol, methods: Sequence[Method]) -> Iterator[Entry]:
    """Return the runs of a protocol.

    **Arguments:**

    - `protocol`: the protocol.
    - `methods`: the Forward-Forward methods.

    **Returns:**

    For each data set and network a run for each learning rate of each method, and one whose
    baselines are backpropagation and its local form.

    **Raises:**

    - `ValueError`: a method does not fit the data, or predicts no labels.
    """
    for dataset in protocol.datasets:
        for widths in protocol.widths:
            for method in methods:
                for factor in RATE_FACTORS:
                    lr = float(f"{method.run.optimizer.lr * factor:.3g}")
                    spec = _fitting(protocol, method, dataset, widths, lr)
                    yield Entry(method.name, dataset.name, widths, lr, spec)
            spec = _spec(protocol, TOGETHER, dataset, widths, {})
            yield Entry(
                "baselines", dataset.name, widths, None, _with_baselines(spec, protocol.epochs)
            )


def _fitting(
    protocol: Protocol, method: Method, dataset: DatasetSpec, widths: tuple[int, ...], lr: float
) -> TrainSpec:
    """Return the run of a method; raise ValueError where the protocol cannot rank it."""
    if not method.run.tells_labels:
        raise ValueError(
            f"{method.name} predicts no labels: its samples carry none, with negatives "
            f"{method.run.negatives.strategy}; choose a strategy of labels, such as wrong_label"
        )
    try:
        return _spec(protocol, method.run, dataset, widths, {"lr": lr})
    except ValidationError as error:
        first = error.errors()[0]
        told = ": ".join([".".join(map(str, first["loc"])), message_of(first)]).removeprefix(": ")
        raise ValueError(f"{method.name} does not fit the protocol: {told}") from error


def _spec(
    protocol: Protocol,
    run: TrainSpec,
    dataset: DatasetSpec,
    widths: tuple[int, ...],
    optimizer: Mapping[str, float],
) -> TrainSpec:
    """Return the run of a method under a protocol."""
    samples = {"name", "train_samples", "validation_samples", "test_samples"}
    changed = run.model_copy(
        update={
            "dataset": run.dataset.model_copy(update=dict(dataset.model_dump(include=samples))),
            "network": run.network.model_copy(update={"widths": widths}),
            "optimizer": run.optimizer.model_copy(update=dict(optimizer)),
            "epochs": protocol.epochs,
            "batch_size": BATCH,
            "seeds": protocol.seeds,
            "select": "best_validation",
            "stop": None,
            "monitor": MonitorSpec(samples=200),
            "evaluation": EvaluationSpec(),
        }
    )
    return TrainSpec.model_validate(changed.model_dump())


def _with_baselines(spec: TrainSpec, epochs: int) -> TrainSpec:
    """Return the run that hardly learns and whose baselines do, with rates of their own."""
    kinds = (CrossEntropy, GreedyCrossEntropy)
    baselines = tuple(
        kind(
            optimizer=Adam(lr=BASELINE_RATES[0]),
            rates=BASELINE_RATES,
            epochs=epochs,
            select="best_validation",
        )
        for kind in kinds
    )
    changed = spec.model_copy(
        update={"epochs": 1, "evaluation": EvaluationSpec(baselines=baselines, measures=False)}
    )
    return TrainSpec.model_validate(changed.model_dump())


def standings(found: Sequence[tuple[Entry, TrainResult | None]]) -> list[Standing]:
    """Return the rows of the table.

    **Arguments:**

    - `found`: runs and their results; None: the numbers diverged.

    **Returns:**

    A row for each method, data set and network; of each the best accuracy first, and those without
    one last.
    """
    groups: dict[tuple[str, tuple[int, ...], str], dict[float, TrainResult | None]] = {}
    rows = []
    for entry, result in found:
        if entry.lr is not None:
            key = (entry.dataset, entry.widths, entry.method)
            groups.setdefault(key, {})[entry.lr] = result
        elif result is not None:
            rows += [_of_baseline(entry, result, name) for name in BASELINES]
    rows += [_of_method(*key, by_rate) for key, by_rate in groups.items()]
    order = list(dict.fromkeys((entry.dataset, entry.widths) for entry, _ in found))
    return sorted(
        rows,
        key=lambda row: (
            order.index((row.dataset, row.widths)),
            -(row.accuracy.mean if row.accuracy else -1),
            row.method,
        ),
    )


def _of_method(
    dataset: str,
    widths: tuple[int, ...],
    method: str,
    by_rate: Mapping[float, TrainResult | None],
) -> Standing:
    """Return the row of a method: each seed with the rate that was chosen for it."""
    finite = {lr: result for lr, result in sorted(by_rate.items()) if result is not None}
    if not finite:
        return Standing(method, dataset, widths, None, (), False, (), (), ())
    seeds = next(iter(finite.values())).provenance.seeds
    chosen = []
    for seed in seeds:
        lr = max(finite, key=lambda lr: (_correct(finite[lr], seed, "validation")[0], -lr))
        chosen.append((seed, lr, finite[lr]))
    correct = [_correct(result, seed, "test") for seed, _, result in chosen]
    measured = [
        [row for row in result.measures if row.seed == seed and row.partition == "test"]
        for seed, _, result in chosen
    ]
    return Standing(
        method,
        dataset,
        widths,
        interval([share for share, _ in correct], share=True, samples=[n for _, n in correct]),
        tuple(lr for _, lr, _ in chosen),
        any(lr in (min(by_rate), max(by_rate)) for _, lr, _ in chosen),
        tuple(
            max(row.epoch for row in result.selected if row.seed == seed)
            for seed, _, result in chosen
        ),
        tuple(_mean([rows[layer].sparsity for rows in measured]) for layer in range(len(widths))),
        tuple(
            interval([rows[layer].dead_units / width for rows in measured], share=True)
            for layer, width in enumerate(widths)
        ),
    )


def _of_baseline(entry: Entry, result: TrainResult, name: str) -> Standing:
    """Return the row of a way without Forward-Forward layers."""
    seeds = result.provenance.seeds
    by_seed = [
        [
            row
            for row in result.baselines
            if row.seed == seed and row.baseline == BASELINES[name] and row.partition == "test"
        ]
        for seed in seeds
    ]
    last = [rows[-1] for rows in by_seed]
    return Standing(
        name,
        entry.dataset,
        entry.widths,
        _accuracy_of(last),
        tuple(row.lr for row in last if row.lr is not None),
        any(row.lr in (min(BASELINE_RATES), max(BASELINE_RATES)) for row in last),
        tuple(row.epoch for row in last if row.epoch is not None),
        tuple(
            _mean([rows[layer].sparsity for rows in by_seed]) for layer in range(len(entry.widths))
        ),
        tuple(
            interval([rows[layer].dead_units / width for rows in by_seed], share=True)
            for layer, width in enumerate(entry.widths)
        ),
    )


def _accuracy_of(rows: Sequence[BaselineRow]) -> Interval | None:
    shares = [row.accuracy for row in rows if row.accuracy is not None]
    if len(shares) < len(rows):
        return None
    return interval(shares, share=True, samples=[row.samples for row in rows])


def _correct(result: TrainResult, seed: int, partition: str) -> tuple[float, int]:
    """Return the accuracy of all layers together by goodness, and of how many samples it is one."""
    row = next(
        row
        for row in result.accuracy
        if row.seed == seed
        and row.partition == partition
        and row.method == "goodness"
        and result.is_of_all_layers(row)
    )
    return row.accuracy, row.samples


def _mean(values: Sequence[float | None]) -> Interval | None:
    known = [value for value in values if value is not None]
    return interval(known, share=True) if known else None
