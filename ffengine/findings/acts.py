"""The finding `acts`: training passes through acts, and an indicator tells them apart."""

from collections.abc import Iterator, Sequence
from statistics import mode

from ffengine.acts import law_and_rest
from ffengine.findings.bases import LARGE, SEEDS, TINY, layer, parts
from ffengine.findings.finding import Finding, Plot, Rule, Run, Table
from ffengine.findings.measured import (
    SPLITS,
    Moment,
    at_end,
    at_start,
    crossing,
    curve,
    lowest,
    points,
    rows_of,
)
from ffengine.findings.wording import is_above, is_below, number, pair
from ffengine.intervals import interval
from ffengine.objectives import MeanSquares, SoftplusLoss
from ffengine.optimizers import Sgd
from ffengine.spec import StudySpec

COLUMNS = ("active_share", "kappa", "kappa_gap")


class Acts(Finding):
    """Sparsity falls while units are recruited and rises while some are selected."""

    name = "acts"
    question = "Through which acts does training pass, and which figure tells them apart?"
    method = (
        "One layer of 256 units learns mnist-mini with G(negative) - G(positive), and with the "
        "softplus loss beside. After every epoch S, the share p of active units, kappa, its "
        "distance from the Gaussian law and theorem 2 along the expected step are measured on "
        "2,000 samples of either split."
    )
    falsified_by = (
        "Under difference, S that falls while units switch off, or that rises while "
        "kappa - kappa_G is zero; under softplus, a rise of S to which unevenness adds more than "
        "units that switch off; theorem 2 that holds for clearly more than half of the samples "
        "while S falls, but for the epochs next to the turn and to the end."
    )
    study = StudySpec(
        parts=parts(
            difference=layer(epochs=40),
            softplus=layer().model_copy(
                update={
                    "objective": SoftplusLoss(goodness=MeanSquares(), threshold=2.0),
                    "optimizer": Sgd(lr=256 * 0.01, scale_lr_by_width=False),
                    "epochs": 50,
                    "seeds": SEEDS[:3],
                }
            ),
        )
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how S went in each run, and what the indicator did meanwhile."""
        return [sentence for run in runs for sentence in _course(run)]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return act, S, theorem 2 and the indicator at each epoch."""
        columns = (
            "objective",
            "epoch",
            "tau",
            "act",
            "S",
            "theorem 2",
            "p",
            "kappa",
            "kappa - kappa_G",
        )
        return Table(columns, tuple(row for run in runs for row in _rows(run)))

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S, theorem 2 and the indicator over flow time."""
        figures = {
            "sparsity": "S",
            "theorem2_expected_ratio": "theorem 2, expected step",
            "active_share": "p, share of active units",
            "kappa_gap": "kappa - kappa_G",
        }
        drawn = [
            point
            for run in runs[:1]
            for figure, title in figures.items()
            for split in SPLITS
            for point in points(run, figure, title, split, split=split)
        ]
        turn = crossing(runs[0], "theorem2_expected_ratio")
        rules = () if turn is None else (Rule("x", turn.mean, "theorem 2 crosses 1/2"),)
        return Plot(
            "S, theorem 2 and the shape of the activations over flow time",
            "flow time tau",
            "",
            tuple(drawn),
            rules=rules,
        )


def _course(run: Run) -> Iterator[str]:
    """Say where S is lowest, and what theorem 2 and the indicator are there and at the end."""
    s = {split: curve(run, "sparsity", split) for split in SPLITS}
    turn = crossing(run, "theorem2_expected_ratio")
    first, low, last = s["positive"][0], lowest(s["positive"]), s["positive"][-1]
    way = (
        "S falls first and then rises"
        if low not in (first, last)
        else "S only falls"
        if low is last
        else "S only rises"
    )
    yield (
        f"With {run.part}, {way}: of positives from {number(first.found)} at tau = 0 to "
        f"{number(low.found)} at tau = {low.tau:.1f} and {number(last.found)} at tau = "
        f"{last.tau:.1f}."
    )
    if turn:
        yield (
            f"Theorem 2 along the expected step comes back to one half of both splits at tau = "
            f"{number(turn, 2)}."
        )
    ends = {split: at_end(run, "theorem2_expected_ratio", split) for split in SPLITS}
    if all(is_above(found, 0.5) for found in ends.values()):
        shares = pair(ends.values())
        yield f"At the end it holds for {shares} of positive / negative samples."
    if low is not last:
        yield from _parts_of_the_rise(run, low)
    gap, start = at_end(run, "kappa_gap", "positive"), at_start(run, "kappa_gap", "positive")
    if gap and start:
        clear = " (clearly below zero)" if is_below(gap, 0.0) else ""
        yield f"kappa - kappa_G goes from {number(start)} to {number(gap)}{clear}."


def _parts_of_the_rise(run: Run, low: Moment) -> Iterator[str]:
    """Say how much of the rise of C after the lowest S follows from p, and what is left."""
    rows = {(row.epoch, row.seed): row for row in rows_of(run, 0, "positive")}
    last = max(epoch for epoch, _ in rows)
    found = [
        parts
        for epoch, seed in rows
        if epoch == last and (parts := law_and_rest(rows[low.epoch, seed], rows[last, seed]))
    ]
    if not found:
        return
    law, rest = (interval(list(of_seeds)) for of_seeds in zip(*found, strict=True))
    switched = "switch on" if law.mean < 0 else "switch off"
    uneven = "more" if rest.mean > 0 else "less"
    yield (
        f"From tau = {low.tau:.1f} on, C = 1 - sqrt(p) kappa of positives changes by "
        f"{number(law)} since units {switched}, and by {number(rest)} since the active ones become "
        f"{uneven} unequal than p makes them."
    )


def _rows(run: Run) -> Iterator[tuple[str, ...]]:
    """Yield the table's rows of one run."""
    of = {
        figure: [{moment.epoch: moment for moment in curve(run, figure, split)} for split in SPLITS]
        for figure in ("sparsity", "theorem2_expected_ratio", *COLUMNS)
    }
    for epoch, moment in of["sparsity"][0].items():
        found = {
            figure: [at[epoch].found if epoch in at else None for at in both]
            for figure, both in of.items()
        }
        acts = [row.act for row in rows_of(run, 0, "positive") if row.epoch == epoch and row.act]
        yield (
            run.part,
            str(epoch),
            f"{moment.tau:.2f}",
            mode(acts) if acts else "-",
            pair(found["sparsity"], digits=3),
            pair(found["theorem2_expected_ratio"]),
            *(pair(found[figure], digits=3) for figure in COLUMNS),
        )
