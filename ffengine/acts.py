"""The acts of training: what moves the sparsity of a layer from one measurement to the next.

S of a sample is (1 - sqrt(p) kappa) sqrt(n) / (sqrt(n) - 1), with p its share of active units and
kappa = cos(h, [h > 0]). C = 1 - sqrt(p) kappa is S without its width factor. If the pre-activations
of a sample are Gaussian over units, whatever their mean and deviation, kappa is a function of p
alone, `gaussian_kappa`; then C follows from p, by the law C(p) = 1 - sqrt(p) gaussian_kappa(p). A
change of C is thus the sum of two: that of the law, because units switch on or off, and the rest,
because the active ones become unequal beyond what p makes of them. Where C rises, the two say
whether units switch off (*sleeping*) or some outgrow others (*selecting*).
"""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from ffengine.results import ActName, EpochRow

ACTS: dict[ActName, str] = {
    "inflating": "the goodness of both splits rises, because the positives outweigh the negatives",
    "recruiting": "S falls: units switch on, or the quiet ones gain most",
    "selecting": "S rises, because active units become unequal: loud ones outgrow quiet ones",
    "condensed": "the units have gathered in few directions",
    "sleeping": "S rises, because units switch off; the active ones stay as unequal as they were",
}

# Inflating: the weights |dL/dG| of the positives are this many times those of the negatives where
# the change begins. Where they are equal, as under `difference`, a common rise of goodness is
# recruiting. At initialisation with softplus and threshold 2 they are e^2 = 7.4 times as large, and
# 1.4 times once the goodness has settled below the threshold; 2 lies between.
OUTWEIGHED = 2.0
# Condensed: fewer basins than this, and than a quarter of the units. They are n at initialisation.
# While all units are active the positives less the negatives grow along at most C - 1 directions,
# nine for ten classes, and MNIST ends in three. So ten separates many directions from few.
FEW_BASINS = 10.0
FEW_OF_UNITS = 0.25
# Sleeping: this share of the rise of C at least follows from p. Centred images under `difference`
# select, and units switch off meanwhile: the law makes 0.60 of a rise at the median, and 0.9 in one
# row of thirty. Under softplus, at its threshold, it makes 1.12 at the median, and 0.9 in eleven
# rows of twelve (findings `centering` and `acts`).
FROM_SHARE = 0.9
# Where the goodness of both splits falls no unit is selected to grow, so the larger part suffices.
FROM_SHARE_WHILE_LOWERED = 0.5


class Moment(NamedTuple):
    """Both splits of a layer at one measurement of one seed."""

    positive: EpochRow
    negative: EpochRow


def gaussian_kappa(p: float) -> float:
    """Compute cos(h, [h > 0]) of relu units whose pre-activations are Gaussian.

    With p = Phi(a) and f the normal density it is (f(a) + a p) / sqrt(p ((1 + a^2) p + a f(a))).

    **Arguments:**

    - `p`: the share of active units, above 0 and at most 1.

    **Returns:**

    kappa, which rises with p from sqrt(1/2) to 1; it does not depend on the pre-activations' scale.

    **Source:**

    docs/theory.md, "The acts of training".
    """
    if p >= 1:
        return 1.0
    normal = NormalDist()
    a = normal.inv_cdf(p)
    density = normal.pdf(a)
    # for p below 1e-6 both sums cancel; the limit of the ratio is sqrt(1/2)
    if p < 1e-6:
        return math.sqrt(0.5)
    return (density + a * p) / math.sqrt(p * ((1 + a * a) * p + a * density))


def with_acts(
    rows: Sequence[EpochRow], earlier: Sequence[EpochRow], widths: Sequence[int]
) -> list[EpochRow]:
    """Name the act of rows by the rows before them.

    **Arguments:**

    - `rows`: measurements of one epoch.
    - `earlier`: all rows of the run before; those of a seed and layer in the order of their epochs.
    - `widths`: of each layer.

    **Returns:**

    The same rows; `act` stays null at initialisation, for a layer without relu units (whose rows
    have no `kappa_gap`), and where S is undefined.
    """
    before = _moments(earlier)
    now = _moments(rows)
    found = []
    for row in rows:
        place = (row.seed, row.layer)
        act = (
            act_of(row, now[place], before[place], few_basins(widths[row.layer]))
            if row.epoch and place in before and place in now
            else None
        )
        found.append(row.model_copy(update={"act": act}))
    return found


