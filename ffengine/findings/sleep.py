"""The finding `sleep`: lowering, raising, and both in turn."""

from collections.abc import Iterator, Sequence

from ffengine.findings.bases import NO_MEASURES, SEEDS, TINY
from ffengine.findings.finding import Finding, Plot, Run, Table
from ffengine.findings.measured import SPLITS, at_end, at_epoch, at_start, curve, lowest, points
from ffengine.findings.phase_changes import (
    PhaseChange,
    mean_change,
    phase_changes,
    switch_count,
)
from ffengine.findings.wording import number
from ffengine.intervals import interval
from ffengine.optimizers import Sgd
from ffengine.percents import in_percent
from ffengine.results import Interval
from ffengine.spec import (
    DatasetSpec,
    MonitorSpec,
    NetworkSpec,
    PhasesSpec,
    StudyPart,
    StudySpec,
    TrainSpec,
)

WIDTH = 256
SAMPLES = 1_000  # one batch: an epoch is a step


def _of(eta: float, steps: int, every: int, up: int, down: int) -> TrainSpec:
    """Return a run of so many steps on all samples, in turns of steps up and steps down."""
    return TrainSpec(
        dataset=DatasetSpec(name="mnist-mini", train_samples=SAMPLES),
        network=NetworkSpec(widths=(WIDTH,)),
        optimizer=Sgd(lr=WIDTH * eta),
        phases=PhasesSpec(positive_steps=up, negative_steps=down),
        epochs=steps,
        batch_size=SAMPLES,
        seeds=SEEDS[:3],
        monitor=MonitorSpec(samples=SAMPLES, every_epochs=every),
        evaluation=NO_MEASURES,
    )


class Sleep(Finding):
    """S while goodness is only lowered, only raised, and raised and lowered in turn."""

    name = "sleep"
    question = "What do phases of lowering alone (sleep) and raising alone (wake) do to sparsity?"
    method = (
        "One layer of 256 units learns from 1,000 samples of mnist-mini, all of them in each step: "
        "steps that lower the goodness of negatives alone, steps that raise that of positives "
        "alone, and ten of each in turn."
    )
    falsified_by = (
        "Sleep without a rise of S, wake without a fall, equal phases that leave S where it was, "
        "or S that rises in positive phases or falls in negative ones, from switch to switch."
    )
    study = StudySpec(
        parts={
            "sleep": StudyPart(base=_of(0.001, 100, 5, 0, 1)),
            "wake": StudyPart(base=_of(0.002, 400, 10, 1, 0)),
            "ten up, ten down": StudyPart(base=_of(0.002, 240, 10, 10, 10)),
        }
    )
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how S went in each run."""
        lines = []
        for run in runs:
            s = curve(run, "sparsity", "positive")
            low, high = lowest(s), max(s, key=lambda moment: moment.found.mean)
            lines.append(
                f"{run.part.capitalize()}: S of positives goes from {number(s[0].found)} to "
                f"{number(s[-1].found)} at tau = {s[-1].tau:.2f}, between {low.found.mean:.3f} and "
                f"{high.found.mean:.3f}; units are active for {_share(run)}."
            )
            lines += _switches(run)
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S, theorem 1 and the share of active units over flow time, and of runs in phases
        by how much S changed in each.
        """
        rows = tuple(row for run in runs for row in _rows(run))
        heads = ("phases", "tau", "S of positives", "after a phase", "change of S")
        return Table((*heads, "theorem 1", "p"), rows)

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S over flow time for each run."""
        drawn = [
            point
            for run in runs
            for split in SPLITS
            for point in points(run, "sparsity", f"S, {run.part}", split, split=split)
        ]
        return Plot(
            "S while goodness is lowered, raised, or both in turn",
            "flow time tau",
            "",
            tuple(drawn),
        )


def _switches(run: Run) -> Iterator[str]:
    """Say for each layer how S moves from one switch of phases to the next."""
    count = switch_count(run)
    for layer in range(len(run.spec.network.widths) if isinstance(run.spec, TrainSpec) else 0):
        changes = phase_changes(run, "sparsity", layer)
        if not count or not changes:
            continue
        where = f" of layer {layer}" if len(run.spec.network.widths) > 1 else ""  # type: ignore[union-attr]
        moves = (
            f"{_signed(mean_change(changes, split))} in a {split} phase (mean of {number_of})"
            for split in SPLITS
            if (number_of := sum(change.split == split for change in changes))
        )
        yield (
            f"{run.part.capitalize()}, from one of its {count} switches to the next: S of "
            f"positives{where} changes by {' and by '.join(moves)}."
        )


def _signed(found: Interval | None) -> str:
    """Write a change with its sign and its interval."""
    if found is None:
        return "-"
    text = number(found)
    return text if found.mean < 0 else f"+{text}"


def _rows(run: Run) -> Iterator[tuple[str, ...]]:
    """Yield a row for each end of a phase; of a run without switches a dozen rows, and its last."""
    s = curve(run, "sparsity", "positive")
    ended = {change.end: change for change in phase_changes(run, "sparsity")}
    every = 1 if ended else max(1, len(s) // 12)
    for moment in (*s[:-1][::every], s[-1]):
        if ended and moment.epoch not in ended and moment.epoch:
            continue
        figures = (
            at_epoch(run, figure, "positive", moment.epoch)
            for figure in ("theorem1_ratio", "active_share")
        )
        yield (
            run.part,
            f"{moment.tau:.3f}",
            number(moment.found),
            *_change(ended.get(moment.epoch)),
            *map(number, figures),
        )


def _change(change: PhaseChange | None) -> tuple[str, str]:
    """Say which phase ended, and by how much S changed in it."""
    if change is None:
        return "-", "-"
    return change.split, _signed(interval(list(change.by_seed.values())))


def _share(run: Run) -> str:
    """Say which share of the samples units are active for, at first and at the end."""
    start, end = (
        at_start(run, "active_share", "positive"),
        at_end(run, "active_share", "positive"),
    )
    if start is None or end is None:
        return "no sample"
    first, last = in_percent(start.mean, 0), in_percent(end.mean, 0)
    return f"{first} of the samples at first and {last} at the end"
