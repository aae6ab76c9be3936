"""Flow time: how far gradient descent has gone, whatever its step size and the width of the layer.

Under the `difference` objective the curve of S depends on tau alone, apart from the noise of
batches and the length of steps.
"""

import itertools
from typing import TYPE_CHECKING

from ffengine.step_flow import flow_of_eta

if TYPE_CHECKING:
    from ffengine.results import Split
    from ffengine.spec import TrainSpec


def flow_of_step(
    spec: "TrainSpec", epoch: int, layer: int = 0, split: "Split | None" = None
) -> float:
    """Compute by how much a step of an epoch advances flow time: eta, in the simplest case.

    **Arguments:**

    - `spec`: the run.
    - `epoch`: the epoch, from 1.
    - `layer`: the layer, from 0.
    - `split`: from which the step learns; None: from both.

    **Returns:**

    What `flow_of_eta` makes of the step size of that epoch.
    """
    width = spec.network.widths[layer]
    eta = spec.optimizer.eta(width, epoch, spec.epochs) * spec.phases.rate(split)
    return flow_of_eta(spec.optimizer, spec.objective, width, eta)


def flow_of_steps(spec: "TrainSpec", layer: int = 0, split: "Split | None" = None) -> list[float]:
    """Compute `flow_of_step` of every epoch, once where the step size stays the same.

    **Arguments:**

    - `spec`: the run.
    - `layer`: the layer, from 0.
    - `split`: from which the steps learn; None: from both.

    **Returns:**

    By how much a step of each epoch advances flow time.
    """
    if spec.optimizer.schedule == "constant":
        return [flow_of_step(spec, 1, layer, split)] * spec.epochs
    return [flow_of_step(spec, epoch, layer, split) for epoch in range(1, spec.epochs + 1)]


def flow_times(spec: "TrainSpec", samples: int, layer: int = 0) -> tuple[float, ...]:
    """Compute tau of a layer at the end of every epoch.

    **Arguments:**

    - `spec`: the run.
    - `samples`: how many samples it trains on.
    - `layer`: the layer, from 0.

    **Returns:**

    tau after 0 to `spec.epochs` epochs of the layer; the last batch of an epoch, which may be
    smaller, counts as a step.
    """
    steps = -(-samples // spec.batch_size)
    if spec.phases.lr_ratio == 1:
        flows = flow_of_steps(spec, layer)
        return tuple(steps * total for total in itertools.accumulate(flows, initial=0.0))
    of_splits = zip(
        flow_of_steps(spec, layer, "positive"), flow_of_steps(spec, layer, "negative"), strict=True
    )
    by_epoch = (
        _flow_in_phases(spec, epoch, steps, positive, negative)
        for epoch, (positive, negative) in enumerate(of_splits, 1)
    )
    return tuple(itertools.accumulate(by_epoch, initial=0.0))


def _flow_in_phases(
    spec: "TrainSpec", epoch: int, steps: int, positive: float, negative: float
) -> float:
    """Return by how much an epoch whose phases have rates of their own advances flow time."""
    start, end = (spec.phases.negative_before(at * steps, steps) for at in (epoch - 1, epoch))
    down = end - start
    # a phase that has no step may have no finite flow
    return (positive * (steps - down) if down < steps else 0.0) + (negative * down if down else 0.0)
