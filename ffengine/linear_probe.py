"""A linear classifier on activations: multinomial logistic regression.

It is the read-out of Hinton (2022), section 3.3.

Legend: R replicas, N samples, f features, C classes. Everything is float64: in float32 the
objective cannot be resolved at gradients of some 1e-5, so that rounding would decide whether a fit
converges.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ffengine.piece_sizes import piece

CHUNK_ELEMENTS = 2**20  # features are converted to float64 in pieces of 8 MiB
HISTORY = 20  # iterations that L-BFGS remembers


@dataclass(frozen=True)
class LinearReadout:
    """A fitted classifier for each replica: logits = weight ((x - mean) * scale) + bias."""

    weight: Tensor  # (R, C, f) float64, of standardised features
    bias: Tensor  # (R, C) float64
    mean: Tensor  # (R, f) float64, of the training samples
    scale: Tensor  # (R, f) float64: 1 / standard deviation; 0 for features that do not vary
    gradient: tuple[float, ...]  # largest component at the end, for each replica
    converged: tuple[bool, ...]  # whether `gradient` is within the tolerance
    iterations: tuple[int, ...]

    def predict(self, features: Tensor) -> Tensor:
        """Return the most likely label of each sample, the lower one of equals.

        **Arguments:**

        - `features`: (R, N, f).

        **Returns:**

        (R, N) int64.

        **Raises:**

        - `ValueError`: the shape does not fit the classifier.
        """
        replicas, _, width = self.weight.shape
        if features.dim() != 3 or features.shape[0] != replicas or features.shape[2] != width:
            raise ValueError(
                f"features: expected shape ({replicas}, N, {width}), got {tuple(features.shape)}"
            )
        labels = torch.empty(features.shape[:2], dtype=torch.int64, device=features.device)
        for replica, own_features in enumerate(features):
            weight = self.weight[replica] * self.scale[replica]
            for rows, x in centred(own_features, self.mean[replica]):
                labels[replica, rows] = torch.addmm(self.bias[replica], x, weight.T).argmax(-1)
        return labels


def fit_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    *,
    penalty: float,
    tolerance: float = 1e-5,
    limit: int = 1000,
) -> LinearReadout:
    """Fit a classifier for each replica; the same data give the same bits.

    It minimises mean_i -log softmax(W x_i + b)[y_i] + penalty / 2 ||W||^2 over features
    standardised by their mean and deviation over these samples; b has no penalty. A feature that
    does not vary has weight 0. Full-batch L-BFGS starts from zero and stops where no component of
    the gradient exceeds the tolerance, or after `limit` iterations: see `converged`. At penalty 0,
    separable samples have no minimum. Beside the features it takes memory for one piece of
    CHUNK_ELEMENTS and some 2 HISTORY C f numbers.

    **Arguments:**

    - `features`: (R, N, f), floating-point.
    - `labels`: (R or 1, N) int64 in 0 .. C - 1.
    - `classes`: C.
    - `penalty`: at least 0.
    - `tolerance`: of the gradient; below 1e-7 float64 does not reach it.
    - `limit`: the most iterations.

    **Returns:**

    The classifiers.

    **Raises:**

    - `ValueError`: shapes do not fit, labels lie outside 0 .. C - 1, a feature is not finite, or
      the penalty is negative.

    **Source:**

    G. Hinton, arXiv 2212.13345, section 3.3; J. Nocedal & S. Wright, Numerical Optimization (2006),
    algorithm 7.5, with strong Wolfe conditions.
    """
    _check(features, labels, classes)
    if not (penalty >= 0 and math.isfinite(penalty)):
        raise ValueError(f"penalty: expected a finite number of at least 0, got {penalty}")
    labels = labels.expand(len(features), -1)
    fits = [_Fit(x, y, classes, penalty) for x, y in zip(features.detach(), labels, strict=True)]
    iterations = tuple(fit.minimise(tolerance, limit) for fit in fits)
    steepness = tuple(float(fit.value_and_gradient()[1].abs().max()) for fit in fits)
    return LinearReadout(
        weight=torch.stack([fit.parameters.detach()[:, :-1] for fit in fits]),
        bias=torch.stack([fit.parameters.detach()[:, -1] for fit in fits]),
        mean=torch.stack([fit.mean for fit in fits]),
        scale=torch.stack([fit.scale for fit in fits]),
        gradient=steepness,
        converged=tuple(value <= tolerance for value in steepness),
        iterations=iterations,
    )


def choose_penalty(
    features: Tensor,
    labels: Tensor,
    held_out: Tensor,
    held_out_labels: Tensor,
    classes: int,
    *,
    penalties: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1),
) -> float:
    """Choose the penalty whose classifiers label most held-out samples correctly.

    All replicas count together. Of equals, the strongest penalty is chosen.

    **Arguments:**

    - `features`: (R, N, f), fitted.
    - `labels`: (R or 1, N) int64 in 0 .. C - 1.
    - `held_out`: (R, M, f), on which the classifiers are compared.
    - `held_out_labels`: (R or 1, M) int64 in 0 .. C - 1.
    - `classes`: C.
    - `penalties`: those that are tried.

    **Returns:**

    One of `penalties`.

    **Raises:**

    - `ValueError`: as for `fit_linear`, or there are no penalties.
    """
    if not penalties:
        raise ValueError("penalties: is empty; expected at least one")
    _check(held_out, held_out_labels, classes)

    def correct(penalty: float) -> int:
        return int(
            (
                fit_linear(features, labels, classes, penalty=penalty).predict(held_out)
                == held_out_labels
            ).sum()
        )

    return max(sorted(set(penalties), reverse=True), key=correct)  # max keeps the first of equals


def centred(features: Tensor, mean: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield pieces of features minus their mean, float64, and which rows they are.

    **Arguments:**

    - `features`: (N, f).
    - `mean`: (f,) float64.
    """
    for rows in _pieces(features):
        yield rows, features[rows].double() - mean


