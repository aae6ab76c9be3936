"""A theorem check, cell by cell: one seed, one width, one method, over batches of samples.

Legend: N samples, m inputs, n width.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.advice import findings_on_upload
from ffengine.availability import check_available
from ffengine.checkpoint import Checkpoint
from ffengine.data_figures import data_figures
from ffengine.datasets import Datasets
from ffengine.decomposition import PairLabels, exact_pushes, limit_pushes, pair_angles, push_rows
from ffengine.diagnostics import of_check
from ffengine.geometry import angle_rows
from ffengine.goodness_margins import lowering_direction
from ffengine.infinite_width import infinite_width_checks
from ffengine.interrupts import Control, Interrupted
from ffengine.label_patterns import LabelPatterns
from ffengine.layer_updates import Learner, Preview
from ffengine.margin_files import CellMargins, MarginFileWriter
from ffengine.margins import LayerSums, TheoremCheck, observe
from ffengine.negatives import Positives
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import SumSquares
from ffengine.pairs import Pairs
from ffengine.potentials import potential_rows
from ffengine.provenance import Stopwatch, provenance
from ffengine.random_streams import Draws
from ffengine.results import (
    AngleRow,
    CheckCell,
    CheckResult,
    PotentialRow,
    PushRow,
    Split,
    WeightsProvenance,
)
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec, NetworkSpec, TrainedWeights, TrainSpec, UploadedWeights
from ffengine.theorems import THEOREMS
from ffengine.uploaded_weights import WeightUploads


class CellsReport(NamedTuple):
    """What `on_cells` of `check` is given when the cells of one seed and width are finished.

    **Attributes:**

    - `cells`: the new cells.
    - `margins`: the margins of their samples, in the same order.
    - `done`: all cells so far; `check` resumes from them.
    - `fraction`: how much of the check is done, in [0, 1].
    - `message`: one line that says which seed and width were finished.
    """

    cells: tuple[CheckCell, ...]
    margins: tuple[CellMargins, ...]
    done: tuple[CheckCell, ...]
    fraction: float
    message: str


class Batch(NamedTuple):
    """Samples that are checked together.

    **Attributes:**

    - `chosen`: (N,) int64, positions in the training partition.
    - `groups`: the samples (N, m) of each split.
    """

    chosen: Tensor
    groups: list[Tensor]


class Layer(NamedTuple):
    """One layer of one seed, with the layers below it.

    **Attributes:**

    - `network`: a network of one replica that ends with the layer or goes beyond it.
    - `number`: the layer's place in the network, from 0.
    - `epoch`: the epoch of its weights; 0 is the initialisation.
    - `learner`: takes the training step of its job; None where the check is along another one.
    """

    network: Network
    number: int
    epoch: int
    learner: Learner | None = None
    split: Split | None = None  # from which that step learns; None: from both

    @property
    def weight(self) -> Tensor:
        """W (n, m) float32."""
        return self.network.weights[self.number][0]

    def training_step(self, inputs: Sequence[Tensor]) -> Preview | None:
        """Return the step that training would take on positives and negatives (N, m) each.

        It is None where the check is along another one.
        """
        if self.learner is None:
            return None
        pairs = Pairs(torch.cat(list(inputs)).unsqueeze(0).to(self.weight.dtype))
        z = pairs.times(self.network.weights[self.number], torch.bmm)
        return self.learner.preview(self.number, pairs, z, self.split)

    def network_goodness(self, patterns: LabelPatterns) -> SummedGoodness:
        """Return the sum of squares of the layer, for strategies that ask the network.

        **Arguments:**

        - `patterns`: what a label is in the samples.
        """
        return SummedGoodness(self.network, SumSquares(), (self.number,), patterns)


def check(
    spec: CheckSpec,
    *,
    device: str = "cpu",
    on_cells: Callable[[CellsReport], Control] | None = None,
    resume: Sequence[CheckCell] = (),
    trained: Checkpoint | None = None,
    trained_spec: TrainSpec | None = None,
    datasets: Datasets | None = None,
) -> CheckResult:
    """Check a theorem: for which share of the samples does its condition hold?

    There is one cell for each seed, width, split and method.

    **Arguments:**

    - `spec`: which theorem, at which weights, on which samples.
    - `device`: a name that torch knows, such as "cpu" or "cuda".
    - `on_cells`: is called when the cells of one seed and width are finished; "stop" interrupts the
      check.
    - `resume`: the cells that an interrupted check of the same spec has finished.
    - `trained`: where `spec.at` names a training job, its checkpoint at that epoch.
    - `trained_spec`: the spec of that job.
    - `datasets`: where data sets and uploaded weights are; None: where the environment says.

    **Returns:**

    The cells with their ratios, the angles between samples, findings and provenance.

    **Raises:**

    - `Interrupted`: `on_cells` returned "stop".
    - `DatasetError`: the data set cannot be found, fetched or read, or is smaller than the spec
      asks.
    - `ValueError`: the weights are missing or do not fit the spec.

    **Source:**

    arXiv 2311.05667, theorems 1 and 2; docs/theory.md, "The exact condition" and "Infinite width".
    """
    stopwatch = Stopwatch()
    datasets = datasets or Datasets.of_environment()
    check_available(spec, datasets)
    weights, epoch = None, 0
    if isinstance(spec.at, UploadedWeights):
        found, facts = WeightUploads(datasets).load(spec.at)
        trained, trained_spec, epoch = Checkpoint.of_weights(found), found.spec, found.epoch
        weights = WeightsProvenance(
            name=facts.name, digest=facts.digest, file_digest=facts.file_digest
        )
    run = CheckRun(spec, torch.device(device), stopwatch, trained, trained_spec, datasets, epoch)
    done = list(resume)
    finished = {(cell.seed, cell.width) for cell in done}
    work = [
        (seed, width)
        for seed in spec.seeds
        for width in run.widths
        if (seed, width) not in finished
    ]
    with stopwatch.phase("checking"):
        for seed, width in work:
            cells, margins = zip(*run.cells(seed, width), strict=True)
            done += cells
            fraction = len({(cell.seed, cell.width) for cell in done}) / (
                len(spec.seeds) * len(run.widths)
            )
            report = CellsReport(
                cells, margins, tuple(done), fraction, f"seed {seed}, width {width}"
            )
            if on_cells and on_cells(report) == "stop":
                raise Interrupted(None)
        geometry, potentials = run.geometry(), run.potentials()
        decomposition = run.decomposition()
    return CheckResult(
        theorem=spec.theorem,
        cells=tuple(done),
        geometry=geometry,
        potentials=potentials,
        decomposition=decomposition,
        diagnostics=(*of_check(done, spec, run.data), *findings_on_upload(spec, datasets)),
        provenance=provenance(
            spec,
            datasets,
            run.device,
            stopwatch,
            label_strength=run.train.label_strength,
            trained=trained_spec,
            weights=weights,
        ),
    )


class CheckRun:
    """The samples and layers of a check.

    **Arguments:**

    - `spec`: the check.
    - `device`: where samples and weights lie.
    - `stopwatch`: counts the seconds of each phase.
    - `trained`, `trained_spec`, `datasets`: as for `check`.
    - `epoch`: of uploaded weights.

    **Raises:**

    - `ValueError`: the weights are missing or do not fit the spec.
    """

    def __init__(
        self,
        spec: CheckSpec,
        device: torch.device,
        stopwatch: Stopwatch,
        trained: Checkpoint | None,
        trained_spec: TrainSpec | None,
        datasets: Datasets,
        epoch: int = 0,
    ) -> None:
        self.spec, self.device, self.datasets = spec, device, datasets
        self.epoch = spec.at.epoch if isinstance(spec.at, TrainedWeights) else epoch
        self.facts = datasets.facts_of(spec.dataset.name)
        self.checked = spec.checked(self.facts)
        self.batch_size = min(spec.batch_size or self.checked, self.checked)
        self.theorem = THEOREMS[spec.theorem]
        self.trained, self.trained_spec = trained, trained_spec
        self.activation = self._activation()
        self.widths = self._widths()
        with stopwatch.phase("data"):
            partitions = load_samples(spec.dataset, device, datasets)
            self.train = partitions.train
            self.data = data_figures(
                spec.dataset,
                partitions,
                labelled=self.theorem.needs_negatives and spec.negatives.labelled,
                all_partitions=False,
            )
        self.dtype = torch.float64 if spec.precision == "float64" else torch.float32

    def cells(self, seed: int, width: int) -> list[tuple[CheckCell, CellMargins]]:
        """Check one seed and width: each split by each method.

        **Arguments:**

        - `seed`: one of the spec's seeds.
        - `width`: one of `widths`.

        **Returns:**

        Each cell with the margins of its samples.
        """
        layer = self._layer(seed, width)
        tallies: defaultdict[tuple[Split, str], CellTally] = defaultdict(
            lambda: CellTally(width, self.checked)
        )
        for chosen, groups in self._batches(seed, layer):
            inputs = [self._input(layer, x) for x in groups]
            exact = self._exact(layer, inputs) if "exact" in self.spec.methods else None
            limit = self._limit(inputs, width) if "infinite_width" in self.spec.methods else None
            for group, split in enumerate(self._splits):
                verdict = exact[group].check() if exact else None
                if exact and verdict:
                    tallies[split, "exact"].add_exact(chosen, inputs[group], verdict, exact[group])
                if limit:
                    tallies[split, "infinite_width"].add_limit(
                        chosen, inputs[group], limit[group], verdict
                    )
        return [
            self._cell(tally, seed, layer, split, method)
            for (split, method), tally in tallies.items()
        ]

    def geometry(self) -> tuple[AngleRow, ...]:
        """Return the angles between the samples of the first seed's first batch.

        They are those of the inputs of the narrowest layer.
        """
        seed = self.spec.seeds[0]
        layer = self._layer(seed, min(self.widths))
        batch = next(self._batches(seed, layer))
        groups = {
            split: self._input(layer, x)
            for split, x in zip(self._splits, batch.groups, strict=True)
        }
        return angle_rows(groups, seed=seed, layer=layer.number, epoch=layer.epoch)

    def potentials(self) -> tuple[PotentialRow, ...]:
        """Compare the potentials of both splits in the first batch of each seed.

        There are none for theorem 1, for trained weights, and where no limit is known.
        """
        width = min(self.widths)
        kernel = self.spec.goodness.limit(self._inputs, width)
        known = kernel and (kernel.of_any_activation or self.activation.name == "relu")
        at_start = self.spec.at == "initialization"
        if not (self.theorem.needs_negatives and at_start and known):
            return ()
        rows: list[PotentialRow] = []
        for seed in self.spec.seeds:
            batch = next(self._batches(seed, self._layer(seed, width)))
            rows += potential_rows(
                dict(zip(self._splits, batch.groups, strict=True)),
                seed=seed,
                activation=self.activation.name,
                goodness=self.spec.goodness,
                width=width,
            )
        return tuple(rows)

    def decomposition(self) -> tuple[PushRow, ...]:
        """Split the margins of the first batch of each seed and width, where the spec asks it."""
        if not self.spec.decomposition:
            return ()
        return tuple(
            row
            for seed in self.spec.seeds
            for width in self.widths
            for row in self._pushes(seed, width)
        )

    def _pushes(self, seed: int, width: int) -> Iterator[PushRow]:
        """Yield who pushes in the first batch of one seed and width, by each method."""
        layer = self._layer(seed, width)
        batch = next(self._batches(seed, layer))
        positive, negative = (self._input(layer, x) for x in batch.groups)
        image = self.train.labels[batch.chosen]
        wrong = batch.groups[1][:, : self.train.classes].argmax(-1)
        for method in self.spec.methods:
            pushes = (
                exact_pushes(layer.weight, positive, negative)
                if method == "exact"
                else limit_pushes(positive, negative)
            )
            yield from push_rows(
                pushes,
                PairLabels(image, wrong),
                pair_angles(positive, negative),
                seed=seed,
                width=width,
                layer=layer.number,
                epoch=layer.epoch,
                method=method,
            )

    @property
    def _splits(self) -> tuple[Split, ...]:
        """The splits that are checked; theorem 1 lowers the goodness of every sample."""
        return (
            ("positive", "negative") if self.theorem.needs_negatives else ("negative",)
        )  # theorem 1 lowers every sample's goodness

    def _batches(self, seed: int, layer: "Layer") -> Iterator[Batch]:
        """Yield each batch: positives and negatives, or for theorem 1 the images alone."""
        draws = Draws((seed,), self.device)
        chosen = draws.at("samples").permutation(len(self.train))[:, : self.checked]
        for number, index in enumerate(chosen.split(self.batch_size, dim=1)):
            if not self.theorem.needs_negatives:
                yield Batch(index[0], [self.train.plain[index[0]]])
                continue
            negatives = self.spec.negatives
            positive = negatives.positive(self.train.positives(labelled=negatives.labelled)[index])
            negative = negatives(
                Positives(
                    positive,
                    index,
                    self.train,
                    draws.at("negatives", number),
                    layer.network_goodness(self.train.patterns),
                )
            )
            yield Batch(index[0], [positive[0], negative[0]])

    def _exact(self, layer: Layer, inputs: list[Tensor]) -> list[LayerSums]:
        """Return the sums of each split at the layer's weights."""
        weight, step = layer.weight.to(self.dtype), layer.training_step(inputs)
        direction, cancellation = None, None
        if step:
            direction, cancellation = step.direction[0].to(self.dtype), float(step.cancellation)
        elif self.spec.goodness != SumSquares():
            direction, cancellation = lowering_direction(
                weight, inputs, self._coefficients(inputs), self.activation, self.spec.goodness
            )
        sums = observe(
            weight,
            inputs,
            self._signs,
            self.activation,
            direction=direction,
            step=self.spec.step,
        )
        if cancellation is not None:
            for one in sums:
                one.cancellation = cancellation
        return sums

    def _limit(self, inputs: list[Tensor], width: int) -> list[TheoremCheck]:
        """Return the verdict on each split in the limit of infinite width."""
        return infinite_width_checks(
            inputs,
            self._coefficients(inputs),
            activation=self.activation.name,
            goodness=self.spec.goodness,
            width=width,
        )

    @property
    def _signs(self) -> list[float]:
        """The sign of each split in what the step lowers."""
        both = [self.theorem.positive_sign, self.theorem.negative_sign]
        return both[-len(self._splits) :]

    def _coefficients(self, inputs: list[Tensor]) -> list[Tensor]:
        """Return s_i = dL/dG_i (N,) of the samples of each split."""
        return [x.new_full((len(x),), sign) for x, sign in zip(inputs, self._signs, strict=True)]

    def _input(self, layer: Layer, x: Tensor) -> Tensor:
        """Return what the layer receives of samples (N, m), in the type of the check."""
        return layer.network.layer_input(layer.number, x.unsqueeze(0))[0].to(self.dtype)

    def _layer(self, seed: int, width: int) -> Layer:
        """Return the layer of a seed and width: at initialisation, or as it was trained."""
        at = self.spec.at
        if at == "initialization" or self.trained is None or self.trained_spec is None:
            of_layer = NetworkSpec(widths=(width,), activation=self.spec.activation)
            return Layer(
                Network.initial(of_layer, self._inputs, Draws((seed,), self.device), self.device),
                0,
                0,
            )
        replica = self.trained_spec.seeds.index(seed)
        weights = [weight[replica : replica + 1].to(self.device) for weight in self.trained.weights]
        exponents = [
            exponent[replica : replica + 1].to(self.device) for exponent in self.trained.scales
        ]
        network = Network(
            self.trained_spec.network,
            weights,
            exponents,
            label_inputs=self.trained_spec.carried_inputs(
                self.datasets.facts_of(self.trained_spec.dataset.name).classes
            ),
        )
        learner = self._learner(network, replica) if self.spec.along == "training_step" else None
        return Layer(network, at.layer, self.epoch, learner, self._split_after(self.epoch))

    def _split_after(self, epoch: int) -> Split | None:
        """Return the split that the job's first step after an epoch learns from; None: both."""
        assert self.trained_spec  # noqa: S101 - narrows: weights are given
        trained = self.trained_spec
        facts = self.datasets.facts_of(trained.dataset.name)
        return trained.split_after(epoch, trained.dataset.train_count(facts))

    def _learner(self, network: Network, replica: int) -> Learner:
        """Return the learner of a replica, as its job left it; raise ValueError without a state."""
        assert self.trained and self.trained_spec  # noqa: S101, PT018 - narrows: weights are given
        trained = self.trained_spec
        make = partial(
            Learner,
            network,
            trained.pairwise,
            trained.optimizer,
            epochs=trained.epochs,
            phases=trained.phases,
        )
        states = [
            {
                slot: (value[replica : replica + 1] if value.dim() else value).to(self.device)
                for slot, value in state.items()
            }
            for state in self.trained.states
        ]
        if [state.keys() for state in states] != [state.keys() for state in make().states]:
            raise ValueError(
                "along: these weights come without the state of their optimiser; take them from "
                "their job, or check along goodness_difference"
            )
        return make(states=states)  # the network goes by their statistics, too

    @property
    def _inputs(self) -> int:
        """The number of inputs of the first layer, m."""
        return self.spec.dataset.inputs(
            self.facts, labelled=self.theorem.needs_negatives and self.spec.negatives.labelled
        )

    def _activation(self) -> Activation:
        """Return the activation of the layers."""
        return ACTIVATIONS[
            self.trained_spec.network.activation if self.trained_spec else self.spec.activation
        ]

    def _widths(self) -> tuple[int, ...]:
        """Return the widths that are checked; raise ValueError where the weights do not fit."""
        at, trained_spec = self.spec.at, self.trained_spec
        if at == "initialization":
            return self.spec.widths
        if self.trained is None or trained_spec is None:
            raise ValueError(
                "at: the weights of a training job were asked for, but none were given"
            )
        self.spec.refuse_misfit(trained_spec, self.datasets)
        return (trained_spec.network.widths[at.layer],)

    def _cell(
        self, tally: "CellTally", seed: int, layer: Layer, split: Split, method: str
    ) -> tuple[CheckCell, CellMargins]:
        """Return the row of a tally, and the margins of its samples."""
        cell = tally.cell(
            self.spec,
            seed=seed,
            layer=layer,
            split=split,
            method=method,
            batch_size=self.batch_size,
        )
        return cell, tally.margins.of(cell)


