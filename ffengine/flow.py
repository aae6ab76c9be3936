"""Flow time: how far gradient descent has gone, whatever its step size and the width of the layer.

Under the `difference` objective the curve of S depends on tau alone, apart from the noise of
batches and the length of steps.
"""

import itertools
import math
from typing import TYPE_CHECKING

from ffengine.objectives import MeanSquares
from ffengine.optimizers import Adam, Momentum, Nesterov

if TYPE_CHECKING:
    from ffengine.spec import TrainSpec


def flow_of_step(spec: "TrainSpec", epoch: int, layer: int = 0) -> float:
    """Compute by how much a step of an epoch advances flow time: eta, in the simplest case.

    **Arguments:**

    - `spec`: the run.
    - `epoch`: the epoch, from 1.
    - `layer`: the layer, from 0.

    **Returns:**

    eta, with what other entries of a spec make of it. Momentum makes a step longer by 1 / (1 -
    momentum), once it has built up. Weight decay lambda changes S as a step of eta / (1 - eta
    lambda) does; infinity where that is negative. Under a mean of squares a step is shorter by 1/n.
    Steps of Adam are eta long whatever the gradient is.

    **Source:**

    docs/theory.md, "Flow time".
    """
    optimizer, width = spec.optimizer, spec.network.widths[layer]
    eta = optimizer.eta(width, epoch, spec.epochs)
    if isinstance(optimizer, Adam):
        return eta
    kept = 1 - eta * optimizer.weight_decay
    built_up = 1 - (optimizer.momentum if isinstance(optimizer, Momentum | Nesterov) else 0.0)
    divisor = width if isinstance(spec.objective.goodness, MeanSquares) else 1
    return eta / kept / built_up / divisor if kept > 0 else math.inf


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
    flows = (flow_of_step(spec, epoch, layer) for epoch in range(1, spec.epochs + 1))
    return tuple(steps * total for total in itertools.accumulate(flows, initial=0.0))
