"""Catalogue of goodness functions and objectives, each with its derivative in closed form.

An objective takes the goodness of both splits and gives each sample's loss and its slope.

Legend: R replicas, B pairs of a positive and its negative, n width, h (R, B, n) activations, g
goodness before the threshold, G = g - threshold. The loss of a batch is the mean over its pairs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from ffengine.additions import OpenNames, OpenUnion
from ffengine.entmax import entmax_roots, lower_power
from ffengine.entry import Entry, SpecFieldError, default_choice
from ffengine.goodness_kernels import Curve, PairKernel, power_kernel, top_share_kernel
from ffengine.largest import largest

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.results import Split

    # what the pull of activations needs besides them; None: nothing
    Saved = tuple[Tensor, ...] | None

DEFAULT_K = 10
LEAST_K = 5  # of a share of the units (arXiv 2604.13081)
TINY = 1e-12  # keeps the slope of the norm of a dead sample at zero


class Goodness(Entry, ABC):
    """How strongly a layer is excited by a sample: one number from its activations."""

    # whether g is a sum or a mean over units, so that units do not interact through it
    of_units: ClassVar[bool] = True
    # whether g is a mean over units, so that a unit's pull falls with the width
    is_mean: ClassVar[bool] = False

    @property
    def quadratic(self) -> bool:
        """Whether g(c h) = c^2 g(h) for every c > 0: the pull is as many times larger as h is."""
        return False

    @abstractmethod
    def value(self, h: Tensor) -> Tensor:
        """Compute the goodness of activations.

        **Arguments:**

        - `h`: (..., n).

        **Returns:**

        g (...), in the type of h.
        """

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Compute the goodness, and what the pull of the same activations needs besides.

        **Arguments:**

        - `h`: (..., n).

        **Returns:**

        g (...), and what `pull` computes anew where it is not given; None where it needs nothing.
        """
        return self.value(h), None

    @abstractmethod
    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        """Compute s * dg/dh.

        **Arguments:**

        - `h`: (..., n) activations, in memory that may be overwritten.
        - `value`: their goodness g (...).
        - `s`: dL/dG (...) of each sample.
        - `saved`: of `value_and_saved`, in memory that may be overwritten; None: it is computed.

        **Returns:**

        (..., n); 0 where h is 0.
        """

    def limit(self, inputs: int, width: int) -> PairKernel | None:
        """Return the kernel of this goodness in the limit of infinite width, at initialisation.

        **Arguments:**

        - `inputs`: m.
        - `width`: n of the layer whose limit it is.

        **Returns:**

        The kernel; None where no closed form is known.
        """
        return None


