"""Catalogue of goodness functions and objectives, each with its derivative in closed form.

An objective takes the goodness of both splits and gives each sample's loss and its slope. One over
classes (MultiClass) takes the activations of single samples and their labels instead.

Legend: R replicas, B pairs of a positive and its negative, n width, h (R, B, n) activations, g
goodness before the threshold, G = g - threshold. The loss of a batch is the mean over its pairs.
Of objectives over classes: B samples, C classes, head (R, C, n) the class vectors of a layer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, PlainSerializer, PrivateAttr, model_validator

from ffengine.additions import OpenNames, OpenUnion
from ffengine.entmax import entmax_roots, lower_power
from ffengine.entry import Entry, SpecFieldError, default_choice
from ffengine.goodness_kernels import Curve, PairKernel, power_kernel, top_share_kernel
from ffengine.largest import largest

if TYPE_CHECKING:
    from torch import Tensor

    from ffengine.random_streams import Draw
    from ffengine.results import Split

    Product = Callable[[Tensor, Tensor], Tensor]  # multiplies batched matrices
    # what the pull of activations needs besides them; None: nothing
    Saved = tuple[Tensor, ...] | None

DEFAULT_K = 10
LEAST_K = 5  # of a share of the units (arXiv 2604.13081)
LEAST_SHARE = 1e-10  # is added within logarithms of shares (CAW-Conv)
LEAST_MOMENT = 1e-30  # a smaller one counts as 0
TINY = 1e-12  # keeps the slope of the norm of a dead sample at zero


class Goodness(Entry, ABC):
    """How strongly a layer is excited by a sample: one number from its activations."""

    # whether g is a sum or a mean over units, so that units do not interact through it
    of_units: ClassVar[bool] = True
    # whether g is a mean over units, so that a unit's pull falls with the width
    is_mean: ClassVar[bool] = False
    # whether g compares parts of a layer, so that its size is not how strongly the layer is excited
    compares: ClassVar[bool] = False
    # whether g depends on running statistics of the layer, which training keeps for each layer
    has_statistics: ClassVar[bool] = False

    @property
    def quadratic(self) -> bool:
        """Whether g(c h) = c^2 g(h) for every c > 0: the pull is as many times larger as h is."""
        return False

    @property
    def never_negative(self) -> bool:
        """Whether g >= 0 for all activations."""
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

    def new_statistics(self, weight: Tensor) -> Tensor:
        """Return the statistics of a layer before its first step.

        **Arguments:**

        - `weight`: W (R, n, m) of the layer.

        **Returns:**

        (R, s), of no columns where the goodness has no statistics.
        """
        return weight.new_zeros(len(weight), 0)

    def follow(self, statistics: Tensor, h: Tensor, saved: Saved = None) -> None:
        """Take a batch into the statistics of a layer, in place.

        **Arguments:**

        - `statistics`: (R, s); this goodness stands beside them.
        - `h`: (R, B, n), the layer's activations in a step of training.
        - `saved`: of `value_and_saved`; None: it is computed.
        """
        return

    def beside(self, statistics: Tensor | None) -> Goodness:
        """Return the goodness of a layer with those statistics, which are constants in it.

        **Arguments:**

        - `statistics`: (R, s); None: there are none yet.

        **Returns:**

        A goodness of activations (R, ..., n).
        """
        return self

    def learning(self, statistics: Tensor | None, h: Tensor) -> tuple[Goodness, Tensor, Saved]:
        """Take a batch into the statistics, and return its goodness for a step of training.

        **Arguments:**

        - `statistics`: (R, s); None: there are none.
        - `h`: (R, B, n), the layer's activations.

        **Returns:**

        The goodness whose pull the step takes, the batch's goodness (R, B), and what the pull
        needs. The statistics are those of the steps before, so that they are constants of this one,
        unless the goodness says otherwise.
        """
        found = self.beside(statistics)
        value, saved = found.value_and_saved(h)
        if statistics is not None:
            found.follow(statistics, h, saved)
        return found, value, saved

    @property
    def capturable(self) -> bool:
        """Whether a GPU may take a step by it without the processor looking at any number."""
        return True

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

    @property
    def never_negative(self) -> bool:
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

    @property
    def never_negative(self) -> bool:
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

    @property
    def never_negative(self) -> bool:
        return True

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

    @property
    def never_negative(self) -> bool:
        return True

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

    @property
    def never_negative(self) -> bool:
        return True

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

    @property
    def never_negative(self) -> bool:
        return True

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

    @property
    def never_negative(self) -> bool:
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

    @property
    def never_negative(self) -> bool:
        return True

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


LEAST_EPS = 1e-6  # of a whole matrix of moments


class Whitened(Goodness):
    """Sum of the squared activations, each over the running second moment of its unit, or by those
    of all pairs of units: a goodness that does not depend on the scale of the weights (after arXiv
    2607.12501). Before the first step it is sum_squares.
    """

    has_statistics: ClassVar[bool] = True

    name: Literal["whitened"] = "whitened"
    momentum: float = Field(
        0.9, ge=0, lt=1, description="momentum of the running moments; 0: of the last batch alone"
    )
    eps: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="what is added to each moment, in units of the layer's mean moment, so that "
        "units that are nearly silent do not count without bound; at least 1e-6 with diagonal: "
        "false",
    )
    diagonal: bool = Field(
        True,
        description="true: each unit by its own moment alone; false: h^T (C + eps v I)^-1 h, with "
        "the running mean C of h h^T over samples and the mean v of its diagonal",
    )
    moments: Literal["constant", "batch"] = Field(
        "constant",
        description="constant: those of the steps before, through which no gradient goes; batch: "
        "those with the step's own batch, and the gradient goes through what it adds to them",
    )

    # (R, n) 1 / (moment + eps v), or (R, n, n) the inverse of the matrix; None: 1
    _factors: Tensor | None = PrivateAttr(None)
    # (R, 1) of a batch's mean in the moments, where the gradient goes through it; None: it does not
    _share: Tensor | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _invertible(self) -> Whitened:
        """Refuse what leaves a matrix without an inverse in floating point."""
        if not self.diagonal and self.eps < LEAST_EPS:
            raise SpecFieldError(("eps",), f"at least {LEAST_EPS:g} with diagonal: false")
        return self

    @property
    def capturable(self) -> bool:
        return self.diagonal  # an inverse looks at its numbers

    def new_statistics(self, weight: Tensor) -> Tensor:
        """Return the running moments (R, n + 1), or (R, n n + 1) float64, 0; the last column is
        their weight.
        """
        replicas, width = weight.shape[:2]
        if self.diagonal:
            return weight.new_zeros(replicas, width + 1)
        return weight.new_zeros(replicas, width * width + 1, dtype=weight.double().dtype)

    def follow(self, statistics: Tensor, h: Tensor, saved: Saved = None) -> None:
        """Move the moments towards those of a batch, positives and negatives alike."""
        fresh = 1 - self.momentum
        statistics[:, :-1].lerp_(self._of_batch(h, saved), fresh)
        statistics[:, -1] *= self.momentum
        statistics[:, -1] += fresh

    def _of_batch(self, h: Tensor, saved: Saved) -> Tensor:
        """Return the second moments of a batch as the statistics have them."""
        if not self.diagonal:
            exact = h.double()
            return (exact.mT @ exact).flatten(1) / h.shape[1]
        (energies,) = saved or self.value_and_saved(h)[1] or ()
        mean = energies.mean(1)
        return mean if self._factors is None else mean / self._factors

    def beside(self, statistics: Tensor | None) -> Whitened:
        """Return this goodness with the factors that the moments make."""
        found = self.model_copy()
        if statistics is not None:
            found._factors = self._of_moments(statistics)
        return found

    def learning(self, statistics: Tensor | None, h: Tensor) -> tuple[Goodness, Tensor, Saved]:
        if self.moments == "constant" or statistics is None:
            return super().learning(statistics, h)
        self.follow(statistics, h)
        found = self.beside(statistics)
        found._share = (1 - self.momentum) / statistics[:, -1:]
        return (found, *found.value_and_saved(h))

    def _of_moments(self, statistics: Tensor) -> Tensor:
        """Return the factors; 1, or the unit matrix, before the first step."""
        weight = statistics[:, -1:]
        moments = statistics[:, :-1] / (weight + (weight == 0))
        if self.diagonal:
            raised = moments + self.eps * moments.mean(-1, keepdim=True)
            # of units that were all silent the moments are 0, and 0 times infinity is no number
            return ((raised < LEAST_MOMENT) + raised).reciprocal()
        width = math.isqrt(moments.shape[1])
        matrix = moments.view(-1, width, width).clone()
        own = matrix.diagonal(dim1=-2, dim2=-1)
        shift = self.eps * own.mean(-1, keepdim=True)
        own += (shift < LEAST_MOMENT) + shift
        return matrix.inverse()

    def _weighed(self, h: Tensor) -> Tensor:
        """Return the factors times h, in memory of their own."""
        if self._factors is None:
            return h.clone()
        replicas, width = self._factors.shape[:2]
        if self.diagonal:
            return h * self._factors.view(replicas, *[1] * (h.dim() - 2), width)
        matrix = self._factors.to(h.dtype)
        if h.dim() == 3:
            return h @ matrix
        return (h.reshape(replicas, -1, width) @ matrix).view(h.shape)

    def value(self, h: Tensor) -> Tensor:
        return self.value_and_saved(h)[0]

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return g, and what each unit adds to it (..., n)."""
        if self.diagonal:
            energies, factors = h.square(), self._factors
            if factors is not None:
                factors = factors.view(len(factors), *[1] * (h.dim() - 2), h.shape[-1])
                energies = energies * factors if energies.requires_grad else energies.mul_(factors)
        else:
            energies = self._weighed(h) * h
        return energies.sum(-1), (energies,)

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        """Compute 2 s M h, M being the factors, and what goes through the moments of a batch."""
        through = None if self._share is None else self._through_moments(h, s, self._share)
        twice = 2 * s.unsqueeze(-1)
        if self.diagonal:
            pull, factors = h.mul_(twice), self._factors
            if factors is not None:
                pull.mul_(factors.view(len(factors), *[1] * (h.dim() - 2), h.shape[-1]))
        else:
            pull = self._weighed(h).mul_(twice * (h != 0))
        return pull if through is None else pull.add_(through)

    def _through_moments(self, h: Tensor, s: Tensor, share: Tensor) -> Tensor:
        """Return what the loss changes by through what samples (R, B, n) add to the moments.

        The slope in the moments is -sum s (M h) (M h)^T, and eps / n of its trace on the diagonal;
        where M has no more than a diagonal, only that of the slope counts.
        """
        weighed = self._weighed(h)
        step = (2 / h.shape[1]) * share.to(h.dtype).unsqueeze(-1)  # (R, 1, 1)
        if self.diagonal:
            slope = -(weighed.square() * s.unsqueeze(-1)).sum(1, keepdim=True)  # (R, 1, n)
            slope += (self.eps / h.shape[-1]) * slope.sum(-1, keepdim=True)
            return step * slope * h
        matrix = -((weighed * s.unsqueeze(-1)).mT @ weighed)  # (R, n, n)
        own = matrix.diagonal(dim1=-2, dim2=-1)
        own += (self.eps / h.shape[-1]) * own.sum(-1, keepdim=True)
        return step * (h @ matrix) * (h != 0)


