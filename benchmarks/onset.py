"""`python -m benchmarks.onset [--units N] [--images N] [--seeds N] [--only NAME ...]`: when
sparsity turns on data of several kinds, beside what is predicted of it; one JSON line a row.

Training is followed without the noise of batches: along the gradient over all images and all wrong
labels, in small steps. Its tau* is where theorem 2 along that gradient, after it fell below one
half, holds for half of both splits' samples again; S is lowest at about that time. Data sets that
are not at hand are left out.
"""

import argparse
import json
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ffengine.class_means import Prepared, TrainingInputs, class_means
from ffengine.datasets import Datasets
from ffengine.onset import RECRUITS, TURN, TURN_SPREAD
from ffengine.spec import DatasetSpec, NetworkSpec

STEPS_TO_TURN = 25  # of the flow, until the predicted tau*
BEYOND = 1.8  # so many predicted tau* are followed
SETTINGS: dict[str, dict[str, object]] = {
    "mnist-mini": {"name": "mnist-mini"},
    **{
        f"mnist-mini, label {strength:g}": {"name": "mnist-mini", "label_strength": strength}
        for strength in (0.25, 0.5, 2.0, 4.0)
    },
    "mnist-mini, standardize": {"name": "mnist-mini", "preprocess": "standardize"},
    "mnist-mini, standardize, label 1": {
        "name": "mnist-mini",
        "preprocess": "standardize",
        "label_strength": 1.0,
    },
    "mnist-mini, unit_norm": {"name": "mnist-mini", "preprocess": "unit_norm"},
    "mnist-mini, center": {"name": "mnist-mini", "preprocess": "center"},
    "mnist": {"name": "mnist"},
    "digits, append": {"name": "digits", "labels": "append"},
    "digits, append, label 0.25": {"name": "digits", "labels": "append", "label_strength": 0.25},
    "digits, append, center": {"name": "digits", "labels": "append", "preprocess": "center"},
    "fashion-mnist": {"name": "fashion-mnist"},
    "fashion-mnist, label 0.25": {"name": "fashion-mnist", "label_strength": 0.25},
    "fashion-mnist, label 2": {"name": "fashion-mnist", "label_strength": 2.0},
    "fashion-mnist, standardize": {"name": "fashion-mnist", "preprocess": "standardize"},
    "fashion-mnist, center": {"name": "fashion-mnist", "preprocess": "center"},
    "cifar10-grey": {"name": "cifar10-grey"},
}


class Found(NamedTuple):
    """One setting and seed: what is predicted, and what training without noise does."""

    setting: str
    seed: int
    units: int
    images: int
    lambda_1: float
    recruitment: float
    label_energy: float
    predicted_fall: bool
    fall: float  # of the mean S of both splits, from the start to its lowest point
    tau_star: float | None
    product: float | None  # lambda_1 tau*
    within: bool | None  # whether q lambda_1 tau* is within the band predicted for the lowest S
    overlap: float  # q
    overlap_product: float | None  # q lambda_1 tau*


class Flow:
    """The first layer under the expected gradient over all wrong labels.

    **Arguments:**

    - `samples`: images with their labels.
    - `units`: n.
    - `seed`: of the weights.
    """

    def __init__(self, samples: Prepared, units: int, seed: int) -> None:
        self.x = torch.from_numpy(samples.x).float()
        self.on, self.off = (torch.from_numpy(part).float() for part in (samples.on, samples.off))
        self.labels = torch.from_numpy(np.array(samples.labels))
        self.classes = samples.label_inputs
        inputs = self.x.shape[1] + self.classes
        draw = torch.Generator().manual_seed(seed)
        weight = torch.randn((units, inputs), generator=draw) / math.sqrt(inputs)
        self.labels_weight = weight[:, : self.classes].contiguous()  # (n, C)
        self.weight = weight[:, self.classes :].contiguous()  # (n, m)

    def measure(self) -> tuple[tuple[float, float], float]:
        """Return theorem 2's ratio of both splits, and the mean S of both, of live samples."""
        self.gradient = self._gradient()
        holds, sums, counts = [0.0, 0.0], [0.0, 0.0], [0, 0]
        before = self._base(self.weight, self.labels_weight)
        moving = self._base(*self.gradient)
        width = self.weight.shape[0]
        for label in range(self.classes):
            h = self._under(before, self.labels_weight, label).clamp_min(0)
            hdot = self._under(moving, self.gradient[1], label) * (h > 0)
            total, squares = h.sum(1).clamp_min(1e-30), h.square().sum(1).clamp_min(1e-30)
            margin = (h * hdot).sum(1) / squares - hdot.sum(1) / total
            sparsity = (math.sqrt(width) - total / squares.sqrt()) / (math.sqrt(width) - 1)
            own = self.labels == label
            live = h.any(1)
            for split, of in enumerate((own & live, ~own & live)):
                holds[split] += float((margin[of] > 0).sum())
                sums[split] += float(sparsity[of].sum())
                counts[split] += int(of.sum())
        ratios = (holds[0] / counts[0], holds[1] / counts[1])
        return ratios, (sums[0] / counts[0] + sums[1] / counts[1]) / 2

    def step(self, size: float) -> None:
        """Go along the gradient of the last measurement."""
        self.weight += size * self.gradient[0]
        self.labels_weight += size * self.gradient[1]

    def _gradient(self) -> tuple[Tensor, Tensor]:
        """Return D of the other inputs (n, m) and of the label inputs (n, C)."""
        base, count = self._base(self.weight, self.labels_weight), len(self.x)
        total = torch.zeros_like(base)
        labels = torch.zeros_like(self.labels_weight)
        for label in range(self.classes):
            h = self._under(base, self.labels_weight, label).clamp_min(0)
            own = (self.labels == label).float().unsqueeze(1)
            pull = h * (own - (1 - own) / (self.classes - 1))
            total += pull
            labels[:, label] += pull.T @ (self.on - self.off)
        labels += (total.T @ self.off).unsqueeze(1)
        return 2 / count * (total.T @ self.x), 2 / count * labels

    def _base(self, weight: Tensor, labels_weight: Tensor) -> Tensor:
        """Return z (N, n) but for the label that a sample carries."""
        return self.x @ weight.T + self.off.unsqueeze(1) * labels_weight.sum(1)

    def _under(self, base: Tensor, labels_weight: Tensor, label: int) -> Tensor:
        """Return z (N, n) of all images under one label."""
        return base + (self.on - self.off).unsqueeze(1) * labels_weight[:, label]


