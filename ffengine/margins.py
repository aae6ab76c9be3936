"""The rate at which the sparsity of each sample changes along a weight step, exact to first order.

Legend: N samples, m inputs, n width. x (N, m), weight W (n, m), z = x W^T (N, n), h = sigma(z),
direction D (n, m). Along D: zdot = x D^T, hdot = sigma'(z) * zdot, and (docs/theory.md, "The exact
condition")

    margin_k = <h_k, hdot_k> / ||h_k||_2^2 - <sign(h_k), hdot_k> / ||h_k||_1
    dS_k/deta = (||h_k||_1 / ||h_k||_2) * margin_k / (sqrt(n) - 1)

The theorems' sums over all pairs of samples are never formed: sum_i s_i h_i x_i^T is the gradient,
so three matrix products (z, D, zdot) give every margin. This is the exact first-order condition.
Any correct statement of the theorems of arXiv 2311.05667 must agree with it.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ffengine.activations import ACTIVATIONS, Activation
from ffengine.piece_sizes import piece
from ffengine.sparsity import check_finite, hoyer_of_norms, treves_rolls_of_norms

# Pre-activations kept between the products; larger layers are computed in blocks of units.
HELD_BYTES = 256_000_000
MIN_BLOCK_UNITS = 16
CHUNK_ELEMENTS = 2**20  # elementwise passes work on pieces that fit the cache
# Measured: the relative error of a unit's rate is below this many unit roundings
# (docs/numerics.md).
ROUNDINGS = 8.0
EPSILON = {
    dtype: ROUNDINGS * torch.finfo(dtype).eps / 2 for dtype in (torch.float32, torch.float64)
}
NEAR_ZERO = 1e-6  # of ||w|| ||x||: pre-activations as close to 0 as this count as on the kink


@dataclass(frozen=True)
class TheoremCheck:
    """The verdict on each of N samples: does its sparsity rise, to first order, along a step?

    A margin counts as positive only where it exceeds its rounding error.

    **Attributes:**

    - `margin`: (N,) float64, the rate of docs/theory.md in units of 1 / eta; 0 for dead samples.
    - `satisfied`: (N,) bool, margin > rounding.
    - `dead`: (N,) bool, all activations of the sample are 0, so that S is undefined.
    - `undecided`: (N,) bool, the sample is live and |margin| <= rounding.
    - `rounding`: (N,) float64, how far the rounding of the matrix products may move the margin.

    **Source:**

    docs/theory.md, "The exact condition"; docs/numerics.md, "undecided: within rounding of zero".
    """

    margin: Tensor
    satisfied: Tensor
    dead: Tensor
    undecided: Tensor
    rounding: Tensor

    @classmethod
    def of(cls, margin: Tensor, dead: Tensor, rounding: Tensor) -> "TheoremCheck":
        """Make the verdict from margins whose rounding error is known.

        **Arguments:**

        - `margin`: (N,) float64.
        - `dead`: (N,) bool.
        - `rounding`: (N,) float64, at least 0.

        **Returns:**

        The check, with `satisfied` and `undecided` derived from the arguments.
        """
        return cls(
            margin=margin,
            satisfied=(margin > rounding) & ~dead,
            dead=dead,
            undecided=(margin.abs() <= rounding) & ~dead,
            rounding=rounding,
        )

    @property
    def live(self) -> int:
        """The number of samples that are not dead."""
        return int((~self.dead).sum())

    @property
    def ratio(self) -> float:
        """Satisfied samples over live samples, in [0, 1]; NaN where no sample is live."""
        return int(self.satisfied.sum()) / self.live if self.live else math.nan


@dataclass
class LayerSums:
    """Sums over the units of a layer, for each of N samples, from which margins follow.

    All tensors are (N,) float64.
    """

    width: int
    eta: float  # size of the trial step; 0: there is none
    # How much longer the parts of D are together than D: so much larger is their rounding beside D.
    cancellation: float | Tensor
    l1: Tensor  # ||h||_1
    squares: Tensor  # ||h||_2^2
    along_h: Tensor  # <h, hdot>
    along_sign: Tensor  # <sign(h), hdot>
    noise: Tensor  # sum of hdot_j^2 times the square of the unit's relative rounding error
    l1_after: Tensor  # ||sigma(z + eta zdot)||_1, exact: z is linear in the weights
    squares_after: Tensor
    flipped: Tensor  # number of units whose mask [h > 0] the step changes
    near_zero: Tensor  # number of units with |z| <= NEAR_ZERO ||w|| ||x||

    @classmethod
    def zeros(cls, samples: int, width: int, device: torch.device) -> "LayerSums":
        """Make sums to which no unit has been added.

        **Arguments:**

        - `samples`: N.
        - `width`: n, the units of the whole layer.
        - `device`: where the sums lie.

        **Returns:**

        Sums of zero, without a trial step.
        """
        sums = [torch.zeros(samples, dtype=torch.float64, device=device) for _ in range(9)]
        return cls(width, 0.0, 1.0, *sums)

    @property
    def dead(self) -> Tensor:
        """(N,) bool: samples whose activations are all 0."""
        return self.l1 == 0

    @property
    def margin(self) -> Tensor:
        """(N,) float64: margin_k of the module's legend; 0 for dead samples."""
        live = ~self.dead
        margin = self.along_h / torch.where(
            live, self.squares, 1.0
        ) - self.along_sign / torch.where(live, self.l1, 1.0)
        return torch.where(live, margin, 0.0)

    @property
    def sparsity(self) -> Tensor:
        """(N,) float64 in [0, 1]: Hoyer sparsity before the step; 0 for dead samples."""
        return hoyer_of_norms(self.l1, self.squares, self.width)

    @property
    def treves_rolls(self) -> Tensor:
        """(N,) float64 in [0, 1]: Treves-Rolls sparseness before the step; 0 for dead samples."""
        return treves_rolls_of_norms(self.l1, self.squares, self.width)

    def kappa(self, active: Tensor) -> Tensor:
        """Compute cos(|h|, [h != 0]) before the step, 1 where the active units are equal.

        **Arguments:**

        - `active`: (N,) the number of units with h != 0.

        **Returns:**

        (N,) float64 in [0, 1]; 0 for dead samples.
        """
        length = (active.double() * self.squares).sqrt()
        return (self.l1 / torch.where(self.dead, 1.0, length)).clamp_max(1.0)

    @property
    def change(self) -> Tensor:
        """(N,) float64: Hoyer sparsity after the step minus that before it."""
        return hoyer_of_norms(self.l1_after, self.squares_after, self.width) - self.sparsity

    @property
    def rounding(self) -> Tensor:
        """(N,) float64: a bound of the rounding error of the margin; 0 for dead samples.

        It is the length of the units' errors times the length of the coefficients h_j / ||h||_2^2 -
        sign_j / ||h||_1 that weigh them in the margin.

        **Source:**

        docs/numerics.md, "undecided: within rounding of zero".
        """
        live = ~self.dead
        squared_length = self.width / torch.where(live, self.l1, 1.0).square() - 1 / torch.where(
            live, self.squares, 1.0
        )
        return torch.where(
            live, self.cancellation * (self.noise * squared_length.clamp_min(0.0)).sqrt(), 0.0
        )

    def check(self) -> TheoremCheck:
        """Return the verdict on each sample."""
        return TheoremCheck.of(self.margin, self.dead, self.rounding)

    def add(self, rows: slice, z: Tensor, h: Tensor, zdot: Tensor, activation: Activation) -> None:
        """Add a block of units to the sums of some samples.

        Each unit's terms are computed in the type of the arguments and accumulated in float64: the
        rounding of the products is far larger than that of a sum.

        **Arguments:**

        - `rows`: which of the N samples the block is of.
        - `z`: (rows, units) pre-activations.
        - `h`: (rows, units) activations, sigma(z).
        - `zdot`: (rows, units) rates of z along the step; this memory is overwritten.
        - `activation`: sigma.
        """
        if self.eta:
            self.add_step(rows, z, h, zdot, activation)
        else:
            self.squares[rows] += torch.linalg.vector_norm(h, dim=-1).double().square()
            self.l1[rows] += _magnitude(h, activation).sum(-1)
        along_h, along_sign, noise = _along(z, h, zdot, activation)
        self.along_h[rows] += along_h
        self.along_sign[rows] += along_sign
        self.noise[rows] += noise

    def along(
        self,
        z: Tensor,
        h: Tensor,
        zdot: Tensor,
        activation: Activation,
        cancellation: float | Tensor = 1.0,
    ) -> "LayerSums":
        """Return the sums of the same samples along another step.

        **Arguments:**

        - `z`: (N, n) pre-activations of all units.
        - `h`: (N, n) activations, sigma(z).
        - `zdot`: (N, n) rates of z along that step; this memory is overwritten.
        - `activation`: sigma.
        - `cancellation`: of that step.

        **Returns:**

        The sums; what a trial step does stays that of the first one.
        """
        along_h, along_sign, noise = _along(z, h, zdot, activation)
        return replace(
            self,
            cancellation=cancellation,
            along_h=along_h.double(),
            along_sign=along_sign.double(),
            noise=noise,
        )

    def add_step(
        self, rows: slice, z: Tensor, h: Tensor, zdot: Tensor, activation: Activation
    ) -> None:
        """Add the norms of a block of units before and after the step eta, and count flipped masks.

        Their change can be tiny. Of relu it is summed itself, in the type of the arguments; for
        others the units are stepped in float64.

        **Arguments:**

        - `rows`: which of the N samples the block is of.
        - `z`: (rows, units) pre-activations before the step.
        - `h`: (rows, units) activations, sigma(z).
        - `zdot`: (rows, units) rates of z along the step.
        - `activation`: sigma.
        """
        if activation.slope_below_zero == 0:
            self._add_step_of_relu(rows, z, h, zdot)
            return
        before = z.double()
        after = before + self.eta * zdot.double()
        for state, l1, squares in (
            (before, self.l1, self.squares),
            (after, self.l1_after, self.squares_after),
        ):
            stepped = activation.value(state)
            squares[rows] += torch.linalg.vector_norm(stepped, dim=-1).square()
            l1[rows] += stepped.abs_().sum(-1)
        self.flipped[rows] += ((after > 0) != (before > 0)).sum(-1)

    def _add_step_of_relu(self, rows: slice, z: Tensor, h: Tensor, zdot: Tensor) -> None:
        """Add what `add_step` says, for h = max(z, 0).

        What h loses is min(h, max(-z, 0) - eta zdot): of a unit that stays active it is -eta zdot,
        however small beside h.
        """
        loss = torch.sub(h, z).sub_(zdot, alpha=self.eta)
        torch.minimum(h, loss, out=loss)
        after = h - loss
        l1, squares = h.sum(-1).double(), _squares(h)
        self.l1[rows] += l1
        self.squares[rows] += squares
        self.l1_after[rows] += l1 - loss.sum(-1)
        left = squares - loss.mul_(h + after).sum(-1)  # the square loses (h + after) loss
        few = (left < squares / 4).nonzero(
            as_tuple=True
        )  # of so little the difference is too rough
        left[few] = _squares(after[few])
        self.squares_after[rows] += left
        self.flipped[rows] += torch.linalg.vector_norm(after.sign_().sub_(h.sign()), 1, dim=-1)


