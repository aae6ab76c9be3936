"""The finding `collapse`: widths, step sizes and batch sizes lie on one curve over flow time."""

import math
from collections.abc import Sequence

from ffengine.findings.bases import SEEDS, TINY, layer
from ffengine.findings.finding import Finding, Plot, Run, Table
from ffengine.findings.measured import SPLITS, curve, points, rows_of
from ffengine.findings.wording import number
from ffengine.intervals import interval_of
from ffengine.results import EpochRow
from ffengine.spec import StudyPart, StudySpec, TrainSpec

TAU_COMPARED = 1.6  # an epoch of every setting ends there


def _of(width: int, eta: float, batch: int, epochs: int) -> TrainSpec:
    """Return a run that ends at tau = 4."""
    return layer(width, eta=eta, epochs=epochs).model_copy(
        update={"batch_size": batch, "seeds": SEEDS[:3]}
    )


class Collapse(Finding):
    """S and theorem 2 depend on flow time, and hardly on width, step size and batch size."""

    name = "collapse"
    question = (
        "Do layers of different width, trained with different step and batch sizes, follow one "
        "curve?"
    )
    method = (
        "One layer learns mnist-mini with G(negative) - G(positive) until flow time tau = 4, for "
        "widths 64, 256 and 1024, step sizes 1/120, 1/30 and 1/15, and batches of 100, 500 and "
        "2,000. S is divided by its width factor sqrt(n) / (sqrt(n) - 1), which gives C."
    )
    falsified_by = (
        "Curves of C over tau that differ by more than the spread between seeds, at step sizes "
        "for which eta / B is below 2e-4."
    )
    study = StudySpec(
        parts={
            name: StudyPart(base=_of(width, eta, batch, epochs))
            for name, width, eta, batch, epochs in (
                ("n = 64", 64, 1 / 30, 500, 10),
                ("n = 256", 256, 1 / 30, 500, 10),
                ("n = 1024", 1024, 1 / 30, 500, 10),
                ("n = 256, eta = 1/120", 256, 1 / 120, 500, 40),
                ("n = 256, eta = 1/15", 256, 1 / 15, 500, 5),
                ("n = 256, batches of 100", 256, 1 / 150, 100, 10),
                ("n = 256, batches of 2,000", 256, 2 / 15, 2_000, 10),
            )
        }
    )
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how far the curves are apart at one flow time, beside the spread between seeds."""
        means, seeds = [], []
        for run in runs:
            row = _nearest(run, TAU_COMPARED)
            if found := interval_of(row, "sparsity"):
                means.append(found.mean / _factor(run))
                values = [one.sparsity for one in row if one.sparsity is not None]
                seeds.append((max(values) - min(values)) / _factor(run))
        between, within = max(means) - min(means), max(seeds)
        holds = "lie on one curve" if between <= within else "do not lie on one curve"
        return [
            f"The seven settings {holds}: at tau = {TAU_COMPARED:g} their mean C differs by "
            f"{between:.3f}, and seeds of one setting differ by up to {within:.3f}."
        ]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return C and theorem 2 of each setting at the flow time that is compared."""
        rows = []
        for run in runs:
            tau = _nearest(run, TAU_COMPARED)[0].tau or 0.0
            cells = []
            for figure in ("sparsity", "theorem2_ratio"):
                for split in SPLITS:
                    moment = min(curve(run, figure, split), key=lambda one: abs(one.tau - tau))
                    cells.append(number(moment.found))
            rows.append((run.part, f"{tau:.2f}", *cells))
        return Table(
            (
                "setting",
                "tau",
                "S of positives",
                "S of negatives",
                "theorem 2, positives",
                "theorem 2, negatives",
            ),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return C and theorem 2 over flow time, a line for each setting."""
        drawn = []
        for run in runs:
            for point in points(run, "sparsity", "C = S without its width factor", run.part):
                factor = _factor(run)
                low, high = (
                    None if bound is None else bound / factor for bound in (point.low, point.high)
                )
                drawn.append(point._replace(y=point.y / factor, low=low, high=high))
            drawn += points(run, "theorem2_ratio", "theorem 2 of positives", run.part)
        return Plot(
            "C and theorem 2 over flow time, by width, step and batch size",
            "flow time tau",
            "",
            tuple(drawn),
        )


def _factor(run: Run) -> float:
    """Return sqrt(n) / (sqrt(n) - 1) of a run."""
    assert isinstance(run.spec, TrainSpec)  # noqa: S101 - narrows the type
    root = math.sqrt(run.spec.network.widths[0])
    return root / (root - 1)


def _nearest(run: Run, tau: float) -> list[EpochRow]:
    """Return the rows of positives at the epoch whose flow time is nearest."""
    rows = rows_of(run, 0, "positive")
    epoch = min(rows, key=lambda row: abs((row.tau or 0.0) - tau)).epoch
    return [row for row in rows if row.epoch == epoch]
