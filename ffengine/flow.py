"""Flow time: how far gradient descent has gone, whatever its step size and the width of the layer.

tau is the sum of eta over the steps taken. Under the `difference` objective the curve of S depends
on tau alone, apart from the noise of batches and the length of steps. Momentum is not counted: once
it has built up, a step goes 1 / (1 - momentum) times as far.
"""

import itertools
import math

from ffengine.optimizers import Optimizer


def flow_time(
    optimizer: Optimizer, width: int, steps: int, *, steps_per_epoch: int, epochs: int
) -> float:
    """Compute tau of a layer after a number of its steps.

    **Arguments:**

    - `optimizer`: its step size and schedule.
    - `width`: n.
    - `steps`: how many steps the layer has taken.
    - `steps_per_epoch`: how many steps an epoch has.
    - `epochs`: how many epochs the layer learns; schedules need it.

    **Returns:**

    tau, rounded once.

    **Raises:**

    - `ValueError`: there are not as many steps.
    """
    if not 0 <= steps <= steps_per_epoch * epochs:
        raise ValueError(
            f"steps: expected 0 to {steps_per_epoch * epochs}, which is all that {epochs} epochs "
            f"have, got {steps}"
        )
    whole, rest = divmod(steps, steps_per_epoch)
    parts = [optimizer.eta(width, epoch, epochs) * steps_per_epoch for epoch in range(1, whole + 1)]
    return math.fsum([*parts, optimizer.eta(width, whole + 1, epochs) * rest if rest else 0.0])


def flow_times(
    optimizer: Optimizer, width: int, *, steps_per_epoch: int, epochs: int
) -> tuple[float, ...]:
    """Compute tau of a layer at the end of every epoch, in one pass.

    **Arguments:**

    - `optimizer`, `width`, `steps_per_epoch`, `epochs`: as for `flow_time`.

    **Returns:**

    tau after 0 to `epochs` epochs.
    """
    etas = (optimizer.eta(width, epoch, epochs) for epoch in range(1, epochs + 1))
    return tuple(total * steps_per_epoch for total in itertools.accumulate(etas, initial=0.0))