def near_zero(z: Tensor, lengths: Tensor, unit_lengths: Tensor) -> Tensor:
    """Count the units whose pre-activation lies on the kink, relative to ||w|| ||x||.

    So the count of weights c W is that of W, and a blank sample lies there with every unit.

    **Arguments:**

    - `z`: (..., N, n) pre-activations.
    - `lengths`: ||x|| (..., N).
    - `unit_lengths`: ||w|| (..., n).

    **Returns:**

    (..., N) int64.
    """
    bound = NEAR_ZERO * lengths
    longest = unit_lengths.amax(-1, keepdim=True)
    count = torch.zeros(z.shape[:-1], dtype=torch.int64, device=z.device)
    # few samples have a unit that may be so near; only these are looked at closely
    at = (z.abs().amin(-1) <= bound * longest).nonzero(as_tuple=True)
    close = z[at].abs() <= bound[at].unsqueeze(-1) * unit_lengths[at[:-1]]
    count[at] = close.sum(-1)
    return count


def _squares(h: Tensor) -> Tensor:
    """Return ||h||_2^2 (N,) float64; squares of float32 may be below float32."""
    length: Tensor = torch.linalg.vector_norm(h, dim=-1, dtype=torch.float64)
    return length.square()


def _magnitude(h: Tensor, activation: Activation) -> Tensor:
    """Return |h|."""
    return h if activation.slope_below_zero == 0 else h.abs()


