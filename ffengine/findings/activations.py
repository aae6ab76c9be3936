"""The finding `activations`: which units show the acts."""

from collections.abc import Sequence

from ffengine.activations import ACTIVATIONS
from ffengine.findings.bases import LARGE, TINY, layer
from ffengine.findings.finding import Finding, Plot, Run, Table
from ffengine.findings.measured import SPLITS, at_end, at_start, curve, lowest, points
from ffengine.findings.wording import is_above, is_below, number, pair
from ffengine.spec import StudyPart, StudySpec

# squared_relu is not among them: its goodness grows with the fourth power of the weights, beyond
# every bound within an epoch
SHOWN = [name for name in ACTIVATIONS if name != "squared_relu"]


class Activations(Finding):
    """S over flow time for each activation of the catalogue."""

    name = "activations"
    question = "Do layers with other activations pass through the same acts?"
    method = (
        "One layer of 256 units learns mnist-mini with G(negative) - G(positive) for 20 epochs of "
        "flow time 0.4, with each activation of the catalogue but squared_relu, which diverges. S "
        "is taken of |h|."
    )
    falsified_by = "A course of S, a fall and a rise or none, other than the table's."
    study = StudySpec(
        parts={"units": StudyPart(base=layer(), grid={"network.activation": list(SHOWN)})}
    )
    large = LARGE
    tiny = TINY

    def conclusion(self, runs: Sequence[Run]) -> list[str]:
        """Say which activations have the fall and the rise."""
        by_course: dict[str, list[str]] = {}
        for run in runs:
            by_course.setdefault(_course(run), []).append(_name(run))
        return [f"S {course} with {', '.join(names)}." for course, names in by_course.items()]

    def table(self, runs: Sequence[Run]) -> Table:
        """Return S at the start, at its lowest and at the end, theorem 2 and accuracy."""
        rows = []
        for run in runs:
            s = curve(run, "sparsity", "positive")
            low = lowest(s) if s else None
            rows.append(
                (
                    _name(run),
                    number(s[0].found if s else None),
                    f"{number(low.found)} at epoch {low.epoch}" if low else "-",
                    number(s[-1].found if s else None),
                    pair(at_end(run, "theorem2_ratio", split) for split in SPLITS),
                    pair((at_end(run, "agreement", split) for split in SPLITS), digits=3),
                )
            )
        return Table(
            (
                "activation",
                "S at start",
                "lowest S",
                "S at end",
                "theorem 2 at end",
                "agreement at end",
            ),
            tuple(rows),
        )

    def plot(self, runs: Sequence[Run]) -> Plot:
        """Return S over flow time for each activation."""
        drawn = [point for run in runs for point in points(run, "sparsity", "", _name(run))]
        return Plot(
            "S over flow time by activation", "flow time tau", "S of positives", tuple(drawn)
        )


def _name(run: Run) -> str:
    return str(run.params["network.activation"])


def _course(run: Run) -> str:
    """Say in words how S of positives went."""
    s = curve(run, "sparsity", "positive")
    start, end = at_start(run, "sparsity", "positive"), at_end(run, "sparsity", "positive")
    if not s or start is None or end is None:
        return "is undefined"
    low = lowest(s).found
    falls, rises = is_below(low, start.mean), is_above(end, low.mean)
    if falls and rises:
        return "falls first and rises afterwards"
    return "only falls" if falls else "only rises" if rises else "does not change clearly"
