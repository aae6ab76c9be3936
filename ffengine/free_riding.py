"""Does a layer learn, or does it leave the work to others?

Where the goodness of other layers counts as a layer's own, its loss sees the sum of both. Once that
tells positives from negatives, the slope of the loss is small, whatever the layer itself does:
under softplus it falls exponentially with what is inherited (arXiv 2605.06240).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.intervals import interval
from ffengine.results import Diagnostic, EpochRow, Interval

LITTLE = 0.1  # of the gradient that a layer's own goodness would give


class Ride(NamedTuple):
    """What a layer of one seed has of its own, and what of others.

    **Attributes:**

    - `share`: mean |dL/dG| of positives over what it would be by their own goodness.
    - `own`: G of positives less that of negatives, both of the layer itself.
    - `inherited`: the same of what other layers add.
    """

    share: float
    own: float
    inherited: float


def free_riding(rows: Sequence[EpochRow]) -> Iterator[Diagnostic]:
    """Find the layer that learns least because other layers' goodness counts as its own.

    **Arguments:**

    - `rows`: the curves of a run.

    **Returns:**

    The finding of the layer with the smallest share, where that is below LITTLE.
    """
    last = max((row.epoch for row in rows), default=0)
    layers = sorted({row.layer for row in rows})
    found = {layer: rides(rows, layer, last) for layer in layers}
    free = {layer: _share_of(of_layer) for layer, of_layer in found.items() if of_layer}
    riding = {layer: share for layer, share in free.items() if _is_little(share)}
    if riding:
        layer = min(riding, key=lambda one: riding[one].mean)
        yield _finding(layer, last, found[layer], riding[layer])


def rides(rows: Sequence[EpochRow], layer: int, epoch: int) -> list[Ride]:
    """Return what a layer has of its own and of others at an epoch.

    **Arguments:**

    - `rows`: the curves of a run.
    - `layer`: the layer, from 0.
    - `epoch`: a measured one.

    **Returns:**

    Of each seed; none where nothing is inherited.
    """
    seeds: dict[int, dict[str, EpochRow]] = defaultdict(dict)
    for row in rows:
        if (row.layer, row.epoch) == (layer, epoch):
            seeds[row.seed][row.split] = row
    found = [_ride(splits) for splits in seeds.values()]
    return [one for one in found if one] if all(found) else []


def _ride(splits: dict[str, EpochRow]) -> Ride | None:
    """Return the figures of one seed; None where one is not there."""
    positive, negative = splits.get("positive"), splits.get("negative")
    if positive is None or negative is None or positive.gradient_share is None:
        return None
    goodness = (positive.goodness, negative.goodness)
    inherited = (positive.inherited_goodness, negative.inherited_goodness)
    if None in goodness or None in inherited:
        return None
    own, other = (float(one or 0) - float(two or 0) for one, two in (goodness, inherited))
    return Ride(positive.gradient_share, own, other)


def _share_of(found: Sequence[Ride]) -> Interval:
    """Return the interval of the share over seeds."""
    return interval([one.share for one in found])


def _is_little(share: Interval) -> bool:
    """Whether the share is small, with the upper end of its interval where there is one."""
    return (share.mean if share.high is None else share.high) < LITTLE


def _finding(layer: int, epoch: int, found: Sequence[Ride], share: Interval) -> Diagnostic:
    bounds = (
        "(one seed)"
        if share.low is None or share.high is None
        else f"[{share.low:.3f}, {share.high:.3f}] over {share.seeds} seeds"
    )
    own, inherited = (
        sum(float(getattr(one, name)) for one in found) / len(found)
        for name in ("own", "inherited")
    )
    return Diagnostic(
        code="free_riding",
        severity="info",
        message=f"Layer {layer} hardly learns from positives at epoch {epoch}: the goodness of "
        f"other layers counts as its own, and leaves {share.mean:.3f} {bounds} of the gradient "
        f"that its own goodness would give. Positives exceed negatives by {own:.3g} in its own "
        f"goodness and by {inherited:.3g} in what it inherits.",
        evidence={
            "layer": layer,
            "epoch": epoch,
            "gradient_share": share.mean,
            "low": share.low,
            "high": share.high,
            "own_margin": own,
            "inherited_margin": inherited,
        },
        suggestion="Compare with objective.collaboration: null, where each layer goes by its own "
        "goodness, or lower its weight.",
    )