def _along(
    z: Tensor, h: Tensor, zdot: Tensor, activation: Activation
) -> tuple[Tensor, Tensor, Tensor]:
    """Return <h, hdot>, <sign(h), hdot> and noise (N,) of samples (N, n); overwrite zdot."""
    along = _along_sign(z, h, zdot, activation)
    noise = (torch.linalg.vector_norm(along, dim=-1).double() * EPSILON[z.dtype]).square()
    sign = along.sum(-1)
    return along.mul_(_magnitude(h, activation)).sum(-1), sign, noise


def _along_sign(z: Tensor, h: Tensor, zdot: Tensor, activation: Activation) -> Tensor:
    """Return sign(h) sigma'(z) zdot, elementwise; overwrite zdot."""
    if activation.slope_below_zero == 0:  # relu: its backward pass computes this in one kernel
        masked: Tensor = torch.ops.aten.threshold_backward.default(zdot, h, 0)
        return masked
    if not activation.slope_where_active_is_one:
        zdot.mul_(activation.slope(z))
    return zdot.mul_(h.sign())


def theorem1(weight: Tensor, x: Tensor, *, activation: str = "relu") -> TheoremCheck:
    """Check for each sample whether lowering the goodness of the whole batch raises its sparsity.

    All N samples form one batch. The step is W + eta D with D = -2 sum_i h_i sigma'(z_i) x_i^T. The
    cost is three matrix products; the memory is bounded for every n.

    **Arguments:**

    - `weight`: (n, m) float32 or float64, n >= 2; a bias is the weight of an input that is always
      1.
    - `x`: (N, m), of the type and on the device of `weight`.
    - `activation`: a name of the catalogue of activations.

    **Returns:**

    The verdict on the N samples, with margins in units of 1 / eta.

    **Raises:**

    - `ValueError`: shapes, types or devices differ, a number is NaN or infinite, the batch is
      empty, the width is below 2, or the activation is unknown.

    **Source:**

    arXiv 2311.05667, theorem 1, as the exact first-order condition of docs/theory.md, "The exact
    condition".
    """
    check_layer(weight, x=x)
    return observe(weight, [x], [1.0], activation_named(activation))[0].check()


