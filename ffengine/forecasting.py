"""A forecast: a small run is trained, its units are measured, and what wide layers do follows.

Legend: R replicas, B samples of one split in a batch, N of all batches, n units, m inputs, C
classes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.advice import findings_on_upload
from ffengine.availability import check_available
from ffengine.checkpoint import Checkpoint
from ffengine.data_figures import data_figures
from ffengine.datasets import Datasets
from ffengine.diagnostics import explained_divergence
from ffengine.forecast_curves import curves_of, epochs_needed, forecast_rows, onset_of
from ffengine.forecast_findings import of_forecast
from ffengine.interrupts import Control, Diverged, Interrupted
from ffengine.layer_updates import Learner
from ffengine.monitor import layer_pairs
from ffengine.network import Network, SummedGoodness
from ffengine.pairs import AnyPairs, RelabelledPairs
from ffengine.provenance import Stopwatch, provenance
from ffengine.random_streams import Draws
from ffengine.results import ForecastPoint, ForecastResult, Split
from ffengine.samples import Samples
from ffengine.spec import ForecastSpec, TrainSpec, digest
from ffengine.training import BatchReport, EpochReport, OnBatch, TrainingRun
from ffengine.unit_sums import Estimate, UnitSums

SPLITS: tuple[Split, Split] = ("positive", "negative")


class PointsReport(NamedTuple):
    """What `on_points` of `forecast` is given at the end of an epoch of the small run.

    **Attributes:**

    - `points`: those of this epoch; none where it is not measured.
    - `fraction`: how much of the small run is done, in [0, 1].
    - `message`: one line that says where it is.
    - `checkpoint`: what `forecast` resumes from, together with all points so far.
    """

    points: tuple[ForecastPoint, ...]
    fraction: float
    message: str
    checkpoint: Checkpoint


OnPoints = Callable[[PointsReport], Control]


def forecast(
    spec: ForecastSpec,
    *,
    device: str = "cpu",
    on_points: OnPoints | None = None,
    on_batch: OnBatch | None = None,
    resume: Checkpoint | None = None,
    points: Sequence[ForecastPoint] = (),
    datasets: Datasets | None = None,
) -> ForecastResult:
    """Train a few units and forecast C and S of layers of any width over flow time.

    The same spec gives the same bits on one machine, also where it is interrupted and resumed.

    **Arguments:**

    - `spec`: the small run, and what is forecast.
    - `device`: a name that torch knows, such as "cpu" or "cuda".
    - `on_points`: is called at the end of every epoch; "stop" interrupts the run.
    - `on_batch`: is called after every batch; "stop" interrupts the run.
    - `resume`: the checkpoint of an interrupted forecast of the same spec.
    - `points`: all points that it had before that.
    - `datasets`: where data sets are; None: where the environment says.

    **Returns:**

    Curves of each width with their bands, where act 1 ends, how many epochs that takes, findings
    and provenance.

    **Raises:**

    - `Interrupted`: a callback returned "stop"; the exception has the checkpoint.
    - `Diverged`: weights are no longer finite.
    - `DatasetError`: the data set cannot be found, fetched or read, or is smaller than the spec
      asks.
    - `ValueError`: `resume` belongs to another spec.

    **Source:**

    docs/jobs.md, "Forecasts".
    """
    stopwatch = Stopwatch()
    datasets = datasets or Datasets.of_environment()
    check_available(spec, datasets)
    run = ForecastRun(spec, torch.device(device), stopwatch, datasets, resume, points)
    with stopwatch.phase("data"):
        data = data_figures(
            spec.dataset,
            run.training.partitions,
            labelled=spec.negatives.labelled,
            all_partitions=False,
        )
    try:
        run.run(on_points or _keep_running, on_batch or _keep_running)
    except Diverged as error:
        raise Diverged(explained_divergence(error.diagnostic, run.training.spec, data)) from error
    curves = curves_of(run.points, spec)
    onset = onset_of(curves)
    end = run.tau(run.training.spec.epochs)
    return ForecastResult(
        rows=forecast_rows(curves, spec.widths),
        onset=onset,
        epochs_needed=epochs_needed(spec, run.training.facts, onset, end),
        points=tuple(run.points),
        units=spec.units,
        units_interact=spec.units_interact,
        diagnostics=(
            *of_forecast(spec, run.points, onset, run.training.facts, data),
            *findings_on_upload(spec, datasets),
        ),
        provenance=provenance(
            spec,
            datasets,
            run.training.device,
            stopwatch,
            label_strength=run.training.train.label_strength,
        ),
    )


class ForecastRun:
    """The small run of a forecast, and the points that were measured on it.

    **Arguments:**

    - `spec`: the forecast.
    - `device`: where weights and samples lie.
    - `stopwatch`: counts the seconds of each phase.
    - `datasets`: where data sets are.
    - `resume`, `points`: as for `forecast`.

    **Raises:**

    - `ValueError`: `resume` belongs to another spec.
    """

    def __init__(
        self,
        spec: ForecastSpec,
        device: torch.device,
        stopwatch: Stopwatch,
        datasets: Datasets,
        resume: Checkpoint | None,
        points: Sequence[ForecastPoint],
    ) -> None:
        self.spec, self.stopwatch, self.points = spec, stopwatch, list(points)
        self.digest = digest(spec)
        facts = datasets.facts_of(spec.dataset.name)
        of_training = spec.training(facts)
        if resume is not None:
            if resume.spec_digest != self.digest:
                raise ValueError("resume: the checkpoint belongs to another spec")
            resume = replace(resume, spec_digest=digest(of_training))
        self.training = TrainingRun(of_training, device, stopwatch, resume, datasets)
        self.units = UnitMeasurement(spec, of_training, self.training.train, self.training.draws)

    def tau(self, epoch: int) -> float:
        """Return the flow time at the end of an epoch.

        **Arguments:**

        - `epoch`: the epoch; 0 is the initialisation.

        **Returns:**

        tau.
        """
        return epoch * self.spec.tau_of_epoch(self.training.facts)

    def run(self, on_points: OnPoints, on_batch: OnBatch) -> None:
        """Train the small run to its end, and measure its units on the way.

        **Arguments:**

        - `on_points`, `on_batch`: as for `forecast`.

        **Raises:**

        - `Interrupted`: a callback returned "stop".
        - `Diverged`: weights are no longer finite.
        """

        def after_epoch(report: EpochReport) -> Control:
            found = self._measured(report.epoch)
            self.points += found
            return on_points(
                PointsReport(found, report.fraction, report.message, self._own(report.checkpoint))
            )

        def after_batch(report: BatchReport) -> Control:
            return on_batch(BatchReport(report.fraction, lambda: self._own(report.checkpoint())))

        try:
            with self.stopwatch.phase("training"):
                self.training.run(after_epoch, after_batch)
        except Interrupted as stopped:
            own = self._own(stopped.checkpoint) if stopped.checkpoint else None
            raise Interrupted(own) from stopped

    def _measured(self, epoch: int) -> tuple[ForecastPoint, ...]:
        """Return the points of an epoch; none where it is not measured."""
        if not self.spec.is_measured(epoch, self.training.spec.epochs):
            return ()
        with self.stopwatch.phase("monitoring"):
            learner = self.training.learner
            assert isinstance(learner, Learner)  # noqa: S101 - narrows the type
            return self.units.points(learner, epoch, self.tau(epoch))

    def _own(self, checkpoint: Checkpoint) -> Checkpoint:
        """Return the checkpoint of the training run as one of the forecast."""
        return replace(checkpoint, spec_digest=self.digest, rows=())


class UnitMeasurement:
    """Measures the units of a small run on the same samples at every call.

    They are the samples that a training run with the same seed monitors.

    **Arguments:**

    - `spec`: the forecast.
    - `training`: its small run.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    """

    def __init__(
        self, spec: ForecastSpec, training: TrainSpec, train: Samples, draws: Draws
    ) -> None:
        self.spec, self.training, self.train, self.draws = spec, training, train, draws
        chosen = draws.at("monitor").permutation(len(train))[:, : spec.samples]
        self.index = list(chosen.split(spec.batch_size, dim=1))
        self.samples = chosen.shape[1]

    def points(self, learner: Learner, epoch: int, tau: float) -> tuple[ForecastPoint, ...]:
        """Measure the units.

        **Arguments:**

        - `learner`: the network as it is; nothing in it changes.
        - `epoch`, `tau`: where the run is.

        **Returns:**

        A point for each seed and split.
        """
        weight, activation = learner.network.weights[0], learner.network.activation
        descent = self.descent(learner)
        sums = {split: UnitSums(self.spec.units, self.spec.blocks) for split in SPLITS}
        for pairs in self._batches(learner.network):
            z = pairs.times(weight, torch.bmm)
            h, rate = activation.value(z), activation.slope(z)
            rate *= pairs.times(descent, torch.bmm)
            for split, own_h, own_rate in zip(SPLITS, h.chunk(2, 1), rate.chunk(2, 1), strict=True):
                sums[split].add(own_h, own_rate)
        found = {split: one.estimate() for split, one in sums.items()}
        return tuple(
            self._point(found[split], replica, seed, split, epoch, tau)
            for replica, seed in enumerate(self.spec.seeds)
            for split in SPLITS
        )

    def descent(self, learner: Learner) -> Tensor:
        """Compute -dL/dW on all measured samples; wrong labels are averaged over.

        **Arguments:**

        - `learner`: the network as it is.

        **Returns:**

        (R, n, m).
        """
        weight = learner.network.weights[0]
        total = torch.zeros_like(weight)
        for pairs, index in zip(self._batches(learner.network), self.index, strict=True):
            if isinstance(pairs, RelabelledPairs):
                part = descent_of_all_labels(learner, pairs, self.train.labels[index])
            else:
                z = pairs.times(weight, torch.bmm)
                pull = learner.pull(z, learner.network.activation.value(z), {})
                part = pairs.gathered(pull, torch.bmm)
            total += part * (index.shape[1] / self.samples)
        return total

    def _batches(self, network: Network) -> Iterator[AnyPairs]:
        """Yield the measured pairs as the layer receives them."""
        goodness = SummedGoodness(network, self.spec.pairwise.goodness, (0,), self.train.patterns)
        for number, index in enumerate(self.index):
            address = ("monitor-negatives", number)
            yield layer_pairs(
                self.training, network, 0, self.train, index, self.draws, address, goodness
            )

    def _point(
        self, found: Estimate, replica: int, seed: int, split: Split, epoch: int, tau: float
    ) -> ForecastPoint:
        """Return the point of one replica; a figure without live samples is null."""
        dead = int(found.dead[replica])
        live = dead < self.samples
        return ForecastPoint(
            seed=seed,
            epoch=epoch,
            split=split,
            tau=tau,
            samples=self.samples,
            dead_samples=dead,
            c=float(found.c[replica]) if live else None,
            c_slope=float(found.c_slope[replica]) if live else None,
            c_without=tuple(found.c_without[replica].tolist()) if live else (),
            theorem2_ratio=float(found.theorem2[replica]) if live else None,
            theorem2_without=tuple(found.theorem2_without[replica].tolist()) if live else (),
        )


def descent_of_all_labels(learner: Learner, pairs: RelabelledPairs, labels: Tensor) -> Tensor:
    """Compute -dL/dW of a batch whose negatives are their positives under every wrong label.

    One product makes the pre-activations of the images, another gathers them; each label costs
    elementwise passes.

    **Arguments:**

    - `learner`: the network as it is.
    - `pairs`: the positives; their own negatives do not matter.
    - `labels`: (R, B) int64 of the positives.

    **Returns:**

    (R, n, m): the mean over the wrong labels.
    """
    x, classes = pairs.x, pairs.change.shape[-1]
    weight, own = learner.network.weights[0], labels.unsqueeze(-1)
    objective, activation = learner.objective, learner.network.activation
    columns = weight[..., :classes].mT
    contrast = x.gather(-1, own) - x.gather(-1, (own + 1) % classes)
    z = torch.bmm(x, weight.mT)
    h = activation.value(z)
    g = objective.goodness.value(h)
    of_images = torch.zeros_like(z)
    of_labels = weight.new_zeros((*weight.shape[:2], classes))
    s_positive = torch.zeros_like(g)

    def pulled(z: Tensor, h: Tensor, g: Tensor, s: Tensor) -> Tensor:
        pull = objective.goodness.pull(h, g, -s)
        return pull if activation.slope_where_active_is_one else pull.mul_(activation.slope(z))

    for shift in range(1, classes):
        change = torch.zeros_like(pairs.change).scatter_(-1, (own + shift) % classes, contrast)
        change.scatter_(-1, own, -contrast)
        wrong = torch.baddbmm(z, change, columns)
        wrong_h = activation.value(wrong)
        wrong_g = objective.goodness.value(wrong_h)
        above = objective.above(torch.cat([g, wrong_g], dim=1), g.shape[1], z.shape[-1])
        s = objective.coefficients(above, g.shape[1])
        s_positive += s[:, : g.shape[1]]
        pull = pulled(wrong, wrong_h, wrong_g, s[:, g.shape[1] :])
        of_images += pull
        of_labels += torch.bmm(pull.mT, change)
    of_images += pulled(z, h, g, s_positive)  # the pull is linear in s
    total = torch.bmm(of_images.mT, x)
    total[..., :classes] += of_labels
    return total / (classes - 1)


def _keep_running(_report: object) -> Control:
    """The callback of a caller that does not ask for reports."""
    return "run"
