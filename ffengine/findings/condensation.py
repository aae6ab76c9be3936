"""The finding `condensation`: in how few directions the units of a layer end."""

import math
from collections.abc import Sequence

from ffengine.findings.bases import SEEDS, TINY, layer
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import SPLITS, Moment, at_end, at_epoch, curve
from ffengine.findings.wording import listed, number, pair
from ffengine.results import Interval
from ffengine.spec import MonitorSpec, StudyPart, StudySpec, TrainSpec

WIDTHS = (64, 256, 512)
# by the name of the part: data set, preprocessing
DATA: dict[str, dict[str, str]] = {
    "mnist-mini": {"name": "mnist-mini"},
    "mnist-mini centred": {"name": "mnist-mini", "preprocess": "center"},
    "digits": {"name": "digits"},
}
EPOCHS = {"mnist-mini": 150, "mnist-mini centred": 150, "digits": 900}
FLAT = 0.25  # a power of the width below this is called none
FIGURES = ("basins", "effective_rank", "effective_units", "sparsity")


def _run(part: str, width: int) -> TrainSpec:
    """Return a run that goes on until nearly all units have found their direction."""
    base = layer(width, epochs=EPOCHS[part])
    return base.model_copy(
        update={
            "dataset": base.dataset.model_copy(update=DATA[part]),
            "seeds": SEEDS[:3],
            "monitor": MonitorSpec(samples=1_000, every_epochs=EPOCHS[part] // 30),
        }
    )


class Condensation(Finding):
    """Basins, effective rank and effective units of layers of several widths, to the end."""

    name = "condensation"
    question = "In how many directions do the units of a layer end, and what does it depend on?"
    method = (
        "Layers of 64, 256 and 512 units learn mnist-mini (as it is, and centred) and digits until "
        "their directions change no more. Basins: n^2 / sum of n_b^2, where n_b units point into "
        "direction b within a cosine of 0.9. Effective rank: (sum of s^2)^2 / sum of s^4 of the "
        "singular values s of the weights. Effective units: (sum of |w|^2)^2 / sum of |w|^4."
    )
    falsified_by = (
        "A number of basins at the end that grows in proportion to the number of units, or that "
        "is the same on all data."
    )
    study = StudySpec(
        parts={
            f"{part}, n = {width}": StudyPart(base=_run(part, width))
            for part in DATA
            for width in WIDTHS
        }
    )
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how the number of basins at the end goes with the width, and what it is."""
        ends = {
            part: {width: at_end(run, "basins", "positive") for width, run in found.items()}
            for part, found in _by_data(runs).items()
        }
        lines = [
            f"{part}: the effective number of directions at the end is "
            f"{listed([f'{number(one, 1)} for {width} units' for width, one in of.items()])}."
            for part, of in ends.items()
        ]
        return [_growth(ends), *lines]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return the figures at the beginning, half way and at the end."""
        rows = []
        for run in runs:
            moments = curve(run, "basins", "positive")
            half = next((m for m in moments if m.tau >= moments[-1].tau / 2), None)
            for moment in (moments[0], half, moments[-1]) if half else ():
                at = {
                    figure: [at_epoch(run, figure, split, moment.epoch) for split in SPLITS]
                    for figure in FIGURES
                }
                rows.append(
                    (
                        run.part,
                        f"{moment.tau:.1f}",
                        *(number(at[figure][0], 1) for figure in FIGURES[:-1]),
                        pair(at["sparsity"], digits=3),
                    )
                )
        return Table(
            ("run", "tau", "basins", "effective rank", "effective units", "S"), tuple(rows)
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the number of basins over flow time, in powers of two."""
        drawn = [
            _point(part, width, moment)
            for part, found in _by_data(runs).items()
            for width, run in found.items()
            for moment in curve(run, "basins", "positive")
        ]
        return Plot(
            "Directions in which the units end: log2 of their effective number",
            "flow time tau",
            "",
            tuple(drawn),
        )


def _point(part: str, width: int, moment: Moment) -> Point:
    """Return the number of basins at a moment, in powers of two; there is one at least."""
    mean, low, high = (
        None if value is None else math.log2(max(1.0, value))
        for value in (moment.found.mean, moment.found.low, moment.found.high)
    )
    return Point(part, f"n = {width}", moment.tau, mean or 0.0, low, high)


def _by_data(runs: Sequence[Run]) -> dict[str, dict[int, Run]]:
    """Return the runs by data set and width of the first layer, which is the one that is read."""
    found: dict[str, dict[int, Run]] = {}
    for run in runs:
        assert isinstance(run.spec, TrainSpec)  # noqa: S101 - narrows the type
        width = run.spec.network.widths[0]
        found.setdefault(run.part.partition(", n = ")[0], {})[width] = run
    return found


def _growth(ends: dict[str, dict[int, Interval | None]]) -> str:
    """Say how the number of basins at the end goes with the number of units."""
    low, high = min(map(min, ends.values())), max(map(max, ends.values()))
    factors = {
        part: last.mean / first.mean
        for part, of in ends.items()
        if (first := of.get(low)) and (last := of.get(high))
    }
    if low == high or not factors:  # fields of the preset were set
        return (
            "The number of directions in which units end is not compared by width: that needs two "
            "widths of up to 8,192 units."
        )
    grows = max(factors.values()) > (high / low) ** FLAT
    texts = listed([f"by {factor:.2f} on {part}" for part, factor in factors.items()])
    return (
        f"The number of directions in which units end "
        f"{'grows with' if grows else 'hardly depends on'} the width: from {low} to {high} units "
        f"it is multiplied {texts}."
    )
