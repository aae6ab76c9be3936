"""What a trained network has learnt: accuracy, sparsity, separation and ensembles of its layers.

Sparsity, separation and ensembles are measured on held-out samples.

Legend: R replicas, N samples, m inputs, n width, C classes, L layers.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.ensembles import (
    class_ensembles,
    class_sparsity,
    ensemble_overlap,
    ensemble_sizes,
    units_in_ensembles,
)
from ffengine.linear_probe import choose_penalty, fit_linear
from ffengine.monitor import paired
from ffengine.network import Network, SummedGoodness, normalized
from ffengine.random_streams import Draws
from ffengine.results import (
    AccuracyRow,
    BaselineRow,
    EnsembleRow,
    MeasureRow,
    Partition,
    SelectedRow,
)
from ffengine.samples import Partitions, Samples
from ffengine.scaling import goodness_factors
from ffengine.separation import auc
from ffengine.sparsity import gini, kurtosis, sparsity_and_dead, treves_rolls
from ffengine.spec import TrainSpec

CHUNK_SAMPLES = 1000
ENSEMBLE_EXCESS = 1.0  # the value in the code of Tosato et al. for units that classes share


class Evaluation(NamedTuple):
    """What is measured after training: rows for each seed."""

    accuracy: tuple[AccuracyRow, ...]
    measures: tuple[MeasureRow, ...]
    ensembles: tuple[EnsembleRow, ...]
    baselines: tuple[BaselineRow, ...] = ()


def evaluate(
    network: Network,
    spec: TrainSpec,
    partitions: Partitions,
    draws: Draws,
    selected: Sequence[SelectedRow] = (),
) -> Evaluation:
    """Evaluate a trained network as `spec.evaluation` says.

    Accuracy by label is measured only where samples carry labels.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partitions`: the samples.
    - `draws`: the randomness of the run.
    - `selected`: from which epoch the weights of each seed and layer are; none: from the last.

    **Returns:**

    Accuracy, measures and ensembles; no baselines.
    """
    epochs = Epochs(spec, selected)
    by_label = (
        {
            name: ConfusionCounts(network, spec, samples)
            for name, samples in named_partitions(partitions)
        }
        if spec.negatives.labelled
        else {}
    )
    accuracy = [row for name, counts in by_label.items() for row in counts.rows(name, epochs)]
    if spec.evaluation.linear_classifier:
        accuracy += linear_accuracy(network, spec, partitions, epochs)
    measures: list[MeasureRow] = []
    ensembles: list[EnsembleRow] = []
    for name, samples in named_partitions(partitions):
        if name == "train":
            continue
        correct = by_label[name].correct if name in by_label else None
        if spec.evaluation.measures:
            measures += measure_rows(network, spec, name, samples, draws, correct)
        if spec.evaluation.ensembles:
            ensembles += ensemble_rows(network, spec, name, samples, correct)
    return Evaluation(tuple(accuracy), tuple(measures), tuple(ensembles))


def named_partitions(partitions: Partitions) -> list[tuple[Partition, Samples]]:
    """List the partitions that exist, by name.

    **Arguments:**

    - `partitions`: the samples; validation may be None.

    **Returns:**

    Names and samples, the training partition first.
    """
    pairs: list[tuple[Partition, Samples | None]] = [
        ("train", partitions.train),
        ("validation", partitions.validation),
        ("test", partitions.test),
    ]
    return [(name, samples) for name, samples in pairs if samples is not None]


class Epochs:
    """From which epoch the weights are that an accuracy is of.

    **Arguments:**

    - `spec`: the training run.
    - `selected`: the epoch of each seed and layer; none: all are of the last.
    """

    def __init__(self, spec: TrainSpec, selected: Sequence[SelectedRow] = ()) -> None:
        self._last = spec.epochs
        self._chosen = {(row.seed, row.layer): row.epoch for row in selected}

    def of(self, seed: int, layers: tuple[int, ...]) -> int:
        """Return the epoch of the highest of several layers.

        **Arguments:**

        - `seed`: the seed.
        - `layers`: the layers.
        """
        return self._chosen.get((seed, max(layers)), self._last)


class Classifier(NamedTuple):
    """How a label is predicted from the goodness: from which layers, and how they are combined.

    **Attributes:**

    - `layer`: the only layer; None where several are combined.
    - `layers`: the layers that are used.
    - `method`: "goodness" sums it, "softmax" sums its softmax over the labels.
    """

    layer: int | None
    layers: tuple[int, ...]
    method: str

    def scores(self, goodness: Tensor) -> Tensor:
        """Score each label; the highest score wins.

        **Arguments:**

        - `goodness`: (R, L, N, C).

        **Returns:**

        (R, N, C).
        """
        chosen = goodness[:, list(self.layers)]
        return (chosen.softmax(-1) if self.method == "softmax" else chosen).sum(1)


def classifiers(layers: int) -> list[Classifier]:
    """List the classifiers of a network, each of them once.

    They are each layer alone, all layers, and all but the first; the latter two also with a softmax
    in each layer.

    **Arguments:**

    - `layers`: L, the number of layers.

    **Returns:**

    The classifiers.
    """
    everything, rest = tuple(range(layers)), tuple(range(1, layers))
    found = [Classifier(layer, (layer,), "goodness") for layer in everything] + [
        Classifier(None, everything, "goodness")
    ]
    if len(rest) > 1:
        found += [Classifier(None, rest, "goodness"), Classifier(None, rest, "softmax")]
    if layers > 1:
        found.append(Classifier(None, everything, "softmax"))
    return found


class ConfusionCounts:
    """Which samples of a partition each classifier labels correctly.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `samples`: the partition.
    """

    def __init__(self, network: Network, spec: TrainSpec, samples: Samples) -> None:
        self.spec, self.classifiers, self.count = (
            spec,
            classifiers(len(network.weights)),
            len(samples),
        )
        found: list[list[Tensor]] = [[] for _ in self.classifiers]
        factors = goodness_factors(network.exponents, torch.float64)[
            ..., None, None
        ]  # (R, L, 1, 1)
        for rows in chunks(len(samples)):
            labels = samples.labels[rows].expand(len(spec.seeds), -1)
            x = samples.labelled[rows].expand(len(spec.seeds), -1, -1)
            goodness = (
                network.label_goodness(spec.objective.goodness, x, labels, samples.classes).double()
                * factors
            )
            for classifier, hits in zip(self.classifiers, found, strict=True):
                hits.append(classifier.scores(goodness).argmax(-1) == labels)
        self._hits = [torch.cat(hits, dim=1) for hits in found]  # (R, N) each

    @property
    def correct(self) -> Tensor:
        """(R, N) bool: which samples the goodness of all layers classifies correctly."""
        return next(
            hits
            for classifier, hits in zip(self.classifiers, self._hits, strict=True)
            if classifier.layer is None
        )

    def rows(self, partition: Partition, epochs: Epochs) -> Iterator[AccuracyRow]:
        """Yield one row for each classifier and seed.

        **Arguments:**

        - `partition`: the name that the rows have.
        - `epochs`: from which the weights are.
        """
        for classifier, hits in zip(self.classifiers, self._hits, strict=True):
            for seed, correct in zip(self.spec.seeds, hits.sum(1).tolist(), strict=True):
                yield AccuracyRow(
                    seed=seed,
                    layer=classifier.layer,
                    layers=classifier.layers,
                    method="softmax" if classifier.method == "softmax" else "goodness",
                    epoch=epochs.of(seed, classifier.layers),
                    partition=partition,
                    samples=self.count,
                    correct=correct,
                    accuracy=correct / self.count,
                )


def linear_accuracy(
    network: Network, spec: TrainSpec, partitions: Partitions, epochs: Epochs
) -> Iterator[AccuracyRow]:
    """Yield the accuracy of a linear classifier on activations, for each seed and partition.

    Samples carry a neutral label. The classifier is fitted on the training partition; among several
    penalties, the validation partition chooses.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run; `spec.evaluation` has layers and penalties.
    - `partitions`: the samples.
    - `epochs`: from which the weights are.

    **Source:**

    G. Hinton, arXiv 2212.13345, section 3.3.
    """
    layers = tuple(range(len(network.weights)))
    layers = (
        layers[1:]
        if spec.evaluation.linear_layers == "all_but_first" and len(layers) > 1
        else layers
    )
    penalties = spec.evaluation.linear_penalties
    for replica, seed in enumerate(spec.seeds):
        replica_network = network.replica(replica)
        features = {
            name: neutral_features(replica_network, spec, samples, layers)
            for name, samples in named_partitions(partitions)
        }
        labels = {
            name: samples.labels.unsqueeze(0) for name, samples in named_partitions(partitions)
        }
        classes, penalty = partitions.train.classes, penalties[0]
        if len(penalties) > 1:
            penalty = choose_penalty(
                features["train"],
                labels["train"],
                features["validation"],
                labels["validation"],
                classes,
                penalties=penalties,
            )
        readout = fit_linear(features["train"], labels["train"], classes, penalty=penalty)
        for name, samples in named_partitions(partitions):
            correct = int((readout.predict(features[name]) == labels[name]).sum())
            yield AccuracyRow(
                seed=seed,
                layer=None if len(layers) > 1 else layers[0],
                layers=layers,
                method="linear",
                epoch=epochs.of(seed, layers),
                partition=name,
                samples=len(samples),
                correct=correct,
                accuracy=correct / len(samples),
                penalty=penalty,
                converged=readout.converged[0],
            )


def neutral_features(
    network: Network, spec: TrainSpec, samples: Samples, layers: tuple[int, ...]
) -> Tensor:
    """Return activations of neutrally labelled samples, scaled as the layer above receives them.

    **Arguments:**

    - `network`: a network of one replica.
    - `spec`: the training run.
    - `samples`: N samples.
    - `layers`: whose activations are taken.

    **Returns:**

    (1, N, sum of the widths).
    """
    x = samples.neutral if spec.negatives.labelled else spec.negatives.positive(samples.plain)
    found = []
    for rows in chunks(len(samples)):
        h = network.activations(x[rows].unsqueeze(0))
        how = spec.network.normalize
        scaled = [normalized(h[layer], how, network.least_scale(layer)) for layer in layers]
        found.append(torch.cat(scaled, dim=-1))
    return torch.cat(found, dim=1)


def measure_rows(
    network: Network,
    spec: TrainSpec,
    partition: Partition,
    samples: Samples,
    draws: Draws,
    correct: Tensor | None,
) -> list[MeasureRow]:
    """Measure sparsity and separation of every layer and seed on a partition.

    The positives carry their true label; there are as many negatives.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partition`: the name that the rows have.
    - `samples`: its samples.
    - `draws`: the randomness of the run.
    - `correct`: (R, N) bool, which samples are classified correctly; None without labels.

    **Returns:**

    One row for each seed and layer.
    """
    network_goodness = SummedGoodness(
        network, spec.objective.goodness, tuple(range(len(network.weights)))
    )
    layers = [
        LayerMeasures(len(spec.seeds), width, network.weights[0].device)
        for width in spec.network.widths
    ]
    everything = torch.arange(len(samples), device=samples.labels.device).expand(
        len(spec.seeds), -1
    )
    for number, index in enumerate(everything.split(CHUNK_SAMPLES, dim=1)):
        x = paired(
            spec, samples, index, draws, (f"{partition}-negatives", number), network_goodness
        )
        for layer, h in zip(layers, network.activations(x), strict=True):
            layer.add(h[:, : index.shape[1]], spec.objective.goodness.value(h))
    return [
        layers[layer].row(
            replica, seed=seed, layer=layer, partition=partition, samples=samples, correct=correct
        )
        for replica, seed in enumerate(spec.seeds)
        for layer in range(len(layers))
    ]


class LayerMeasures:
    """Measures of one layer, gathered chunk by chunk over the N samples of a partition.

    **Arguments:**

    - `replicas`: R.
    - `width`: n.
    - `device`: where the activations lie.
    """

    def __init__(self, replicas: int, width: int, device: torch.device) -> None:
        self.width = width
        self.gathered: dict[str, list[Tensor]] = {}
        self.active_units = torch.zeros(replicas, width, dtype=torch.bool, device=device)

    def add(self, h: Tensor, goodness: Tensor) -> None:
        """Add a chunk of samples.

        **Arguments:**

        - `h`: activations of positives (R, B, n).
        - `goodness`: (R, 2B), of the positives and then of their negatives.
        """
        sparsity, dead = sparsity_and_dead(h)
        found = {
            "sparsity": sparsity,
            "dead": dead,
            "gini": gini(h),
            "treves_rolls": treves_rolls(h),
            "kurtosis": kurtosis(h),
        }
        found |= {
            "zeros": (h == 0).sum(-1),
            "positive": goodness[:, : h.shape[1]],
            "negative": goodness[:, h.shape[1] :],
        }
        for name, values in found.items():
            self.gathered.setdefault(name, []).append(values)
        self.active_units |= (h != 0).any(1)

    def row(
        self,
        replica: int,
        *,
        seed: int,
        layer: int,
        partition: Partition,
        samples: Samples,
        correct: Tensor | None,
    ) -> MeasureRow:
        """Return the row of one replica.

        **Arguments:**

        - `replica`: its number.
        - `seed`, `layer`, `partition`: copied into the row.
        - `samples`: the partition, for its labels.
        - `correct`: (R, N) bool, which samples are classified correctly; None without labels.

        **Returns:**

        The row; a mean over no samples is null.
        """
        found = {name: torch.cat(values, dim=1)[replica] for name, values in self.gathered.items()}
        live = ~found["dead"]
        by_class = class_sparsity(found["sparsity"], found["dead"], samples.labels, samples.classes)
        counts = by_class.samples.tolist()
        return MeasureRow(
            seed=seed,
            layer=layer,
            partition=partition,
            samples=len(samples),
            dead_samples=int(found["dead"].sum()),
            dead_units=int((~self.active_units[replica]).sum()),
            sparsity=_mean(found["sparsity"], live),
            sparsity_correct=None
            if correct is None
            else _mean(found["sparsity"], live & correct[replica]),
            zero_fraction=float(found["zeros"].double().mean()) / self.width,
            gini=_mean(found["gini"], live),
            treves_rolls=_mean(found["treves_rolls"], live),
            kurtosis=_mean(found["kurtosis"], live),
            auc=float(auc(found["positive"].unsqueeze(0), found["negative"].unsqueeze(0))[0]),
            class_sparsity=tuple(
                mean if count else None
                for mean, count in zip(by_class.mean.tolist(), counts, strict=True)
            ),
            class_samples=tuple(counts),
        )


def ensemble_rows(
    network: Network,
    spec: TrainSpec,
    partition: Partition,
    samples: Samples,
    correct: Tensor | None,
) -> Iterator[EnsembleRow]:
    """Yield the ensembles of every layer and seed, one row each.

    They are read off the correctly classified samples, or off all samples where these carry no
    label.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partition`: the name that the rows have.
    - `samples`: its samples.
    - `correct`: (R, N) bool, which samples are classified correctly; None without labels.

    **Source:**

    N. Tosato et al., arXiv 2305.18353; see `ffengine.ensembles.class_ensembles`.
    """
    inputs = spec.negatives.positive(samples.positives(labelled=spec.negatives.labelled))
    for replica, seed in enumerate(spec.seeds):
        replica_network = network.replica(replica)
        chosen = (
            torch.ones(len(samples), dtype=torch.bool, device=inputs.device)
            if correct is None
            else correct[replica]
        )
        by_chunk = [
            replica_network.activations(inputs[rows].unsqueeze(0)) for rows in chunks(len(samples))
        ]
        for layer in range(len(network.weights)):
            h = torch.cat([found[layer][0] for found in by_chunk])[chosen]
            labels = samples.labels[chosen]
            members = class_ensembles(h, labels, samples.classes, excess=ENSEMBLE_EXCESS)
            shares = units_in_ensembles(members)
            yield EnsembleRow(
                seed=seed,
                layer=layer,
                partition=partition,
                samples=int(chosen.sum()),
                excess=ENSEMBLE_EXCESS,
                class_samples=tuple(torch.bincount(labels, minlength=samples.classes).tolist()),
                sizes=tuple(ensemble_sizes(members).tolist()),
                overlap=tuple(tuple(row) for row in ensemble_overlap(members).tolist()),
                in_one=shares[0],
                in_several=shares[1],
            )


def chunks(samples: int) -> list[slice]:
    """Split samples into slices of at most CHUNK_SAMPLES.

    **Arguments:**

    - `samples`: how many there are.

    **Returns:**

    The slices, in order.
    """
    return [slice(start, start + CHUNK_SAMPLES) for start in range(0, samples, CHUNK_SAMPLES)]


def _mean(values: Tensor, where: Tensor) -> float | None:
    """Return the mean of the chosen values, None where none is chosen."""
    return float(values[where].double().mean()) if bool(where.any()) else None
