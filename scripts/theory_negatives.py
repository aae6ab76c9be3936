"""Positives and negatives of the strategies that ask no network, and the potential of a set."""

import torch
from torch import Tensor

from ffengine.datasets import Datasets
from ffengine.infinite_width import limit_kernel
from ffengine.negatives import (
    Hybrid,
    Masked,
    Mix,
    Negatives,
    Noise,
    OtherImage,
    Positives,
    SelfContrastive,
    ShufflePixels,
    WrongLabel,
)
from ffengine.random_streams import Draws
from ffengine.samples import load_samples
from ffengine.spec import DatasetSpec

STRATEGIES: dict[str, Negatives] = {
    "noise, 0.5": Noise(scale=0.5),
    "noise, 0.1": Noise(scale=0.1),
    "hybrid": Hybrid(),
    "other_image": OtherImage(),
    "wrong_label": WrongLabel(),
    "shuffle_pixels": ShufflePixels(),
    "mix": Mix(),
    "self_contrastive": SelfContrastive(),
    "masked": Masked(),
}


def pair_of(strategy: Negatives, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A batch of positives and its negatives, (count, m) each, from mnist-mini."""
    device = torch.device("cpu")
    spec, datasets = DatasetSpec.model_validate({"name": "mnist-mini"}), Datasets.of_environment()
    train, draws = load_samples(spec, device, datasets).train, Draws((seed,), device)
    index = draws.at("samples").permutation(len(train))[:, :count]
    positive = strategy.positive(train.positives(labelled=strategy.labelled)[index])
    negative = strategy(Positives(positive, index, train, draws.at("negatives", 0), None))
    return positive[0], negative[0]


def potential(samples: Tensor, x: Tensor) -> Tensor:
    """U of a set of samples at each x: the mean of |x_i|^2 cos(t) phi(t) over the set."""
    energy = samples.square().sum(1)
    unit, others = (torch.nn.functional.normalize(v) for v in (x, samples))
    return limit_kernel((unit @ others.T).clamp(-1, 1)) @ energy / len(samples)
