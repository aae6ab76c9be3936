"""Which charts carry what was found. The charting library is not needed here."""

from collections.abc import Sequence

Places = Sequence[Sequence[str]]  # of each line the first that there is
# charts before the table: they carry what was found
PAPER_CHARTS: Places = (("sparsity_widths", "sparsity"), ("theorem2_inputs", "theorem2"))
SEARCH_CHARTS: Places = (("search_history",), ("search_importance", "search_parallel"))
GRID_CHARTS: Places = (
    ("grid_accuracy", "grid_theorem2"),
    ("grid_sparsity", "grid_theorem1", "study_scatter"),
)


def leading(names: Sequence[str], places: Places = PAPER_CHARTS) -> list[str]:
    """The charts that carry what was found.

    **Arguments:**

    - `names`: those that can be drawn.
    - `places`: the charts that the kind of job has, by preference.
    """
    found = (next((name for name in line if name in names), None) for line in places)
    return [name for name in found if name]
