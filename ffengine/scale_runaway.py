"""Does goodness grow because splits are told apart, or because weights grow?

For a goodness of degree q, G(c h) = c^q G(h), the scale of the weights is a factor of the goodness
of both splits alike: ln G of both grows by q ln c, and ln G(positive) - ln G(negative) stays. So
the growth of that difference is what is won in separation, and the growth of ln of the norm of W
says how much the scale has grown. An objective of differences of goodness, such as `difference` and
`symba`, has no best scale: it can be lowered for ever by the scale alone.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.intervals import interval
from ffengine.results import Diagnostic, EpochRow, Interval

LEAST_EPOCHS = 4  # measured, so that the later half of them has three
GREW = math.log(2)  # of ln of the norm: the weights have become twice as long
SEPARATED = 0.1  # a tenth of the growth of ln G


class Growth(NamedTuple):
    """How a layer of one seed grew from one epoch to another, in natural logarithms.

    **Attributes:**

    - `norm`: of the Frobenius norm of W.
    - `goodness`: of the mean |G| of both splits, their mean.
    - `separation`: of |G| of positives over |G| of negatives.
    """

    norm: float
    goodness: float
    separation: float


def growths(rows: Sequence[EpochRow], layer: int) -> tuple[tuple[int, int], list[Growth]]:
    """Compute how a layer grew over the later half of its measured epochs.

    The earlier half is left out: there the splits are still to be told apart.

    **Arguments:**

    - `rows`: the curves of a run.
    - `layer`: the layer, from 0.

    **Returns:**

    The first and the last epoch of the later half, and the growth of each seed; none where some
    seed has no such figures, or fewer than LEAST_EPOCHS epochs were measured.
    """
    seeds: dict[int, dict[int, dict[str, EpochRow]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.layer == layer:
            seeds[row.seed][row.epoch][row.split] = row
    epochs = sorted(set.intersection(*(set(found) for found in seeds.values())))
    if len(epochs) < LEAST_EPOCHS:
        return (0, 0), []
    first, last = epochs[(len(epochs) - 1) // 2], epochs[-1]
    found = [_growth(of_seed[first], of_seed[last]) for of_seed in seeds.values()]
    return (first, last), [one for one in found if one] if all(found) else []


def scale_runaway(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the layer whose goodness grows by the scale of its weights alone, if there is one.

    **Arguments:**

    - `rows`: the curves of a run.

    **Returns:**

    The finding of the layer whose weights grew most.
    """
    layers = sorted({row.layer for row in rows})
    found = [(layer, *growths(rows, layer)) for layer in layers]
    running = [one for one in found if _runs_away(one[2])]
    if running:
        yield _finding(*max(running, key=lambda one: _mean(one[2], "norm")))


def separation_share(found: Sequence[Growth]) -> Interval:
    """Compute how much of the growth of ln G is growth of the separation of the splits.

    **Arguments:**

    - `found`: of each seed; goodness grew in all of them.

    **Returns:**

    The interval over seeds.
    """
    return interval([one.separation / one.goodness for one in found])


def _growth(before: dict[str, EpochRow], after: dict[str, EpochRow]) -> Growth | None:
    """Return the growth between two epochs of one seed; None where a figure is not there."""
    start, end = _figures(before), _figures(after)
    if start is None or end is None:
        return None
    return Growth(*(last - first for first, last in zip(start, end, strict=True)))


def _figures(epoch: dict[str, EpochRow]) -> Growth | None:
    """Return the figures of one epoch; None where one is not there."""
    splits = [epoch[split] for split in ("positive", "negative") if split in epoch]
    goodness = [row.log_goodness for row in splits if row.log_goodness is not None]
    if len(goodness) < 2 or splits[0].log_weight_norm is None:
        return None
    return Growth(splits[0].log_weight_norm, sum(goodness) / 2, goodness[0] - goodness[1])


def _runs_away(found: Sequence[Growth]) -> bool:
    """Whether weights and goodness grow in every seed, and the separation hardly does."""
    if not found or any(one.norm < GREW or one.goodness < GREW for one in found):
        return False
    share = separation_share(found)
    bounds = [share.mean if bound is None else bound for bound in (share.low, share.high)]
    return max(map(abs, bounds)) < SEPARATED


def _finding(layer: int, epochs: tuple[int, int], found: Sequence[Growth]) -> Diagnostic:
    share = separation_share(found)
    norm, goodness = (_mean(found, figure) for figure in ("norm", "goodness"))
    bounds = (
        "(one seed)"
        if share.low is None or share.high is None
        else f"[{share.low:.3f}, {share.high:.3f}] over {share.seeds} seeds"
    )
    return Diagnostic(
        code="scale_runaway",
        severity="info",
        message=f"Goodness grows by the scale of the weights alone: in layer {layer}, from epoch "
        f"{epochs[0]} to {epochs[1]}, ln of the norm of W grows by {norm:.3g} and ln of the "
        f"goodness by {goodness:.3g}; ln G(positive) - ln G(negative), which does not depend on "
        f"the scale, grows by {share.mean:.3f} {bounds} of that.",
        evidence={
            "layer": layer,
            "first_epoch": epochs[0],
            "epoch": epochs[1],
            "norm_growth": norm,
            "goodness_growth": goodness,
            "separation_share": share.mean,
            "low": share.low,
            "high": share.high,
        },
        suggestion="The loss goes on falling without telling the splits apart any better. Read "
        "figures that do not depend on the scale; to bound it, use an objective with a threshold "
        "(softplus), a goodness without scale (kurtosis, moment), or optimizer.weight_decay.",
    )


def _mean(found: Sequence[Growth], figure: str) -> float:
    """Return the mean of a figure over seeds."""
    return sum(float(getattr(one, figure)) for one in found) / len(found)
