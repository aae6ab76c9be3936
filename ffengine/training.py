"""The training loop: stages of layers, epochs, batches. It measures, saves and resumes.

Legend: R replicas, B samples of one split in a batch, m inputs, n width.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from ffengine.acts import with_acts
from ffengine.advice import findings_on_upload
from ffengine.availability import check_available
from ffengine.bank import Bank
from ffengine.baseline_plan import baseline_in_words
from ffengine.baseline_training import BaselineRun
from ffengine.checkpoint import Checkpoint, Position, fraction_done, snapshot
from ffengine.class_monitor import ClassMonitor
from ffengine.class_updates import ClassLearner, new_heads
from ffengine.conv_network import initial_network, network_of
from ffengine.cuda_graphs import Step, captured
from ffengine.data_figures import data_figures
from ffengine.datasets import Datasets
from ffengine.decomposition import NOTHING_DECOMPOSED
from ffengine.diagnostics import by_cause, divergence, explained_divergence, of_training
from ffengine.early_stopping import Keeper, selected_rows
from ffengine.epoch_accuracy import AccuracyMonitor, ClassAccuracyMonitor
from ffengine.evaluation import Epochs, Evaluation, evaluate
from ffengine.interrupts import Control, Diverged, Interrupted
from ffengine.layer_range import layer_range_rows
from ffengine.layer_updates import Learner, matmul_precision
from ffengine.monitor import SPLITS, Monitor, layer_pairs
from ffengine.network import SummedGoodness
from ffengine.onset import onset_of
from ffengine.optimizers import State
from ffengine.pairs import AnyBatch, LabelledBatch, Pairs
from ffengine.percents import in_percent
from ffengine.products import has_onednn
from ffengine.provenance import Stopwatch, provenance
from ffengine.push_monitor import PushMonitor, sample_pictures
from ffengine.random_streams import Draws
from ffengine.results import EpochAccuracyRow, EpochRow, SelectedRow, Split, TrainResult
from ffengine.samples import load_samples
from ffengine.spec import TrainSpec, digest
from ffengine.thread_choice import ThreadChoice


class EpochReport(NamedTuple):
    """What `on_epoch` of `train` is given at the end of an epoch.

    **Attributes:**

    - `rows`: the rows measured at this epoch; empty where the spec does not monitor it.
    - `epoch`: its number; 0 is the measurement before the first step of a stage.
    - `layers`: the layers that learn in this stage.
    - `fraction`: how much of the run is done, in [0, 1].
    - `message`: one line that says where the run is.
    - `checkpoint`: what `train` resumes from.
    """

    rows: tuple[EpochRow, ...]
    epoch: int
    layers: tuple[int, ...]
    fraction: float
    message: str
    checkpoint: Checkpoint


class BatchReport(NamedTuple):
    """What `on_batch` of `train` is given at the end of a batch.

    **Attributes:**

    - `fraction`: how much of the run is done, in [0, 1].
    - `checkpoint`: makes a checkpoint when it is called.
    - `message`: one line that says where the run is; "": where the last one said.
    """

    fraction: float
    checkpoint: Callable[[], Checkpoint]
    message: str = ""


OnEpoch = Callable[[EpochReport], Control]
OnBatch = Callable[[BatchReport], Control]
OnSelected = Callable[[Checkpoint, tuple[SelectedRow, ...]], None]
MeasuredRow = TypeVar("MeasuredRow", EpochRow, EpochAccuracyRow)


def train(
    spec: TrainSpec,
    *,
    device: str = "cpu",
    on_epoch: OnEpoch | None = None,
    on_batch: OnBatch | None = None,
    resume: Checkpoint | None = None,
    datasets: Datasets | None = None,
    on_selected: OnSelected | None = None,
) -> TrainResult:
    """Train a network as the spec says and return curves, accuracy and findings.

    The same spec gives the same bits on one machine, also where the run is interrupted and resumed.

    **Arguments:**

    - `spec`: what to train and what to measure.
    - `device`: a name that torch knows, such as "cpu" or "cuda".
    - `on_epoch`: is called at the end of every epoch; "stop" interrupts the run.
    - `on_batch`: is called after every batch; "stop" interrupts the run.
    - `resume`: the checkpoint of an interrupted run of the same spec.
    - `datasets`: where data sets are; None: where the environment says.
    - `on_selected`: is given the weights that are evaluated, where `select` or `stop` chose them,
      and from which epochs they are.

    **Returns:**

    Rows for each seed, layer, monitored epoch and split; accuracy, measures, ensembles and
    baselines as `spec.evaluation` asks; findings; provenance.

    **Raises:**

    - `Interrupted`: a callback returned "stop"; the exception has the checkpoint.
    - `Diverged`: weights or figures are no longer finite.
    - `DatasetError`: the data set cannot be found, fetched or read, or is smaller than the spec
      asks.
    - `ValueError`: `resume` belongs to another spec, or the device does not have the precision.

    **Source:**

    Forward-Forward: G. Hinton, arXiv 2212.13345; what is measured: docs/theory.md.
    """
    stopwatch = Stopwatch()
    datasets = datasets or Datasets.of_environment()
    check_available(spec, datasets)
    run = TrainingRun(spec, torch.device(device), stopwatch, resume, datasets)
    with stopwatch.phase("data"):
        data = data_figures(spec.dataset, run.partitions, labelled=spec.negatives.labelled)
        onset = onset_of(spec, datasets)
    try:
        with stopwatch.phase("training"):
            run.run(on_epoch or _keep_running, on_batch or _keep_running)
    except Diverged as error:
        raise Diverged(explained_divergence(error.diagnostic, spec, data)) from error
    if on_selected is not None and spec.chooses_epochs:
        on_selected(run.checkpoint(), selected_rows(spec, run.accuracy_rows))
    with stopwatch.phase("evaluation"):
        found = run.evaluate(on_batch or _keep_running)
    return TrainResult(
        curves=tuple(run.rows),
        accuracy=found.accuracy,
        accuracy_curves=tuple(run.accuracy_rows),
        selected=selected_rows(spec, run.accuracy_rows),
        measures=found.measures,
        ensembles=found.ensembles,
        baselines=found.baselines,
        usage=found.usage,
        selectivity=found.selectivity,
        lesions=found.lesions,
        layer_range=found.layer_range,
        ood=found.ood,
        onset=onset,
        decomposition=run.decomposition.rows,
        most_pushed=run.decomposition.most_pushed,
        pictures=sample_pictures(run.train, run.decomposition.most_pushed),
        diagnostics=tuple(
            by_cause(
                of_training(
                    spec,
                    run.rows,
                    found.accuracy,
                    train_samples=len(run.train),
                    data=data,
                    onset=onset,
                    baselines=found.baselines,
                    accuracy_curves=run.accuracy_rows,
                )
                + findings_on_upload(spec, datasets)
            )
        ),
        provenance=provenance(
            spec, datasets, run.device, stopwatch, label_strength=run.train.label_strength
        ),
    )


class TrainingRun:
    """The state of a training run, and the loop that advances it.

    **Arguments:**

    - `spec`: what to train.
    - `device`: where weights and samples lie.
    - `stopwatch`: counts the seconds of each phase.
    - `resume`: the checkpoint to start from; None starts at the beginning.
    - `datasets`: where data sets are; None: where the environment says.
    """

    def __init__(
        self,
        spec: TrainSpec,
        device: torch.device,
        stopwatch: Stopwatch,
        resume: Checkpoint | None,
        datasets: Datasets | None = None,
    ) -> None:
        self.spec, self.device, self.stopwatch = spec, device, stopwatch
        self.digest = digest(spec)
        self.draws = Draws(spec.seeds, device)
        with stopwatch.phase("data"):
            datasets = datasets or Datasets.of_environment()
            self.facts = datasets.facts_of(spec.dataset.name)
            self.partitions = load_samples(spec.dataset, device, datasets, spec.evaluation.ood)
        self.plans = spec.plans(self.facts)
        self.train = self.partitions.train
        self.monitor = (ClassMonitor if spec.learns_classes else Monitor)(
            spec, self.train, self.draws
        )
        self.pushes = PushMonitor(spec, self.train, self.draws)
        accuracy = ClassAccuracyMonitor if spec.learns_classes else AccuracyMonitor
        self.accuracy = accuracy(spec, self.partitions, self.draws)
        self.rows: list[EpochRow] = []
        self.accuracy_rows: list[EpochAccuracyRow] = []
        self.decomposition = NOTHING_DECOMPOSED
        self.position = Position()
        self.baselines: BaselineRun | None = None  # while they learn
        self._steps: dict[Split | None, Step] = {}  # of the stage that learns
        self._steps_for: tuple[int, ...] = ()
        self.saved_baselines = resume.baselines if resume else None
        if resume is None:
            self.network = initial_network(
                spec,
                self.plans,
                spec.inputs(self.facts),
                self.draws,
                device,
                label_inputs=spec.carried_inputs(self.facts.classes),
            )
            if spec.learns_classes:
                of_channels = spec.over_classes.head_is_of_channels
                sizes = spec.network.widths if of_channels else self.network.sizes
                self.network.heads = new_heads(
                    spec.over_classes, sizes, self.train.classes, self.draws, device
                )
            self.keeper = Keeper(spec, self.network)
            self.learner = self._learner(None)
        else:
            self._restore(resume)
        self.bank = Bank(spec, self.network, self.train, self.draws)
        # what other libraries multiply has other bits with other threads
        self.threads = ThreadChoice(adapts=device.type == "cpu" and has_onednn())

    def run(self, on_epoch: OnEpoch, on_batch: OnBatch) -> None:
        """Train from `position` to the end of the last stage.

        **Arguments:**

        - `on_epoch`, `on_batch`: as for `train`.

        **Raises:**

        - `Interrupted`: a callback returned "stop".
        - `Diverged`: weights or figures are no longer finite.
        """
        while self.position.stage < len(self.spec.stages):
            layers = self.spec.stages[self.position.stage]
            if self.position.epoch > 0:
                with matmul_precision(self.spec.precision, self.device):
                    self.epoch(layers, on_batch)
            self._end_epoch(layers, on_epoch)

    def evaluate(self, on_batch: OnBatch) -> Evaluation:
        """Evaluate the trained network and train the baselines.

        **Arguments:**

        - `on_batch`: is called after every batch of a baseline.

        **Returns:**

        Accuracy, measures, ensembles and baselines.

        **Raises:**

        - `Interrupted`: the callback returned "stop".
        """
        selected = selected_rows(self.spec, self.accuracy_rows)
        found = evaluate(self.network, self.spec, self.partitions, self.draws, selected)
        if self.spec.evaluation.layer_range:
            epochs = Epochs(self.spec, selected)
            ranges = layer_range_rows(self.network, self.spec, self.partitions, epochs)
            found = found._replace(layer_range=tuple(ranges))

        place, saved = (self.position.epoch, self.position.batch), self.saved_baselines
        baselines = BaselineRun(self.spec, self.partitions, self.draws, place, saved, self.plans)

        def stop_if_asked() -> None:
            self.baselines = baselines
            self.position = replace(self.position, epoch=baselines.epoch, batch=baselines.batch)
            message = baseline_in_words(self.spec, baselines.epoch)
            if on_batch(BatchReport(self.fraction, self.checkpoint, message)) == "stop":
                raise Interrupted(self.checkpoint())

        rows = baselines.run(stop_if_asked)
        return found._replace(baselines=rows, lesions=(*found.lesions, *baselines.lesions))

    def checkpoint(self) -> Checkpoint:
        """Return a checkpoint of the current state; later steps do not change it."""
        found = snapshot(
            self.digest,
            self.position,
            self.network.weights,
            self.keeper.with_kept(self.learner.states),
            self.rows,
            self.network.exponents,
            self.decomposition,
            self.accuracy_rows,
            self.network.heads,
        )
        return replace(found, baselines=self.baselines.saved()) if self.baselines else found

    def epoch(self, layers: tuple[int, ...], on_batch: OnBatch) -> None:
        """Train the layers from `position` to the end of its epoch.

        **Arguments:**

        - `layers`: the layers that learn together.
        - `on_batch`: as for `train`.

        **Raises:**

        - `Interrupted`: the callback returned "stop".
        """
        stage, epoch = self.position.stage, self.position.epoch
        batches = self._batches(stage, epoch)
        steps = self._steps_of(layers)
        if self.spec.negatives.redraw == "once":
            self.bank.hold(layers[0])  # with all threads
        homogeneous, interval = any(map(self.learner.is_homogeneous, layers)), 0
        with self.threads.for_steps(layers, lambda n: self._same_bits(layers, batches, n)):
            for batch in range(self.position.batch, len(batches)):
                split = self._split_of(batch, len(batches))
                address = ("negatives", stage, epoch, batch)
                inputs = self.inputs(layers, batches[batch], address, split)
                steps[split](inputs)
                if homogeneous:
                    interval = interval or self.learner.steps_between_looks(layers, inputs, epoch)
                    if (batch + 1) % interval == 0 or batch + 1 == len(batches):
                        self.learner.rescale(layers)
                self.position = Position(stage, epoch, batch + 1)
                self.threads.look()
                if on_batch(BatchReport(self.fraction, self.checkpoint)) == "stop":
                    raise Interrupted(self.checkpoint())

    def _split_of(self, batch: int, batches: int) -> Split | None:
        """Return from which split a batch of this epoch is learnt; None: from both."""
        return self.spec.phases.split_at((self.position.epoch - 1) * batches + batch, batches)

    def _same_bits(self, layers: tuple[int, ...], batches: list[Tensor], threads: int) -> bool:
        """Whether steps on the first and the last batch have the same bits with other threads."""
        before, found = torch.get_num_threads(), list[list[Tensor]]()
        try:
            for count in (self.threads.most, threads):
                torch.set_num_threads(count)
                found.append([*self._bits(layers, batches, 0), *self._bits(layers, batches, -1)])
        finally:
            torch.set_num_threads(before)
        return all(map(torch.equal, *found))

    def _bits(self, layers: tuple[int, ...], batches: list[Tensor], batch: int) -> list[Tensor]:
        """Return a batch, and weights and states after a step on it; nothing changes."""
        batch %= len(batches)
        stage, epoch = self.position.stage, self.position.epoch
        split = self._split_of(batch, len(batches))
        inputs = self.inputs(layers, batches[batch], ("negatives", stage, epoch, batch), split)
        learner = self.learner.copy()
        learner.step(layers, inputs, epoch, split)
        states = [value for state in learner.states for value in state.values()]
        return [*inputs, *learner.network.weights, *learner.network.heads, *states]

    @property
    def holds_rates(self) -> bool:
        """Whether step sizes are in tensors, so that a captured step goes on in the next epoch."""
        return self.device.type == "cuda"

    def _steps_of(self, layers: tuple[int, ...]) -> dict[Split | None, Step]:
        """Return what takes the steps of this epoch on batches of each split; None: on pairs.

        A stage keeps its steps, since to capture one may take longer than an epoch of a few.
        """
        if self.holds_rates:
            self.learner.hold_rates(layers, self.position.epoch)
        if layers != self._steps_for:
            self._steps_for = layers
            self._steps = {split: self._step_on(layers, split) for split in (None, *SPLITS)}
        return self._steps

    def _step_on(self, layers: tuple[int, ...], split: Split | None) -> Step:
        """Return what takes a step of a stage on batches of a split; None: on pairs."""

        def step(inputs: AnyBatch) -> None:
            self.learner.step(layers, inputs, self.position.epoch, split)

        if not self.spec.learns_classes and not self.spec.pairwise.goodness.capturable:
            return step
        return captured(step, self.device)

    def inputs(
        self,
        layers: tuple[int, ...],
        index: Tensor,
        address: tuple[str, *tuple[int, ...]],
        split: Split | None = None,
    ) -> AnyBatch:
        """Return a batch as the lowest of the learning layers receives it.

        **Arguments:**

        - `layers`: the layers that learn together.
        - `index`: (R, B) int64, positions in the training partition.
        - `address`: purpose and numbers that address the random stream of the negatives.
        - `split`: which samples are wanted; None: both.

        **Returns:**

        The positives and their negatives, or the samples of one split, after the layers below; of
        objectives over classes the samples with their labels.
        """
        if self.spec.learns_classes:
            x = self.network.layer_input(layers[0], self.train.plain[index])
            return LabelledBatch(x, self.train.labels[index])
        if split is not None:
            return self._of_split(split, layers, index, address)
        if self.spec.negatives.redraw == "once":
            return self.bank.batch(layers[0], index)
        network_goodness = SummedGoodness(
            self.network, self.spec.pairwise.layer_goodness, layers, self.train.patterns
        )
        return layer_pairs(
            self.spec,
            self.network,
            layers[0],
            self.train,
            index,
            self.draws,
            address,
            network_goodness,
        )

    def _of_split(
        self,
        split: Split,
        layers: tuple[int, ...],
        index: Tensor,
        address: tuple[str, *tuple[int, ...]],
    ) -> Pairs:
        """Return the samples of one split as `inputs` has them; no negative is made in vain."""
        if split == "negative" or self.spec.negatives.redraw == "once":
            pairs = self.inputs(layers, index, address)
            assert not isinstance(pairs, LabelledBatch)  # noqa: S101 - narrows the type
            return pairs.only(split)
        negatives = self.spec.negatives
        x = negatives.positive(self.train.positives(labelled=negatives.labelled)[index])
        return Pairs(self.network.layer_input(layers[0], x))

    def _end_epoch(self, layers: tuple[int, ...], on_epoch: OnEpoch) -> None:
        """Measure the layers, move to the next position and report."""
        epoch, ended = self.position.epoch, False
        self.keeper.put_back(layers)
        self._raise_if_diverged(layers)
        rows: list[EpochRow] = []
        told: list[EpochAccuracyRow] = []
        if self.spec.is_monitored(epoch):
            with self.stopwatch.phase("monitoring"):
                measured = self._of_learning(self.monitor.rows(self.learner, layers, epoch))
                rows = with_acts(measured, self.rows, self.spec.network.widths)
                pushes = self.pushes.decompose(self.network, rows)
                self.decomposition = self.decomposition.and_then(pushes)
                if self.spec.follows_accuracy:
                    told = self._of_learning(self.accuracy.rows(self.network, layers, epoch))
                    self.accuracy_rows += told
                if self.spec.chooses_epochs:
                    ended = self.keeper.look(layers, epoch, told)
        self.rows += rows
        last = ended or epoch == self.spec.epochs
        self.position = (
            Position(self.position.stage + 1) if last else Position(self.position.stage, epoch + 1)
        )
        message = f"layer {', '.join(map(str, layers))}: epoch {epoch:,} of {self.spec.epochs:,}"
        message += validation_in_words(layers, told)
        checkpoint = self.checkpoint()
        if (
            on_epoch(EpochReport(tuple(rows), epoch, layers, self.fraction, message, checkpoint))
            == "stop"
        ):
            raise Interrupted(checkpoint)
        if last:  # after the report: the file of an epoch has its weights
            self.keeper.end()

    def _of_learning(self, rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
        """Return the rows of the seeds that have not stopped before."""
        return [row for row in rows if row.seed not in self.keeper.stopped]

    def _batches(self, stage: int, epoch: int) -> list[Tensor]:
        """Return the indices (R, B) of each batch of an epoch."""
        order = self.draws.at("order", stage, epoch).permutation(len(self.train))  # (R, N)
        return list(order.split(self.spec.batch_size, dim=1))

    @property
    def fraction(self) -> float:
        """How much of the run is done, in [0, 1]."""
        return fraction_done(self.spec, self.facts, self.position)

    def _restore(self, resume: Checkpoint) -> None:
        """Continue from a checkpoint."""
        if resume.spec_digest != self.digest:
            raise ValueError("resume: the checkpoint belongs to another spec")
        self.network = network_of(
            self.spec.network,
            self.plans,
            [weight.to(self.device, copy=True) for weight in resume.weights],
            [exponent.to(self.device, copy=True) for exponent in resume.scales],
            [head.to(self.device, copy=True) for head in resume.heads],
            label_inputs=self.spec.carried_inputs(self.facts.classes),
        )
        states = [
            {name: value.to(self.device, copy=True) for name, value in state.items()}
            for state in resume.states
        ]
        self.rows, self.position = list(resume.rows), resume.position
        self.decomposition, self.accuracy_rows = resume.decomposition, list(resume.accuracy)
        self.keeper = Keeper(self.spec, self.network)
        states = self.keeper.resume(self.position.stage, states, self.accuracy_rows)
        self.learner = self._learner(states)

    def _learner(self, states: list[State] | None) -> Learner | ClassLearner:
        """Return a learner of the network, from the states of its optimisers if there are any."""
        spec = self.spec
        if spec.learns_classes:
            return ClassLearner(
                self.network,
                spec.over_classes,
                spec.optimizer,
                classes=self.train.classes,
                epochs=spec.epochs,
                precision=spec.precision,
                states=states,
            )
        return Learner(
            self.network,
            spec.pairwise,
            spec.optimizer,
            epochs=spec.epochs,
            precision=spec.precision,
            phases=spec.phases,
            states=states,
        )

    def _raise_if_diverged(self, layers: tuple[int, ...]) -> None:
        """Raise Diverged where a weight of the layers is not finite."""
        for layer in layers:
            tensors = [self.network.weights[layer], *self.network.heads[layer : layer + 1]]
            for seed, learnt in zip(self.spec.seeds, zip(*tensors, strict=True), strict=True):
                if not all(bool(torch.isfinite(one.aminmax().max)) for one in learnt):
                    raise Diverged(
                        divergence(
                            layer=layer, epoch=self.position.epoch, seed=seed, what=["weights"]
                        )
                    )


def validation_in_words(layers: tuple[int, ...], rows: Sequence[EpochAccuracyRow]) -> str:
    """Say how well layers that learn together do on the validation samples.

    **Arguments:**

    - `layers`: the layers.
    - `rows`: what layers told apart at the epoch that has ended; none where it is not measured.

    **Returns:**

    The end of a message, a mean over the seeds that learn; empty where it was not measured.
    """
    found = [
        row.accuracy
        for row in rows
        if row.partition == "validation"
        and (row.layers, row.method) == (layers, "goodness")
        and row.accuracy is not None
    ]
    return f", validation accuracy {in_percent(sum(found) / len(found), 1)}" if found else ""


def _keep_running(_report: object) -> Control:
    """The callback of a caller that does not ask for reports."""
    return "run"
