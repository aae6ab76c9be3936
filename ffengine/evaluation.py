"""What a trained network has learnt: accuracy, sparsity, separation and ensembles of its layers.

Sparsity, separation and ensembles are measured on held-out samples.

Legend: R replicas, N samples, m inputs, n width, C classes, L layers.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ffengine.class_updates import class_logits
from ffengine.ensembles import (
    class_ensembles,
    class_sparsity,
    ensemble_overlap,
    ensemble_sizes,
    units_in_ensembles,
)
from ffengine.lesions import Intact, Lesioned, driven_by, lesions
from ffengine.linear_probe import choose_penalty, fit_linear
from ffengine.monitor import paired
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import LayerObjective
from ffengine.other_data import Scores, ood_rows
from ffengine.random_streams import Draws
from ffengine.results import (
    AccuracyRow,
    BaselineRow,
    EnsembleRow,
    LayerRangeRow,
    LesionRow,
    MeasureRow,
    OodRow,
    Partition,
    SelectedRow,
    SelectivityRow,
    UnitPartition,
    UsageRow,
)
from ffengine.samples import Partitions, Samples
from ffengine.scaling import goodness_factors
from ffengine.selectivity import class_selectivity
from ffengine.separation import auc
from ffengine.sparsity import gini, kurtosis, sparsity_and_dead, treves_rolls
from ffengine.spec import TrainSpec
from ffengine.unit_usage import unit_usage

CHUNK_SAMPLES = 1000
ENSEMBLE_EXCESS = 1.0  # the value in the code of Tosato et al. for units that classes share


class Evaluation(NamedTuple):
    """What is measured after training: rows for each seed."""

    accuracy: tuple[AccuracyRow, ...]
    measures: tuple[MeasureRow, ...]
    ensembles: tuple[EnsembleRow, ...]
    baselines: tuple[BaselineRow, ...] = ()
    usage: tuple[UsageRow, ...] = ()
    selectivity: tuple[SelectivityRow, ...] = ()
    lesions: tuple[LesionRow, ...] = ()
    layer_range: tuple[LayerRangeRow, ...] = ()
    ood: tuple[OodRow, ...] = ()


def evaluate(
    network: Network,
    spec: TrainSpec,
    partitions: Partitions,
    draws: Draws,
    selected: Sequence[SelectedRow] = (),
) -> Evaluation:
    """Evaluate a trained network as `spec.evaluation` says.

    Accuracy by label is measured only where samples carry labels, or layers learn them.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partitions`: the samples.
    - `draws`: the randomness of the run.
    - `selected`: from which epoch the weights of each seed and layer are; none: from the last.

    **Returns:**

    Accuracy, measures, ensembles, usage, selectivity, lesions and how other data are told apart; no
    baselines.
    """
    epochs = Epochs(spec, selected)
    by_label = (
        {
            name: ConfusionCounts(network, spec, samples)
            for name, samples in named_partitions(partitions)
        }
        if spec.tells_labels
        else {}
    )
    accuracy = [row for name, counts in by_label.items() for row in counts.rows(name, epochs)]
    if spec.evaluation.linear_classifier:
        accuracy += linear_accuracy(network, spec, partitions, epochs)
    measures: list[MeasureRow] = []
    units = UnitRows([], [], [])
    for name, samples in named_partitions(partitions):
        if name == "train":
            continue
        correct = by_label[name].correct if name in by_label else None
        if spec.evaluation.measures:
            measures += measure_rows(network, spec, name, samples, draws, correct)
        add_unit_rows(units, network, spec, name, samples, correct)
    add_held_out_rows(units, network, spec, partitions)
    return Evaluation(
        tuple(accuracy),
        tuple(measures),
        tuple(units.ensembles),
        usage=tuple(units.usage),
        selectivity=tuple(units.selectivity),
        lesions=tuple(lesion_rows(network, spec, partitions)),
        ood=tuple(other_data_rows(network, spec, partitions)),
    )


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
    - `method`: "goodness" combines it as the objective does, which sums it in general; "softmax"
      sums its softmax over the labels.
    """

    layer: int | None
    layers: tuple[int, ...]
    method: str

    def scores(self, goodness: Tensor, objective: LayerObjective) -> Tensor:
        """Score each label; the highest score wins.

        **Arguments:**

        - `goodness`: (R, L, N, C), or logits.
        - `objective`: how goodness of layers is combined.

        **Returns:**

        (R, N, C).
        """
        chosen = goodness[:, list(self.layers)]
        return chosen.softmax(-1).sum(1) if self.method == "softmax" else objective.combined(chosen)


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
        for rows in chunks(len(samples)):
            labels = samples.labels[rows].expand(len(spec.seeds), -1)
            goodness = label_scores(network, spec, samples, rows)
            for classifier, hits in zip(self.classifiers, found, strict=True):
                hits.append(classifier.scores(goodness, spec.objective).argmax(-1) == labels)
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


def label_scores(network: Network, spec: TrainSpec, samples: Samples, rows: slice) -> Tensor:
    """Score each label in each layer: by the goodness of the sample under it, or by its logit.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `samples`: a partition.
    - `rows`: which of its samples.

    **Returns:**

    (R, L, B, C) float64.
    """
    replicas = len(spec.seeds)
    if spec.learns_classes:
        x = samples.plain[rows].expand(replicas, -1, -1)
        return class_logits(network, spec.over_classes, x, samples.classes).double()
    labels = samples.labels[rows].expand(replicas, -1)
    x = samples.labelled[rows].expand(replicas, -1, -1)
    stored = network.label_goodness(spec.pairwise.layer_goodness, x, labels, samples.patterns)
    factors = goodness_factors(network.exponents, torch.float64)[..., None, None]  # (R, L, 1, 1)
    return stored.double() * factors


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

    (1, N, sum of the widths); of a map the means of its channels.
    """
    x = samples.neutral if spec.negatives.labelled else spec.negatives.positive(samples.plain)
    found = []
    for rows in chunks(len(samples), network.most_samples):
        h = network.activations(x[rows].unsqueeze(0))
        scaled = [
            network.seen_by_readout(layer, h[layer], network.least_scale(layer)) for layer in layers
        ]
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

    The positives carry their true label, and there are as many negatives; where layers learn
    classes, samples carry no label and there are no negatives.

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
    layers = [
        LayerMeasures(
            len(spec.seeds), size, network.weights[0].device, positions=network.positions(layer)
        )
        for layer, size in enumerate(network.sizes)
    ]
    everything = torch.arange(len(samples), device=samples.labels.device).expand(
        len(spec.seeds), -1
    )
    chunk = min(CHUNK_SAMPLES, network.most_samples)
    for number, index in enumerate(everything.split(chunk, dim=1)):
        if spec.learns_classes:
            for place, h in enumerate(network.activations(samples.plain[index])):
                layers[place].add(h, None)
            continue
        goodness_of = spec.pairwise.layer_goodness
        asked = SummedGoodness(
            network, goodness_of, tuple(range(len(network.weights))), samples.patterns
        )
        x = paired(spec, samples, index, draws, (f"{partition}-negatives", number), asked)
        for place, h in enumerate(network.activations(x)):
            goodness = network.goodness(place, goodness_of).value(h)
            layers[place].add(h[:, : index.shape[1]], goodness)
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
    - `width`: how many activations a sample has.
    - `device`: where the activations lie.
    - `positions`: at how many positions each unit stands.
    """

    def __init__(
        self, replicas: int, width: int, device: torch.device, *, positions: int = 1
    ) -> None:
        self.width, self.positions = width, positions
        self.gathered: dict[str, list[Tensor]] = {}
        self.active_units = torch.zeros(replicas, width, dtype=torch.bool, device=device)

    def add(self, h: Tensor, goodness: Tensor | None) -> None:
        """Add a chunk of samples.

        **Arguments:**

        - `h`: activations of positives (R, B, n).
        - `goodness`: (R, 2B), of the positives and then of their negatives; None: there are no
          negatives.
        """
        sparsity, dead = sparsity_and_dead(h)
        found = {
            "sparsity": sparsity,
            "dead": dead,
            "gini": gini(h),
            "treves_rolls": treves_rolls(h),
            "kurtosis": kurtosis(h),
        }
        found["zeros"] = (h == 0).sum(-1)
        if goodness is not None:
            found["positive"] = goodness[:, : h.shape[1]]
            found["negative"] = goodness[:, h.shape[1] :]
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
            dead_units=int((~self.active_units[replica].view(-1, self.positions).any(-1)).sum()),
            sparsity=_mean(found["sparsity"], live),
            sparsity_correct=None
            if correct is None
            else _mean(found["sparsity"], live & correct[replica]),
            zero_fraction=float(found["zeros"].double().mean()) / self.width,
            gini=_mean(found["gini"], live),
            treves_rolls=_mean(found["treves_rolls"], live),
            kurtosis=_mean(found["kurtosis"], live),
            auc=float(auc(found["positive"].unsqueeze(0), found["negative"].unsqueeze(0))[0])
            if "negative" in found
            else None,
            class_sparsity=tuple(
                mean if count else None
                for mean, count in zip(by_class.mean.tolist(), counts, strict=True)
            ),
            class_samples=tuple(counts),
        )


class UnitRows(NamedTuple):
    """What is measured of units: rows for each partition, seed and layer."""

    ensembles: list[EnsembleRow]
    usage: list[UsageRow]
    selectivity: list[SelectivityRow]


def add_unit_rows(
    found: UnitRows,
    network: Network,
    spec: TrainSpec,
    partition: UnitPartition,
    samples: Samples,
    correct: Tensor | None,
) -> None:
    """Measure ensembles, usage and selectivity on a partition, as far as the run asks for them.

    Ensembles and usage are read off samples under their true label, ensembles off those that are
    classified correctly, or off all samples where these carry no label. For selectivity samples
    have the neutral label in place of theirs. The unit of a convolution is a channel, by the mean
    over its positions.

    **Arguments:**

    - `found`: takes the rows.
    - `network`: the trained network.
    - `spec`: the training run.
    - `partition`: the name that the rows have.
    - `samples`: its samples.
    - `correct`: (R, N) bool, which samples are classified correctly; None without labels.
    """
    asked, labelled = spec.evaluation, spec.negatives.labelled
    plain = asked.selectivity and not labelled  # the same activations
    for replica, seed in enumerate(spec.seeds):
        one = network.replica(replica)
        if asked.ensembles or asked.usage or plain:
            which = correct[replica] if correct is not None else None
            for layer, h in enumerate(activations_of(one, true_inputs(spec, samples))):
                place = Place(seed, layer, partition)
                if asked.ensembles:
                    found.ensembles.append(ensemble_row(place, h, samples, which))
                if asked.usage:
                    found.usage.append(usage_row(place, h))
                if plain:
                    found.selectivity.append(selectivity_row(place, h, samples, "plain"))
        if asked.selectivity and labelled:
            for layer, h in enumerate(activations_of(one, samples.neutral)):
                place = Place(seed, layer, partition)
                found.selectivity.append(selectivity_row(place, h, samples, "neutral"))


def add_held_out_rows(
    found: UnitRows, network: Network, spec: TrainSpec, partitions: Partitions
) -> None:
    """Measure how units answer to classes that nothing was learnt of, as far as the run asks.

    These have no label that was learnt, so no sample carries its own: it is the neutral one where
    samples are labelled. Ensembles and selectivity compare classes, so that there the test samples
    of the other classes stand beside.

    **Arguments:**

    - `found`: takes the rows.
    - `network`: the trained network.
    - `spec`: the training run.
    - `partitions`: the samples.

    **Source:**

    N. Tosato et al., arXiv 2305.18353, for ensembles of a class that training did not see.
    """
    asked, unseen = spec.evaluation, partitions.held_out
    if unseen is None or not (asked.ensembles or asked.usage or asked.selectivity):
        return
    everything = unseen.with_others(partitions.test)
    labelled = spec.negatives.labelled
    inputs = everything.neutral if labelled else spec.negatives.positive(everything.plain)
    for replica, seed in enumerate(spec.seeds):
        for layer, h in enumerate(activations_of(network.replica(replica), inputs)):
            place = Place(seed, layer, "held_out")
            if asked.ensembles:
                found.ensembles.append(ensemble_row(place, h, everything, None))
            if asked.usage:
                found.usage.append(usage_row(place, h[: len(unseen)]))
            if asked.selectivity:
                kind: Literal["neutral", "plain"] = "neutral" if labelled else "plain"
                found.selectivity.append(selectivity_row(place, h, everything, kind))


class Place(NamedTuple):
    """What a row of units is about."""

    seed: int
    layer: int
    partition: UnitPartition


def ensemble_row(place: Place, h: Tensor, samples: Samples, correct: Tensor | None) -> EnsembleRow:
    """Return the ensembles of a layer.

    **Arguments:**

    - `place`: which layer it is, of which seed and partition.
    - `h`: (N, n) activations of one replica.
    - `samples`: the partition.
    - `correct`: (N,) bool, the samples that count; None: all.

    **Returns:**

    The row.

    **Source:**

    N. Tosato et al., arXiv 2305.18353; see `ffengine.ensembles.class_ensembles`.
    """
    labels = samples.labels
    if correct is not None:
        h, labels = h[correct], labels[correct]
    members = class_ensembles(h, labels, samples.classes, excess=ENSEMBLE_EXCESS)
    shares = units_in_ensembles(members)
    return EnsembleRow(
        **place._asdict(),
        samples=len(labels),
        excess=ENSEMBLE_EXCESS,
        class_samples=tuple(torch.bincount(labels, minlength=samples.classes).tolist()),
        sizes=tuple(ensemble_sizes(members).tolist()),
        overlap=tuple(tuple(row) for row in ensemble_overlap(members).tolist()),
        in_one=shares[0],
        in_several=shares[1],
    )


def usage_row(place: Place, h: Tensor) -> UsageRow:
    """Return how the units of a layer share the work.

    **Arguments:**

    - `place`: which layer it is, of which seed and partition.
    - `h`: (N, n) activations of one replica.

    **Returns:**

    The row.

    **Source:**

    B. Willmore & D. Tolhurst, Network 12 (2001), for population and lifetime sparsity.
    """
    found = unit_usage(h)
    return UsageRow(
        **place._asdict(),
        samples=len(h),
        units=h.shape[1],
        usage=found.used_units / h.shape[1],
        **found._asdict(),
    )


def selectivity_row(
    place: Place, h: Tensor, samples: Samples, inputs: Literal["neutral", "plain"]
) -> SelectivityRow:
    """Return how selective the units of a layer are for classes.

    **Arguments:**

    - `place`: which layer it is, of which seed and partition.
    - `h`: (N, n) activations of one replica; no sample carries its label.
    - `samples`: the partition.
    - `inputs`: whether samples have the neutral label.

    **Returns:**

    The row.

    **Source:**

    A. Morcos et al., arXiv 1803.06959; see `ffengine.selectivity.class_selectivity`.
    """
    found = class_selectivity(h, samples.labels, samples.classes)
    return SelectivityRow(
        **place._asdict(),
        samples=len(h),
        inputs=inputs,
        units=h.shape[1],
        **found._asdict(),
    )


def other_data_rows(network: Network, spec: TrainSpec, partitions: Partitions) -> Iterator[OodRow]:
    """Yield how well other data are told from test samples, where the run asks for it.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partitions`: the samples, the other ones among them.
    """
    if spec.evaluation.ood is None or partitions.other is None:
        return
    yield from ood_rows(
        spec.seeds,
        scores_of(network, spec, partitions.test),
        scores_of(network, spec, partitions.other),
        spec.evaluation.ood.dataset,
        "predicted" if spec.negatives.labelled else "plain",
    )


def scores_of(network: Network, spec: TrainSpec, samples: Samples) -> Scores:
    """Return goodness and S of samples under the label that all layers together predict.

    Where layers learn classes, the logit of the predicted class stands for goodness; where samples
    carry no label, goodness is that of the sample.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `samples`: the samples; their own labels do not count.

    **Returns:**

    The figures, float64.
    """
    goodness, sparsity, dead = list[Tensor](), list[Tensor](), list[Tensor]()
    size = min(CHUNK_SAMPLES, network.most_samples)
    for start in range(0, len(samples), size):
        rows = slice(start, start + size)
        x, found = _under_predicted(network, spec, samples, rows)
        h = network.activations(x)
        if found is None:
            own = [
                network.goodness(at, spec.pairwise.layer_goodness).value(h[at])
                for at in range(len(h))
            ]
            factors = goodness_factors(network.exponents, torch.float64)[..., None]
            layers = torch.stack(own, dim=1).double() * factors  # (R, L, B)
            whole = spec.objective.combined(layers[..., None])[..., 0]
            found = torch.cat([layers, whole[:, None]], dim=1)
        goodness.append(found)
        measured = [sparsity_and_dead(one) for one in h]
        sparsity.append(torch.stack([one for one, _ in measured], dim=1))
        dead.append(torch.stack([one for _, one in measured], dim=1))
    return Scores(torch.cat(goodness, -1), torch.cat(sparsity, -1).double(), torch.cat(dead, -1))


def _under_predicted(
    network: Network, spec: TrainSpec, samples: Samples, rows: slice
) -> tuple[Tensor, Tensor | None]:
    """Return samples (R, B, m) under their predicted label, and what each layer and all together
    score it with (R, L + 1, B); None where no label is predicted.
    """
    replicas = len(spec.seeds)
    plain = samples.plain[rows].expand(replicas, -1, -1)
    if not spec.tells_labels:
        return spec.negatives.positive(plain), None
    by_label = label_scores(network, spec, samples, rows)  # (R, L, B, C)
    whole = spec.objective.combined(by_label)
    predicted = whole.argmax(-1)  # (R, B)
    every = torch.cat([by_label, whole[:, None]], dim=1)
    at = predicted[:, None, :, None].expand(*every.shape[:3], 1)
    found = every.gather(-1, at).squeeze(-1)
    if not spec.negatives.labelled:
        return plain, found
    labels = samples.labels[rows].expand(replicas, -1)
    x = samples.labelled[rows].expand(replicas, -1, -1)
    return samples.relabelled(x, labels, predicted), found


def lesion_rows(network: Network, spec: TrainSpec, partitions: Partitions) -> Iterator[LesionRow]:
    """Yield what accuracy lesions leave, seed by seed, where the run asks for it.

    **Arguments:**

    - `network`: the trained network.
    - `spec`: the training run.
    - `partitions`: the samples; the training partition says how much units are used.
    """
    if spec.evaluation.lesions is None:
        return
    inputs, test = true_inputs(spec, partitions.train), partitions.test
    everything = Classifier(None, tuple(range(len(network.weights))), "goodness")
    for replica, seed in enumerate(spec.seeds):
        alone = spec.model_copy(update={"seeds": (seed,)})

        def correct(lesioned: Lesioned, alone: TrainSpec = alone) -> int:
            return sum(
                int(
                    (
                        everything.scores(
                            label_scores(lesioned.network, alone, test, rows), spec.objective
                        ).argmax(-1)
                        == test.labels[rows]
                    ).sum()
                )
                for rows in chunks(len(test))
            )

        one = network.replica(replica)
        drive = driven_by(one, inputs, chunks(len(partitions.train), one.most_samples))
        intact = Intact(one, {}, drive, Draws((seed,), inputs.device))
        for lesion, hits in lesions(spec.evaluation.lesions, intact, correct):
            yield lesion.row(seed, len(test), hits)


def true_inputs(spec: TrainSpec, samples: Samples) -> Tensor:
    """Return the positives of a partition (N, m): samples with their own label, if they carry one.

    **Arguments:**

    - `spec`: the training run.
    - `samples`: the partition.
    """
    return spec.negatives.positive(samples.positives(labelled=spec.negatives.labelled))


def activations_of(network: Network, inputs: Tensor) -> Iterator[Tensor]:
    """Yield the activations of each layer.

    **Arguments:**

    - `network`: a network of one replica.
    - `inputs`: (N, m).

    **Returns:**

    (N, n) of each layer, of a convolution those of channels.
    """
    found = [
        [network.pooled(*one) for one in enumerate(network.activations(rows.unsqueeze(0)))]
        for rows in inputs.split(min(CHUNK_SAMPLES, network.most_samples))
    ]
    for by_chunk in zip(*found, strict=True):
        yield torch.cat([h[0] for h in by_chunk])


def chunks(samples: int, most: int = CHUNK_SAMPLES) -> list[slice]:
    """Split samples into slices of at most CHUNK_SAMPLES.

    **Arguments:**

    - `samples`: how many there are.
    - `most`: of how many a slice is, if they are fewer.

    **Returns:**

    The slices, in order.
    """
    size = min(most, CHUNK_SAMPLES)
    return [slice(start, start + size) for start in range(0, samples, size)]


def _mean(values: Tensor, where: Tensor) -> float | None:
    """Return the mean of the chosen values, None where none is chosen."""
    return float(values[where].double().mean()) if bool(where.any()) else None
