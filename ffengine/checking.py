"""A CheckSpec, cell by cell: one seed, one width, one method, over batches of samples.

Legend: N samples, m inputs, n width.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.checkpoint import Checkpoint
from ffengine.diagnostics import of_check
from ffengine.geometry import angle_rows
from ffengine.infinite_width import infinite_width_theorem1, infinite_width_theorem2
from ffengine.interrupts import Control, Interrupted
from ffengine.margin_files import CellMargins, MarginFileWriter
from ffengine.margins import LayerSums, TheoremCheck, observe
from ffengine.negatives import Positives
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import SumSquares
from ffengine.provenance import Stopwatch, provenance
from ffengine.random_streams import Draws
from ffengine.results import AngleRow, CheckCell, CheckResult, Split
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec, NetworkSpec, TrainedWeights, TrainSpec
from ffengine.theorems import THEOREMS


class CellsReport(NamedTuple):
    """Cells of one seed and width that have just been finished, with the margins of their samples,
    and all cells so far.
    """

    cells: tuple[CheckCell, ...]
    margins: tuple[CellMargins, ...]
    done: tuple[CheckCell, ...]
    fraction: float
    message: str


class Batch(NamedTuple):
    """Samples that are judged together: which (N,) of the training partition, and the groups (N, m)
    made of them.
    """

    chosen: Tensor
    groups: list[Tensor]


class Layer(NamedTuple):
    """One layer of one seed, with what lies below, and where it comes from."""

    network: Network
    number: int
    epoch: int

    @property
    def weight(self) -> Tensor:
        """(n, m)."""
        return self.network.weights[self.number][0]

    @property
    def network_goodness(self) -> SummedGoodness:
        """The layer as strategies of negatives ask it, by the theorems' goodness."""
        return SummedGoodness(self.network, SumSquares(), (self.number,))


def check(
    spec: CheckSpec,
    *,
    device: str = "cpu",
    on_cells: Callable[[CellsReport], Control] | None = None,
    resume: Sequence[CheckCell] = (),
    trained: Checkpoint | None = None,
    trained_spec: TrainSpec | None = None,
) -> CheckResult:
    """For which share of the samples the theorem's condition holds, for each width, seed, split and
    method.

    At the weights of a training job, `trained` is that job's checkpoint at the epoch and
    `trained_spec` its spec. `on_cells` is told of finished cells; where it answers "stop",
    Interrupted is raised; `resume` takes the cells done.

    Raises ValueError where the weights do not fit the spec, and DatasetError where the data cannot
    be had.
    """
    stopwatch = Stopwatch()
    run = CheckRun(spec, torch.device(device), stopwatch, trained, trained_spec)
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
        geometry = run.geometry()
    return CheckResult(
        theorem=spec.theorem,
        cells=tuple(done),
        geometry=geometry,
        diagnostics=tuple(of_check(spec, done)),
        provenance=provenance(spec, run.device, stopwatch),
    )


