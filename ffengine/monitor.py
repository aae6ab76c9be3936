"""What is measured while training: the rows of a layer, along the step that training would take.

The samples are the same at every measurement.

Legend: R replicas, B samples of one split in a batch, n width, m inputs. Positives come first in
every batch. Products are computed in float32, sums over units in float64. The step is linear in the
weights, so z + eta * (x D^T) is exactly what it makes of the pre-activations: this costs no second
product and does not round tiny steps away.
"""

import math
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.diagnostics import divergence
from ffengine.interrupts import Diverged
from ffengine.layer_updates import Learner
from ffengine.margins import LayerSums
from ffengine.negatives import NetworkGoodness, Positives, Relabelling
from ffengine.network import Network, SummedGoodness
from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs
from ffengine.random_streams import Draws
from ffengine.results import EpochRow, Split
from ffengine.samples import Samples
from ffengine.sparsity import gini, kurtosis
from ffengine.spec import TrainSpec

SPLITS: tuple[Split, Split] = ("positive", "negative")
GRAM_ELEMENTS = 2**25
MEASURES: dict[str, Callable[[Tensor], Tensor]] = {"gini": gini, "kurtosis": kurtosis}


class Batch(NamedTuple):
    """Monitored pairs as the layer receives them.

    **Attributes:**

    - `pairs`: positives and negatives.
    - `grams`: x x^T (R, B, B) of each split, where that is cheaper than products with x; else None.
    """

    pairs: AnyPairs
    grams: tuple[Tensor, Tensor] | None


