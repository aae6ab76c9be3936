"""The phases that training passes through, told from what is measured of a layer. docs/theory.md
derives them.

S of a sample is (1 - sqrt(p) kappa) sqrt(n) / (sqrt(n) - 1) with p its share of active units and
kappa = cos(h, [h > 0]): S falls where units switch on, and rises where they switch off or where the
active ones become unequal.
"""

from typing import Literal

from ffengine.results import EpochRow

Phase = Literal["recruiting", "selecting"]


def phase_after(row: EpochRow, later: EpochRow) -> Phase | None:
    """What a layer does from one measurement to a later one of the same seed and split.

    "recruiting": units switch on (the zero fraction falls) and S falls; "selecting": S rises. None
    where S falls for another reason, does not change, or is not defined.
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
