"""What is measured. Each function gives one row or several; their order is that of the table."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

import ffengine
from benchmarks.conv_cost import RUNS
from benchmarks.timing import Row, compare, median_seconds
from benchmarks.usual import UsualLoewe, UsualPezeshki
from ffengine.bank import Bank
from ffengine.checkpoint import Position
from ffengine.datasets import DATASETS, Datasets
from ffengine.label_patterns import OneHotPatterns
from ffengine.network import Network
from ffengine.presets import LOEWE, MPEZESHKI, TOSATO
from ffengine.products import linear
from ffengine.provenance import Stopwatch
from ffengine.random_streams import Draws
from ffengine.spec import TrainSpec
from ffengine.training import TrainingRun

INPUTS = 784
SEEDS = 8


def training_step(device: torch.device) -> Iterator[Row]:
    """A whole step of training, its batch and negatives included, over the two products that it
    cannot do without.
    """
    width, batch = (2000, 500) if device.type == "cpu" else (8192, 4096)
    x, z, weight = (
        torch.rand(2 * batch, INPUTS, device=device),
        torch.rand(2 * batch, width, device=device),
        torch.rand(width, INPUTS, device=device),
    )
    gradient = torch.empty_like(weight)

    def products() -> None:
        torch.mm(x, weight.T, out=z)
        torch.mm(z.T, x, out=gradient)

    for name, bar in (("sgd", 1.15), ("adam", 1.35)):
        spec = TrainSpec.model_validate(
            {
                "network": {"widths": [width]},
                "optimizer": {"name": name, "lr": 1e-3},
                "batch_size": batch,
            }
        )
        run = TrainingRun(spec, device, Stopwatch(), None)
        index = run.draws.at("order").permutation(len(run.train))[:, :batch]
        step = one_step(run, index)
        shapes = f"{batch} + {batch} x {INPUTS} -> {width}"
        yield compare(
            f"step_{name}",
            f"one training step, {name}, over its two products",
            shapes,
            bar,
            step,
            products,
            rounds=30,
            device=device,
        )


GOODNESS: dict[str, str | dict[str, str | float]] = {
    "l1": "l1",
    "power_mean, q = 3": {"name": "power_mean", "q": 3},
    "top_k, the largest 2 %": {"name": "top_k", "share": 0.02, "of": "activations"},
    "entmax 1.5": {"name": "entmax", "alpha": 1.5},
    "kurtosis": "kurtosis",
    "moment, p = 3": {"name": "moment", "p": 3},
    "whitened": "whitened",
}


def goodness(device: torch.device) -> Iterator[Row]:
    """A step with another goodness over one with the sum of squares: the quickest of each, since
    the difference is small beside what else a machine does.
    """
    width, batch = (2000, 500) if device.type == "cpu" else (8192, 4096)

    def step_with(entry: str | dict[str, str | float]) -> Callable[[], None]:
        spec = TrainSpec.model_validate(
            {
                "network": {"widths": [width]},
                "objective": {"name": "softplus", "goodness": entry},
                "optimizer": {"lr": 1e-3},
                "batch_size": batch,
            }
        )
        run = TrainingRun(spec, device, Stopwatch(), None)
        return one_step(run, run.draws.at("order").permutation(len(run.train))[:, :batch])

    for name, entry in GOODNESS.items():
        yield compare(
            "goodness",
            f"one training step with {name}, over one with sum_squares",
            f"{batch} + {batch} x {INPUTS} -> {width}",
            1.3,
            step_with(entry),
            step_with("sum_squares"),
            rounds=25,
            device=device,
            of=min,
        )


OVER_CLASSES: dict[str, dict[str, str | float]] = {
    "mono_forward": {"name": "mono_forward"},
    "class_block": {"name": "class_block"},
    "class_block, power 2": {"name": "class_block", "power": 2},
    "prototypes": {"name": "prototypes"},
}


def over_classes(device: torch.device) -> Iterator[Row]:
    """A step with an objective over classes over one with the sum of squares and a negative for
    each sample, the quickest of each. In the first layer, the products of negatives that are their
    positives under another label are those of the positives.
    """
    width, batch = (2000, 500) if device.type == "cpu" else (8192, 4096)

    def step_with(objective: dict[str, str | float]) -> Callable[[], None]:
        spec = TrainSpec.model_validate(
            {
                "network": {"widths": [width]},
                "objective": objective,
                "optimizer": {"lr": 1e-3},
                "batch_size": batch,
            }
        )
        run = TrainingRun(spec, device, Stopwatch(), None)
        return one_step(run, run.draws.at("order").permutation(len(run.train))[:, :batch])

    for name, objective in OVER_CLASSES.items():
        yield compare(
            "over_classes",
            f"one training step with {name}, over one with sum_squares",
            f"{batch} beside {batch} + {batch} x {INPUTS} -> {width}",
            1.3,
            step_with(objective),
            step_with({"name": "softplus"}),
            rounds=25,
            device=device,
            of=min,
        )


def one_step(run: TrainingRun, index: Tensor) -> Callable[[], None]:
    """A step of the first layer on the samples of `index`, as the epoch takes it."""
    numbers = itertools.count()

    def step() -> None:
        run.learner.step((0,), run.inputs((0,), index, ("negatives", 0, 1, next(numbers))), 1)

    return step


def theorem_check(device: torch.device) -> Iterator[Row]:
    """Theorem 1 over its three products, and the memory that it needs beside its arguments."""
    samples, width = 60_000, 2000 if device.type == "cpu" else 8192
    x, weight = (
        torch.rand(samples, INPUTS, device=device),
        torch.randn(width, INPUTS, device=device) / INPUTS**0.5,
    )
    z, D = torch.empty(samples, width, device=device), torch.empty(width, INPUTS, device=device)

    def products() -> None:
        torch.mm(x, weight.T, out=z)
        torch.mm(z.T, x, out=D)
        torch.mm(x, D.T, out=z)

    shapes = f"{samples} x {INPUTS}, n = {width}"
    yield compare(
        "check",
        "theorem 1 over its three products",
        shapes,
        1.15,
        lambda: ffengine.theorem1(weight, x),
        products,
        rounds=9,
        device=device,
    )


def check_memory(device: torch.device) -> Iterator[Row]:
    """Peak extra memory of theorem 1, in a process of its own; the ratio is over 512 MB."""
    if device.type != "cpu":
        return
    for width in (2000, 8192):
        command = [sys.executable, "-m", "benchmarks.memory", str(width)]
        extra = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )["extra_bytes"]
        meaning = "theorem 1: peak extra memory over 512 MB (columns: GB)"
        yield Row(
            "check_memory",
            meaning,
            f"60000 x {INPUTS}, n = {width}",
            extra / 1e9,
            0.512,
            extra / 512e6,
            1.0,
            1,
        )


def convolutions(device: torch.device) -> Iterator[Row]:
    """Time and peak memory of runs with layers of images over what the estimate says, each in a
    process of its own.
    """
    if device.type != "cpu":
        return
    for name in RUNS:
        command = [sys.executable, "-m", "benchmarks.conv_cost", name]
        found = json.loads(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout
        )
        shapes = f"{name}, 2000 x 28 x 28 -> 20, 40, 80, 80 channels"
        for meaning, ours, said in (
            ("a run with convolutions over its estimate", "seconds", "estimated_seconds"),
            (
                "peak extra memory of such a run over its estimate (columns: GB)",
                "extra_bytes",
                "estimated_bytes",
            ),
        ):
            unit = 1 if ours == "seconds" else 1e9
            mine, theirs = found[ours] / unit, found[said] / unit
            bar = 3.0 if ours == "seconds" else 1.25
            yield Row("convolutions", meaning, shapes, mine, theirs, mine / theirs, bar, 1)


def infinite_width(device: torch.device) -> Iterator[Row]:
    """All pairs at infinite width over the product that gives their cosines."""
    x = torch.rand(10_000, INPUTS, device=device)
    gram = torch.empty(10_000, 10_000, device=device)
    yield compare(
        "infinite_width",
        "infinite-width theorem 1 over the product of all pairs",
        f"10000 x 10000 x {INPUTS}",
        1.6,
        lambda: ffengine.infinite_width_theorem1(x),
        lambda: torch.mm(x, x.T, out=gram),
        rounds=5,
        device=device,
    )


def seeds_together(device: torch.device) -> Iterator[Row]:
    """An epoch of several seeds in batched products over the same epochs one after the other."""
    seeds, width = (SEEDS, 256) if device.type == "cpu" else (16, 500)
    base = {"network": {"widths": [width]}, "batch_size": 100}
    together, *single = (
        epoch_of(
            TrainingRun(
                TrainSpec.model_validate({**base, "seeds": chosen}), device, Stopwatch(), None
            )
        )
        for chosen in (list(range(seeds)), *([seed] for seed in range(seeds)))
    )
    bar = 0.8 if device.type == "cpu" else 2 / seeds
    meaning = f"{seeds} seeds together over {seeds} single runs, an epoch of mnist-mini"
    shapes = f"{seeds} x (100 + 100) x {INPUTS} -> {width}"
    yield compare(
        "seeds",
        meaning,
        shapes,
        bar,
        together,
        lambda: [one() for one in single],
        rounds=5,
        device=device,
    )


def epoch_of(run: TrainingRun, stage: int = 0) -> Callable[[], None]:
    """An epoch of a stage, again and again."""
    layers = run.spec.stages[stage]

    def epoch() -> None:
        run.position = Position(stage, 1)
        run.epoch(layers, lambda _report: None)

    return epoch


def recipe_loewe(device: torch.device) -> Iterator[Row]:
    """An epoch of the recipe over the same epoch written the usual way; its linear classifier is
    left out of both.
    """
    if device.type != "cpu":
        return
    spec = LOEWE.model_copy(update={"dataset": TrainSpec().dataset})
    arrays = Datasets.of_environment().load(spec.dataset.name)
    usual = UsualLoewe(
        torch.tensor(arrays.x_train[:, 0]), torch.tensor(arrays.y_train), spec.batch_size
    )
    shapes = f"{len(arrays.y_train)} samples, 3 x 1000, batch 100"
    yield compare(
        "recipe_loewe",
        "an epoch of loewe over the usual way",
        shapes,
        0.30,
        epoch_of(TrainingRun(spec, device, Stopwatch(), None)),
        usual.epoch,
        rounds=3,
        device=device,
    )


def beside_a_busy_process(device: torch.device) -> Iterator[Row]:
    """An epoch beside a process that computes all the time over the same epoch alone."""
    if device.type != "cpu":
        return
    spec = LOEWE.model_copy(update={"dataset": TrainSpec().dataset})
    epoch = epoch_of(TrainingRun(spec, device, Stopwatch(), None))

    def beside() -> None:
        with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as busy:
            try:
                epoch()
            finally:
                busy.kill()

    # the choice of threads goes on from epoch to epoch: what it found beside is not for alone
    alone = epoch_of(TrainingRun(spec, device, Stopwatch(), None))

    yield compare(
        "busy",
        "an epoch of loewe beside a busy process over alone",
        f"{torch.get_num_threads()} threads, 3 x 1000, batch 100",
        2.0,
        beside,
        alone,
        rounds=5,
        device=device,
    )


def recipe_mpezeshki(device: torch.device) -> Iterator[Row]:
    """An epoch of each layer over the same epochs as the published code has them."""
    if device.type != "cpu":
        return
    run = TrainingRun(MPEZESHKI, device, Stopwatch(), None)
    count = len(run.train)
    widths = run.spec.network.widths
    everything = torch.arange(count).unsqueeze(0)
    x = [split[0, :, :INPUTS] for split in run.bank.batch(0, everything).split()]
    x = [split.contiguous() for split in x]
    usual = []
    for inputs, width in zip((INPUTS, *widths), widths, strict=False):
        one = UsualPezeshki(inputs, width)
        usual.append(partial(one.epoch, *x))
        x = [one(split).detach() for split in x]

    for stage, (layer, width) in enumerate(zip(usual, widths, strict=True)):
        yield compare(
            "recipe_mpezeshki",
            f"an epoch of layer {stage + 1} of mpezeshki over its published code",
            f"{count} + {count} samples of mnist, {layer.args[0].shape[1]} -> {width}",
            0.5,
            epoch_of(run, stage),
            layer,
            rounds=3,
            device=device,
        )


def recipe_tosato(device: torch.device) -> Iterator[Row]:
    """An epoch of each layer over the bare products of the same epochs: two a step, and each
    layer's output once.
    """
    spec = TOSATO.model_copy(
        update={
            "dataset": TrainSpec().dataset.model_copy(update={"preprocess": "standardize"}),
            "epochs": 1,
        }
    )
    width, count = spec.network.widths[0], spec.dataset.train_count(DATASETS[spec.dataset.name])
    x, weight = (
        torch.rand(2 * count, width + 1, device=device),
        torch.rand(width, width + 1, device=device),
    )
    z, gradient = torch.empty(2 * spec.batch_size, width, device=device), torch.empty_like(weight)
    whole = torch.empty(2 * count, width, device=device)

    def products() -> None:
        for layer in range(3):
            for start in range(0, 2 * count, 2 * spec.batch_size):
                batch = x[start : start + 2 * spec.batch_size]
                torch.mm(batch, weight.T, out=z[: len(batch)])
                torch.mm(z[: len(batch)].T, batch, out=gradient)
            if layer < 2:
                torch.mm(x, weight.T, out=whole)

    run = TrainingRun(spec, device, Stopwatch(), None)

    def epochs() -> None:
        run.bank = Bank(spec, run.network, run.train, run.draws)
        for stage, layers in enumerate(spec.stages):
            run.position = Position(stage, 1)
            run.epoch(layers, lambda _report: None)

    shapes = f"{count} + {count} samples, 3 x 784, batch 512"
    yield compare(
        "recipe_tosato",
        "an epoch of each layer of tosato over its products",
        shapes,
        1.25,
        epochs,
        products,
        rounds=5,
        device=device,
    )


def monitoring(device: torch.device) -> Iterator[Row]:
    """An epoch with its measurement over the epoch alone: every column that applies. Of all of
    MNIST, as a run is by default, and of a sixth, where an epoch is as short as the measurement.
    """
    for count in (60_000, 10_000):
        spec = TrainSpec.model_validate(
            {"dataset": {"name": "mnist", "train_samples": count, "test_samples": 1}}
        )
        run = TrainingRun(spec, device, Stopwatch(), None)
        epoch = epoch_of(run)
        yield compare(
            "monitoring",
            "training with 2 000 samples measured every epoch over training alone",
            f"{count} samples of mnist, n = 500, batch 500",
            1.50,
            partial(measured, run, epoch),
            epoch,
            rounds=15,
            device=device,
        )


def measured(run: TrainingRun, epoch: Callable[[], None]) -> None:
    """Take an epoch and measure its first layer."""
    epoch()
    run.monitor.rows(run.learner, (0,), 1)


def labels(device: torch.device) -> Iterator[Row]:
    """The goodness of samples under all labels: of one layer over a product for each label, and of
    a deep network over the products that it cannot do without and over a pass for each label.
    """
    classes, samples = 10, 1_000
    own = torch.arange(samples, device=device).unsqueeze(0) % classes
    x = torch.rand(1, samples, INPUTS, device=device)
    x[..., :classes] = torch.nn.functional.one_hot(own, classes)
    every = samples * classes
    one, three = "one layer under all labels over", "three layers under all labels over"
    shallow, deep = (
        Network.initial(spec.network, INPUTS, Draws((0,)), device) for spec in (TrainSpec(), LOEWE)
    )
    least = forward_products(deep, [samples, every, every])
    for spec, network, other, meaning, bar in (
        (
            TrainSpec(),
            shallow,
            forward_products(shallow, [every]),
            f"{one} a product for each",
            0.35,
        ),
        (LOEWE, deep, least, f"{three} the products that differ", 1.25),
        (LOEWE, deep, partial(passes, deep, x, classes), f"{three} a pass for each", 0.5),
    ):
        shapes = " -> ".join(map(str, (INPUTS, *spec.network.widths)))
        yield compare(
            "labels",
            meaning,
            f"{samples} x {classes} labels, {shapes}",
            bar,
            partial(
                network.label_goodness,
                spec.pairwise.goodness,
                x,
                own,
                OneHotPatterns(classes),
            ),
            other,
            rounds=9,
            device=device,
        )


def passes(network: Network, x: Tensor, classes: int) -> None:
    """The goodness of every layer the usual way: a pass through the network for each label."""
    for label in range(classes):
        sample = x[0].clone()
        sample[:, :classes] = 0
        sample[:, label] = 1
        for layer, weight in enumerate(network.weights):
            h = torch.relu(network.prepared(layer, sample.unsqueeze(0))[0] @ weight[0].T)
            h.square().sum(1)
            sample = h


def forward_products(network: Network, rows: list[int]) -> Callable[[], None]:
    """The bare product of each layer with so many rows, as fast as torch can."""
    weights = [weight[0] for weight in network.weights]
    inputs = [
        torch.rand(count, weight.shape[1], device=weight.device)
        for count, weight in zip(rows, weights, strict=True)
    ]

    def products() -> None:
        for x, weight in zip(inputs, weights, strict=True):
            linear(x.unsqueeze(0), weight.unsqueeze(0))

    return products


def growth(device: torch.device) -> Iterator[Row]:
    """Seconds of theorem 1 per sample and unit over the least of all sizes: 1 is linear."""
    largest = torch.rand(60_000, INPUTS, device=device)
    yield from grown(
        "samples", (1_000, 4_000, 16_000, 60_000), lambda count: (count, 2_000), largest, device
    )
    yield from grown(
        "units", (64, 512, 2_048, 8_192), lambda count: (10_000, count), largest, device
    )


def grown(
    what: str,
    sizes: tuple[int, ...],
    shape: Callable[[int], tuple[int, int]],
    x: Tensor,
    device: torch.device,
) -> Iterator[Row]:
    """One row a size.

    Its bar is 1.25 times what the bare products make of that size: small ones do not fill the
    cores.
    """
    ours, bare = {}, {}
    for size in sizes:
        samples, width = shape(size)
        weight, part = torch.randn(width, INPUTS, device=device) / INPUTS**0.5, x[:samples]
        rounds = 15 if samples * width < 2e7 else 3
        ours[size] = (
            median_seconds(partial(ffengine.theorem1, weight, part), rounds, device)
            / samples
            / width
        )
        bare[size] = (
            median_seconds(partial(three_products, weight, part), rounds, device) / samples / width
        )
    least, least_bare = min(ours.values()), min(bare.values())
    for size in sizes:
        samples, width = shape(size)
        products = bare[size] / least_bare
        meaning = f"theorem 1: time per sample and unit over the least, growing {what}"
        shapes = f"N = {samples}, n = {width} (products alone: {products:.2f})"
        yield Row(
            f"growth_{what}",
            meaning,
            shapes,
            ours[size],
            least,
            ours[size] / least,
            1.25 * products,
            1,
        )


def three_products(weight: Tensor, x: Tensor) -> None:
    """z, D and zdot, and nothing else."""
    z = x @ weight.T
    torch.mm(x, (z.T @ x).T, out=z)


MEASUREMENTS: dict[str, Callable[[torch.device], Iterator[Row]]] = {
    "step": training_step,
    "goodness": goodness,
    "over_classes": over_classes,
    "check": theorem_check,
    "memory": check_memory,
    "convolutions": convolutions,
    "infinite_width": infinite_width,
    "seeds": seeds_together,
    "loewe": recipe_loewe,
    "busy": beside_a_busy_process,
    "mpezeshki": recipe_mpezeshki,
    "tosato": recipe_tosato,
    "monitoring": monitoring,
    "labels": labels,
    "growth": growth,
}