class SumSquares(Goodness):
    """Sum of the squared activations (Hinton 2022, equation 1)."""

    name: Literal["sum_squares"] = "sum_squares"

    @property
    def quadratic(self) -> bool:
        return True

    def value(self, h: Tensor) -> Tensor:
        return length(h).square()

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        return h.mul_(2 * s.unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        return PairKernel(power=2, factor=2)


class MeanSquares(Goodness):
    """Mean of the squared activations: independent of the width, so that one threshold fits all."""

    is_mean: ClassVar[bool] = True

    name: Literal["mean_squares"] = "mean_squares"

    @property
    def quadratic(self) -> bool:
        return True

    def value(self, h: Tensor) -> Tensor:
        return length(h).square() / h.shape[-1]

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        return h.mul_(2 / h.shape[-1] * s.unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        return PairKernel(power=2, factor=2 / width)


class L2(Goodness):
    """Length of the activations, not squared: its pull does not grow with them (Tosato et al. 2023,
    arXiv 2305.18353).
    """

    of_units: ClassVar[bool] = False

    name: Literal["l2"] = "l2"

    def value(self, h: Tensor) -> Tensor:
        return length(h)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        return h.mul_((s / value.clamp_min(TINY)).unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        # a sample's pull is that of squares over 2 ||h_i||, and ||h_i||^2 = n ||x_i||^2 / (2 m)
        return PairKernel(power=1, factor=math.sqrt(2 * inputs / width))


class L1(Goodness):
    """Sum of the absolute activations: every active unit is pulled alike."""

    name: Literal["l1"] = "l1"

    def value(self, h: Tensor) -> Tensor:
        return h.abs().sum(-1)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        return h.sign_().mul_(s.unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        return _limit_of_powers(1.0, inputs)


class PowerSum(Goodness):
    """Sum of the activations' magnitudes to the power q: 1 is l1, 2 sum_squares; the larger q, the
    more the loud units count.
    """

    name: Literal["power_sum"] = "power_sum"
    q: float = Field(3.0, gt=0, le=16, description="the exponent")

    def value(self, h: Tensor) -> Tensor:
        return h.abs().pow_(self.q).sum(-1)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        slope = _power_below(h, self.q)
        return h.sign_().mul_(slope).mul_(self.q * s.unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        return _limit_of_powers(self.q, inputs)


class PowerMean(Goodness):
    """Mean of the activations' magnitudes to the power q, independent of the width: 2 is
    mean_squares.
    """

    is_mean: ClassVar[bool] = True

    name: Literal["power_mean"] = "power_mean"
    q: float = Field(3.0, gt=0, le=16, description="the exponent")

    def value(self, h: Tensor) -> Tensor:
        return self.value_and_saved(h)[0]

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return g, and |h|^(q - 1) (..., n), of which g is made, too: powers take long."""
        below = _power_below(h, self.q)
        return (below * h.abs()).mean(-1), (below,)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        (below,) = saved or (_power_below(h, self.q),)
        return h.sign_().mul_(below).mul_(self.q / h.shape[-1] * s.unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        kernel = _limit_of_powers(self.q, inputs)
        return kernel._replace(factor=kernel.factor / width)


class MinusSumSquares(Goodness):
    """Minus the sum of the squared activations: positives are to be quiet, negatives loud (Hinton
    2022, section 2).
    """

    name: Literal["minus_sum_squares"] = "minus_sum_squares"

    @property
    def quadratic(self) -> bool:
        return True

    def value(self, h: Tensor) -> Tensor:
        return length(h).square().neg()

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        return h.mul_(-2 * s.unsqueeze(-1))

    def limit(self, inputs: int, width: int) -> PairKernel:
        return PairKernel(power=2, factor=-2)


class TopK(Goodness):
    """Only the k largest activations count: the mean of themselves (arXiv 2604.13081), or the sum
    of their squares.
    """

    of_units: ClassVar[bool] = False

    name: Literal["top_k"] = "top_k"
    k: int | None = Field(
        DEFAULT_K, ge=1, le=65_536, description="how many units count; at most the width"
    )
    share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="which share of the units counts, in place of k: k is the share of the width, "
        "and at least five",
    )
    of: Literal["squares", "activations"] = Field(
        "squares",
        description="squares: the sum of the k largest squares; activations: the mean of the k "
        "largest activations",
    )

    @model_validator(mode="before")
    @classmethod
    def _one_size(cls, given: object) -> object:
        """Leave k out where a share is given."""
        if not isinstance(given, dict) or given.get("share") is None:
            return given
        if given.get("k") is not None:
            raise SpecFieldError(("share",), "give k or share, not both")
        return given | {"k": None}

    @model_validator(mode="after")
    def _some_size(self) -> Self:
        if self.k is None and self.share is None:
            raise SpecFieldError(("k",), "give k or share")
        return self

    @property
    def quadratic(self) -> bool:
        return self.of == "squares"

    def count(self, width: int) -> int:
        """Return how many units count.

        **Arguments:**

        - `width`: n.

        **Returns:**

        k, at most n.
        """
        wanted = max(LEAST_K, int(self.share * width)) if self.share else self.k or DEFAULT_K
        return min(wanted, width)

    def value(self, h: Tensor) -> Tensor:
        return self.value_and_saved(h)[0]

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return g, and which units count (..., k)."""
        k = self.count(h.shape[-1])
        if self.of == "activations":
            peaks, chosen = largest(h, k)
            return peaks.mean(-1), (chosen,)
        # another order of the peaks would change the last bit of their sum
        peaks, chosen = largest(h.abs(), k) if self.share else h.abs().topk(k, sorted=False)
        return peaks.square().sum(-1), (chosen,)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        (chosen,) = saved or self.value_and_saved(h)[1] or ()
        peaks = h.gather(-1, chosen)
        if self.of == "activations":
            pulls = (peaks != 0) * (s / chosen.shape[-1]).unsqueeze(-1)
        else:
            pulls = peaks * (2 * s.unsqueeze(-1))
        return h.zero_().scatter_(-1, chosen, pulls)

    def limit(self, inputs: int, width: int) -> PairKernel | None:
        if self.of == "activations":
            return None
        curve = Curve(top_share_kernel, self.count(width) / width)
        return PairKernel(power=2, factor=2, curve=curve)


class Entmax(Goodness):
    """Mean of the squared activations, weighted by their own alpha-entmax: the louder a unit, the
    more it counts, and quiet units count nothing (arXiv 2604.13081; entmax: Peters, Niculae and
    Martins 2019).
    """

    of_units: ClassVar[bool] = False

    name: Literal["entmax"] = "entmax"
    alpha: float = Field(
        1.5, ge=1, le=2, description="1 is softmax, 2 sparsemax: the larger, the fewer units count"
    )

    def value(self, h: Tensor) -> Tensor:
        return self.value_and_saved(h)[0]

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return g, the weights' slopes u (..., n), the roots of the weights (..., n), and the mean
        of h^2 weighted by u (..., 1).

        The weights are the roots times u, and their Jacobian is diag(u) - u u^T / sum u.
        """
        if self.alpha == 1:
            weights = h.softmax(-1)
            g = (weights * h).mul_(h).sum(-1)
            return g, (weights, weights.new_ones(()), g.unsqueeze(-1))
        roots = entmax_roots(h, self.alpha)
        slopes = lower_power(roots, self.alpha)
        squares = (slopes * h).mul_(h)
        mean = squares.sum(-1, keepdim=True) / slopes.sum(-1, keepdim=True)
        return squares.mul_(roots).sum(-1), (slopes, roots, mean)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        """Compute s u (h (h + 2 root) - mean)."""
        slopes, roots, mean = saved or self.value_and_saved(h)[1] or ()
        found = h.add(roots, alpha=2).mul_(h).sub_(mean).mul_(slopes).mul_(s.unsqueeze(-1))
        return found.mul_(h.ne_(0))


class Standardised(Goodness, ABC):
    """A standardised central moment over the units of a layer: it does not depend on the scale of
    the activations.
    """

    of_units: ClassVar[bool] = False
    # from the moment
    subtracted: ClassVar[float] = 0

    @property
    @abstractmethod
    def order(self) -> int:
        """p."""

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return m_p / m_2^(p/2), m_p = mean (h - mean h)^p, and the sd (..., 1), and d = (h - mean
        h) / sd (..., n).

        All are 0 where all units are alike.
        """
        around = h - h.mean(-1, keepdim=True)
        spread = length(around).unsqueeze(-1) / math.sqrt(h.shape[-1])
        around = _divide(around, spread + (spread == 0))
        return _whole_power(around, self.order).mean(-1), (spread, around)

    def value(self, h: Tensor) -> Tensor:
        return self.value_and_saved(h)[0]

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        """Compute s p / (n sd) (d^(p-1) - mean d^(p-1) - d mean d^p)."""
        spread, around = saved or self.value_and_saved(h)[1] or ()
        p = self.order
        slope = _whole_power(around, p - 1)
        slope -= slope.mean(-1, keepdim=True)
        slope -= around.mul_((value + self.subtracted).unsqueeze(-1))
        slope *= s.unsqueeze(-1) * (p / h.shape[-1]) / (spread + (spread == 0))
        return slope.mul_(h.ne_(0))


class Kurtosis(Standardised):
    """Excess kurtosis of the activations over the units: how bursty they are (arXiv 2604.13081)."""

    subtracted: ClassVar[float] = 3  # of a normal distribution

    name: Literal["kurtosis"] = "kurtosis"

    @property
    def order(self) -> int:
        return 4

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return the excess over a normal distribution."""
        moment, saved = super().value_and_saved(h)
        return moment - self.subtracted, saved


class Moment(Standardised):
    """Standardised central moment of the activations over the units (arXiv 2604.13081)."""

    name: Literal["moment"] = "moment"
    p: int = Field(3, ge=3, le=8, description="the order; 3 is the skewness")

    @property
    def order(self) -> int:
        return self.p


def _limit_of_powers(q: float, inputs: int) -> PairKernel:
    """Return the kernel of sum h^q; a pre-activation has the deviation ||x|| / sqrt(m)."""
    factor = q * inputs ** ((2 - q) / 2)
    return PairKernel(power=q, factor=factor, curve=Curve(power_kernel, q))


def _power_below(h: Tensor, q: float) -> Tensor:
    """Return |h|^(q - 1), finite where h is 0."""
    below = h.abs().pow(q - 1)
    # from q = 1 on it is finite, and the pull has the sign of h as a factor, which is 0 there
    return below.masked_fill(h == 0, 0) if q < 1 else below


def _divide(x: Tensor, divisor: Tensor) -> Tensor:
    """Return x / divisor, in the memory of x unless a gradient needs it."""
    return x / divisor if x.requires_grad else x.div_(divisor)


def _whole_power(x: Tensor, p: int) -> Tensor:
    """Return x^p, p >= 2, by products: the power of a library takes ten times as long."""
    square = x.square()
    if p == 2:
        return square
    found = square * (x if p % 2 else square)
    for _ in range((p - 3) // 2):
        found.mul_(square)
    return found


def length(h: Tensor) -> Tensor:
    """Compute the Euclidean length of vectors.

    **Arguments:**

    - `h`: (..., n).

    **Returns:**

    (...).
    """
    found: Tensor = h.norm(dim=-1)
    return found


def _by_name(goodness: object) -> object:
    """Return the object that a bare name stands for."""
    return {"name": goodness} if isinstance(goodness, str) else goodness


def _name_alone(goodness: Goodness) -> object:
    """Return the bare name of an entry without parameters, and the fields of any other."""
    fields = goodness.model_dump()
    return fields["name"] if len(fields) == 1 else fields


GoodnessName = Literal[
    "sum_squares",
    "mean_squares",
    "l2",
    "l1",
    "power_sum",
    "power_mean",
    "minus_sum_squares",
    "top_k",
    "entmax",
    "kurtosis",
    "moment",
]
GoodnessEntry = Annotated[
    SumSquares
    | MeanSquares
    | L2
    | L1
    | PowerSum
    | PowerMean
    | MinusSumSquares
    | TopK
    | Entmax
    | Kurtosis
    | Moment,
    Field(discriminator="name"),
    OpenUnion("goodness", Goodness, "name"),
]
AnyGoodnessName = Annotated[GoodnessName, OpenNames("goodness")]
AnyGoodness = Annotated[
    GoodnessEntry,
    BeforeValidator(_by_name, json_schema_input_type=AnyGoodnessName | GoodnessEntry),
    PlainSerializer(_name_alone, return_type=AnyGoodnessName | dict[str, str | int | float | None]),
]
GOODNESS_MEANING = "G before the threshold: a name, or an object where the entry has parameters"


class Objective(Entry, ABC):
    """What a layer minimises, as a function of the goodness of positives and of negatives."""

    # True where dL/dG is the same whatever the goodness is
    linear: ClassVar[bool] = False
    # True where the loss of a pair is no sum of a term of each sample
    paired: ClassVar[bool] = False

    goodness: AnyGoodness = Field(SumSquares(), description=GOODNESS_MEANING)
    peer_normalization: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="weight of the penalty on units whose mean activity differs from the layer's "
        "(Hinton 2022)",
    )
    peer_momentum: float = Field(
        0.9,
        ge=0,
        lt=1,
        description="momentum of the running mean of each unit's activity, which the penalty of "
        "peer normalisation compares",
    )

    def offset(self, width: int) -> float:
        """Return the threshold that is subtracted from the goodness of a layer.

        **Arguments:**

        - `width`: n.

        **Returns:**

        The threshold.
        """
        return 0.0

    @abstractmethod
    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Split the loss of each pair into the terms of its two samples.

        **Arguments:**

        - `positive`: G (R, B) of positives.
        - `negative`: G (R, B) of their negatives.

        **Returns:**

        (R, B) for each split; the sum of the two is the loss of the pair.
        """

    @abstractmethod
    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Compute dL/dG of the pair's loss for each split; above zero, a step lowers the goodness.

        **Arguments:**

        - `positive`: G (R, B) of positives.
        - `negative`: G (R, B) of their negatives.

        **Returns:**

        (R, B) for each split.
        """

    def coefficients(self, goodness: Tensor, positives: int) -> Tensor:
        """Compute s = dL/dG of a batch, L being the mean over its pairs.

        **Arguments:**

        - `goodness`: G (..., 2B), positives first.
        - `positives`: B.

        **Returns:**

        s (..., 2B).
        """
        s = goodness.new_empty(goodness.shape)
        s[..., :positives], s[..., positives:] = self.slopes(
            goodness[..., :positives], goodness[..., positives:]
        )
        return s.div_(positives)

    def coefficients_of(self, split: Split, goodness: Tensor) -> Tensor:
        """Compute s = dL/dG of a batch of one split, L being the mean over its samples.

        **Arguments:**

        - `split`: which; the objective is not paired.
        - `goodness`: G (..., B).

        **Returns:**

        s (..., B).
        """
        positive, negative = self.slopes(goodness, goodness)
        return (positive if split == "positive" else negative).div_(goodness.shape[-1])


class Difference(Objective):
    """L = G(negative) - G(positive): the objective of the sparsity theorems (arXiv 2311.05667)."""

    linear: ClassVar[bool] = True

    name: Literal["difference"] = "difference"

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return -positive, negative

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return positive.new_full(positive.shape, -1.0), negative.new_full(negative.shape, 1.0)


class Thresholded(Objective, ABC):
    """An objective that compares each sample's goodness with a threshold."""

    threshold: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="goodness above it means positive; null: the layer's width",
    )

    def offset(self, width: int) -> float:
        return float(width) if self.threshold is None else self.threshold


class SoftplusLoss(Thresholded):
    """L = softplus(-G(positive)) + softplus(G(negative)), G less the threshold: Hinton's logistic
    loss (arXiv 2212.13345).
    """

    name: Literal["softplus"] = "softplus"
    goodness: AnyGoodness = Field(MeanSquares(), description=GOODNESS_MEANING)
    threshold: float | None = Field(
        2.0,
        ge=-1e6,
        le=1e6,
        description="goodness above it means positive; null: the layer's width",
    )

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return softplus(-positive), softplus(negative)

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return -((-positive).sigmoid()), negative.sigmoid()


class Bce(Thresholded):
    """Binary cross-entropy with G as the logit of being positive, averaged over all samples (Löwe
    2023, github.com/loeweX).
    """

    name: Literal["bce"] = "bce"

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return softplus(-positive) / 2, softplus(negative) / 2

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return (-positive).sigmoid() / -2, negative.sigmoid() / 2


class Symba(Objective):
    """L = softplus(-alpha (G(positive) - G(negative))): only the difference of a pair counts (Lee &
    Song 2023, arXiv 2303.08418).
    """

    paired: ClassVar[bool] = True

    name: Literal["symba"] = "symba"
    goodness: AnyGoodness = Field(MeanSquares(), description=GOODNESS_MEANING)
    alpha: float = Field(4.0, gt=0, le=1e4, description="steepness")

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        half = softplus(self.alpha * (negative - positive)) / 2
        return half, half

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        s = self.alpha * (self.alpha * (negative - positive)).sigmoid()
        return -s, s


class SwishLoss(Objective):
    """L = silu(-alpha (G(positive) - G(negative))): as symba, but a pair that is far enough apart
    is let go.
    """

    paired: ClassVar[bool] = True

    name: Literal["swish"] = "swish"
    goodness: AnyGoodness = Field(MeanSquares(), description=GOODNESS_MEANING)
    alpha: float = Field(6.0, gt=0, le=1e4, description="steepness")

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        u = self.alpha * (negative - positive)
        half = u * u.sigmoid() / 2
        return half, half

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        u = self.alpha * (negative - positive)
        gate = u.sigmoid()
        s = self.alpha * gate * (1 + u * (1 - gate))
        return -s, s


class LinearThreshold(Thresholded):
    """L = max(0, -G(positive)) + max(0, G(negative)), G less the threshold: linear until a sample
    is on its side, then still.
    """

    name: Literal["linear_threshold"] = "linear_threshold"
    goodness: AnyGoodness = Field(MeanSquares(), description=GOODNESS_MEANING)
    threshold: float | None = Field(
        0.5,
        ge=-1e6,
        le=1e6,
        description="goodness above it means positive; null: the layer's width",
    )

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return (-positive).clamp_min(0), negative.clamp_min(0)

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return -(positive < 0).to(positive.dtype), (negative > 0).to(negative.dtype)


def softplus(u: Tensor) -> Tensor:
    """Compute log(1 + exp(u)) without overflow, elementwise.

    **Arguments:**

    - `u`: of any shape.

    **Returns:**

    The same shape.
    """
    return u.clamp_min(0) + (-u.abs()).exp().log1p()


AnyObjective = Annotated[
    Difference | SoftplusLoss | Bce | Symba | SwishLoss | LinearThreshold,
    Field(discriminator="name"),
    OpenUnion("objectives", Objective, "name"),
    default_choice("name", "difference"),
]