class CheckRun:
    """The samples and layers of a check."""

    def __init__(
        self,
        spec: CheckSpec,
        device: torch.device,
        stopwatch: Stopwatch,
        trained: Checkpoint | None,
        trained_spec: TrainSpec | None,
    ) -> None:
        self.spec, self.device = spec, device
        self.theorem = THEOREMS[spec.theorem]
        self.trained, self.trained_spec = trained, trained_spec
        self.activation = self._activation()
        self.widths = self._widths()
        with stopwatch.phase("data"):
            self.train = load_samples(spec.dataset, device).train
        self.dtype = torch.float64 if spec.precision == "float64" else torch.float32

    def cells(self, seed: int, width: int) -> list[tuple[CheckCell, CellMargins]]:
        """All cells of one seed and width, each split by each method, with the margins of their
        samples.
        """
        layer = self._layer(seed, width)
        tallies: defaultdict[tuple[Split, str], CellTally] = defaultdict(
            lambda: CellTally(width, self.spec.checked)
        )
        for chosen, groups in self._batches(seed, layer):
            inputs = [self._input(layer, x) for x in groups]
            exact = self._exact(layer, inputs) if "exact" in self.spec.methods else None
            limit = (
                _infinite_width(inputs, self.activation.name)
                if "infinite_width" in self.spec.methods
                else None
            )
            for place, split in enumerate(self._splits):
                verdict = exact[place].check() if exact else None
                if exact and verdict:
                    tallies[split, "exact"].add_exact(chosen, inputs[place], verdict, exact[place])
                if limit:
                    tallies[split, "infinite_width"].add_limit(
                        chosen, inputs[place], limit[place], verdict
                    )
        return [
            self._cell(tally, seed, layer, split, method)
            for (split, method), tally in tallies.items()
        ]

    def geometry(self) -> tuple[AngleRow, ...]:
        """Angles between the samples of the first batch of the first seed, as the narrowest layer
        sees them.
        """
        seed = self.spec.seeds[0]
        layer = self._layer(seed, min(self.widths))
        batch = next(self._batches(seed, layer))
        groups = {
            split: self._input(layer, x)
            for split, x in zip(self._splits, batch.groups, strict=True)
        }
        return angle_rows(groups, seed=seed, layer=layer.number, epoch=layer.epoch)

    @property
    def _splits(self) -> tuple[Split, ...]:
        return (
            ("positive", "negative") if self.theorem.needs_negatives else ("negative",)
        )  # theorem 1 lowers every sample's goodness

    def _batches(self, seed: int, layer: "Layer") -> Iterator[Batch]:
        """Each batch: positives and negatives, or for theorem 1 the images alone."""
        draws = Draws((seed,), self.device)
        chosen = draws.at("samples").permutation(len(self.train))[:, : self.spec.checked]
        for number, index in enumerate(
            chosen.split(self.spec.batch_size or self.spec.checked, dim=1)
        ):
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
                    layer.network_goodness,
                )
            )
            yield Batch(index[0], [positive[0], negative[0]])

    def _exact(self, layer: Layer, inputs: list[Tensor]) -> list[LayerSums]:
        signs = [self.theorem.positive_sign, self.theorem.negative_sign][-len(inputs) :]
        return observe(
            layer.weight.to(self.dtype), inputs, signs, self.activation, step=self.spec.step
        )

    def _input(self, layer: Layer, x: Tensor) -> Tensor:
        return layer.network.layer_input(layer.number, x.unsqueeze(0))[0].to(self.dtype)

    def _layer(self, seed: int, width: int) -> Layer:
        at = self.spec.at
        if not isinstance(at, TrainedWeights) or self.trained is None or self.trained_spec is None:
            of_layer = NetworkSpec(widths=(width,), activation=self.spec.activation)
            return Layer(
                Network.initial(of_layer, self._inputs, Draws((seed,), self.device), self.device),
                0,
                0,
            )
        replica = self.trained_spec.seeds.index(seed)
        weights = [weight[replica : replica + 1].to(self.device) for weight in self.trained.weights]
        return Layer(Network(self.trained_spec.network, weights), at.layer, at.epoch)

    @property
    def _inputs(self) -> int:
        return self.spec.dataset.inputs(
            labelled=self.theorem.needs_negatives and self.spec.negatives.labelled
        )

    def _activation(self) -> Activation:
        return ACTIVATIONS[
            self.trained_spec.network.activation if self.trained_spec else self.spec.activation
        ]

    def _widths(self) -> tuple[int, ...]:
        at, trained_spec = self.spec.at, self.trained_spec
        if not isinstance(at, TrainedWeights):
            return self.spec.widths
        if self.trained is None or trained_spec is None:
            raise ValueError(
                "at: the weights of a training job were asked for, but none were given"
            )
        self.spec.refuse_misfit(trained_spec)
        return (trained_spec.network.widths[at.layer],)

    def _cell(
        self, tally: "CellTally", seed: int, layer: Layer, split: Split, method: str
    ) -> tuple[CheckCell, CellMargins]:
        batch = min(self.spec.batch_size or self.spec.checked, self.spec.checked)
        cell = tally.cell(
            self.spec, seed=seed, layer=layer, split=split, method=method, batch_size=batch
        )
        return cell, tally.margins.of(cell)


def _infinite_width(inputs: list[Tensor], activation: str) -> list[TheoremCheck]:
    if len(inputs) == 1:
        return [infinite_width_theorem1(inputs[0], activation=activation)]
    return list(infinite_width_theorem2(*inputs, activation=activation))


class CellTally:
    """Counts over the batches of one cell, and what was found for each of its samples."""

    def __init__(self, width: int, samples: int) -> None:
        self.width = width
        self.margins = MarginFileWriter(samples)
        self.samples = self.live = self.satisfied = self.undecided = self.batches = 0
        self.rose = self.agree = self.compared = 0
        self.flipped = self.near_zero = self.eta = self.input_norm = 0.0

    def add_exact(self, chosen: Tensor, x: Tensor, verdict: TheoremCheck, sums: LayerSums) -> None:
        """Count a batch (N, m) of the samples `chosen` (N,) by its exact margins and the effect of
        the trial step.
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
        """Count a batch by its margins at infinite width, beside the exact verdict where there is
        one.
        """
        self._add(chosen, x, verdict)
        if exact is not None:
            self._compare(verdict, exact.satisfied, ~(verdict.undecided | exact.undecided))

    def _add(self, chosen: Tensor, x: Tensor, verdict: TheoremCheck) -> None:
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
        """The row of these counts."""
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
        )

    def _share(self, count: int) -> float | None:
        return count / self.live if self.live else None