def theorem2(
    weight: Tensor, x_pos: Tensor, x_neg: Tensor, *, activation: str = "relu"
) -> tuple[TheoremCheck, TheoremCheck]:
    """Check for each sample whether a step on G(negative) - G(positive) raises its sparsity.

    The step is W + eta D with D = 2 (sum_pos h_i sigma'(z_i) x_i^T - sum_neg h_i sigma'(z_i)
    x_i^T), over the samples of both splits.

    **Arguments:**

    - `weight`: (n, m) float32 or float64, n >= 2; a bias is the weight of an input that is always
      1.
    - `x_pos`: (N_pos, m) positive samples, of the type and on the device of `weight`.
    - `x_neg`: (N_neg, m) negative samples, likewise.
    - `activation`: a name of the catalogue of activations.

    **Returns:**

    The verdict on the positive samples and the verdict on the negative samples, with margins in
    units of 1 / eta.

    **Raises:**

    - `ValueError`: as for `theorem1`.

    **Source:**

    arXiv 2311.05667, theorem 2, as the exact first-order condition of docs/theory.md, "The exact
    condition".
    """
    check_layer(weight, x_pos=x_pos, x_neg=x_neg)
    positive, negative = observe(weight, [x_pos, x_neg], [-1.0, 1.0], activation_named(activation))
    return positive.check(), negative.check()


def check_direction(
    weight: Tensor, x: Tensor, direction: Tensor, *, activation: str = "relu"
) -> TheoremCheck:
    """Check for each sample whether a step along a given direction raises its sparsity.

    The step is W + eta D, for instance the step of an optimiser.

    **Arguments:**

    - `weight`: (n, m) float32 or float64, n >= 2.
    - `x`: (N, m), of the type and on the device of `weight`.
    - `direction`: D (n, m), of the shape, type and device of `weight`.
    - `activation`: a name of the catalogue of activations.

    **Returns:**

    The verdict on the N samples, with margins in units of 1 / eta.

    **Raises:**

    - `ValueError`: as for `theorem1`, or `direction` does not have the shape, type and device of
      `weight`.

    **Source:**

    docs/theory.md, "The exact condition".
    """
    check_layer(weight, x=x)
    check_finite("direction", direction)
    if (
        direction.shape != weight.shape
        or direction.dtype != weight.dtype
        or direction.device != weight.device
    ):
        raise ValueError(
            f"direction: expected the weight's {_kind(weight)}, got {_kind(direction)}"
        )
    return observe(weight, [x], [1.0], activation_named(activation), direction=direction)[0].check()


