"""How a layer moves while all layers of a stack step at once, exactly and to first order.

Legend: R replicas, B samples, n width, m inputs, layer l with weights W_l, x_1 the samples, z_l =
x_l W_l^T, h_l = sigma(z_l), x_(l+1) = N(h_l) with N the normalisation, D_l the step of layer l, all
taken at the same weights. Along the steps, to first order,

    zdot_l = x_l D_l^T + xdot_l W_l^T    hdot_l = sigma'(z_l) * zdot_l    xdot_(l+1) = J_N hdot_l

The local condition leaves out xdot_l, as if the layers below stood still; in the lowest of the
layers that learn, and under greedy training, it is the whole.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.network import TINY, normalized, scale_of
from ffengine.objectives import halves
from ffengine.products import linear
from ffengine.sparsity import hoyer_of_norms


class InputMotion(NamedTuple):
    """How the inputs of a layer move while the layers below it step.

    **Attributes:**

    - `rate`: xdot (R, B, m), to first order.
    - `change`: x after the step less x before it (R, B, m).
    """

    rate: Tensor
    change: Tensor

    def among_fixed(self, first: int, last: int) -> "InputMotion":
        """Return the motion with that of inputs that stand still, such as a label's or the bias.

        **Arguments:**

        - `first`, `last`: how many of them stand before and behind the others.

        **Returns:**

        The motion itself where there are none.
        """
        if not first and not last:
            return self
        return InputMotion(*(torch.nn.functional.pad(part, (first, last)) for part in self))


class LayerMotion(NamedTuple):
    """How a layer moves in the joint step.

    **Attributes:**

    - `zdot`: (R, B, n), the total rate of the pre-activations.
    - `sparsity_change`: (R, B) float64, S after the joint step less S before it.
    - `dead_after`: (R, B) bool, samples that no unit is active for after the step.
    - `above`: how the inputs of the layer above move, without those of the label and the bias.
    """

    zdot: Tensor
    sparsity_change: Tensor
    dead_after: Tensor
    above: InputMotion


def layer_motion(
    weight: Tensor,
    direction: Tensor,
    eta: float,
    z: Tensor,
    local: Tensor,
    below: InputMotion | None,
    activation: Activation,
    how: str,
    tiny: float | Tensor = TINY,
) -> LayerMotion:
    """Compute how a layer moves in the joint step; one product for each part of `below`.

    **Arguments:**

    - `weight`: W (R, n, m).
    - `direction`: D (R, n, m), the layer's own step.
    - `eta`: its step size; the rates are in units of 1 / eta, so all layers count in steps.
    - `z`: (R, B, n).
    - `local`: x D^T (R, B, n).
    - `below`: how x moves, in units of one step; None where the layers below stand still.
    - `activation`: sigma.
    - `how`: the normalisation of the layer above, "none", "l2", "rms", "layer" or "halves".
    - `tiny`: the least scale of that normalisation, as `Network.least_scale` returns it.

    **Returns:**

    The motion; `zdot` is for one whole step, eta included.
    """
    zdot = eta * local
    after = z.double() + zdot.double()
    if below is not None:
        zdot = zdot + linear(below.rate, weight)
        # z' - z = eta x D^T + (x' - x) (W + eta D)^T, whose rounding is as small as the change is
        after += linear(below.change, weight + eta * direction).double()
    h_before, h_after = activation.value(z.double()), activation.value(after)
    before = normalized(h_before, how, tiny)
    rate = normalized_rate(h_before, activation.slope(z).double() * zdot.double(), how, tiny)
    change = normalized(h_after, how, tiny) - before
    return LayerMotion(
        zdot,
        _sparsity(h_after) - _sparsity(h_before),
        ~(h_after != 0).any(-1),
        InputMotion(rate.to(z.dtype), change.to(z.dtype)),
    )


def normalized_rate(h: Tensor, hdot: Tensor, how: str, tiny: float | Tensor = TINY) -> Tensor:
    """Compute the rate of normalised activations: J_N hdot.

    With u = h / ||h||_2 that of l2 is (hdot - u <u, hdot>) / ||h||_2, and that of rms sqrt(n) times
    as much. That of layer is that of rms, for h and hdot less their means over units. That of
    halves is that of l2, of each half of the units.

    **Arguments:**

    - `h`: (..., n) activations.
    - `hdot`: (..., n) their rates.
    - `how`: "none", "l2", "rms", "layer" or "halves".
    - `tiny`: the least scale, a number or (R, 1, 1).

    **Returns:**

    (..., n); 0 for a sample that is dead, or not larger than the least scale, or whose units are
    all alike where that counts as dead.
    """
    if how == "none":
        return hdot
    if how == "halves":
        each = zip(halves(h), halves(hdot), strict=True)
        return torch.cat([normalized_rate(*part, "l2", tiny) for part in each], dim=-1)
    scale = scale_of(h, how, tiny)
    if how == "layer":
        h, hdot = h - h.mean(-1, keepdim=True), hdot - hdot.mean(-1, keepdim=True)
    length = torch.linalg.vector_norm(h, dim=-1, keepdim=True)
    live = (scale > tiny) & scale.isfinite()
    length = torch.where(live, length, 1.0)
    u = h / length
    rate = (hdot - u * (u * hdot).sum(-1, keepdim=True)) / length
    return torch.where(live, rate * (1.0 if how == "l2" else math.sqrt(h.shape[-1])), 0.0)


def _sparsity(h: Tensor) -> Tensor:
    """Return Hoyer's S (..., ) of activations in float64; 0 for dead samples."""
    return hoyer_of_norms(h.abs().sum(-1), h.square().sum(-1), h.shape[-1])