class Monitor:
    """Measures layers on the same samples at every call.

    Where the strategy asks the network, the negatives change with it.

    **Arguments:**

    - `spec`: samples, objective, strategy, and what is measured.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    """

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws) -> None:
        self.spec, self.train, self.draws = spec, train, draws
        # the batches of the first layer, whose input is the same in every epoch
        self._first: list[Batch] | None = None

    def rows(
        self, learner: Learner, layer: int, layers: tuple[int, ...], epoch: int
    ) -> list[EpochRow]:
        """Measure a layer.

        **Arguments:**

        - `learner`: the network and its optimisers; nothing in it changes.
        - `layer`: the layer, from 0.
        - `layers`: the layers that learn together with it.
        - `epoch`: the epoch that has ended; 0 is the initialisation.

        **Returns:**

        Two rows (positive, negative) for each seed.

        **Raises:**

        - `Diverged`: a figure is not finite.
        """
        tallies = {
            split: Tally(len(self.spec.seeds), learner.network.weights[layer]) for split in SPLITS
        }
        eta = learner.eta(layer, epoch)
        for batch in self._batches(learner.network, layer, layers):
            self._measure(learner, layer, eta, batch, tallies)
        return [
            tallies[split].row(
                replica,
                seed=seed,
                layer=layer,
                epoch=epoch,
                split=split,
                eta=eta,
                theorems=self.spec.monitor.theorems,
            )
            for replica, seed in enumerate(self.spec.seeds)
            for split in SPLITS
        ]

    def _measure(
        self, learner: Learner, layer: int, eta: float, batch: Batch, tallies: "dict[Split, Tally]"
    ) -> None:
        """Add a batch to the tallies of both splits."""
        objective, network = self.spec.objective, learner.network
        z = batch.pairs.times(network.weights[layer], torch.bmm)  # (R, 2B, n)
        h, positives = network.activation.value(z), z.shape[1] // 2
        goodness = objective.goodness.value(h) - objective.offset(h.shape[-1])
        terms = objective.terms(goodness[:, :positives], goodness[:, positives:])
        s, lengths = objective.coefficients(goodness, positives), batch.pairs.lengths()
        step = learner.preview(layer, batch.pairs, z)
        zdot = batch.pairs.times(step.direction, torch.bmm)
        lowering = (
            self._lowering(network, batch, h, z)
            if 1 in self.spec.monitor.theorems
            else (None, None)
        )
        rows = (slice(positives), slice(positives, None))
        for split, own, loss, lowered in zip(SPLITS, rows, terms, lowering, strict=True):
            tally = tallies[split]
            tally.add_state(
                lengths[:, own],
                h[:, own],
                goodness[:, own],
                loss,
                s[:, own],
                self.spec.monitor.measures,
            )
            tally.add_step(
                self._layer_sums(
                    network, z[:, own], h[:, own], zdot[:, own], eta, step.cancellation
                )
            )
            if lowered is not None:
                tally.add_lowering(self._layer_sums(network, z[:, own], h[:, own], lowered, 0.0))

    def _lowering(
        self, network: Network, batch: Batch, h: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return zdot (R, B, n) of each split along theorem 1's step for the split alone."""
        goodness, activation = self.spec.objective.goodness, network.activation
        pull = h.clone()
        g = goodness.value(pull)
        pull = goodness.pull(pull, g, torch.full_like(g, -1.0))
        if not activation.slope_where_active_is_one:
            pull *= activation.slope(z)
        positive, negative = pull.chunk(2, dim=1)
        if batch.grams is not None:
            return torch.bmm(batch.grams[0], positive), torch.bmm(batch.grams[1], negative)
        x_positive, x_negative = batch.pairs.split()
        return _along_own(x_positive, positive), _along_own(x_negative, negative)

    def _layer_sums(
        self,
        network: Network,
        z: Tensor,
        h: Tensor,
        zdot: Tensor,
        eta: float,
        cancellation: Tensor | None = None,
    ) -> LayerSums:
        """Return the sums over units of samples (R, B, n), as (R * B,); overwrite zdot."""
        _, samples, width = z.shape
        sums = LayerSums.zeros(z.shape[0] * samples, width, z.device)
        sums.eta = eta
        if cancellation is not None:
            sums.cancellation = cancellation.repeat_interleave(samples)
        sums.add(
            slice(None),
            z.reshape(-1, width),
            h.reshape(-1, width),
            zdot.reshape(-1, width),
            network.activation,
        )
        return sums

    def _batches(self, network: Network, layer: int, layers: tuple[int, ...]) -> Iterator[Batch]:
        """Yield the monitored samples as the layer receives them, in training-size batches."""
        if layer == 0 and not self.spec.negatives.asks_network:
            if self._first is None:
                self._first = [
                    Batch(pairs, self._grams(pairs)) for pairs in self._pairs(network, 0, layers)
                ]
            yield from self._first
        else:
            yield from (Batch(pairs, None) for pairs in self._pairs(network, layer, layers))

    def _pairs(self, network: Network, layer: int, layers: tuple[int, ...]) -> Iterator[AnyPairs]:
        """Yield the monitored positives, the first of a permutation, with their negatives."""
        network_goodness = SummedGoodness(network, self.spec.objective.goodness, layers)
        chosen = self.draws.at("monitor").permutation(len(self.train))[
            :, : self.spec.monitor.samples
        ]  # (R, M), M at most N
        for number, index in enumerate(chosen.split(self.spec.batch_size, dim=1)):
            yield layer_pairs(
                self.spec,
                network,
                layer,
                self.train,
                index,
                self.draws,
                ("monitor-negatives", number),
                network_goodness,
            )

    def _grams(self, pairs: AnyPairs) -> tuple[Tensor, Tensor] | None:
        """Return x x^T of each split, where products with it are cheaper and it fits in memory."""
        positive, negative = pairs.split()
        samples, inputs = positive.shape[1:]
        monitored = min(self.spec.monitor.samples, len(self.train))
        if samples > 2 * inputs or len(positive) * samples * monitored > GRAM_ELEMENTS:
            return None
        return torch.bmm(positive, positive.mT), torch.bmm(negative, negative.mT)


class Tally:
    """Sums over the monitored samples of one split, with one entry for each replica.

    **Arguments:**

    - `replicas`: R.
    - `weight`: (R, n, m) of the layer.
    """

    def __init__(self, replicas: int, weight: Tensor) -> None:
        self.replicas, self.width = replicas, weight.shape[1]
        self.samples = 0
        self.batches = 0
        self.sums: dict[str, Tensor] = {}
        self.active_units = torch.zeros(
            replicas, self.width, dtype=torch.bool, device=weight.device
        )

    def add_state(
        self,
        lengths: Tensor,
        h: Tensor,
        goodness: Tensor,
        loss: Tensor,
        s: Tensor,
        measures: Collection[str],
    ) -> None:
        """Add the state of a batch before the step.

        **Arguments:**

        - `lengths`: ||x|| (R, B) of the layer's inputs.
        - `h`: activations (R, B, n).
        - `goodness`: G (R, B), after the threshold is subtracted.
        - `loss`: each sample's term of the objective (R, B).
        - `s`: dL/dG (R, B).
        - `measures`: names of MEASURES that are computed as well.
        """
        self.samples += h.shape[1]
        self.batches += 1
        active = h != 0
        self._add("zeros", h.shape[-1] - active.sum(-1))
        self.active_units |= active.any(1)
        self._add("goodness", goodness)
        self._add("loss", loss)
        self._add("coefficient", s.abs())
        self._add("input_norm", lengths)
        for name in measures:
            self._add(name, MEASURES[name](h))

    def add_step(self, sums: LayerSums) -> None:
        """Add what the step that training would take does to samples.

        **Arguments:**

        - `sums`: of R * B samples.
        """
        check, dead_after = sums.check(), sums.squares_after == 0
        rose = (sums.change > 0) & ~check.dead & ~dead_after
        decided = ~check.dead & ~check.undecided
        self._add("dead", check.dead)
        self._add("sparsity", sums.sparsity)
        self._add("treves_rolls", sums.treves_rolls)
        self._add("theorem2", check.satisfied)
        self._add("undecided2", check.undecided)
        self._add("rose", rose)
        self._add("agree", (rose == check.satisfied) & decided)
        self._add("flipped", sums.flipped)
        self._add("near_zero", sums.near_zero)

    def add_lowering(self, sums: LayerSums) -> None:
        """Add what lowering the goodness of this split's batch does to its samples.

        **Arguments:**

        - `sums`: of R * B samples.
        """
        check = sums.check()
        self._add("theorem1", check.satisfied)
        self._add("undecided1", check.undecided)

    def row(
        self,
        replica: int,
        *,
        seed: int,
        layer: int,
        epoch: int,
        split: Split,
        eta: float,
        theorems: Collection[int],
    ) -> EpochRow:
        """Return the row of one replica.

        **Arguments:**

        - `replica`: its number.
        - `seed`, `layer`, `epoch`, `split`, `eta`: copied into the row.
        - `theorems`: the theorems whose ratios are reported.

        **Returns:**

        The row; a mean over no samples is null.

        **Raises:**

        - `Diverged`: a sum is not finite.
        """
        total = {key: float(value[replica]) for key, value in self.sums.items()}
        if broken := sorted(key for key, value in total.items() if not math.isfinite(value)):
            raise Diverged(divergence(layer=layer, epoch=epoch, seed=seed, what=broken))
        live = self.samples - int(total["dead"])
        decided = live - int(total["undecided2"])
        activations = self.samples * self.width

        def mean(key: str, over: int = live) -> float | None:
            return total[key] / over if over and key in total else None

        return EpochRow(
            seed=seed,
            layer=layer,
            epoch=epoch,
            split=split,
            samples=self.samples,
            dead_samples=int(total["dead"]),
            dead_units=int((~self.active_units[replica]).sum()),
            sparsity=mean("sparsity"),
            zero_fraction=total["zeros"] / activations,
            treves_rolls=mean("treves_rolls"),
            gini=mean("gini"),
            kurtosis=mean("kurtosis"),
            goodness=total["goodness"] / self.samples,
            loss=total["loss"] / self.samples,
            theorem1_ratio=mean("theorem1"),
            theorem1_undecided=int(total["undecided1"]) if "undecided1" in total else None,
            theorem2_ratio=mean("theorem2") if 2 in theorems else None,
            theorem2_undecided=int(total["undecided2"]) if 2 in theorems else None,
            observed_increase_ratio=mean("rose"),
            agreement=mean("agree", decided),
            mask_flip_rate=total["flipped"] / activations,
            near_zero_rate=total["near_zero"] / activations,
            eta=eta,
            coefficient_sum=total["coefficient"] / self.batches,
            input_norm=total["input_norm"] / self.samples,
        )

    def _add(self, key: str, values: Tensor) -> None:
        """Add values of samples, (R, B) or (R * B,), to a sum for each replica."""
        self.sums[key] = self.sums.get(key, 0) + values.reshape(self.replicas, -1).double().sum(-1)


def paired(
    spec: TrainSpec,
    train: Samples,
    index: Tensor,
    draws: Draws,
    address: tuple[str, *tuple[int, ...]],
    network_goodness: NetworkGoodness | None,
) -> Tensor:
    """Return positives and their negatives as one batch of samples.

    **Arguments:**

    - `spec`: its strategy makes the negatives.
    - `train`: the partition that the samples are of.
    - `index`: (R, B) int64, positions in the partition.
    - `draws`: the randomness of the run.
    - `address`: purpose and numbers that address the random stream.
    - `network_goodness`: for strategies that ask the network; None for others.

    **Returns:**

    (R, 2B, m), positives first.
    """
    purpose, *numbers = address
    x = spec.negatives.positive(
        train.positives(labelled=spec.negatives.labelled)[index]
    )  # (R, B, m)
    negative = spec.negatives(
        Positives(x, index, train, draws.at(purpose, *numbers), network_goodness)
    )
    return torch.cat([x, negative], dim=1)


def layer_pairs(
    spec: TrainSpec,
    network: Network,
    layer: int,
    train: Samples,
    index: Tensor,
    draws: Draws,
    address: tuple[str, *tuple[int, ...]],
    network_goodness: NetworkGoodness | None,
) -> AnyPairs:
    """Return samples and their negatives as a layer receives them.

    Where a negative is its positive under another label, and the layer is the first, the pair is
    kept as the positive and a change of the label inputs.

    **Arguments:**

    - `spec`: its strategy makes the negatives.
    - `network`: the layers below.
    - `layer`: the layer, from 0.
    - `train`: the partition that the samples are of.
    - `index`: (R, B) int64, positions in the partition.
    - `draws`: the randomness of the run.
    - `address`: purpose and numbers that address the random stream.
    - `network_goodness`: for strategies that ask the network; None for others.

    **Returns:**

    The pairs.
    """
    strategy = spec.negatives
    if layer > 0 or not isinstance(strategy, Relabelling) or not strategy.keeps_image:
        return Pairs(
            network.layer_input(layer, paired(spec, train, index, draws, address, network_goodness))
        )
    purpose, *numbers = address
    x, labels = train.positives(labelled=True)[index], train.labels[index].unsqueeze(-1)
    wrong = strategy.wrong_labels(
        Positives(x, index, train, draws.at(purpose, *numbers), network_goodness)
    ).unsqueeze(-1)
    x = network.prepared(0, x)
    # The one-hot of a sample has two values, whichever its label is; this is their difference.
    contrast = x.gather(-1, labels) - x.gather(-1, wrong)
    change = x.new_zeros((*index.shape, train.classes)).scatter_(-1, wrong, contrast)
    return RelabelledPairs(x, change.scatter_(-1, labels, -contrast))


def _along_own(x: Tensor, pull: Tensor) -> Tensor:
    """Return zdot (R, B, n) of samples (R, B, m) along the step that their pulls (R, B, n) make."""
    return torch.bmm(x, torch.bmm(pull.mT, x).mT)
