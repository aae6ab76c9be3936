"""The finding `centering`: without the mean image S only rises, and theorem 1 fails."""

from collections.abc import Sequence

from ffengine.findings.bases import LARGE, TINY, layer
from ffengine.findings.finding import Finding, Plot, Rule, Run, Table
from ffengine.findings.measured import SPLITS, at_epoch, at_start, curve, lowest, points
from ffengine.findings.wording import is_above, is_below, number, pair
from ffengine.spec import StudyPart, StudySpec

PREPROCESS = ("unit", "standardize", "center", "unit_norm")


class Centering(Finding):
    """Centred inputs leave out the act in which S falls, at the cost of theorem 1."""

    name = "centering"
    question = "What does it change when the mean image is subtracted from the inputs?"
    method = (
        "One layer of 256 units learns mnist-mini with G(negative) - G(positive) for 20 epochs of "
        "flow time 0.4, with each way of preprocessing."
    )
    falsified_by = "S of centred inputs that falls by more than its interval over seeds."
    study = StudySpec(
        parts={"inputs": StudyPart(base=layer(), grid={"dataset.preprocess": list(PREPROCESS)})}
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how S and theorem 1 went with each way of preprocessing."""
        return [_sentence(run) for run in runs]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S, theorem 2 and theorem 1 at the beginning, at the lowest S and at the end."""
        rows = []
        for run in runs:
            low = lowest(curve(run, "sparsity", "positive"))
            last = curve(run, "sparsity", "positive")[-1]
            for name, epoch in (("start", 0), ("lowest S", low.epoch), ("end", last.epoch)):
                cells = [
                    pair((at_epoch(run, figure, split, epoch) for split in SPLITS), digits=3)
                    for figure in ("sparsity", "theorem2_ratio", "theorem1_ratio")
                ]
                rows.append((_name(run), f"{name}, epoch {epoch}", *cells))
        return Table(("preprocess", "when", "S", "theorem 2", "theorem 1"), tuple(rows))

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S and both theorems over flow time."""
        figures = {
            "sparsity": "S of positives",
            "theorem2_ratio": "theorem 2 of positives",
            "theorem1_ratio": "theorem 1 of positives",
        }
        drawn = [
            point
            for figure, title in figures.items()
            for run in runs
            for point in points(run, figure, title, _name(run))
        ]
        half = Rule("y", 0.5, "1/2", figures["theorem2_ratio"])
        return Plot(
            "S and both theorems over flow time, by preprocessing",
            "flow time tau",
            "",
            tuple(drawn),
            rules=(half,),
        )


def _name(run: Run) -> str:
    return str(run.params["dataset.preprocess"])


def _sentence(run: Run) -> str:
    """Say how S went with one way of preprocessing, and how often both theorems hold."""
    s = curve(run, "sparsity", "positive")
    low = lowest(s)
    falls = is_below(low.found, s[0].found.mean) and low is not s[0]
    fall = (
        f"S falls from {number(s[0].found)} to {number(low.found)} at epoch {low.epoch} and ends "
        f"at {number(s[-1].found)}"
        if falls
        else f"S goes from {number(s[0].found)} to {number(s[-1].found)} without a fall"
    )
    first = pair(at_start(run, "theorem1_ratio", split) for split in SPLITS)
    least = [lowest(curve(run, "theorem2_ratio", split)[1:]).found for split in SPLITS]
    always = all(is_above(found, 0.5) for found in least)
    second = pair(least)
    held = (
        "for more than half of both splits in every epoch"
        if always
        else f"for {second} where it is rarest"
    )
    return (
        f"`{_name(run)}`: {fall}; theorem 2 holds {held}; theorem 1 holds for {first} at "
        f"initialisation."
    )
