"""The phases of training, found from what is measured of a layer; docs/theory.md derives them.

S of a sample is (1 - sqrt(p) kappa) sqrt(n) / (sqrt(n) - 1) with p its share of active units and
kappa = cos(h, [h > 0]). So S falls where units switch on. It rises where units switch off or where
the active ones become unequal.
"""

from typing import Literal

from ffengine.results import EpochRow

Phase = Literal["recruiting", "selecting"]


def phase_after(row: EpochRow, later: EpochRow) -> Phase | None:
    """Find the phase of a layer between two measurements of the same seed and split.

    **Arguments:**

    - `row`: the earlier measurement.
    - `later`: the later one.

    **Returns:**

    "recruiting" where units switch on (the zero fraction falls) and S falls; "selecting" where S
    rises; None where S falls for another reason, does not change, or is undefined.

    **Source:**

    docs/theory.md, "The acts of training".
    """
    if row.sparsity is None or later.sparsity is None:
        return None
    if later.sparsity > row.sparsity:
        return "selecting"
    return (
        "recruiting"
        if later.sparsity < row.sparsity and later.zero_fraction < row.zero_fraction
        else None
    )
