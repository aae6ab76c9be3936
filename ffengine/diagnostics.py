"""Findings: what stands out in figures, how bad it is, the evidence, and what to try.

docs/diagnostics.md describes each code.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from ffengine.free_riding import free_riding
from ffengine.intervals import interval_of, wilson
from ffengine.percents import in_percent
from ffengine.results import (
    AccuracyRow,
    BaselineRow,
    CheckCell,
    Diagnostic,
    EpochAccuracyRow,
    EpochRow,
    Interval,
    Onset,
)
from ffengine.scale_runaway import scale_runaway
from ffengine.spec import CheckSpec, ForecastSpec, TrainSpec
from ffengine.theorems import DIRECTIONS

DEAD_SHARE = 0.5
FLIP_SHARE = 0.05
NEAR_ZERO_SHARE = 1e-3
RARELY = 0.5
AGREEMENT = 0.9
ALIKE = 1e-3
SMALL_BATCH = 32
UNDECIDED_SHARE = 0.01
MOSTLY = 0.5  # undecided: what the others say is not what the layer does
LABEL_SHARE = 0.01
COVERED_SHARE = 0.03
LARGE_INPUTS = 3.0  # root mean square; standardised ones have 1
SPREAD = 0.3  # of a ratio over batches; single wrong labels have .05 to .16, all or nothing .45
ROSE = 5e-3  # of S after its lowest point: act 2 has begun
SWINGS = 3  # turns in a row, each of so much of the figure, that are no accident
SWING_OF_GOODNESS, SWING_OF_RATIO = 0.02, 0.3
# Codes by what brings about what: a cause stands before its effects.
CAUSES = (
    "diverged",
    "partition_lacks_class",
    "one_input_dominates",
    "inputs_large",
    "overlay_covers_data",
    "label_weak",
    "test_copies_training",
    "lr_not_scaled",
    "scale_alternates",
    "scale_runaway",
    "free_riding",
    "batch_small",
    "batches_all_or_nothing",
    "act_not_left",
    "beyond_first_order",
    "dead_layer",
    "preactivations_at_zero",
    "prediction_disagrees",
    "margins_undecided",
    "condition_rarely_met",
    "splits_alike",
    "decomposition_cut",
    "readout_not_converged",
    "baseline_diverged",
    "classes_unequal",
    "accuracy_fell",
    "accuracy_at_chance",
)
LEAVE_IT = (
    "train for more epochs or with a larger optimizer.lr; centred data (dataset.preprocess: "
    "center) leave it sooner or have no act 1."
)
AT_RANDOM = (
    "At random weights two large sums nearly cancel, so that the draw decides: read the mean "
    "over several seeds, and the epochs after."
)
BATCH_NOISE = (
    "The random labels of a batch's negatives blur the ratio of a single seed and epoch: read "
    "the mean over several seeds."
)
TOO_LOW = (
    "The ratio is too low there. Read earlier epochs; observed_increase_ratio beside it does "
    "not depend on such margins."
)
AT_THRESHOLD = (
    "Near a threshold single steps raise and lower the common scale of the weights in turn, and "
    "the ratio with them: read the mean over epochs, coefficient_sum, and observed_increase_ratio."
)
BELOW_THRESHOLD = (
    "That is how an objective with a threshold begins: it is over once the goodness has reached "
    "the threshold. Train for more epochs, and read the epochs after."
)
OF_CLASSES = (
    "The theory says nothing of such a step: where the ratio is low, it makes activations more "
    "equal. Read observed_increase_ratio beside it, and compare with an objective of goodness."
)
LOOK_BESIDE = (
    "No phase explains this. Look at coefficient_sum and eta, and whether the ratio "
    "alternates: a step that is too long makes it."
)
FOR_ACCURACY = (
    " The difference objective is made to study S: to tell classes apart, use objective: softplus "
    "with optimizer: adam."
)
ONE_MOMENT = (
    "A check sees one moment of a training: the curve of S of its training job says in which "
    "phase that was."
)


class DataFigures(NamedTuple):
    """What findings are told of the samples of a run.

    **Attributes:**

    - `inputs`: m, without appended label inputs.
    - `input_norm`: the mean length of training samples without label.
    - `label_share`: what the label's input adds to a training sample, over the sample's length;
      None where the run has no labels in its samples.
    - `covered`: how many inputs the label overlays.
    - `covered_share`: how much of the variance over training samples these inputs hold.
    - `class_counts`: samples of each class, by partition.
    """

    inputs: int
    input_norm: float
    label_share: float | None
    covered: int
    covered_share: float
    class_counts: dict[str, tuple[int, ...]]


def divergence(*, layer: int, epoch: int, seed: int, what: Sequence[str]) -> Diagnostic:
    """Make the finding of a run whose numbers are no longer finite.

    **Arguments:**

    - `layer`, `epoch`, `seed`: where.
    - `what`: the names of the figures that are not finite.

    **Returns:**

    The finding.
    """
    return Diagnostic(
        code="diverged",
        severity="error",
        message=f"Values that are not finite in layer {layer}, epoch {epoch:,}, seed {seed}: "
        f"{', '.join(what)}.",
        evidence={"layer": layer, "epoch": epoch, "seed": seed, "figures": list(what)},
        suggestion="Lower optimizer.lr by ten.",
    )


def explained_divergence(found: Diagnostic, spec: TrainSpec, data: DataFigures) -> Diagnostic:
    """Add to the finding of a divergence what the spec and the data may have to do with it.

    **Arguments:**

    - `found`: the finding.
    - `spec`: the run.
    - `data`: its samples.

    **Returns:**

    The finding with the scale of the inputs, and with what there is to try.
    """
    size = data.input_norm / math.sqrt(data.inputs)
    advice = ["Lower optimizer.lr by ten."]
    if size > LARGE_INPUTS:
        other = "standardize" if spec.dataset.preprocess != "standardize" else "unit_norm"
        advice.insert(
            0,
            f"The inputs are large: samples have a mean length (input_norm) of "
            f"{data.input_norm:.3g}, {size:.3g} an input; use dataset.preprocess: {other}.",
        )
    if found.evidence["layer"] and spec.network.normalize == "none":
        advice.append("Scale what layers receive (network.normalize: l2).")
    if spec.objective.name == "difference":
        advice.append("Or use the softplus objective: the difference has no lower bound.")
    return found.model_copy(
        update={
            "evidence": {**found.evidence, "input_norm": data.input_norm},
            "suggestion": " ".join(advice),
        }
    )


def of_training(
    spec: TrainSpec,
    rows: Sequence[EpochRow],
    accuracy: Sequence[AccuracyRow] = (),
    *,
    train_samples: int | None = None,
    data: DataFigures | None = None,
    onset: Onset | None = None,
    baselines: Sequence[BaselineRow] = (),
    accuracy_curves: Sequence[EpochAccuracyRow] = (),
) -> list[Diagnostic]:
    """Find what stands out in a training run; each finding comes once, with its worst row.

    **Arguments:**

    - `spec`: the run.
    - `rows`: its curves; one row at least.
    - `accuracy`: its accuracies.
    - `train_samples`: how many samples it learnt from; None: not fewer than a batch.
    - `data`: what was measured on its samples; None: nothing is said of them.
    - `onset`: what was known before it began; None: nothing is said of that.
    - `baselines`: the rows of networks trained by backpropagation.
    - `accuracy_curves`: what layers told apart at each epoch, where that was measured.

    **Returns:**

    The findings, causes before their effects.
    """
    onset = onset or Onset()
    finders = (
        _dead_layer,
        _at_zero,
        _beyond_first_order,
        _disagreement,
        _undecided,
        _splits_alike,
        _all_or_nothing,
    )
    findings = [found for find in finders for found in find(rows)]
    return by_cause(
        findings
        + list(_rarely_met(rows, onset))
        + list(_act_not_left(spec, rows, onset))
        + list(decomposition_cut(spec))
        + list(_scale_alternates(rows, onset))
        + list(scale_runaway(rows))
        + list(free_riding(rows))
        + list(_readout_not_converged(accuracy))
        + list(_baseline_diverged(spec, baselines))
        + list(_accuracy_fell(spec, accuracy_curves))
        + (list(of_data(spec, data)) + list(_at_chance(spec, accuracy, data)) if data else [])
        + list(_setting_findings(spec, train_samples))
    )


def by_cause(findings: Sequence[Diagnostic]) -> list[Diagnostic]:
    """Order findings so that a cause stands before its effects.

    **Arguments:**

    - `findings`: of one run.

    **Returns:**

    The same findings.
    """
    return sorted(findings, key=lambda found: CAUSES.index(found.code))


def of_check(
    cells: Sequence[CheckCell],
    spec: CheckSpec | None = None,
    data: DataFigures | None = None,
) -> list[Diagnostic]:
    """Find what stands out in a theorem check.

    **Arguments:**

    - `cells`: its cells; one at least.
    - `spec`, `data`: the check, and what was measured on its samples; None: nothing is said of
      them.

    **Returns:**

    The findings.
    """
    exact = [cell for cell in cells if cell.method == "exact"]
    findings: list[Diagnostic] = []
    if exact:
        dead = max(exact, key=lambda cell: 1 - cell.live / cell.samples)
        if dead.live < (1 - DEAD_SHARE) * dead.samples:
            findings.append(
                _dead_layer_finding(dead.samples - dead.live, dead.samples, _location_of_cell(dead))
            )
        zero = max(exact, key=lambda cell: cell.near_zero_rate or 0.0)
        if (zero.near_zero_rate or 0.0) > NEAR_ZERO_SHARE:
            findings.append(
                _preactivations_at_zero(zero.near_zero_rate or 0.0, _location_of_cell(zero))
            )
        undecided = max(exact, key=lambda cell: _share(cell.undecided, cell.live))
        if _share(undecided.undecided, undecided.live) > UNDECIDED_SHARE:
            findings.append(
                _margins_undecided(
                    undecided.undecided or 0,
                    undecided.live,
                    f"theorem {undecided.theorem}",
                    _location_of_cell(undecided),
                )
            )
        low = min(exact, key=lambda cell: 1.0 if cell.ratio is None else cell.ratio)
        if low.ratio is not None and low.ratio < RARELY:
            findings.append(_rarely_met_in_check(low, low.ratio))
    findings += of_data(spec, data) if spec and data else []
    return by_cause(findings + list(_small_batch(cells[0].batch_size)))


def of_data(spec: TrainSpec | CheckSpec | ForecastSpec, data: DataFigures) -> Iterator[Diagnostic]:
    """Find what stands in the way of learning from the data as the spec takes them.

    **Arguments:**

    - `spec`: the run.
    - `data`: what was measured on its samples.

    **Returns:**

    The findings.
    """
    yield from _partition_lacks_class(data)
    yield from overlay_covers_data(data.covered, data.covered_share)
    if data.label_share is not None and data.label_share < LABEL_SHARE:
        yield Diagnostic(
            code="label_weak",
            severity="warning",
            message=f"The label has {in_percent(data.label_share, 2)} of the length of a sample: "
            f"beside the other inputs it is invisible.",
            evidence={
                "label_share": data.label_share,
                "input_norm": data.input_norm,
                "label_strength": spec.dataset.label_strength,
            },
            suggestion="Use a larger dataset.label_strength, or leave it out: it then follows the "
            "data, as far as they are an upload.",
        )


def _partition_lacks_class(data: DataFigures) -> Iterator[Diagnostic]:
    """Find the first partition without samples of a class that another partition has."""
    learnt = data.class_counts["train"]
    for name, counts in data.class_counts.items():
        missing = [label for label, count in enumerate(counts) if not count and learnt[label]]
        extra = [label for label, count in enumerate(counts) if count and not learnt[label]]
        if not missing and not extra:
            continue
        lacking, there = (name, "training") if missing else ("training", name)
        named = ", ".join(map(str, (missing or extra)[:5]))
        yield Diagnostic(
            code="partition_lacks_class",
            severity="warning",
            message=f"The {lacking} partition has no sample of {len(missing or extra)} of the "
            f"{len(counts)} classes, which the {there} partition has (the first: {named}): "
            f"accuracy says nothing of them.",
            evidence={"partition": lacking, "classes": list(missing or extra)},
            suggestion="Choose more samples (dataset.train_samples, validation_samples, "
            "test_samples), or leave these out.",
        )
        return


def overlay_covers_data(covered: int, share: float) -> Iterator[Diagnostic]:
    """Find a label that takes the place of inputs that carry much of the variance.

    **Arguments:**

    - `covered`: how many inputs the label overlays.
    - `share`: how much of the variance over training samples these hold.

    **Returns:**

    The finding, of what ran as of what is to run; none where the label covers little.
    """
    if covered and share > COVERED_SHARE:
        yield Diagnostic(
            code="overlay_covers_data",
            severity="warning",
            message=f"The label overlays inputs 0 to {covered - 1}, which hold "
            f"{in_percent(share, 0)} of the variance.",
            evidence={"covered": covered, "covered_share": share},
            suggestion="Use dataset.labels: append, which leaves all inputs as they are.",
        )


def decomposition_cut(spec: TrainSpec) -> Iterator[Diagnostic]:
    """Find epochs of `monitor.decomposition` that the run does not reach.

    **Arguments:**

    - `spec`: the run.

    **Returns:**

    The finding, of what ran as of what is to run.
    """
    beyond = sorted(set(spec.monitor.decomposition) - set(spec.decomposed_epochs))
    if beyond:
        yield Diagnostic(
            code="decomposition_cut",
            severity="info",
            message=f"The run ends at epoch {spec.epochs:,}: the later epochs of "
            f"monitor.decomposition ({', '.join(map(str, beyond))}) are left out.",
            evidence={"epochs": spec.epochs, "left_out": beyond},
            suggestion="Train for more epochs if who pushes there is wanted.",
        )


class Fall(NamedTuple):
    """How far the accuracy on validation samples is below its best in the end: means over seeds.

    **Attributes:**

    - `layers`: the layers that learnt together.
    - `epoch`, `best`: where it was highest, and how high.
    - `last_epoch`, `last`: where it ended.
    - `samples`: of the validation partition.
    """

    layers: tuple[int, ...]
    epoch: int
    best: float
    last_epoch: int
    last: float
    samples: int

    @property
    def error(self) -> float:
        """The standard error of the best one over the samples."""
        return math.sqrt(self.best * (1 - self.best) / self.samples)


def _fall_of(layers: tuple[int, ...], rows: Sequence[EpochAccuracyRow]) -> Fall | None:
    """Return how an accuracy fell; None where it was not measured."""
    by_seed: dict[int, dict[int, float]] = {}
    for row in rows:
        is_own = row.layers == layers and row.method == "goodness"
        if is_own and row.partition == "validation" and row.accuracy is not None:
            by_seed.setdefault(row.seed, {})[row.epoch] = row.accuracy
    if not by_seed:
        return None
    curves = list(by_seed.values())
    shared = sorted(set.intersection(*map(set, curves)))
    means = {epoch: sum(one[epoch] for one in curves) / len(curves) for epoch in shared}
    epoch = max(shared, key=lambda one: (means[one], -one))
    ends = [max(one) for one in curves]
    last = sum(one[end] for one, end in zip(curves, ends, strict=True)) / len(curves)
    return Fall(layers, epoch, means[epoch], max(ends), last, rows[-1].samples)


def _accuracy_fell(spec: TrainSpec, rows: Sequence[EpochAccuracyRow]) -> Iterator[Diagnostic]:
    """Find the layers whose validation accuracy is below its best by more than chance explains.

    Where `select` keeps the best epoch, nothing was lost.
    """
    told = [row for row in rows if row.partition == "validation"]
    if spec.select == "best_validation" or not told:
        return
    falls = [fall for stage in spec.stages if (fall := _fall_of(stage, told)) is not None]
    worst = max(falls, key=lambda fall: fall.best - fall.last, default=None)
    if worst is None or worst.best - worst.last <= worst.error:
        return
    who = f"layer{'s' if len(worst.layers) > 1 else ''} {'+'.join(map(str, worst.layers))}"
    yield Diagnostic(
        code="accuracy_fell",
        severity="info",
        message=f"The accuracy of {who} on the validation samples was {in_percent(worst.best, 1)} "
        f"at epoch {worst.epoch:,} and is {in_percent(worst.last, 1)} at the end, epoch "
        f"{worst.last_epoch:,}: it fell by more than the standard error over {worst.samples:,} "
        f"samples, {in_percent(worst.error, 1)}.",
        evidence={
            "layers": list(worst.layers),
            "epoch": worst.epoch,
            "best": worst.best,
            "last_epoch": worst.last_epoch,
            "last": worst.last,
            "standard_error": worst.error,
        },
        suggestion=f"select: best_validation keeps, for each seed, the weights of its best epoch "
        f"(about {worst.epoch:,}); stop with a patience ends the run soon after it.",
    )


def _at_chance(
    spec: TrainSpec, rows: Sequence[AccuracyRow], data: DataFigures
) -> Iterator[Diagnostic]:
    """Find a test accuracy that is no higher than that of naming the largest class always.

    It is that of all layers together: other sums of layers are of the same samples.
    """
    everything = max((row.layers for row in rows), key=len, default=())
    tested = [
        row
        for row in rows
        if row.layer is None
        and row.layers == everything
        and row.partition == "test"
        and row.method == "goodness"
    ]
    ends = {row.seed: row.epoch for row in sorted(tested, key=lambda row: row.epoch)}
    last = [row for row in tested if row.epoch == ends[row.seed]]  # seeds may have chosen others
    found = interval_of(last, "accuracy")
    counts = data.class_counts.get("test", ())
    if found is None or not sum(counts):
        return
    guessing = max(counts) / sum(counts)
    low, high = _bounds(found, last)
    if low <= guessing:
        yield Diagnostic(
            code="accuracy_at_chance",
            severity="info",
            message=f"The test accuracy is {in_percent(found.mean, 1)} (95 %: "
            f"{in_percent(low, 1)} to {in_percent(high, 1)}), and naming the largest class always "
            f"gives {in_percent(guessing, 1)}: it may be what guessing gives.",
            evidence={
                "accuracy": found.mean,
                "low": low,
                "high": high,
                "guessing": guessing,
                "samples": sum(row.samples for row in last),
            },
            suggestion="Train for longer or with another optimizer.lr; use dataset.preprocess: "
            "standardize or center for inputs that are far from 0; more test samples narrow the "
            f"interval.{FOR_ACCURACY if spec.objective.name == 'difference' else ''}",
        )


def _bounds(found: Interval, rows: Sequence[AccuracyRow]) -> tuple[float, float]:
    """Return the bounds of an accuracy: over seeds, and of one seed over its samples."""
    if found.low is None or found.high is None:
        return wilson(rows[0].correct, rows[0].samples)
    return found.low, found.high


def _dead_layer(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the row with most dead samples, if they are many."""
    worst = max(rows, key=lambda row: row.dead_samples / row.samples)
    if worst.dead_samples > DEAD_SHARE * worst.samples:
        yield _dead_layer_finding(worst.dead_samples, worst.samples, _location(worst))