class CellTally:
    """Counts over the batches of one cell, and the margins of its samples.

    **Arguments:**

    - `width`: n.
    - `samples`: how many samples the cell will have.
    """

    def __init__(self, width: int, samples: int) -> None:
        self.width = width
        self.margins = MarginFileWriter(samples)
        self.samples = self.live = self.satisfied = self.undecided = self.batches = 0
        self.rose = self.agree = self.compared = 0
        self.flipped = self.near_zero = self.eta = self.input_norm = 0.0

    def add_exact(self, chosen: Tensor, x: Tensor, verdict: TheoremCheck, sums: LayerSums) -> None:
        """Count a batch by its exact margins and by the effect of the trial step.

        **Arguments:**

        - `chosen`: (N,) int64, positions in the training partition.
        - `x`: (N, m), what the layer receives.
        - `verdict`: the exact verdict.
        - `sums`: the sums that it comes from, with a trial step.
        """
        self._add(chosen, x, verdict)
        rose = (sums.change > 0) & ~verdict.dead
        self.rose += int(rose.sum())
        self._compare(verdict, rose, ~verdict.undecided)
        self.flipped += float(sums.flipped.sum())
        self.near_zero += float(sums.near_zero.sum())
        self.eta += sums.eta

    def add_limit(
        self, chosen: Tensor, x: Tensor, verdict: TheoremCheck, exact: TheoremCheck | None
    ) -> None:
        """Count a batch by its margins at infinite width.

        **Arguments:**

        - `chosen`: (N,) int64, positions in the training partition.
        - `x`: (N, m), what the layer receives.
        - `verdict`: the verdict at infinite width.
        - `exact`: the exact verdict, with which it is compared; None where there is none.
        """
        self._add(chosen, x, verdict)
        if exact is not None:
            self._compare(verdict, exact.satisfied, ~(verdict.undecided | exact.undecided))

    def _add(self, chosen: Tensor, x: Tensor, verdict: TheoremCheck) -> None:
        """Count a batch, and keep the verdict on each sample."""
        self.margins.add(
            sample=chosen.cpu().numpy(),
            margin=verdict.margin.cpu().numpy(),
            satisfied=verdict.satisfied.cpu().numpy(),
            dead=verdict.dead.cpu().numpy(),
            undecided=verdict.undecided.cpu().numpy(),
        )
        self.batches += 1
        self.samples += len(x)
        self.live += verdict.live
        self.satisfied += int(verdict.satisfied.sum())
        self.undecided += int(verdict.undecided.sum())
        self.input_norm += float(torch.linalg.vector_norm(x.double(), dim=-1).sum())

    def _compare(self, verdict: TheoremCheck, other: Tensor, decided: Tensor) -> None:
        """Count the decided samples whose verdict agrees with another."""
        decided = decided & ~verdict.dead
        self.compared += int(decided.sum())
        self.agree += int(((verdict.satisfied == other) & decided).sum())

    def cell(
        self,
        spec: CheckSpec,
        *,
        seed: int,
        layer: Layer,
        split: Split,
        method: str,
        batch_size: int,
    ) -> CheckCell:
        """Return the row of these counts.

        **Arguments:**

        - `spec`: the check.
        - `seed`, `layer`, `split`, `method`, `batch_size`: what identifies the cell.

        **Returns:**

        The row; figures of the trial step are null for the infinite width.
        """
        exact = method == "exact"
        return CheckCell(
            theorem=spec.theorem,
            width=self.width,
            seed=seed,
            layer=layer.number,
            epoch=layer.epoch,
            split=split,
            batch_size=batch_size,
            method="exact" if exact else "infinite_width",
            samples=self.samples,
            live=self.live,
            satisfied=self.satisfied,
            undecided=self.undecided,
            ratio=self._share(self.satisfied),
            observed_increase_ratio=self._share(self.rose) if exact else None,
            agreement=self.agree / self.compared if self.compared else None,
            mask_flip_rate=self.flipped / (self.samples * self.width) if exact else None,
            near_zero_rate=self.near_zero / (self.samples * self.width) if exact else None,
            eta=self.eta / self.batches if exact else None,
            input_norm=self.input_norm / self.samples,
            theorem2_direction=spec.along if spec.theorem == 2 else None,
        )

    def _share(self, count: int) -> float | None:
        """Return a count over the live samples; None where there are none."""
        return count / self.live if self.live else None
