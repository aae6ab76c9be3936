"""A linear classifier on activations: multinomial logistic regression, fitted to its optimum.

Legend: R replicas, N samples, f features, C classes. The penalised loss is convex, so that the answer depends on the
data and the penalty alone; it is found from zero by L-BFGS over all samples: nothing random, no step size to choose.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = 1e-4  # largest slope of the loss at which the fit is done
MAX_ITERATIONS = 300
CHUNK_SAMPLES = 10_000


@dataclass(frozen=True)
class LinearReadout:
    """weight (R, C, f + 1), the last column the bias, for features standardised by mean and deviation (R, 1, f)."""

    weight: Tensor
    mean: Tensor
    deviation: Tensor
    converged: bool

    def predict(self, features: Tensor) -> Tensor:
        """The labels (R, N) of features (R, N, f)."""
        return torch.cat([self._logits(chunk).argmax(-1) for chunk in features.split(CHUNK_SAMPLES, dim=1)], dim=1)

    def _logits(self, features: Tensor) -> Tensor:
        standard = (features - self.mean) / self.deviation
        return torch.baddbmm(self.weight[..., -1].unsqueeze(1), standard, self.weight[..., :-1].mT)


def fit_linear(features: Tensor, labels: Tensor, classes: int, *, penalty: float) -> LinearReadout:
    """Fit features (R, N, f) to labels (R, N): mean cross-entropy + penalty / 2 * ||weight||^2 (biases free).

    Features are standardised by their own mean and deviation; those that never change are left out of account.
    """
    mean = features.mean(1, keepdim=True)
    deviation = torch.stack([one.std(0, correction=0, keepdim=True) for one in features])
    deviation = torch.where(deviation > 0, deviation, 1.0)
    weight = features.new_zeros(features.shape[0], classes, features.shape[2] + 1).requires_grad_()
    readout = LinearReadout(weight, mean, deviation, converged=False)
    optimizer = torch.optim.LBFGS(
        [weight], max_iter=MAX_ITERATIONS, tolerance_grad=TOLERANCE, tolerance_change=0.0, history_size=10, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        weight.grad = torch.zeros_like(weight)
        total = 0.0
        for start in range(0, features.shape[1], CHUNK_SAMPLES):
            rows = slice(start, start + CHUNK_SAMPLES)
            logits = readout._logits(features[:, rows])
            part = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, rows].flatten(), reduction="sum") / features.shape[1]
            part.backward()
            total += float(part.detach())
        ridge = penalty / 2 * weight[..., :-1].square().sum()
        ridge.backward()
        return total + float(ridge.detach())

    with torch.enable_grad():
        optimizer.step(loss)
    converged = weight.grad is not None and float(weight.grad.abs().max()) <= TOLERANCE
    return LinearReadout(weight.detach(), mean, deviation, converged)


def choose_penalty(
    features: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor, classes: int, *, penalties: Sequence[float]
) -> float:
    """The penalty whose fit to the training features classifies most held-out samples correctly; among equals the strongest."""
    scores = {}
    for penalty in penalties:
        predicted = fit_linear(features, labels, classes, penalty=penalty).predict(held_out)
        scores[penalty] = int((predicted == held_out_labels).sum())
    return max(scores, key=lambda penalty: (scores[penalty], penalty))
