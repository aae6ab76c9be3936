"""The finding `width`: how a layer of finite width approaches its infinite limit."""

import math
from collections.abc import Sequence

from ffengine.findings.bases import LARGE_CHECK, TINY_CHECK
from ffengine.findings.finding import Finding, Plot, Point, Run, Table
from ffengine.findings.measured import SPLITS, cells_of
from ffengine.findings.wording import number
from ffengine.intervals import interval_of
from ffengine.results import CheckResult, Interval, Split
from ffengine.spec import CheckSpec, StudyPart, StudySpec

WIDTHS = (16, 64, 256, 1024, 4096, 16_384)


def _check(theorem: int) -> CheckSpec:
    """Return a check of a theorem at initialisation, exactly and in the limit."""
    return CheckSpec.model_validate(
        {
            "theorem": theorem,
            "widths": WIDTHS,
            "samples": 1_000,
            "batch_size": 500,
            "seeds": [0, 1, 2, 3, 4],
        }
    )


class Width(Finding):
    """Agreement of the exact condition with its limit, by width."""

    name = "width"
    question = "At which width does a layer at initialisation do what the infinite layer does?"
    method = (
        "Layers of 16 to 16,384 units with Gaussian weights see 1,000 samples of mnist-mini. The "
        "sign of each sample's exact margin is compared with that of the limit. The share of "
        "disagreement is fitted as a power of the width."
    )
    falsified_by = "A share of disagreement that does not fall with the width."
    study = StudySpec(
        parts={f"theorem {theorem}": StudyPart(base=_check(theorem)) for theorem in (1, 2)}
    )
    large = LARGE_CHECK
    tiny = TINY_CHECK

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how often signs agree at the largest width, and how fast disagreement falls."""
        lines = []
        for run in runs:
            widest = max(_widths(run))
            split = _split(run)
            found = _found(run, widest, "infinite_width", "agreement", split)
            law = _power(run)
            fitted = f" Disagreement falls as n to the power {law:.2f}." if law is not None else ""
            lines.append(
                f"{run.part.capitalize()}: at n = {widest:,} the limit has the sign of the exact "
                f"margin for {number(found, 4)} of {split} samples.{fitted}"
            )
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return the exact ratio, that of the limit and their agreement by width."""
        rows = [
            (
                run.part,
                f"{width:,}",
                split,
                number(_found(run, width, "exact", "ratio", split), 4),
                number(
                    _found(run, width, "infinite_width", "ratio", split),
                    4,
                ),
                number(
                    _found(run, width, "infinite_width", "agreement", split),
                    4,
                ),
            )
            for run in runs
            for width in _widths(run)
            for split in SPLITS
            if cells_of(run, "exact", split=split, width=width)
        ]
        return Table(
            ("theorem", "n", "split", "exact ratio", "ratio in the limit", "agreement"), tuple(rows)
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return the agreement over the width."""
        drawn = [
            Point(run.part, split, float(width), found.mean, found.low, found.high)
            for run in runs
            for split in SPLITS
            for width in _widths(run)
            if (found := _found(run, width, "infinite_width", "agreement", split))
        ]
        return Plot(
            "Agreement with the limit of infinite width",
            "width n",
            "share of samples with the sign of the limit",
            tuple(drawn),
            logarithmic=True,
        )


def _widths(run: Run) -> list[int]:
    assert isinstance(run.result, CheckResult)  # noqa: S101 - narrows the type
    return sorted({cell.width for cell in run.result.cells})


def _found(
    run: Run, width: int, method: str, figure: str, split: Split = "positive"
) -> Interval | None:
    """Return a figure of one width over seeds."""
    return interval_of(cells_of(run, method, split=split, width=width), figure)


def _split(run: Run) -> Split:
    """Return the split that is spoken of: theorem 1 has one alone."""
    return "positive" if cells_of(run, "exact", split="positive") else "negative"


def _power(run: Run) -> float | None:
    """Return the slope of log disagreement over log width, by least squares over mean values."""
    pairs = []
    for width in _widths(run):
        found = _found(run, width, "infinite_width", "agreement", _split(run))
        if found and found.mean < 1:
            pairs.append((math.log(width), math.log(1 - found.mean)))
    if len(pairs) < 3:
        return None
    x, y = (sum(values) / len(pairs) for values in zip(*pairs, strict=True))
    across = sum((a - x) * (b - y) for a, b in pairs)
    return float(across / sum((a - x) ** 2 for a, _ in pairs))