def few_basins(width: int) -> float:
    """Return below how many basins a layer is condensed.

    **Arguments:**

    - `width`: n.

    **Returns:**

    FEW_BASINS, or FEW_OF_UNITS of the units where that is fewer.
    """
    return min(FEW_BASINS, FEW_OF_UNITS * width)


def act_of(row: EpochRow, now: Moment, before: Moment, few: float) -> ActName | None:
    """Name the act of a row.

    The first of these that fits:

    - sleeping, while goodness is lowered: that of both splits fell, C rose, and half of the rise at
      least follows from p.
    - inflating: the goodness of both splits rose, C fell, and where the change began the positives'
      weights |dL/dG| were at least OUTWEIGHED times the negatives'.
    - condensed: there are fewer than `few` basins.
    - sleeping: C rose, and FROM_SHARE of the rise at least follows from p, whatever goodness does.
    - selecting: C rose.
    - recruiting: C fell.

    **Arguments:**

    - `row`: one of `now`.
    - `now`: both splits.
    - `before`: both splits at the measurement before.
    - `few`: how many basins are few.

    **Returns:**

    The act, or None where S or p is undefined in either row. Where nothing changed, the act is that
    of the row before.
    """
    earlier = before.positive if row.split == "positive" else before.negative
    shares = law_and_rest(earlier, row)
    if shares is None:
        return None
    law, rest = shares
    rise = law + rest
    if law == rest == 0:
        return earlier.act
    grown = [_grown(*pair) for pair in zip(before, now, strict=True)]
    if all(change < 0 for change in grown) and 0 < rise * FROM_SHARE_WHILE_LOWERED <= law:
        return "sleeping"
    if all(change > 0 for change in grown) and rise < 0 and _outweighs(before):
        return "inflating"
    if row.basins is not None and row.basins < few:
        return "condensed"
    if 0 < rise * FROM_SHARE <= law:
        return "sleeping"
    return "selecting" if rise > 0 else "recruiting"


def law_and_rest(earlier: EpochRow, row: EpochRow) -> tuple[float, float] | None:
    """Split a change of C into that of the law of p and the rest.

    **Arguments:**

    - `earlier`: a row.
    - `row`: a later one of the same seed, layer and split.

    **Returns:**

    Both parts; None where S or p is undefined, and for units that are not relu.
    """
    found = []
    for one in (earlier, row):
        if one.kappa is None or one.kappa_gap is None or not one.active_share:
            return None
        law = 1 - math.sqrt(one.active_share) * gaussian_kappa(one.active_share)
        found.append((law, 1 - math.sqrt(one.active_share) * one.kappa - law))
    (law_before, rest_before), (law_after, rest_after) = found
    return law_after - law_before, rest_after - rest_before


def _grown(earlier: EpochRow, later: EpochRow) -> float:
    """Return by how much the logarithm of the goodness rose; 0 where it is undefined."""
    if earlier.log_goodness is None or later.log_goodness is None:
        return 0.0
    return later.log_goodness - earlier.log_goodness


def _outweighs(moment: Moment) -> bool:
    """Whether the positives' weights |dL/dG| are clearly larger than the negatives'."""
    positive, negative = (row.coefficient_sum or 0.0 for row in moment)
    return positive >= OUTWEIGHED * negative and positive > 0


def _moments(rows: Sequence[EpochRow]) -> dict[tuple[int, int], Moment]:
    """Return both splits at the last epoch of each seed and layer."""
    last: dict[tuple[int, int], dict[str, EpochRow]] = {}
    for row in rows:
        last.setdefault((row.seed, row.layer), {})[row.split] = row
    return {
        place: Moment(pair["positive"], pair["negative"])
        for place, pair in last.items()
        if len(pair) == 2
    }
