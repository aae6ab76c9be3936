"""The slow independent forms that the engine is tested against: loops, float64 autograd, finite
differences.

Nothing here uses the engine's numerics.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

SIGMA: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda z: torch.nn.functional.leaky_relu(z, 0.01),
    "elu": torch.nn.functional.elu,
    "gelu": lambda z: (
        z * torch.special.log_ndtr(z).exp()
    ),  # torch's gelu is off by 2 % at -8, and zero below, in float64
    "silu": torch.nn.functional.silu,
    "tanh": torch.tanh,
    "squared_relu": lambda z: torch.relu(z) ** 2,
    "identity": lambda z: 1 * z,
    "softplus": torch.nn.functional.softplus,
}


def random_layer(
    seed: int, samples: int, inputs: int, width: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Weights (n, m) and non-negative inputs (N, m), as pixels are."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(width, inputs, generator=generator, dtype=torch.float64) / math.sqrt(
        inputs
    )
    x = torch.rand(samples, inputs, generator=generator, dtype=torch.float64)
    return weight.to(dtype), x.to(dtype)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over samples of -log p of the own label, logits (B, C)."""
    terms = [
        torch.log(torch.exp(one - one[label]).sum())
        for one, label in zip(logits, labels, strict=True)
    ]
    return torch.stack(terms).mean()


def hoyer(h: list[float]) -> float:
    """Hoyer sparsity of one live sample, summed exactly."""
    root = math.sqrt(len(h))
    return (
        root
        - math.fsum(abs(value) for value in h) / math.sqrt(math.fsum(value * value for value in h))
    ) / (root - 1)


def gini(h: list[float]) -> float:
    """Gini index: mean absolute difference over twice the mean."""
    n, total = len(h), math.fsum(abs(value) for value in h)
    return math.fsum(abs(abs(a) - abs(b)) for a in h for b in h) / (2 * n * total)


def treves_rolls(h: list[float]) -> float:
    """(1 - a) / (1 - 1/n), a = mean(|h|)^2 / mean(h^2)."""
    n = len(h)
    a = (math.fsum(abs(value) for value in h) / n) ** 2 / (
        math.fsum(value * value for value in h) / n
    )
    return (1 - a) / (1 - 1 / n)


def kurtosis(h: list[float]) -> float:
    """Fourth central moment over the squared variance, less 3."""
    n, mean = len(h), math.fsum(h) / len(h)
    variance = math.fsum((value - mean) ** 2 for value in h) / n
    return math.fsum((value - mean) ** 4 for value in h) / n / variance**2 - 3


def sparsity(h: Tensor) -> Tensor:
    """Differentiable S (N,) of activations (N, n)."""
    root = math.sqrt(h.shape[-1])
    return (root - h.abs().sum(-1) / h.square().sum(-1).sqrt()) / (root - 1)


def goodness_gradient(
    weight: Tensor, groups: list[Tensor], signs: list[float], activation: str
) -> Tensor:
    """-dL/dW of L = sum_g sign_g sum_i ||h_i||^2, by autograd: the step's direction D."""
    leaf = weight.double().clone().requires_grad_()
    loss = sum(
        sign * SIGMA[activation](x.double() @ leaf.T).square().sum()
        for sign, x in zip(signs, groups, strict=True)
    )
    (gradient,) = torch.autograd.grad(loss, leaf)
    return -gradient


def sparsity_rate(weight: Tensor, x: Tensor, direction: Tensor, activation: str) -> Tensor:
    """dS/deta (N,) along W + eta D, by forward-mode differentiation in float64."""

    def of_eta(eta: Tensor) -> Tensor:
        return sparsity(
            SIGMA[activation](x.double() @ (weight.double() + eta * direction.double()).T)
        )

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    return torch.func.jvp(of_eta, (zero,), (one,))[1]


def margin_of_rate(weight: Tensor, x: Tensor, rate: Tensor, activation: str) -> Tensor:
    """The margin that belongs to a rate dS/deta (theory: dS/deta = (l1 / l2) margin / (sqrt(n) -
    1)).
    """
    h = SIGMA[activation](x.double() @ weight.double().T)
    return rate * (math.sqrt(h.shape[1]) - 1) * h.square().sum(1).sqrt() / h.abs().sum(1)


def papers_sum(weight: Tensor, groups: list[Tensor], signs: list[float], x: Tensor) -> Tensor:
    """sum_i s_i <x_i, x_k> (<h_i, mask_k> / ||h_k||_1 - <h_i, h_k> / ||h_k||^2) for relu, by two
    loops over samples.
    """
    sums = []
    for x_k in x:
        h_k = torch.relu(weight @ x_k)
        total = 0.0
        for group, sign in zip(groups, signs, strict=True):
            for x_i in group:
                h_i = torch.relu(weight @ x_i)
                cosines = (h_i @ (h_k > 0).to(h_i.dtype)) / h_k.sum() - (h_i @ h_k) / (h_k @ h_k)
                total += sign * float((x_i @ x_k) * cosines)
        sums.append(total)
    return torch.tensor(sums, dtype=torch.float64)


def limit_sum(groups: list[list[list[float]]], signs: list[float], x_k: list[float]) -> float:
    """sum_i s_i ||x_i||^2 cos(theta) phi(theta) by the formula of the theory, one angle at a
    time.
    """
    total = 0.0
    length_k = math.sqrt(math.fsum(value * value for value in x_k))
    for group, sign in zip(groups, signs, strict=True):
        for x_i in group:
            length = math.sqrt(math.fsum(value * value for value in x_i))
            if length == 0 or length_k == 0:
                continue
            inner = math.fsum(a * b for a, b in zip(x_i, x_k, strict=True))
            cosine = max(-1.0, min(1.0, inner / (length * length_k)))
            theta = math.acos(cosine)
            phi = (1 + cosine) / 2 - (math.sin(theta) + (math.pi - theta) * cosine) / math.pi
            total += sign * length**2 * cosine * phi
    return total


