"""What is measured while training: the rows of one layer, on a fixed sample, along the step that training would take.

Legend: R replicas, B samples of one split in a batch, n width, m inputs. Positives come first in every batch.
Products are done in the type of the weights, everything per sample in float64. The step is linear in the weights, so
z + eta * (x D^T) is what the step makes of the pre-activations: no second product, and no rounding of tiny steps.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ffengine.control import Diverged
from ffengine.diagnostics import divergence
from ffengine.draws import Draws
from ffengine.margins import NEAR_ZERO
from ffengine.network import Network, coefficients, direction, goodness_of
from ffengine.results import EpochRow, Split
from ffengine.samples import Samples
from ffengine.sparsity import sparsity_and_dead
from ffengine.spec import TrainSpec

SPLITS: tuple[Split, Split] = ("positive", "negative")


@dataclass(frozen=True)
class MonitorBatch:
    """Positives and negatives (R, 2B, m) of one batch, positives first."""

    x: Tensor
    positives: int


class Monitor:
    """Measures a layer on the same samples and negatives whenever it is asked."""

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws) -> None:
        self.spec = spec
        self._batches = list(_monitor_batches(spec, train, draws))

    def rows(self, network: Network, layer: int, epoch: int) -> list[EpochRow]:
        """Two rows (positive, negative) for each seed. Raises Diverged where a figure is no longer finite."""
        tallies = {split: Tally(len(self.spec.seeds), network.weights[layer]) for split in SPLITS}
        eta = self.spec.optimizer.eta(self.spec.network.widths[layer])
        for batch in self._batches:
            self._measure(network, layer, eta, batch, tallies)
        return [
            tallies[split].row(self.spec, replica, seed=seed, layer=layer, epoch=epoch, split=split, eta=eta)
            for replica, seed in enumerate(self.spec.seeds)
            for split in SPLITS
        ]

    def _measure(self, network: Network, layer: int, eta: float, batch: MonitorBatch, tallies: "dict[Split, Tally]") -> None:
        objective, activation = self.spec.objective, network.activation
        x = network.layer_input(layer, batch.x)  # (R, 2B, m)
        z = network.pre_activation(layer, x)  # (R, 2B, n)
        h, slope = activation.value(z), activation.slope(z)
        goodness = goodness_of(objective, h.double())
        s = coefficients(objective, goodness, batch.positives)
        weight = (s * objective.goodness_scale(z.shape[-1])).to(z.dtype)
        zdot = torch.bmm(x, direction(x, h * slope, weight).mT)  # (R, 2B, n)
        for split, rows in zip(SPLITS, (slice(batch.positives), slice(batch.positives, None)), strict=True):
            x_split, h_split, slope_split = x[:, rows], h[:, rows], slope[:, rows]
            lowering = torch.bmm(x_split, direction(x_split, h_split * slope_split).mT)  # theorem 1: the split alone, lowered
            tally = tallies[split]
            tally.add_state(
                x_split, z[:, rows], h_split, goodness[:, rows], objective.loss(goodness[:, rows], negative=split == "negative")
            )
            tally.add_margins(h_split, slope_split * lowering, slope_split * zdot[:, rows])
            z_after = z[:, rows].double() + eta * zdot[:, rows].double()
            tally.add_step(z[:, rows], z_after, activation.value(z_after), s[:, rows])


class Tally:
    """Counts and sums over the monitored samples of one split, one entry a replica."""

    def __init__(self, replicas: int, weight: Tensor) -> None:
        self.width = weight.shape[1]
        self.samples = 0
        self.batches = 0
        self.sums: dict[str, Tensor] = {}
        self.active_units = torch.zeros(replicas, self.width, dtype=torch.bool, device=weight.device)

    def add_state(self, x: Tensor, z: Tensor, h: Tensor, goodness: Tensor, loss: Tensor) -> None:
        """Count a batch (R, B, n) as it is before the step."""
        self.samples += h.shape[1]
        self.batches += 1
        self._before, self._dead = sparsity_and_dead(h)  # (R, B)
        self._add("dead", self._dead)
        self._add("sparsity", self._before)
        self._add("zeros", (h == 0).sum(-1))
        self._add("near_zero", (z.abs() < NEAR_ZERO).sum(-1))
        self._add("goodness", goodness)
        self._add("loss", loss)
        self._add("input_norm", torch.linalg.vector_norm(x, dim=-1))
        self.active_units |= (h != 0).any(1)

    def add_margins(self, h: Tensor, lowering: Tensor, step: Tensor) -> None:
        """Count the samples whose margin is above zero along both changes hdot (R, B, n)."""
        self._add("theorem1", margins(h, lowering) > 0)
        self._predicted = margins(h, step) > 0
        self._add("theorem2", self._predicted)

    def add_step(self, z: Tensor, z_after: Tensor, h_after: Tensor, s: Tensor) -> None:
        """Count what the step does to the samples: after it (R, B, n) float64; s (R, B) the coefficients dL/dG."""
        after, dead_after = sparsity_and_dead(h_after)
        rose = (after > self._before) & ~self._dead & ~dead_after
        self._add("rose", rose)
        self._add("agree", (rose == self._predicted) & ~self._dead)
        self._add("flipped", ((z_after > 0) != (z > 0)).sum(-1))
        self._add("coefficient", s.abs())

    def row(self, spec: TrainSpec, replica: int, *, seed: int, layer: int, epoch: int, split: Split, eta: float) -> EpochRow:
        """The tidy row of one replica."""
        total = {key: float(value[replica]) for key, value in self.sums.items()}
        if not all(math.isfinite(value) for value in total.values()):
            raise Diverged(
                divergence(
                    layer=layer, epoch=epoch, seed=seed, what=sorted(key for key, value in total.items() if not math.isfinite(value))
                )
            )
        live = self.samples - int(total["dead"])
        activations = self.samples * self.width

        def share(key: str) -> float | None:
            return total[key] / live if live else None

        return EpochRow(
            seed=seed,
            layer=layer,
            epoch=epoch,
            split=split,
            samples=self.samples,
            dead_samples=int(total["dead"]),
            dead_units=int((~self.active_units[replica]).sum()),
            sparsity=share("sparsity"),
            zero_fraction=total["zeros"] / activations,
            goodness=total["goodness"] / self.samples,
            loss=total["loss"] / self.samples,
            theorem1_ratio=share("theorem1") if 1 in spec.monitor.theorems else None,
            theorem2_ratio=share("theorem2") if 2 in spec.monitor.theorems else None,
            observed_increase_ratio=share("rose"),
            agreement=share("agree"),
            mask_flip_rate=total["flipped"] / activations,
            near_zero_rate=total["near_zero"] / activations,
            eta=eta,
            coefficient_sum=total["coefficient"] / self.batches,
            input_norm=total["input_norm"] / self.samples,
        )

    def _add(self, key: str, values: Tensor) -> None:
        self.sums[key] = self.sums.get(key, 0) + values.double().sum(-1)


def margins(h: Tensor, hdot: Tensor) -> Tensor:
    """margin (R, B) float64 of activations and their rates (R, B, n); 0 for dead samples. See ffengine.margins."""
    h, hdot = h.double(), hdot.double()
    l1, squares = h.abs().sum(-1), h.square().sum(-1)
    live = l1 > 0
    margin = (h * hdot).sum(-1) / torch.where(live, squares, 1.0) - (h.sign() * hdot).sum(-1) / torch.where(live, l1, 1.0)
    return torch.where(live, margin, 0.0)


def _monitor_batches(spec: TrainSpec, train: Samples, draws: Draws) -> Iterator[MonitorBatch]:
    """The monitored positives, the first of a permutation, in batches of the training's size, each with its negatives."""
    chosen = draws.at("monitor").permutation(len(train))[:, : spec.monitored]  # (R, M)
    for number, index in enumerate(chosen.split(spec.batch_size, dim=1)):
        x = paired(spec, train, index, draws, ("monitor-negatives", number))
        yield MonitorBatch(x, index.shape[1])


def paired(spec: TrainSpec, train: Samples, index: Tensor, draws: Draws, address: tuple[str, *tuple[int, ...]]) -> Tensor:
    """The positives (R, B, m) of `index` (R, B) followed by their negatives: (R, 2B, m)."""
    purpose, *numbers = address
    positive = train.positives(labelled=spec.negatives.labelled)[index]  # (R, B, m)
    negative = spec.negatives(positive, train.labels[index], train.classes, train.shape, draws.at(purpose, *numbers))
    return torch.cat([positive, negative], dim=1)