def measured(setting: str, inputs: TrainingInputs, *, units: int, seeds: int) -> Iterator[Found]:
    """Follow the flow of one setting.

    **Arguments:**

    - `setting`: its name.
    - `inputs`: the training samples.
    - `units`: n.
    - `seeds`: how many draws of the weights.

    **Returns:**

    One row for each seed.
    """
    means = class_means(inputs)
    rate = float(means.growth_rates()[0])
    blocks = list(inputs.blocks())
    samples = Prepared(
        x=np.concatenate([block.x for block in blocks]),
        on=np.concatenate([block.on for block in blocks]),
        off=np.concatenate([block.off for block in blocks]),
        labels=np.concatenate([block.labels for block in blocks]),
        label_inputs=inputs.classes,
    )
    for seed in range(seeds):
        turn, fall = followed(Flow(samples, units, seed), TURN / (means.overlap * rate))
        product = None if turn is None else rate * turn
        overlap_product = None if product is None else means.overlap * product
        yield Found(
            setting,
            seed,
            units,
            len(samples.x),
            rate,
            means.recruitment,
            means.label_energy,
            means.recruitment > RECRUITS,
            fall,
            turn,
            product,
            None if overlap_product is None else abs(overlap_product - TURN) <= TURN_SPREAD,
            means.overlap,
            overlap_product,
        )


def followed(flow: Flow, predicted: float) -> tuple[float | None, float]:
    """Follow a flow until theorem 2 holds for half of both splits again.

    **Arguments:**

    - `flow`: at its start.
    - `predicted`: the tau* that is expected.

    **Returns:**

    tau*, None where the ratios do not fall first, or not rise again; and by how much S falls.
    """
    size, first, lowest, fell, before = predicted / STEPS_TO_TURN, 0.0, 1.0, False, 0.0
    for number in range(int(BEYOND * STEPS_TO_TURN)):
        (positive, negative), sparsity = flow.measure()
        first = first or sparsity
        lowest = min(lowest, sparsity)
        both = (positive + negative) / 2
        # at the first steps the draw of the weights decides
        if fell and both >= 0.5:
            part = (0.5 - before) / (both - before)
            return (number - 1 + part) * size, first - lowest
        fell, before = fell or (number > STEPS_TO_TURN // 10 and both < 0.5), both
        flow.step(size)
    return None, first - lowest


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.onset", description=__doc__)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--images", type=int, default=500, help="the first of the training samples")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(SETTINGS), default=list(SETTINGS))
    asked = parser.parse_args()
    datasets = Datasets.of_environment()
    for setting in asked.only:
        spec = DatasetSpec.model_validate(SETTINGS[setting])
        facts = datasets.facts_of(spec.name)
        count = min(asked.images, facts.train_samples)
        spec = spec.model_copy(update={"train_samples": count})
        if not datasets.is_present(facts):
            continue
        inputs = TrainingInputs(spec, facts, datasets.loaded(spec.name), NetworkSpec())
        for row in measured(setting, inputs, units=asked.units, seeds=asked.seeds):
            print(json.dumps(row._asdict()), flush=True)


if __name__ == "__main__":
    main()