# Training, by autograd and torch's own optimisers


def exact_entmax(h: Tensor) -> Tensor:
    """1.5-entmax by sorting (Peters, Niculae and Martins 2019, algorithm 2)."""
    ordered = (h / 2).sort(dim=-1, descending=True).values
    count = torch.arange(1, h.shape[-1] + 1, dtype=h.dtype)
    mean = ordered.cumsum(-1) / count
    spread = count * (ordered.square().cumsum(-1) / count - mean.square())
    thresholds = mean - ((1 - spread) / count).clamp_min(1e-300).sqrt()
    support = (thresholds <= ordered).sum(-1, keepdim=True)
    return (h / 2 - thresholds.gather(-1, support - 1)).clamp_min(0).square()


def standardised_moment(h: Tensor, p: int) -> Tensor:
    """mean (h - mean)^p over the deviation to the power p; 0 where all are alike."""
    around = h - h.mean(-1, keepdim=True)
    spread = around.square().mean(-1)
    found = (around**p).mean(-1) / spread.clamp_min(1e-300) ** (p / 2)
    return torch.where(spread > 0, found, torch.zeros_like(found))


GOODNESS: dict[str, Callable[[Tensor], Tensor]] = {
    "sum_squares": lambda h: (h**2).sum(-1),
    "mean_squares": lambda h: (h**2).mean(-1),
    "l2": lambda h: (h**2).sum(-1).clamp_min(1e-300).sqrt(),
    "l1": lambda h: h.abs().sum(-1),
    "power_sum": lambda h: (h.abs().clamp_min(1e-300) ** 3).sum(-1),
    "power_mean": lambda h: (h.abs().clamp_min(1e-300) ** 3).mean(-1),
    "minus_sum_squares": lambda h: -(h**2).sum(-1),
    "entmax": lambda h: (exact_entmax(h) * h**2).sum(-1),
    "kurtosis": lambda h: standardised_moment(h, 4) - 3,
    "moment": lambda h: standardised_moment(h, 3),
    "whitened": lambda h: (h**2).sum(-1),  # before the first step
    "top_k": lambda h: (h**2).sort(dim=-1, descending=True).values[..., :10].sum(-1),
}


def softplus(u: Tensor) -> Tensor:
    """log(1 + exp(u)), linear where exp would overflow."""
    return torch.nn.functional.softplus(u, threshold=700)


def pair_loss(
    objective: dict[str, float | str | None], positive: Tensor, negative: Tensor
) -> Tensor:
    """The loss (B,) of pairs from their goodness less the threshold, each written as in its
    source.
    """
    name, alpha = objective["name"], objective.get("alpha")
    if name == "difference":
        return negative - positive
    if name == "softplus":
        return softplus(-positive) + softplus(negative)
    if name == "bce":
        logits, targets = (
            torch.stack([positive, negative]),
            torch.stack([torch.ones_like(positive), torch.zeros_like(negative)]),
        )
        return torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets, reduction="none"
        ).mean(0)
    if name == "symba":
        return softplus(-alpha * (positive - negative))  # type: ignore[operator]
    if name == "swish":
        return torch.nn.functional.silu(-alpha * (positive - negative))  # type: ignore[operator]
    if name == "linear_threshold":
        return torch.relu(-positive) + torch.relu(negative)
    if name == "polar":  # from the logit of p
        return softplus(-positive) + softplus(negative)
    raise KeyError(name)


def optimizer_of(
    entry: dict[str, float | str], parameter: Tensor, width: int
) -> torch.optim.Optimizer:
    """torch's own optimiser for an entry of the catalogue."""
    lr = float(entry["lr"]) / (width if entry["scale_lr_by_width"] else 1)
    decay = float(entry["weight_decay"])
    if entry["name"] == "sgd":
        return torch.optim.SGD([parameter], lr, weight_decay=decay)
    if entry["name"] in ("momentum", "nesterov"):
        return torch.optim.SGD(
            [parameter],
            lr,
            float(entry["momentum"]),
            weight_decay=decay,
            nesterov=entry["name"] == "nesterov",
        )
    kind = torch.optim.Adam if entry["name"] == "adam" else torch.optim.AdamW
    return kind(
        [parameter],
        lr,
        (float(entry["beta1"]), float(entry["beta2"])),
        float(entry["epsilon"]),
        decay,
    )


# Angles between samples


def angle_histogram(
    own: list[list[float]], others: list[list[float]], bin_degrees: int
) -> tuple[list[int], list[float]]:
    """Pairs and the sum of ||x_i||^2 by angle, for each x_i of `own` with each x_k of `others` that
    is not the same object.
    """
    pairs, energy = [0] * (180 // bin_degrees), [0.0] * (180 // bin_degrees)
    for x_i in own:
        for x_k in others:
            if x_i is x_k or not any(x_i) or not any(x_k):
                continue
            length_i, length_k = math.hypot(*x_i), math.hypot(*x_k)
            cosine = math.fsum(
                (a / length_i) * (b / length_k) for a, b in zip(x_i, x_k, strict=True)
            )
            place = math.degrees(math.acos(max(-1.0, min(1.0, cosine)))) / bin_degrees
            place = min(int(place + 1e-9), len(pairs) - 1)
            pairs[place] += 1
            energy[place] += length_i**2
    return pairs, energy
