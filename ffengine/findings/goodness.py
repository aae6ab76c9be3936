"""The finding `goodness`: which goodness functions theorem 1 is true of."""

from collections.abc import Sequence

from ffengine.findings.bases import LARGE_CHECK, TINY_CHECK
from ffengine.findings.finding import Finding, Plot, Point, Rule, Run, Table
from ffengine.findings.measured import cells_of
from ffengine.findings.wording import is_below, number
from ffengine.intervals import interval_of
from ffengine.results import Interval
from ffengine.spec import CheckSpec, StudyPart, StudySpec

POWERS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
SHARES = (0.3, 0.1, 0.02)
WIDTH = 4_096
# whose limit is not known in closed form
WITHOUT_LIMIT: dict[str, dict[str, float | str]] = {
    "mean of top 2 %": {"name": "top_k", "share": 0.02, "of": "activations"},
    "entmax 1.5": {"name": "entmax", "alpha": 1.5},
    "kurtosis": {"name": "kurtosis"},
    "skewness": {"name": "moment", "p": 3},
}


def _check(goodness: dict[str, float | str], *methods: str) -> CheckSpec:
    """Return a check of theorem 1 of a wide layer by the methods given."""
    return CheckSpec.model_validate(
        {
            "theorem": 1,
            "goodness": goodness,
            "widths": [WIDTH],
            "samples": 1_000,
            "batch_size": None,
            "seeds": [0, 1, 2],
            "methods": methods or ("exact", "infinite_width"),
        }
    )


class Goodness(Finding):
    """Theorem 1 of sums of powers, of the most active units alone, and of shapes."""

    name = "goodness"
    question = "Does lowering other goodness functions than the sum of squares make layers sparser?"
    method = (
        "A layer of 4,096 units at initialisation sees 1,000 samples of mnist-mini as one batch. "
        "The goodness that is lowered is the sum of h^q for q from 1 to 4, or the sum of the "
        "squares of the most active 30, 10 or 2 % of the units; or the mean of the 2 % largest "
        "activations themselves, squares weighted by their 1.5-entmax, the kurtosis or the "
        "skewness of the activations over the units. Theorem 1's condition is computed exactly "
        "and, where its form is known, in the limit of infinite width."
    )
    falsified_by = (
        "A share of samples that the limit and the exact condition place on different sides of one "
        "half."
    )
    study = StudySpec(
        parts={
            f"q = {power:g}": StudyPart(base=_check({"name": "power_sum", "q": power}))
            for power in POWERS
        }
        | {
            f"top {100 * share:g} %": StudyPart(
                base=_check({"name": "top_k", "k": round(share * WIDTH)})
            )
            for share in SHARES
        }
        | {
            name: StudyPart(base=_check(goodness, "exact"))
            for name, goodness in WITHOUT_LIMIT.items()
        }
    )
    large = LARGE_CHECK
    tiny = TINY_CHECK

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say for which goodness theorem 1 fails."""
        broken = [run for run in runs if is_below(_ratio(run, "exact"), 0.95)]
        holds = [run.part for run in runs if run not in broken]
        lines = (
            [f"Theorem 1 holds for nearly all samples with {', '.join(holds)}."] if holds else []
        )
        lines += [
            f"With {run.part} it holds for {number(_ratio(run, 'exact'))} of the samples"
            f"{_limit(run)}."
            for run in broken
        ]
        return lines

    def table(self, runs: Sequence[Run]) -> Table:
        """Return theorem 1's ratio of each goodness, exactly and in the limit."""
        rows = tuple(
            (
                run.part,
                number(_ratio(run, "exact"), 4),
                number(_ratio(run, "infinite_width"), 4),
                number(_agreement(run), 4),
            )
            for run in runs
        )
        return Table(("goodness", "theorem 1, exact", "theorem 1, limit", "same sign"), rows)

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return theorem 1's ratio by goodness."""
        drawn = tuple(
            Point("", title, run.part, found.mean, found.low, found.high)
            for run in runs
            for method, title in (("exact", f"n = {WIDTH:,}"), ("infinite_width", "limit"))
            if (found := _ratio(run, method))
        )
        return Plot(
            "Theorem 1 by goodness function",
            "goodness",
            "share of samples that satisfy theorem 1",
            drawn,
            mark="point",
            rules=(Rule("y", 0.5, "1/2"),),
        )


def _limit(run: Run) -> str:
    """Say what the limit is, where it is known."""
    found = _ratio(run, "infinite_width")
    return f" (limit: {number(found)})" if found else ""


def _ratio(run: Run, method: str) -> Interval | None:
    return interval_of(cells_of(run, method), "ratio")


def _agreement(run: Run) -> Interval | None:
    return interval_of(cells_of(run, "infinite_width"), "agreement")