def observe(
    weight: Tensor,
    groups: Sequence[Tensor],
    signs: Sequence[float],
    activation: Activation,
    *,
    direction: Tensor | None = None,
    step: float = 0.0,
) -> list[LayerSums]:
    """Sum the units of a layer for every sample along a step, one block of units at a time.

    The step goes along D = -2 sum_g sign_g sum_i h_i sigma'(z_i) x_i^T, or along `direction`.
    Arguments are not checked: see `check_layer`.

    **Arguments:**

    - `weight`: (n, m).
    - `groups`: samples (N_g, m) of each group, such as positives and negatives.
    - `signs`: the sign of each group in D: 1 lowers its goodness, -1 raises it.
    - `activation`: sigma.
    - `direction`: D (n, m) where it is not that of the groups.
    - `step`: where it is above 0, the effect of the trial step eta D with ||eta D|| = step ||W|| is
      summed as well.

    **Returns:**

    The sums of each group, (N_g,) each.
    """
    blocks = _unit_blocks(weight, sum(len(x) for x in groups))
    if step and direction is None and len(blocks) > 1:
        # eta depends on the whole of D, so D is computed before the first block is stepped.
        direction = torch.cat(
            [
                _block_direction([x @ weight[b].T for x in groups], groups, signs, activation)[0]
                for b in blocks
            ]
        )
    sums = [LayerSums.zeros(len(x), len(weight), weight.device) for x in groups]
    held_memory = weight.new_empty(sum(len(x) for x in groups) * (blocks[0].stop - blocks[0].start))
    for block in blocks:
        z = _pre_activations(weight[block], groups, held_memory)
        # Where h determines all that z does, h takes the memory of z.
        if in_place := activation.slope_where_active_is_one and not step:
            for z_group in z:
                activation.value_(z_group)
        D, cancellation = (
            _block_direction(z, groups, signs, activation, in_place=in_place)
            if direction is None
            else (direction[block], 1.0)
        )  # (units, m)
        eta = trial_eta(weight, D if direction is None else direction, step)
        for x, z_group, group_sums in zip(groups, z, sums, strict=True):
            group_sums.eta, group_sums.cancellation = (
                eta,
                max(float(group_sums.cancellation), cancellation),
            )
            for rows in _row_chunks(x, len(D)):
                h = z_group[rows] if in_place else activation.value(z_group[rows])
                if eta:
                    group_sums.near_zero[rows] += near_zero(
                        z_group[rows],
                        torch.linalg.vector_norm(x[rows], dim=-1),
                        torch.linalg.vector_norm(weight[block], dim=-1),
                    )
                group_sums.add(rows, z_group[rows], h, x[rows] @ D.T, activation)
    return sums


def trial_eta(weight: Tensor, direction: Tensor, step: float) -> float:
    """Return the step size eta for which ||eta D|| = step ||W|| in the Frobenius norm.

    **Arguments:**

    - `weight`: W (n, m).
    - `direction`: D (n, m).
    - `step`: the length of the step relative to the weights, at least 0.

    **Returns:**

    eta; 0 where D or `step` is zero.
    """
    length = float(torch.linalg.vector_norm(direction.double()))
    return (
        step * float(torch.linalg.vector_norm(weight.double())) / length if step and length else 0.0
    )


def _pre_activations(weight: Tensor, groups: Sequence[Tensor], memory: Tensor) -> list[Tensor]:
    """Return z (N_g, units) of each group, in memory that every block of units shares."""
    sizes = [len(x) * len(weight) for x in groups]
    return [
        torch.mm(x, weight.T, out=part.view(len(x), len(weight)))
        for x, part in zip(groups, memory[: sum(sizes)].split(sizes), strict=True)
    ]


