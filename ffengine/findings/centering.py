"""The finding `centering`: without the mean image S only rises, and theorem 1 fails."""

from collections.abc import Sequence

from ffengine.findings.bases import LARGE, TINY, layer
from ffengine.findings.finding import Finding, Plot, Rule, Run, Table
from ffengine.findings.measured import SPLITS, at_epoch, at_start, curve, lowest, points
from ffengine.findings.wording import is_above, is_below, number, pair
from ffengine.results import Onset, TrainResult
from ffengine.spec import PREPROCESS_MEANING, Preprocess, StudyPart, StudySpec

PREPROCESS: tuple[Preprocess, ...] = ("unit", "standardize", "center", "unit_norm")


class Centering(Finding):
    """Centred inputs leave out the act in which S falls, at the cost of theorem 1."""

    name = "centering"
    question = "What does it change when the mean image is subtracted from the inputs?"
    method = (
        "One layer of 256 units learns mnist-mini with G(negative) - G(positive) for 20 epochs of "
        "flow time 0.4, with each way of preprocessing. "
        + " ".join(f"{name}: {PREPROCESS_MEANING[name]}." for name in PREPROCESS)
        + " Beside each run stands tau* = 0.9 / (q lambda_1), where S is predicted to be lowest, "
        "from the data alone. Longer inputs turn sooner: lambda_1 grows with their squared length. "
        "So the epochs of one step size do not show all four alike: those of standardize are "
        "longer than its tau*, and those of unit_norm end long before theirs."
    )
    falsified_by = (
        "S of centred inputs that falls by more than its interval over seeds; for another way, S "
        "that is lowest outside the predicted band, where an epoch is shorter than it."
    )
    study = StudySpec(
        parts={"inputs": StudyPart(base=layer(), grid={"dataset.preprocess": list(PREPROCESS)})}
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say how S and theorem 1 went with each way of preprocessing."""
        return [_sentence(run) for run in runs]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return the predicted turn, and S and both theorems at start, lowest S and end."""
        rows = []
        for run in runs:
            low = lowest(curve(run, "sparsity", "positive"))
            last = curve(run, "sparsity", "positive")[-1]
            for name, epoch in (("start", 0), ("lowest S", low.epoch), ("end", last.epoch)):
                cells = [
                    pair((at_epoch(run, figure, split, epoch) for split in SPLITS), digits=3)
                    for figure in ("sparsity", "theorem2_ratio", "theorem1_ratio")
                ]
                rows.append((_name(run), _turn(run), f"{name}, epoch {epoch}", *cells))
        columns = ("preprocess", "predicted tau*", "when", "S", "theorem 2", "theorem 1")
        return Table(columns, tuple(rows))

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


def _onset(run: Run) -> Onset | None:
    """Return what was predicted of a run before its first step."""
    return run.result.onset if isinstance(run.result, TrainResult) else None


def _turn(run: Run) -> str:
    """Write the flow time at which S is predicted to be lowest, with its band."""
    onset = _onset(run)
    if onset is None or onset.tau_star is None:
        return "none: S only rises" if onset and onset.falls is False else "-"
    band = (onset.tau_star, onset.tau_star_low or 0.0, onset.tau_star_high or 0.0)
    return "{:.3g} ({:.3g} to {:.3g})".format(*band)


def _sentence(run: Run) -> str:
    """Say how S went with one way of preprocessing, and how often both theorems hold."""
    first = pair(at_start(run, "theorem1_ratio", split) for split in SPLITS)
    least = [lowest(curve(run, "theorem2_ratio", split)[1:]).found for split in SPLITS]
    always = all(is_above(found, 0.5) for found in least)
    held = (
        "for more than half of both splits in every epoch"
        if always
        else f"for {pair(least)} where it is rarest"
    )
    return (
        f"`{_name(run)}`: {_course(run)}; theorem 2 holds {held}; theorem 1 holds for {first} at "
        f"initialisation."
    )


def _course(run: Run) -> str:
    """Say how S went, beside the turn that was predicted."""
    s = curve(run, "sparsity", "positive")
    low, last, onset = lowest(s), s[-1], _onset(run)
    ends = f"{number(s[0].found)} to {number(last.found)}"
    turn = onset.tau_star if onset else None
    if turn and last.tau < turn:
        return (
            f"S goes from {ends}; the run ends at tau = {last.tau:.3g}, before the turn, which is "
            f"predicted at tau* = {_turn(run)}, so that it never leaves act 1"
        )
    if low is s[0] or not is_below(low.found, s[0].found.mean):
        return f"S goes from {ends} without a fall"
    when = f"epoch {low.epoch}, tau = {low.tau:.3g}"
    if turn and low is s[1]:
        when = (
            f"the first epoch, tau = {low.tau:.3g}, a coarse step beyond the turn, which is "
            f"predicted at tau* = {_turn(run)}"
            if low.tau > turn
            else f"the first epoch, tau = {low.tau:.3g} (predicted: {_turn(run)})"
        )
    elif turn:
        when += f" (predicted: {_turn(run)})"
    return (
        f"S falls from {number(s[0].found)} to {number(low.found)} at {when}, and ends at "
        f"{number(last.found)}"
    )
