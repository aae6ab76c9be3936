"""The flow time of one step, and the step size that has a flow time."""

import math

from ffengine.objectives import AnyObjective, MultiClass
from ffengine.optimizers import Adam, AnyOptimizer


def flow_of_eta(optimizer: AnyOptimizer, objective: AnyObjective, width: int, eta: float) -> float:
    """Compute by how much a step of a size advances flow time.

    **Arguments:**

    - `optimizer`: what takes the step; its learning rate does not matter.
    - `objective`: what is learnt.
    - `width`: n of the layer.
    - `eta`: the step size, above 0.

    **Returns:**

    eta, with what other entries of a spec make of it. Momentum makes a step longer by 1 / (1 -
    momentum), once it has built up. Weight decay lambda changes S as a step of eta / (1 - eta
    lambda) does; infinity where that is negative. Under a mean of squares a step is shorter by 1/n.
    Steps of Adam are eta long whatever the gradient is.

    **Source:**

    docs/theory.md, "Flow time".
    """
    if isinstance(optimizer, Adam):
        return eta
    kept = 1 - eta * optimizer.weight_decay
    built_up = 1 - optimizer.persistence
    return eta / kept / built_up / divisor_of(objective, width) if kept > 0 else math.inf


def eta_of_flow(optimizer: AnyOptimizer, objective: AnyObjective, width: int, flow: float) -> float:
    """Compute the step size that advances flow time by so much: the inverse of `flow_of_eta`.

    **Arguments:**

    - `optimizer`, `objective`, `width`: as for `flow_of_eta`.
    - `flow`: the flow time of a step, above 0.

    **Returns:**

    eta.
    """
    if isinstance(optimizer, Adam):
        return flow
    without_decay = flow * (1 - optimizer.persistence) * divisor_of(objective, width)
    return without_decay / (1 + without_decay * optimizer.weight_decay)


def divisor_of(objective: AnyObjective, width: int) -> int:
    """Return what the goodness of an objective divides its sum over units by.

    **Arguments:**

    - `objective`: the objective.
    - `width`: n of the layer.

    **Returns:**

    n of a mean of squares, or the units of a half; 1 of any other goodness and of objectives over
    classes.
    """
    if isinstance(objective, MultiClass) or not objective.goodness.is_mean:
        return 1
    return objective.counted_units(width)


def tells_all_rates(optimizer: AnyOptimizer) -> bool:
    """Whether runs of one optimiser with any learning rate follow one curve over flow time.

    **Arguments:**

    - `optimizer`: the optimiser.

    **Returns:**

    False for Adam, whose running means last a number of steps, whatever flow time these take.
    """
    return not isinstance(optimizer, Adam)