class _Fit:
    """The classifier of one replica: the objective over parameters (C, f + 1), the bias last."""

    def __init__(self, features: Tensor, labels: Tensor, classes: int, penalty: float) -> None:
        self.features, self.labels, self.penalty = features, labels, penalty
        self.mean, self.scale = moments(features)
        shape = (classes, features.shape[1] + 1)
        self.parameters = torch.nn.Parameter(
            torch.zeros(shape, dtype=torch.float64, device=features.device)
        )

    @torch.no_grad()
    def value_and_gradient(self) -> tuple[Tensor, Tensor]:
        """Return the objective () and its gradient (C, f + 1), float64."""
        parameters, samples = self.parameters.detach(), len(self.features)
        weight, bias = parameters[:, :-1] * self.scale, parameters[:, -1]
        value = self.penalty / 2 * parameters[:, :-1].square().sum()
        # slope of the mean log-loss in the weights of unscaled features
        slope = torch.zeros_like(parameters)
        for rows, x in centred(self.features, self.mean):
            log_p = torch.addmm(bias, x, weight.T).log_softmax(-1)
            right = self.labels[rows].unsqueeze(1)
            value -= log_p.gather(1, right).sum() / samples
            error = (
                log_p.exp_().scatter_add_(1, right, log_p.new_full(right.shape, -1.0)).div_(samples)
            )
            slope[:, :-1].addmm_(error.T, x)
            slope[:, -1] += error.sum(0)
        gradient = torch.cat(
            [slope[:, :-1] * self.scale + self.penalty * parameters[:, :-1], slope[:, -1:]], dim=1
        )
        return value, gradient

    def minimise(self, tolerance: float, limit: int) -> int:
        """Move the parameters to the minimum; return the number of iterations."""
        optimiser = torch.optim.LBFGS(
            [self.parameters],
            max_iter=limit,
            max_eval=4 * limit,
            tolerance_grad=tolerance,
            tolerance_change=0.0,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            value, self.parameters.grad = self.value_and_gradient()
            return float(value)

        optimiser.step(closure)
        return int(optimiser.state[self.parameters].get("n_iter", 0))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and the inverse deviation of each feature.

    **Arguments:**

    - `features`: (N, f).

    **Returns:**

    The mean (f,) and 1 / standard deviation (f,), float64; the latter is 0 for a feature that does
    not vary.

    **Raises:**

    - `ValueError`: a feature is not finite.
    """
    total = torch.zeros(features.shape[1], dtype=torch.float64, device=features.device)
    squares = torch.zeros_like(total)
    for rows in _pieces(features):
        total += features[rows].double().sum(0)
    if not bool(total.isfinite().all()):
        raise ValueError("features: holds NaN or infinity; expected finite numbers")
    mean = total / len(features)
    for _, x in centred(features, mean):
        squares += x.square_().sum(0)
    deviation = (squares / len(features)).sqrt()
    low, high = features.aminmax(dim=0)
    # A feature with one value does not vary, though its rounded mean may give it a deviation.
    varies = (high > low) & (deviation > torch.finfo(torch.float64).tiny)
    return mean, torch.where(varies, 1 / deviation, 0.0)


def _pieces(features: Tensor) -> Iterator[slice]:
    """Yield slices of rows with at most CHUNK_ELEMENTS features."""
    step = max(1, piece(CHUNK_ELEMENTS, features.device) // max(1, features.shape[1]))
    return (slice(start, start + step) for start in range(0, len(features), step))


def _check(features: Tensor, labels: Tensor, classes: int) -> None:
    """Raise ValueError unless features are (R, N, f) and labels fit them."""
    if features.dim() != 3 or features.numel() == 0 or not features.is_floating_point():
        raise ValueError(
            f"features: expected floating-point numbers (R, N, f), got {features.dtype} of shape "
            f"{tuple(features.shape)}"
        )
    if (
        labels.dim() != 2
        or labels.shape[0] not in (1, len(features))
        or labels.shape[1] != features.shape[1]
    ):
        raise ValueError(
            f"labels: expected shape ({len(features)} or 1, {features.shape[1]}), got "
            f"{tuple(labels.shape)}"
        )
    if bool(((labels < 0) | (labels >= classes)).any()):
        raise ValueError(
            f"labels: expected numbers from 0 to {classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}"
        )