def _at_zero(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the row with most pre-activations at zero, if they are many."""
    worst = max(rows, key=lambda row: row.near_zero_rate)
    if worst.near_zero_rate > NEAR_ZERO_SHARE:
        yield _preactivations_at_zero(worst.near_zero_rate, _location(worst))


def _beyond_first_order(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the row whose step flips most masks, if they are many."""
    worst = max(rows, key=lambda row: row.mask_flip_rate)
    if worst.mask_flip_rate > FLIP_SHARE:
        yield Diagnostic(
            code="beyond_first_order",
            severity="warning",
            message=f"One step flips {in_percent(worst.mask_flip_rate, 1)} of the masks: the "
            f"first-order condition says little about such a step.",
            evidence={**_location(worst), "mask_flip_rate": worst.mask_flip_rate},
            suggestion="Lower optimizer.lr, or read theorem2_ratio together with "
            "observed_increase_ratio and agreement.",
        )


def _disagreement(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the row whose predicted signs agree least with the observed ones, if they disagree.

    Rows whose margins are mostly undecided say nothing of it: see `_undecided`.
    """
    measured = [row for row in rows if row.agreement is not None and not _mostly_undecided(row)]
    worst = min(measured, key=lambda row: row.agreement or 0.0, default=None)
    if worst is not None and worst.agreement is not None and worst.agreement < AGREEMENT:
        yield Diagnostic(
            code="prediction_disagrees",
            severity="warning",
            message=f"The sign of the real change of S agrees with the predicted one for only "
            f"{in_percent(worst.agreement, 1)} of the {worst.counted('agreement'):,} samples "
            f"{_whose_margin(worst)}.",
            evidence={
                **_location(worst),
                "agreement": worst.agreement,
                "mask_flip_rate": worst.mask_flip_rate,
            },
            suggestion="The step is too long for first order: lower optimizer.lr.",
        )


def _mostly_undecided(row: EpochRow) -> bool:
    """Whether most margins of theorem 2 are within rounding of zero."""
    return _share(row.theorem2_undecided, row.samples - row.dead_samples) > MOSTLY


def _whose_margin(row: EpochRow) -> str:
    """Which samples predicted signs are compared of."""
    unsure = row.theorem2_undecided or 0
    if not unsure:
        return "that activate the layer"
    return f"whose margin is decided ({unsure:,} more are within rounding of zero)"


def _act_not_left(spec: TrainSpec, rows: Sequence[EpochRow], onset: Onset) -> Iterator[Diagnostic]:
    """Find a run that ended before its sparsity was expected to rise, and whose S did not."""
    turn, low, end = onset.tau_star, onset.tau_star_low, onset.tau_end
    first = [row for row in rows if row.layer == 0 and row.sparsity is not None]
    if turn is None or low is None or end is None or end >= low or not first or _rose(first):
        return
    if onset.epochs_to_selection is None:  # the steps are 0 beside tau
        return
    epochs = math.ceil(onset.epochs_to_selection)
    lr = float(f"{spec.optimizer.lr * turn / end:.2g}")
    means = [
        sum(row.sparsity or 0.0 for row in some) / len(some)
        for epoch in (0, max(row.epoch for row in first))
        if (some := [row for row in first if row.epoch == epoch])
    ]
    measured = f" (mean S {means[0]:.3f} at first, {means[-1]:.3f} at the end)" if means else ""
    yield Diagnostic(
        code="act_not_left",
        severity="info",
        message=f"The run ended in act 1, where units switch on and sparsity falls{measured}: it "
        f"reached tau = {end:.3g}, and act 2, where sparsity rises, is expected from tau = "
        f"{turn:.3g} on.",
        evidence={
            "tau": end,
            "tau_star": turn,
            "lambda_1": onset.lambda_1,
            "overlap": onset.overlap,
            "epochs": spec.epochs,
            "epochs_needed": epochs,
        },
        suggestion=f"optimizer.lr is too small to leave act 1 in {spec.epochs:,} epochs: it needs "
        f"{epochs:,} of them, or optimizer.lr {lr:g}; twice as much shows act 2 as well.",
    )


def _rose(rows: Sequence[EpochRow]) -> bool:
    """Whether the mean S of a seed and split rose well above its lowest point by the last row."""
    curves: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        curves.setdefault((row.seed, row.split), []).append(row.sparsity or 0.0)
    return any(curve[-1] - min(curve) > ROSE for curve in curves.values())


def _scale_alternates(rows: Sequence[EpochRow], onset: Onset) -> Iterator[Diagnostic]:
    """Find a curve of the first layer that goes up and down in turn, by steps that are too long."""
    if onset.eta_c is None:
        return
    curves: dict[tuple[int, str], list[EpochRow]] = {}
    for row in rows:
        if row.layer == 0 and row.eta > onset.eta_c:
            curves.setdefault((row.seed, row.split), []).append(row)
    for curve in curves.values():
        if not (swinging := _swinging(curve)):
            continue
        figure, before, after = swinging
        low, high = sorted(
            value for row in (before, after) if (value := getattr(row, figure)) is not None
        )
        yield Diagnostic(
            code="scale_alternates",
            severity="warning",
            message=f"The scale of the weights alternates: {figure} goes up and down in turn "
            f"between rows ({low:.3g} and {high:.3g} at epochs {before.epoch:,} and "
            f"{after.epoch:,}), and the step size {after.eta:.3g} is above {onset.eta_c:.3g}, "
            f"where that begins.",
            evidence={
                **_location(after),
                "figure": figure,
                "low": low,
                "high": high,
                "eta": after.eta,
                "eta_c": onset.eta_c,
            },
            suggestion="Lower optimizer.lr by "
            f"{2 * after.eta / onset.eta_c:.2g} or more; then theorem2_ratio can be read.",
        )
        return


def _swinging(curve: Sequence[EpochRow]) -> tuple[str, EpochRow, EpochRow] | None:
    """Find the figure that turns from row to row, with the last two rows of a run of turns."""
    for figure in ("goodness", "theorem2_ratio"):
        turns, last = 0, 0.0
        for before, after in itertools.pairwise(curve):
            start, end = getattr(before, figure), getattr(after, figure)
            move = 0.0 if start is None or end is None else end - start
            scale = max(abs(start or 0.0), abs(end or 0.0))
            least = SWING_OF_RATIO if figure == "theorem2_ratio" else SWING_OF_GOODNESS * scale
            move = move if abs(move) > least else 0.0
            turns = turns + 1 if move * last < 0 else 0
            last = move
            if turns >= SWINGS:
                return figure, before, after
    return None


def _all_or_nothing(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the row whose ratio differs most from batch to batch, if it does so widely.

    Rows of runs that did not measure the spread have none.
    """
    spread = {id(row): getattr(row, "theorem2_sd", None) or 0.0 for row in rows}
    worst = max(rows, key=lambda row: spread[id(row)])
    if spread[id(worst)] > SPREAD and worst.theorem2_ratio is not None:
        yield Diagnostic(
            code="batches_all_or_nothing",
            severity="info",
            message=f"Batches are all or nothing: theorem 2 holds for "
            f"{in_percent(worst.theorem2_ratio, 0)} of the samples, but from batch to batch "
            f"that differs by {spread[id(worst)]:.2f} (standard deviation).",
            evidence={
                **_location(worst),
                "ratio": worst.theorem2_ratio,
                "sd": spread[id(worst)],
            },
            suggestion="In such a batch the side with the larger inputs decides for all samples. "
            "Read the ratio with this spread, over several seeds, or use negatives of the same "
            "image (wrong_label with image: own) or a larger batch_size.",
        )


def _rarely_met(rows: Sequence[EpochRow], onset: Onset) -> Iterator[Diagnostic]:
    """Find the row where theorem 2 holds for the fewest samples, if they are few."""
    measured = [row for row in rows if row.theorem2_ratio is not None]
    worst = min(measured, key=lambda row: row.theorem2_ratio or 0.0, default=None)
    if worst is not None and worst.theorem2_ratio is not None and worst.theorem2_ratio < RARELY:
        curve = [
            row
            for row in measured
            if (row.seed, row.layer, row.split) == (worst.seed, worst.layer, worst.split)
        ]
        where, suggestion, act = _act_of_lowest_ratio(worst, curve, onset)
        yield _condition_rarely_met(
            worst.theorem2_ratio,
            f"theorem 2 {DIRECTIONS['training_step']}",
            where,
            suggestion,
            {**_location(worst), **act},
        )


def _act_of_lowest_ratio(
    worst: EpochRow, curve: Sequence[EpochRow], onset: Onset
) -> tuple[str, str, dict[str, JsonValue]]:
    """Say where the lowest ratio of a curve lies, what to try, and the act as evidence."""
    if (
        unsure := _share(worst.theorem2_undecided, worst.samples - worst.dead_samples)
    ) > UNDECIDED_SHARE:
        where = (
            f"at epoch {worst.epoch:,}, where {in_percent(unsure, 1)} of the margins are within "
            f"rounding of zero and count as not satisfied"
        )
        return where, TOO_LOW, {"act": None, "undecided": worst.theorem2_undecided}
    later = [row for row in curve if row.epoch > worst.epoch]
    now, then = (worst, later[0]) if later else (curve[-2] if len(curve) > 1 else worst, worst)
    act = then.act
    if act == "recruiting" and then.zero_fraction < now.zero_fraction:
        over = next((row for row in later if (row.theorem2_ratio or 0.0) >= RARELY), None)
        end = f"The run ends in it: {LEAVE_IT}"
        needed = onset.epochs_to_selection if worst.layer == 0 else None
        if over is not None:
            end = (
                f"It is over by epoch {over.epoch:,}, where the condition holds for "
                f"{in_percent(over.theorem2_ratio or 0.0, 1)} of these samples."
            )
        elif needed is not None:
            end = (
                f"The run ends in it; act 2 is expected from about epoch {math.ceil(needed):,} on: "
                f"{LEAVE_IT}"
            )
        evidence: dict[str, JsonValue] = {
            "act": act,
            "over_by_epoch": over.epoch if over else None,
        }
        return (
            f"in act 1, recruiting (epoch {worst.epoch:,}): units switch on, and S falls",
            f"That is what act 1 is. {end}",
            evidence,
        )
    if worst.coefficient_sum is None:
        where = f"at epoch {worst.epoch:,}, along a step that goes down a loss over classes"
        return where, OF_CLASSES, {"act": act}
    if worst.epoch == 0:
        return "at initialisation, before any step", AT_RANDOM, {"act": None}
    if act in ("selecting", "condensed"):
        number = 2 if act == "selecting" else 3
        where = f"in act {number}, {act} (epoch {worst.epoch:,}), while the mean of S rises"
        return where, BATCH_NOISE, {"act": act}
    if act == "sleeping":
        where = (
            f"in the act sleeping (epoch {worst.epoch:,}): units switch off, the mean of S rises"
        )
        return where, AT_THRESHOLD, {"act": act}
    if act == "inflating":
        where = (
            f"in the act inflating (epoch {worst.epoch:,}): positives outweigh negatives, and S "
            f"falls"
        )
        return where, BELOW_THRESHOLD, {"act": act}
    return (
        f"at epoch {worst.epoch:,}: S falls for most of them there, and not because units switch "
        f"on",
        LOOK_BESIDE,
        {"act": act},
    )


def _undecided(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the row with most undecided margins, if they are many."""
    shares = [
        (_share(undecided, row.samples - row.dead_samples), theorem, undecided or 0, row)
        for row in rows
        for theorem, undecided in ((1, row.theorem1_undecided), (2, row.theorem2_undecided))
    ]
    share, theorem, undecided, worst = max(shares, key=lambda found: found[0])
    if share > UNDECIDED_SHARE:
        yield _margins_undecided(
            undecided, worst.samples - worst.dead_samples, f"theorem {theorem}", _location(worst)
        )


def _readout_not_converged(rows: Sequence[AccuracyRow]) -> Iterator[Diagnostic]:
    """Find a linear classifier whose fit did not converge."""
    stuck = next((row for row in rows if row.converged is False), None)
    if stuck is not None:
        yield Diagnostic(
            code="readout_not_converged",
            severity="warning",
            message=f"The linear classifier of seed {stuck.seed} did not reach the minimum of its "
            f"loss (penalty {stuck.penalty}): its accuracy {in_percent(stuck.accuracy, 1)} is not "
            f"that of the best one.",
            evidence={"seed": stuck.seed, "penalty": stuck.penalty, "layers": list(stuck.layers)},
            suggestion="Use a larger penalty (evaluation.linear_penalties), or normalise the "
            "activations (network.normalize).",
        )


def _baseline_diverged(spec: TrainSpec, rows: Sequence[BaselineRow]) -> Iterator[Diagnostic]:
    """Find a baseline whose weights are no longer finite; of several the first."""
    lost = [row for row in rows if row.diverged]
    if lost:
        name, place = lost[0].baseline, lost[0].place
        seeds = sorted({row.seed for row in lost if (row.baseline, row.place) == (name, place)})
        unbounded = spec.objective.name == "difference" and name == "ff_objective"
        yield Diagnostic(
            code="baseline_diverged",
            severity="warning",
            message=f"The baseline {name} has weights that are not finite in {len(seeds)} of "
            f"{len(spec.seeds)} seeds: it has no figures there.",
            evidence={"baseline": name, "seeds": seeds},
            suggestion="Train for fewer epochs or with a lower optimizer.lr: the difference has no "
            "lower bound, and backpropagation does not rescale weights as Forward-Forward layers "
            "do."
            if unbounded
            else f"Lower the optimizer.lr of evaluation.baselines.{place} by ten."
            if lost[0].own_optimizer
            else "Lower optimizer.lr by ten: it suits Forward-Forward layers, not necessarily "
            "backpropagation. A baseline may have an optimizer of its own, and rates to choose "
            "from on the validation samples (evaluation.baselines).",
        )


def _splits_alike(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find a layer whose goodness is the same for both splits after the last epoch."""
    last: dict[tuple[int, int], dict[str, EpochRow]] = {}
    for row in rows:
        last.setdefault((row.seed, row.layer), {})[row.split] = row
    for pair in last.values():
        if len(pair) < 2:  # of an objective over classes
            continue
        positive, negative = pair["positive"], pair["negative"]
        if positive.epoch == 0 or positive.goodness is None or negative.goodness is None:
            continue
        scale = max(abs(positive.goodness), abs(negative.goodness))
        if abs(positive.goodness - negative.goodness) <= ALIKE * scale:
            yield Diagnostic(
                code="splits_alike",
                severity="warning",
                message=f"After the last epoch the goodness of positive and negative samples "
                f"differs by less than 0.1 %: {positive.goodness:.6g} and {negative.goodness:.6g}.",
                evidence={
                    **_location(positive),
                    "goodness_positive": positive.goodness,
                    "goodness_negative": negative.goodness,
                },
                suggestion="Train for longer, raise optimizer.lr, or choose negatives that differ "
                "more from the positives.",
            )
            return


def _setting_findings(spec: TrainSpec, train_samples: int | None) -> Iterator[Diagnostic]:
    """Find settings of a run that make its figures hard to compare."""
    if not spec.optimizer.scale_lr_by_width:
        yield Diagnostic(
            code="lr_not_scaled",
            severity="info",
            message=f"The step size {spec.optimizer.lr:g} is the same for every width n; it does "
            f"not shrink as 1/n.",
            evidence={"lr": spec.optimizer.lr},
            suggestion="Set optimizer.scale_lr_by_width to compare widths with each other or with "
            "the infinite-width limit.",
        )
    yield from _small_batch(min(spec.batch_size, train_samples or spec.batch_size))


def _small_batch(batch: int) -> Iterator[Diagnostic]:
    """Find a batch that is small."""
    if batch < SMALL_BATCH:
        yield Diagnostic(
            code="batch_small",
            severity="info",
            message=f"A batch has {batch} samples: each sample's own term weighs much, and ratios "
            f"vary from batch to batch.",
            evidence={"batch_size": batch},
            suggestion=f"Use batch_size {SMALL_BATCH} or more, or more seeds.",
        )


def _dead_layer_finding(dead: int, samples: int, location: dict[str, JsonValue]) -> Diagnostic:
    """Make the finding of a layer with many dead samples."""
    return Diagnostic(
        code="dead_layer",
        severity="warning",
        message=f"{dead:,} of {samples:,} samples activate no unit of the layer; their sparsity is "
        f"undefined and they are left out.",
        evidence={**location, "dead_samples": dead, "samples": samples},
        suggestion="Lower optimizer.lr, use fewer epochs, or normalise the input of the layer "
        "(network.normalize).",
    )


def _preactivations_at_zero(rate: float, location: dict[str, JsonValue]) -> Diagnostic:
    """Make the finding of many pre-activations at zero."""
    return Diagnostic(
        code="preactivations_at_zero",
        severity="warning",
        message=f"{in_percent(rate, 2)} of the pre-activations lie within 1e-6 ||w|| ||x|| of "
        f"zero, where the theorems' condition is not defined.",
        evidence={**location, "near_zero_rate": rate},
        suggestion="Look for blank or duplicate samples, or inputs that are all zero (preprocess, "
        "normalize).",
    )


def _margins_undecided(
    undecided: int, live: int, theorem: str, location: dict[str, JsonValue]
) -> Diagnostic:
    """Make the finding of many margins within rounding of zero."""
    rest = "; as most are, ratio and agreement say little" if undecided > MOSTLY * live else ""
    return Diagnostic(
        code="margins_undecided",
        severity="warning",
        message=f"The margin of {theorem} is within rounding of zero for {undecided:,} of {live:,} "
        f"live samples: they count as not satisfied{rest}.",
        evidence={**location, "undecided": undecided, "live": live},
        suggestion="Check with precision float64; where the margins are still 0, the condition "
        "decides nothing (identity, equal splits).",
    )


def _share(part: int | None, whole: int) -> float:
    """Return a part over the whole, 0 where there is no whole."""
    return (part or 0) / whole if whole else 0.0


def _condition_rarely_met(
    ratio: float, theorem: str, where: str, suggestion: str, evidence: dict[str, JsonValue]
) -> Diagnostic:
    """Make the finding of a condition that holds for few samples."""
    return Diagnostic(
        code="condition_rarely_met",
        severity="info",
        message=f"The condition of {theorem} holds for {in_percent(ratio, 1)} of the live samples "
        f"at its lowest, {where}.",
        evidence={**evidence, "ratio": ratio},
        suggestion=suggestion,
    )


def _rarely_met_in_check(cell: CheckCell, ratio: float) -> Diagnostic:
    """Make that finding for a cell of a check, which sees one moment of a layer."""
    if cell.theorem == 1:
        suggestion = (
            "Look at the angles between the samples: those beyond 90 degrees break theorem 1, "
            "and centred data have many."
        )
    else:
        suggestion = AT_RANDOM if cell.epoch == 0 else ONE_MOMENT
    where = "at initialisation" if cell.epoch == 0 else f"at epoch {cell.epoch:,}"
    phase: dict[str, JsonValue] = {"phase": "initialisation" if cell.epoch == 0 else None}
    return _condition_rarely_met(
        ratio,
        _with_direction(cell),
        f"{where}, n = {cell.width:,}",
        suggestion,
        {**_location_of_cell(cell), **phase},
    )


def _with_direction(cell: CheckCell) -> str:
    """Return the theorem of a cell in words, with the direction where it depends on one."""
    direction = cell.theorem2_direction
    return f"theorem {cell.theorem}{f' {DIRECTIONS[direction]}' if direction else ''}"


def _location(row: EpochRow) -> dict[str, JsonValue]:
    """Return what identifies a row, as evidence."""
    return {"seed": row.seed, "layer": row.layer, "epoch": row.epoch, "split": row.split}


def _location_of_cell(cell: CheckCell) -> dict[str, JsonValue]:
    """Return what identifies a cell, as evidence."""
    return {
        "width": cell.width,
        "seed": cell.seed,
        "layer": cell.layer,
        "epoch": cell.epoch,
        "split": cell.split,
    }