def _block_direction(
    z: Sequence[Tensor],
    groups: Sequence[Tensor],
    signs: Sequence[float],
    activation: Activation,
    *,
    in_place: bool = False,
) -> tuple[Tensor, float]:
    """Return D (units, m), and how much longer its groups' parts are together than D itself.

    With `in_place`, z already holds h sigma'(z).
    """
    D = groups[0].new_zeros(z[0].shape[1], groups[0].shape[1])
    lengths = []  # ||D|| after each group
    for x, z_group, sign in zip(groups, z, signs, strict=True):
        if in_place:
            D.addmm_(z_group.T, x, alpha=-2.0 * sign)
        else:
            for rows in _row_chunks(x, len(D)):
                pull = activation.value(z_group[rows]) * activation.slope(
                    z_group[rows]
                )  # half of dG/dz
                D.addmm_(pull.T, x[rows], alpha=-2.0 * sign)
        lengths.append(float(torch.linalg.vector_norm(D)))
    return D, cancellation(lengths)


def cancellation(lengths: Sequence[float]) -> float:
    """Bound how much longer the parts of a sum are together than the sum itself.

    **Arguments:**

    - `lengths`: the length of the partial sum after each part, one at least.

    **Returns:**

    The bound, at least 1; 1 where the sum is zero.
    """
    parts = lengths[0] + sum(before + after for before, after in itertools.pairwise(lengths))
    return parts / lengths[-1] if lengths[-1] else 1.0


def _unit_blocks(weight: Tensor, samples: int) -> list[slice]:
    """Split the units into blocks of equal size, as large as HELD_BYTES allows."""
    bytes_kept = piece(HELD_BYTES, weight.device)
    most = max(MIN_BLOCK_UNITS, bytes_kept // (samples * weight.element_size()))
    # Blocks of equal size: a small one at the end would be slow.
    units = -(-len(weight) // -(-len(weight) // most))
    return [slice(start, min(start + units, len(weight))) for start in range(0, len(weight), units)]


def _row_chunks(x: Tensor, units: int) -> list[slice]:
    """Split the samples into slices of at most CHUNK_ELEMENTS activations."""
    rows = max(1, piece(CHUNK_ELEMENTS, x.device) // units)
    return [slice(start, min(start + rows, len(x))) for start in range(0, len(x), rows)]


# Arguments


def check_layer(weight: Tensor, **samples: Tensor) -> None:
    """Raise ValueError unless weight and samples are valid arguments of `theorem1`.

    **Arguments:**

    - `weight`: must be finite, floating-point and (n, m) with n >= 2.
    - `samples`: each keyword argument must be finite and (N, m), N >= 1, of the type and on the
      device of `weight`.

    **Raises:**

    - `ValueError`: an argument is invalid; the message begins with its name.
    """
    check_finite("weight", weight)
    if weight.dim() != 2 or weight.shape[0] < 2:
        raise ValueError(
            f"weight: expected shape (n, m) with a width n >= 2, got {tuple(weight.shape)}"
        )
    check_samples(**samples)
    for name, x in samples.items():
        if x.shape[1] != weight.shape[1]:
            raise ValueError(
                f"{name}: expected shape (N, {weight.shape[1]}) to fit weight "
                f"{tuple(weight.shape)}, got {tuple(x.shape)}"
            )
        if x.dtype != weight.dtype or x.device != weight.device:
            raise ValueError(
                f"{name}: expected the type and device of weight, {_kind(weight)}, got {_kind(x)}"
            )


def check_samples(**samples: Tensor) -> None:
    """Raise ValueError unless each argument is a finite floating-point tensor (N, m) of one m.

    **Arguments:**

    - `samples`: tensors by name.

    **Raises:**

    - `ValueError`: an argument is invalid; the message begins with its name.
    """
    inputs: int | None = None
    for name, x in samples.items():
        check_finite(name, x)
        if x.dim() != 2:
            raise ValueError(
                f"{name}: expected shape (N, m), one sample a row, got {tuple(x.shape)}"
            )
        if inputs is not None and x.shape[1] != inputs:
            raise ValueError(
                f"{name}: expected shape (N, {inputs}) as the samples before, got {tuple(x.shape)}"
            )
        inputs = x.shape[1]


def _kind(tensor: Tensor) -> str:
    """Return shape, type and device of a tensor in words."""
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"


def activation_named(name: str) -> Activation:
    """Return the activation of a name.

    **Arguments:**

    - `name`: a name of the catalogue of activations.

    **Returns:**

    The catalogue's entry.

    **Raises:**

    - `ValueError`: there is no such name; the message lists those that there are.
    """
    if name not in ACTIVATIONS:
        raise ValueError(
            f"activation: {name!r} is not known; choose one of {', '.join(ACTIVATIONS)}"
        )
    return ACTIVATIONS[name]