PolarForm = Literal["sigma", "symmetric"]
POLAR_EPS = 1e-6  # of the symmetric form (Terres-Escudero et al. 2024)


class Halves(Goodness):
    """The goodness of the positive half of a layer against that of its negative half, as the logit
    of p, which the objective `polar` makes of the two.
    """

    of_units: ClassVar[bool] = False
    compares: ClassVar[bool] = True

    half: Goodness
    form: PolarForm
    alpha: float

    @property
    def quadratic(self) -> bool:
        return self.form == "sigma" and self.half.quadratic

    def value(self, h: Tensor) -> Tensor:
        return self.value_and_saved(h)[0]

    def value_and_saved(self, h: Tensor) -> tuple[Tensor, Saved]:
        """Return the logit, the goodness of either half, and what the pulls of both need."""
        positive, negative = halves(h)
        up, of_up = self.half.value_and_saved(positive)
        down, of_down = self.half.value_and_saved(negative)
        return self._logit(up, down), (up, down, *(of_up or ()), *(of_down or ()))

    def pull(self, h: Tensor, value: Tensor, s: Tensor, saved: Saved = None) -> Tensor:
        """Compute s times the slope of the logit in each half's goodness, times that in h."""
        up, down, *more = saved or self.value_and_saved(h)[1] or ()
        middle = len(more) // 2
        positive, negative = halves(h)
        of_up, of_down = self._slopes(up, down)
        # what a pull does in the memory of h is in place already
        positive.copy_(self.half.pull(positive, up, s * of_up, tuple(more[:middle]) or None))
        negative.copy_(self.half.pull(negative, down, s * of_down, tuple(more[middle:]) or None))
        return h

    def _logit(self, up: Tensor, down: Tensor) -> Tensor:
        """Return ln p / (1 - p) from the goodness of the halves."""
        if self.form == "sigma":
            return (up - down) * self.alpha
        return (up + POLAR_EPS).log() - (down + POLAR_EPS).log()

    def _slopes(self, up: Tensor, down: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return the derivatives of the logit with respect to the goodness of each half."""
        if self.form == "sigma":
            return self.alpha, -self.alpha
        return (up + POLAR_EPS).reciprocal(), -(down + POLAR_EPS).reciprocal()


def positive_units(width: int) -> int:
    """Return how many units of a layer are of its positive half, which are its first ones.

    **Arguments:**

    - `width`: n.

    **Returns:**

    n / 2; of an odd width the positive half has the unit more.
    """
    return (width + 1) // 2


def halves(h: Tensor) -> tuple[Tensor, Tensor]:
    """Split activations by the half of the layer whose they are.

    **Arguments:**

    - `h`: (..., n).

    **Returns:**

    Views of the positive half and of the negative half.
    """
    middle = positive_units(h.shape[-1])
    return h[..., :middle], h[..., middle:]


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
    "whitened",
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
    | Moment
    | Whitened,
    Field(discriminator="name"),
    OpenUnion("goodness", (Goodness,), "name"),
]
AnyGoodnessName = Annotated[GoodnessName, OpenNames("goodness")]
AnyGoodness = Annotated[
    GoodnessEntry,
    BeforeValidator(_by_name, json_schema_input_type=AnyGoodnessName | GoodnessEntry),
    PlainSerializer(_name_alone, return_type=AnyGoodnessName | dict[str, str | int | float | None]),
]
GOODNESS_MEANING = "G before the threshold: a name, or an object where the entry has parameters"


class Collaboration(Entry):
    """Goodness of other layers that counts as a layer's own in its loss, a constant of the step
    (Lorberbom et al. 2023, arXiv 2305.12393).
    """

    of: Literal["earlier", "others"] = Field(
        "earlier", description="which: those of the layers below, or of all other layers"
    )
    weight: float = Field(1.0, gt=0, le=1e6, description="how much of it counts")


class LayerObjective(Entry, ABC):
    """What a layer minimises."""

    # True where dL/dG is the same whatever the goodness is
    linear: ClassVar[bool] = False
    # True where the loss of a pair is no sum of a term of each sample
    paired: ClassVar[bool] = False

    @property
    def collaborates(self) -> bool:
        """Whether the loss of a layer depends on the goodness of others."""
        return False

    def combined(self, goodness: Tensor) -> Tensor:
        """Combine the goodness of several layers into one score of a sample.

        **Arguments:**

        - `goodness`: g (R, L, ...) of L layers.

        **Returns:**

        (R, ...): their sum.
        """
        return goodness.sum(1)


class Objective(LayerObjective, ABC):
    """What a layer minimises, as a function of the goodness of positives and of negatives."""

    if TYPE_CHECKING:
        name: str  # each entry has it; a field here would come first in every stored spec

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

    @property
    def layer_goodness(self) -> Goodness:
        """The goodness of a whole layer, from which the objective's terms are computed."""
        return self.goodness

    def counted_units(self, width: int) -> int:
        """Return over how many units the goodness is taken.

        **Arguments:**

        - `width`: n.

        **Returns:**

        n, or the units of a half where halves have a goodness each.
        """
        return width

    def offset(self, width: int) -> float:
        """Return the threshold that is subtracted from the goodness of a layer.

        **Arguments:**

        - `width`: n.

        **Returns:**

        The threshold; that of positives, where negatives have another.
        """
        return 0.0

    def offsets(self, width: int) -> tuple[float, float]:
        """Return the thresholds that are subtracted from the goodness of each split.

        **Arguments:**

        - `width`: n.

        **Returns:**

        The threshold of positives, and that of negatives.
        """
        return self.offset(width), self.offset(width)

    def above(self, goodness: Tensor, positives: int, width: int) -> Tensor:
        """Compute G: the goodness of samples, less the threshold of their split.

        **Arguments:**

        - `goodness`: g (..., N), positives first.
        - `positives`: how many of the samples are positives.
        - `width`: n.

        **Returns:**

        G (..., N).
        """
        of_positives, of_negatives = self.offsets(width)
        if of_positives == of_negatives:
            return goodness - of_positives
        found = goodness - of_positives
        found[..., positives:] = goodness[..., positives:] - of_negatives
        return found

    def inherited(self, goodness: Sequence[Tensor], layer: int) -> Tensor | None:
        """Compute what the goodness of other layers adds to G of a layer.

        **Arguments:**

        - `goodness`: g of the same samples in each layer, of any shape.
        - `layer`: the layer, from 0.

        **Returns:**

        Of the same shape; None: nothing is added.
        """
        return None

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
    negative_threshold: float | None = Field(
        None,
        ge=-1e6,
        le=1e6,
        description="threshold that negatives are to stay below, where it is another than that of "
        "positives; null: threshold",
    )
    collaboration: Collaboration | None = Field(
        None,
        description="goodness of other layers that is added to a layer's own; null: each layer "
        "goes by its own. It needs layers: simultaneous",
    )

    def offset(self, width: int) -> float:
        return float(width) if self.threshold is None else self.threshold

    @property
    def collaborates(self) -> bool:
        return self.collaboration is not None

    def inherited(self, goodness: Sequence[Tensor], layer: int) -> Tensor | None:
        if self.collaboration is None:
            return None
        of_all = self.collaboration.of == "others"
        added = [g for at, g in enumerate(goodness) if at < layer or (of_all and at > layer)]
        return sum(added[1:], added[0]) * self.collaboration.weight if added else None

    def offsets(self, width: int) -> tuple[float, float]:
        own, other = self.offset(width), self.negative_threshold
        return own, own if other is None else other


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


NO_THRESHOLD = "the goodness of one half is compared with that of the other, not with a threshold"
NOT_OF_HALVES = {
    "threshold": NO_THRESHOLD,
    "negative_threshold": NO_THRESHOLD,
    "collaboration": "layers with two halves go by their own goodness",
}


class Polar(Objective):
    """L = -ln p(positive) - ln(1 - p(negative)): the first half of a layer's units is to be loud on
    positives, the second half on negatives, and p compares the goodness of both (Terres-Escudero et
    al. 2024, arXiv 2408.09210).
    """

    name: Literal["polar"] = "polar"
    form: PolarForm = Field(
        "sigma",
        description="sigma: p = sigmoid(alpha (G_P - G_N)); symmetric: p = (G_P + 1e-6) / (G_P + "
        "G_N + 2e-6), G_P being the goodness of the positive half and G_N that of the negative one",
    )
    alpha: float = Field(1.0, gt=0, le=1e4, description="steepness, of the form sigma")
    goodness: AnyGoodness = Field(
        L2(),
        description="goodness of either half: a name, or an object where the entry has parameters",
    )

    @model_validator(mode="before")
    @classmethod
    def _nothing_of_whole_layers(cls, given: object) -> object:
        """Refuse what compares a whole layer with a number, or with other layers."""
        for field, why in NOT_OF_HALVES.items():
            if isinstance(given, dict) and field in given:
                raise SpecFieldError((field,), f"{why}; leave it out")
        return given

    @model_validator(mode="after")
    def _of_halves(self) -> Self:
        """Refuse what two halves of a layer cannot have."""
        if self.peer_normalization:
            raise SpecFieldError(
                ("peer_normalization",),
                "it makes the units of a layer alike, and its halves are to differ; use 0",
            )
        if self.goodness.has_statistics:
            raise SpecFieldError(
                ("goodness",),
                f"{self.goodness.name} goes by running moments of a whole layer; use l2 or "
                "sum_squares",
            )
        if self.form == "symmetric" and self.alpha != 1:
            raise SpecFieldError(
                ("alpha",), "the form symmetric has no steepness; leave it out, or use sigma"
            )
        if self.form == "symmetric" and not self.goodness.never_negative:
            raise SpecFieldError(
                ("goodness",),
                f"p of the form symmetric is a share, and {self.goodness.name} may be negative; "
                "use sigma, or a goodness that is not, such as sum_squares, l1 or top_k of squares",
            )
        return self

    @property
    def layer_goodness(self) -> Halves:
        return Halves(half=self.goodness, form=self.form, alpha=self.alpha)

    def counted_units(self, width: int) -> int:
        return positive_units(width)

    def combined(self, goodness: Tensor) -> Tensor:
        """Return the logit of the mean of p over layers: it orders samples as the sum of p does,
        also where rounding makes each p 0 or 1.
        """
        likely = softplus(-goodness).neg_().logsumexp(1)
        return likely - softplus(goodness).neg_().logsumexp(1)

    def terms(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return softplus(-positive), softplus(negative)

    def slopes(self, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        return -((-positive).sigmoid()), negative.sigmoid()


class ClassPull(NamedTuple):
    """Where the loss of labelled samples goes down.

    **Attributes:**

    - `activations`: -dL/dh (R, B, n).
    - `head`: -dL/d head (R, C, n); None where the objective has none.
    """

    activations: Tensor
    head: Tensor | None


class MultiClass(LayerObjective, ABC):
    """The cross-entropy of class logits that are made of a layer's own activations. Samples carry
    no label and have no negatives; the predicted class has the largest logit, summed over layers.
    """

    # whether a layer learns a vector for each class, and whether its numbers are of channels
    # rather than of all activations of a map
    has_head: ClassVar[bool] = False
    head_is_of_channels: ClassVar[bool] = False

    name: str

    def new_head(self, draw: Draw, replicas: int, width: int, classes: int) -> Tensor | None:
        """Draw the class vectors that a layer begins with.

        **Arguments:**

        - `draw`: their random stream.
        - `replicas`: R.
        - `width`: n.
        - `classes`: C.

        **Returns:**

        (R, C, n) float32; None where the objective has none.
        """
        return None

    def constrain(self, head: Tensor) -> None:
        """Bring class vectors back to where they must lie after a step, in place.

        **Arguments:**

        - `head`: (R, C, n).
        """

    @abstractmethod
    def logits(self, h: Tensor, classes: int, head: Tensor | None, product: Product) -> Tensor:
        """Compute the logit of each class.

        **Arguments:**

        - `h`: (R, B, n) activations.
        - `classes`: C.
        - `head`: (R, C, n); None where the objective has none.
        - `product`: multiplies batched matrices.

        **Returns:**

        (R, B, C).
        """

    @abstractmethod
    def back(
        self, h: Tensor, logits: Tensor, slopes: Tensor, head: Tensor | None, product: Product
    ) -> ClassPull:
        """Take slopes from the logits back to what they are made of.

        **Arguments:**

        - `h`: (R, B, n) activations.
        - `logits`: (R, B, C), as `logits` returns them.
        - `slopes`: -dL/d logits (R, B, C).
        - `head`: (R, C, n); None where the objective has none.
        - `product`: multiplies batched matrices.

        **Returns:**

        -dL/dh and -dL/d head.
        """

    def losses(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the cross-entropy of each sample.

        **Arguments:**

        - `logits`: (R, B, C).
        - `labels`: (R, B) int64.

        **Returns:**

        (R, B).
        """
        return -logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)

    def pull(
        self, h: Tensor, labels: Tensor, classes: int, head: Tensor | None, product: Product
    ) -> ClassPull:
        """Compute where the loss goes down; it is the mean cross-entropy over the samples.

        **Arguments:**

        - `h`: (R, B, n) activations.
        - `labels`: (R, B) int64.
        - `classes`: C.
        - `head`: (R, C, n); None where the objective has none.
        - `product`: multiplies batched matrices.

        **Returns:**

        -dL/dh and -dL/d head.
        """
        logits = self.logits(h, classes, head, product)
        own = labels.unsqueeze(-1)
        slopes = logits.softmax(-1).neg_()
        slopes = slopes.scatter_add_(-1, own, slopes.new_ones(own.shape)).div_(labels.shape[-1])
        return self.back(h, logits, slopes, head, product)


class MonoForward(MultiClass):
    """Mono-Forward: logits = h M^T, with a matrix M that each layer learns (Gong et al. 2025, arXiv
    2501.09238).
    """

    has_head: ClassVar[bool] = True

    name: Literal["mono_forward"] = "mono_forward"

    def new_head(self, draw: Draw, replicas: int, width: int, classes: int) -> Tensor:
        """Draw M (R, C, n) uniformly within 1 / sqrt(n), as torch.nn.Linear does."""
        return draw.uniform((replicas, classes, width)).mul_(2).sub_(1).div_(math.sqrt(width))

    def logits(self, h: Tensor, classes: int, head: Tensor | None, product: Product) -> Tensor:
        return product(h, _learnt(head).mT)

    def back(
        self, h: Tensor, logits: Tensor, slopes: Tensor, head: Tensor | None, product: Product
    ) -> ClassPull:
        return ClassPull(product(slopes, _learnt(head)), product(slopes.mT, h))


class ClassBlock(MultiClass):
    """A block of units for each class: its logit is their mean activation (Sun et al. 2025,
    DeeperForward), or the mean of their squares (Papachristodoulou et al. 2024, arXiv 2312.12668).
    """

    name: Literal["class_block"] = "class_block"
    power: Literal[1, 2] = Field(
        1, description="1: the logit is the mean activation of the block; 2: the mean of squares"
    )

    def logits(self, h: Tensor, classes: int, head: Tensor | None, product: Product) -> Tensor:
        raised = h if self.power == 1 else h.square()
        found = h.new_empty((*h.shape[:-1], classes))
        for label, block in enumerate(class_blocks(h.shape[-1], classes)):
            found[..., label] = raised[..., block].mean(-1)
        return found

    def back(
        self, h: Tensor, logits: Tensor, slopes: Tensor, head: Tensor | None, product: Product
    ) -> ClassPull:
        pull = h.new_ones(h.shape) if self.power == 1 else h * 2
        for label, block in enumerate(class_blocks(h.shape[-1], slopes.shape[-1])):
            pull[..., block] *= (slopes[..., label] / (block.stop - block.start)).unsqueeze(-1)
        return ClassPull(pull, None)


class Prototypes(MultiClass):
    """Hyperspherical prototypes: logits = cos(h, p_c) / temperature, with a unit vector p_c for
    each class that each layer learns (Sarode et al. 2026, arXiv 2605.00082).
    """

    has_head: ClassVar[bool] = True

    name: Literal["prototypes"] = "prototypes"
    temperature: float = Field(
        0.1, gt=0, le=1e6, description="the cosine is divided by it: small is steep"
    )

    def new_head(self, draw: Draw, replicas: int, width: int, classes: int) -> Tensor:
        """Draw unit vectors (R, C, n), uniform over the sphere."""
        head = draw.normal((replicas, classes, width)).float()
        self.constrain(head)
        return head

    def constrain(self, head: Tensor) -> None:
        head.div_(_lengths(head))

    def logits(self, h: Tensor, classes: int, head: Tensor | None, product: Product) -> Tensor:
        vectors = _learnt(head)
        cosine = product(h / _lengths(h), (vectors / _lengths(vectors)).mT)
        return cosine / self.temperature

    def back(
        self, h: Tensor, logits: Tensor, slopes: Tensor, head: Tensor | None, product: Product
    ) -> ClassPull:
        """Compute sum_c s_c (p_c - cos u) / (|h| tau) with h = |h| u, and the same of each p_c."""
        vectors = _learnt(head)
        of_samples, of_vectors = _lengths(h), _lengths(vectors)
        u, p = h / of_samples, vectors / of_vectors
        along, steep = slopes * logits, slopes / self.temperature  # along: s cos / tau
        pull = product(steep, p).sub_(u * along.sum(-1, keepdim=True)).div_(of_samples)
        learnt = product(steep.mT, u).sub_(p * along.sum(1).unsqueeze(-1)).div_(of_vectors)
        # the angle of a dead sample is undefined, and it has no pull
        return ClassPull(pull.masked_fill_((h == 0).all(-1, keepdim=True), 0), learnt)


class ChannelAssignment(MultiClass):
    """Channels that learn to which classes they belong: G = p A, with p what is pooled of each
    channel's map and A = softmax over classes of V / temperature, which each layer learns (Ghader
    et al. 2026, CAW-Conv, arXiv 2606.09928). A unit without a map is a map of one position.
    """

    has_head: ClassVar[bool] = True
    head_is_of_channels: ClassVar[bool] = True

    name: Literal["channel_assignment"] = "channel_assignment"
    temperature: float = Field(
        10.0, gt=0, le=1e6, description="V is divided by it: large is slow to decide"
    )
    entropy: float = Field(
        1e-2,
        ge=0,
        le=1e6,
        description="weight of the penalty on the entropy of each class's column of A, over "
        "channels; the mean over classes",
    )
    orthogonality: float = Field(
        1e-3,
        ge=0,
        le=1e6,
        description="weight of the penalty on cosines between the columns of A: their squares, "
        "averaged over all pairs and divided by C^2 n, with C classes and n channels",
    )
    mean: float = Field(
        0.94, ge=-1e3, le=1e3, description="weight of a map's mean in what is pooled"
    )
    largest: float = Field(0.06, ge=-1e3, le=1e3, description="weight of its largest value")
    smallest: float = Field(-0.05, ge=-1e3, le=1e3, description="weight of its smallest value")

    def new_head(self, draw: Draw, replicas: int, width: int, classes: int) -> Tensor:
        """Make V (R, C, n) of zeros: every channel belongs to all classes alike."""
        return draw.uniform((replicas, classes, width)).mul_(0)

    def logits(self, h: Tensor, classes: int, head: Tensor | None, product: Product) -> Tensor:
        share = self._shares(_learnt(head))
        return product(self._pooled(h, share.shape[-1]), share.mT)

    def back(
        self, h: Tensor, logits: Tensor, slopes: Tensor, head: Tensor | None, product: Product
    ) -> ClassPull:
        share = self._shares(_learnt(head))
        return self._back(h, slopes, share, share, product)

    def pull(
        self, h: Tensor, labels: Tensor, classes: int, head: Tensor | None, product: Product
    ) -> ClassPull:
        share = self._shares(_learnt(head))
        logits = product(self._pooled(h, share.shape[-1]), share.mT)
        own = labels.unsqueeze(-1)
        slopes = logits.softmax(-1).neg_()
        slopes = slopes.scatter_add_(-1, own, slopes.new_ones(own.shape)).div_(labels.shape[-1])
        # slopes sum to 0 over classes, so what all classes share has no pull: none, not rounding,
        # which optimisers that divide by its size would follow
        found = self._back(h, slopes, share, share - 1 / classes, product)
        assert found.head is not None  # noqa: S101 - narrows the type
        penalised = self._through_softmax(self._penalty_slopes(share), share)
        return ClassPull(found.activations, found.head - penalised)

    def penalty(self, head: Tensor) -> Tensor:
        """Compute what the penalties add to the loss of a layer.

        **Arguments:**

        - `head`: V (R, C, n).

        **Returns:**

        (R,).
        """
        share = self._shares(head)
        classes, channels = share.shape[1:]
        entropy = -(share * (share + LEAST_SHARE).log()).sum(-1).mean(-1)
        off = _directions(share) @ _directions(share).mT - _identity(share)
        cosines = off.square().mean((-1, -2)) / (classes**2 * channels)
        return self.entropy * entropy + self.orthogonality * cosines

    def _back(
        self, h: Tensor, slopes: Tensor, share: Tensor, seen: Tensor, product: Product
    ) -> ClassPull:
        """Take slopes back through A; `seen` is A as the activations are pulled through it."""
        of_pooled = product(slopes, seen)
        of_share = product(slopes.mT, self._pooled(h, share.shape[-1]))
        return ClassPull(self._spread(h, of_pooled), self._through_softmax(of_share, share))

    def _shares(self, head: Tensor) -> Tensor:
        """Return A (R, C, n), how much of each channel belongs to each class."""
        return (head / self.temperature).softmax(1)

    def _pooled(self, h: Tensor, channels: int) -> Tensor:
        """Return (R, B, n) of maps (R, B, n P)."""
        maps = h.unflatten(-1, (channels, -1))
        found: Tensor = self.mean * maps.mean(-1)
        return found.add_(maps.amax(-1) * self.largest).add_(maps.amin(-1) * self.smallest)

    def _spread(self, h: Tensor, of_pooled: Tensor) -> Tensor:
        """Take slopes (R, B, n) back to the maps (R, B, n P); equal extremes share theirs."""
        maps = h.unflatten(-1, (of_pooled.shape[-1], -1))
        found = maps.new_full(maps.shape, self.mean / maps.shape[-1])
        for weight, extreme in (
            (self.largest, maps.amax(-1, keepdim=True)),
            (self.smallest, maps.amin(-1, keepdim=True)),
        ):
            there = (maps == extreme).to(maps.dtype)
            found += weight * there / there.sum(-1, keepdim=True)
        spread: Tensor = found.mul_(of_pooled.unsqueeze(-1)).flatten(-2)
        return spread

    def _through_softmax(self, of_share: Tensor, share: Tensor) -> Tensor:
        """Take slopes of A back to V."""
        common = (of_share * share).sum(1, keepdim=True)
        return share * (of_share - common) / self.temperature

    def _penalty_slopes(self, share: Tensor) -> Tensor:
        """Return the gradient of the penalties with respect to A (R, C, n)."""
        classes, channels = share.shape[1:]
        of_entropy = -((share + LEAST_SHARE).log() + share / (share + LEAST_SHARE)) / classes
        columns = _directions(share)
        off = columns @ columns.mT - _identity(share)
        of_columns = off @ columns * (4 / (classes**4 * channels))
        along = (of_columns * columns).sum(-1, keepdim=True)
        of_cosines = (of_columns - along * columns) / _lengths(share)
        return self.entropy * of_entropy + self.orthogonality * of_cosines


def class_blocks(width: int, classes: int) -> list[slice]:
    """Divide units into one block for each class.

    **Arguments:**

    - `width`: n, at least C.
    - `classes`: C.

    **Returns:**

    Blocks that follow one another; their sizes differ by one at most, and the larger ones come
    first.
    """
    least, more = divmod(width, classes)
    ends = [label * least + min(label, more) for label in range(classes + 1)]
    return [slice(start, stop) for start, stop in pairwise(ends)]


def _learnt(head: Tensor | None) -> Tensor:
    """Return the class vectors of an objective that learns some."""
    if head is None:
        raise ValueError("head: this objective learns class vectors, and none were given")
    return head


def _directions(vectors: Tensor) -> Tensor:
    """Return vectors (..., n) of length 1; zero ones stay."""
    return vectors / _lengths(vectors)


def _identity(share: Tensor) -> Tensor:
    """Return the identity (C, C) for the columns of A (R, C, n)."""
    classes = share.shape[1]
    found = share.new_zeros((classes, classes))
    return found.fill_diagonal_(1)


def _lengths(vectors: Tensor) -> Tensor:
    """Return the lengths (..., 1) of vectors (..., n); 1 of zero."""
    found: Tensor = vectors.norm(dim=-1, keepdim=True)
    return found + (found == 0)


def softplus(u: Tensor) -> Tensor:
    """Compute log(1 + exp(u)) without overflow, elementwise.

    **Arguments:**

    - `u`: of any shape.

    **Returns:**

    The same shape.
    """
    return u.clamp_min(0) + (-u.abs()).exp().log1p()


AnyObjective = Annotated[
    Difference
    | SoftplusLoss
    | Bce
    | Symba
    | SwishLoss
    | LinearThreshold
    | Polar
    | MonoForward
    | ClassBlock
    | Prototypes
    | ChannelAssignment,
    Field(discriminator="name"),
    OpenUnion("objectives", (Objective, MultiClass), "name"),
    default_choice("name", "difference"),
]
