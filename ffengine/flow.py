"""Flow time: how far gradient descent has gone, whatever its step size and the width of the layer.

Under the `difference` objective the curve of S depends on tau alone, apart from the noise of
batches and the length of steps.
"""

import itertools
from typing import TYPE_CHECKING

from ffengine.step_flow import flow_of_eta

if TYPE_CHECKING:
    from ffengine.spec import TrainSpec


def flow_of_step(spec: "TrainSpec", epoch: int, layer: int = 0) -> float:
    """Compute by how much a step of an epoch advances flow time: eta, in the simplest case.

    **Arguments:**

    - `spec`: the run.
    - `epoch`: the epoch, from 1.
    - `layer`: the layer, from 0.

    **Returns:**

    What `flow_of_eta` makes of the step size of that epoch.
    """
    width = spec.network.widths[layer]
    eta = spec.optimizer.eta(width, epoch, spec.epochs)
    return flow_of_eta(spec.optimizer, spec.objective, width, eta)


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
