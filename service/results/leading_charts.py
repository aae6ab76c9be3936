"""Which charts carry what was found. The charting library is not needed here."""

from collections.abc import Sequence

# charts before the table: they carry what was found; of each line the first that there is
PAPER_CHARTS = (("sparsity_widths", "sparsity"), ("theorem2_inputs", "theorem2"))


def leading(names: Sequence[str]) -> list[str]:
    """The charts that carry what was found.

    **Arguments:**

    - `names`: those that can be drawn.
    """
    found = (next((name for name in line if name in names), None) for line in PAPER_CHARTS)
    return [name for name in found if name]
