"""What is measured while training: the rows of a layer, along the step that training would take.

Where phases of positives and negatives alternate, that is the first step after the epoch: on the
split whose phase it falls into.

The samples are the same at every measurement.

Legend: R replicas, B samples of one split in a batch, n width, m inputs. Positives come first in
every batch. Products are computed in float32, sums over units in float64. The step is linear in the
weights, so z + eta * (x D^T) is exactly what it makes of the pre-activations: this costs no second
product and does not round tiny steps away.
"""

import math
import statistics
from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.acts import gaussian_kappa
from ffengine.deep import InputMotion, layer_motion
from ffengine.diagnostics import divergence
from ffengine.expected_step import ExpectedStep
from ffengine.flow import flow_times
from ffengine.interrupts import Diverged
from ffengine.layer_updates import Learner, parts_over_whole
from ffengine.margins import LayerSums, TheoremCheck, near_zero
from ffengine.negatives import NetworkGoodness, Positives, Relabelling, WrongLabel
from ffengine.network import Network, SummedGoodness
from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs, half
from ffengine.random_streams import Draws
from ffengine.results import EpochRow, Split
from ffengine.samples import Samples
from ffengine.scaling import true_goodness
from ffengine.sparsity import gini, kurtosis
from ffengine.spec import TrainSpec
from ffengine.unit_directions import UnitDirections, unit_directions

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


class Moment(NamedTuple):
    """A batch at the moment when its layer is measured.

    **Attributes:**

    - `learner`: the network and its optimisers.
    - `layer`: the layer, from 0.
    - `eta`: its step size.
    - `stepped`: the split that the step learns from; None: both.
    - `batch`: what the layer receives.
    - `below`: how that moves in a joint step; None where the layers below stand still.
    """

    learner: Learner
    layer: int
    eta: float
    stepped: Split | None
    batch: Batch
    below: InputMotion | None


class LayerFacts(NamedTuple):
    """What rows of a layer share.

    **Attributes:**

    - `layer`, `epoch`, `eta`, `tau`: copied into the rows.
    - `theorems`: the theorems whose ratios are reported.
    - `gaussian`: whether the law of Gaussian pre-activations is that of the units.
    - `exponents`: k of each replica; what was measured is of 2^-k W.
    """

    layer: int
    epoch: int
    eta: float
    tau: float
    theorems: Collection[int]
    gaussian: bool
    exponents: tuple[int, ...]


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

    def rows(self, learner: Learner, layers: tuple[int, ...], epoch: int) -> list[EpochRow]:
        """Measure the layers that learn.

        **Arguments:**

        - `learner`: the network and its optimisers; nothing in it changes.
        - `layers`: the layers that learn together, in increasing order.
        - `epoch`: the epoch that has ended; 0 is the initialisation.

        **Returns:**

        Two rows (positive, negative) for each layer and seed; their acts are not named.

        **Raises:**

        - `Diverged`: a figure is not finite.
        """
        rows: list[EpochRow] = []
        below: list[InputMotion] | None = None
        for layer in layers:
            measured, below = self._rows_of_layer(learner, layer, layers, epoch, below)
            rows += measured
        return rows

    def _rows_of_layer(
        self,
        learner: Learner,
        layer: int,
        layers: tuple[int, ...],
        epoch: int,
        below: list[InputMotion] | None,
    ) -> tuple[list[EpochRow], list[InputMotion]]:
        """Return the rows of a layer, and how the inputs of the layer above move, by batch."""
        network, replicas = learner.network, len(self.spec.seeds)
        weight = network.weights[layer]
        tallies = {split: Tally(replicas, weight) for split in SPLITS}
        stepped = self.spec.split_after(epoch, len(self.train))
        moving, expected = list[InputMotion](), ExpectedStep(weight)
        for number, batch in enumerate(self._batches(network, layer, layers)):
            inputs = below[number] if below is not None else None
            moment = Moment(learner, layer, learner.eta(layer, epoch), stepped, batch, inputs)
            z, motion = self._measure(moment, tallies, joint=len(layers) > 1)
            if motion is not None:
                moving.append(motion.with_bias() if network.spec.bias else motion)
            if self._averages_labels and isinstance(batch.pairs, RelabelledPairs):
                expected.add(batch.pairs, z, self.spec.objective.goodness, network.activation)
        if len(expected):
            self._measure_expected(network, layer, layers, expected, tallies)
        directions = [unit_directions(one) for one in weight]
        facts = LayerFacts(
            layer=layer,
            epoch=epoch,
            eta=learner.eta(layer, epoch),
            tau=flow_times(self.spec, len(self.train), layer)[epoch],
            theorems=self.spec.monitor.theorems,
            gaussian=network.spec.activation == "relu",
            exponents=tuple(network.exponents[layer].tolist()),
        )
        rows = [
            tallies[split].row(replica, seed, split, facts, directions[replica])
            for replica, seed in enumerate(self.spec.seeds)
            for split in SPLITS
        ]
        return rows, moving

    def _measure(
        self, moment: "Moment", tallies: "dict[Split, Tally]", *, joint: bool
    ) -> tuple[Tensor, InputMotion | None]:
        """Add a batch to the tallies of both splits.

        Returns z of the batch, and where layers learn together, how the inputs of the layer above
        move.
        """
        learner, layer, eta, stepped, batch, below = moment
        objective, network = self.spec.objective, learner.network
        weight = network.weights[layer]
        z = batch.pairs.times(weight, torch.bmm)  # (R, 2B, n)
        h, positives = network.activation.value(z), z.shape[1] // 2
        excitation = objective.goodness.value(h)
        goodness = excitation - objective.offset(h.shape[-1])
        terms = objective.terms(goodness[:, :positives], goodness[:, positives:])
        s, lengths = objective.coefficients(goodness, positives), batch.pairs.lengths()
        if stepped is not None:  # the other one has no weight in this step
            s[:, half("negative" if stepped == "positive" else "positive", 2 * positives)] = 0
        step = learner.preview(layer, batch.pairs, z, stepped)
        zdot = batch.pairs.times(step.direction, torch.bmm)
        motion = (
            layer_motion(
                weight,
                step.direction,
                eta,
                z,
                zdot,
                below,
                network.activation,
                network.spec.normalize,
                network.least_scale(layer),
            )
            if joint
            else None
        )
        lowering, difference = self._theorems(moment, h, z)
        on_kink = near_zero(z, lengths, torch.linalg.vector_norm(weight, dim=-1))
        for place, own in enumerate((slice(positives), slice(positives, None))):
            tally = tallies[SPLITS[place]]
            tally.add_state(
                lengths[:, own],
                h[:, own],
                excitation[:, own],
                goodness[:, own],
                terms[place],
                s[:, own],
                self.spec.monitor.measures,
            )
            tally.add_near_zero(on_kink[:, own])
            sums = self._layer_sums(
                network, z[:, own], h[:, own], zdot[:, own], eta, step.cancellation
            )
            check = tally.add_step(sums, 2 in self.spec.monitor.theorems)
            if lowering is not None:
                lowered = self._layer_sums(network, z[:, own], h[:, own], lowering[place], 0.0)
                tally.add_lowering(lowered)
            if difference is not None:
                along, cancellation = difference
                sums = self._layer_sums(
                    network, z[:, own], h[:, own], along[:, own], 0.0, cancellation
                )
                tally.add_satisfied("theorem2_difference", sums)
            elif 2 in self.spec.monitor.theorems:
                tally.add_satisfied("theorem2_difference", check)
            if motion is not None and below is not None:
                total = self._layer_sums(
                    network, z[:, own], h[:, own], motion.zdot[:, own], 0.0, step.cancellation
                )
                tally.add_joint(
                    check, total, motion.sparsity_change[:, own], motion.dead_after[:, own]
                )
        return z, motion.above if motion is not None else None

    def _theorems(
        self, moment: "Moment", h: Tensor, z: Tensor
    ) -> tuple[tuple[Tensor, Tensor] | None, tuple[Tensor, Tensor] | None]:
        """Return the rates of z along the steps of the theorems that are measured.

        They are zdot (R, B, n) of each split along theorem 1's step for the split alone; and zdot
        (R, 2B, n) along theorem 2's step with how much cancels in it, unless training takes just
        that step.
        """
        learner, batch = moment.learner, moment.batch
        theorems, positives = self.spec.monitor.theorems, h.shape[1] // 2
        trained = learner.steps_on_difference and moment.stepped is None
        other = 2 in theorems and not trained
        if not (1 in theorems or other):
            return None, None
        pull = self._lowering_pull(learner.network, h, z)
        lowering = self._lowering(batch, pull) if 1 in theorems else None
        if not other:
            return lowering, None
        pull[:, :positives].neg_()  # the goodness of positives is raised
        descent = batch.pairs.gathered(pull, torch.bmm)
        parts = (torch.linalg.vector_norm(pull, dim=-1) * batch.pairs.lengths()).sum(-1).double()
        along = batch.pairs.times(descent, torch.bmm)
        return lowering, (along, parts_over_whole(parts, descent))

    def _lowering_pull(self, network: Network, h: Tensor, z: Tensor) -> Tensor:
        """Return -dG/dz (R, 2B, n)."""
        goodness, activation = self.spec.objective.goodness, network.activation
        pull = h.clone()
        g = goodness.value(pull)
        pull = goodness.pull(pull, g, torch.full_like(g, -1.0))
        if not activation.slope_where_active_is_one:
            pull *= activation.slope(z)
        return pull

    def _lowering(self, batch: Batch, pull: Tensor) -> tuple[Tensor, Tensor]:
        """Return zdot (R, B, n) of each split along theorem 1's step for the split alone."""
        positive, negative = pull.chunk(2, dim=1)
        if batch.grams is not None:
            return torch.bmm(batch.grams[0], positive), torch.bmm(batch.grams[1], negative)
        x_positive, x_negative = batch.pairs.split()
        return _along_own(x_positive, positive), _along_own(x_negative, negative)

    @property
    def _averages_labels(self) -> bool:
        """Whether theorem 2 is measured along the step averaged over wrong labels.

        They must be as likely as each other.
        """
        return 2 in self.spec.monitor.theorems and isinstance(self.spec.negatives, WrongLabel)

    def _measure_expected(
        self,
        network: Network,
        layer: int,
        layers: tuple[int, ...],
        expected: ExpectedStep,
        tallies: "dict[Split, Tally]",
    ) -> None:
        """Add what the step averaged over wrong labels and all batches does to samples."""
        cancellation = parts_over_whole(expected.parts, expected.descent)
        for number, batch in enumerate(self._batches(network, layer, layers)):
            z = expected.held(number)
            if z is None:
                z = batch.pairs.times(network.weights[layer], torch.bmm)
            h, positives = network.activation.value(z), z.shape[1] // 2
            zdot = batch.pairs.times(expected.descent, torch.bmm)
            for split, own in zip(SPLITS, (slice(positives), slice(positives, None)), strict=True):
                sums = self._layer_sums(
                    network, z[:, own], h[:, own], zdot[:, own], 0.0, cancellation
                )
                tallies[split].add_satisfied("theorem2_expected", sums)

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
        self.batch_ratios: list[Tensor] = []
        self.active_units = torch.zeros(
            replicas, self.width, dtype=torch.bool, device=weight.device
        )

    def add_state(
        self,
        lengths: Tensor,
        h: Tensor,
        excitation: Tensor,
        goodness: Tensor,
        loss: Tensor,
        s: Tensor,
        measures: Collection[str],
    ) -> None:
        """Add the state of a batch before the step.

        **Arguments:**

        - `lengths`: ||x|| (R, B) of the layer's inputs.
        - `h`: activations (R, B, n).
        - `excitation`: G (R, B), before the threshold is subtracted.
        - `goodness`: G (R, B), after it is.
        - `loss`: each sample's term of the objective (R, B).
        - `s`: dL/dG (R, B).
        - `measures`: names of MEASURES that are computed as well.
        """
        self.samples += h.shape[1]
        self.batches += 1
        active = h != 0
        self.active = active.sum(-1)  # (R, B) of the batch
        self._add("zeros", h.shape[-1] - self.active)
        self.active_units |= active.any(1)
        self._add("excitation", excitation.abs())
        self._add("goodness", goodness)
        self._add("loss", loss)
        self._add("coefficient", s.abs())
        self._add("input_norm", lengths)
        for name in measures:
            self._add(name, MEASURES[name](h))

    def add_step(self, sums: LayerSums, theorem2: bool) -> TheoremCheck:
        """Add what the step that training would take does to the samples of the batch.

        **Arguments:**

        - `sums`: of R * B samples, whose state was added before.
        - `theorem2`: whether the theorem is measured.

        **Returns:**

        The verdict on the samples.
        """
        check, dead_after = sums.check(), sums.squares_after == 0
        rose = (sums.change > 0) & ~check.dead & ~dead_after
        decided = ~check.dead & ~check.undecided
        self._add("dead", check.dead)
        self._add("sparsity", sums.sparsity)
        self._add("treves_rolls", sums.treves_rolls)
        self._add("kappa", sums.kappa(self.active.reshape(-1)))
        self._add("theorem2", check.satisfied)
        self._add("undecided2", check.undecided)
        self._add("rose", rose)
        self._add("agree", (rose == check.satisfied) & decided)
        self._add("flipped", sums.flipped)
        if theorem2:
            self._add("margin2", check.margin.abs())
            satisfied, live = (
                part.reshape(self.replicas, -1).double().sum(-1)
                for part in (check.satisfied, ~check.dead)
            )
            self.batch_ratios.append(satisfied / live)  # NaN where all samples are dead
        return check

    def add_near_zero(self, units: Tensor) -> None:
        """Add how many units of each sample (R, B) lie on the kink."""
        self._add("near_zero", units)

    def add_lowering(self, sums: LayerSums) -> None:
        """Add what lowering the goodness of this split's batch does to its samples.

        **Arguments:**

        - `sums`: of R * B samples.
        """
        check = sums.check()
        self._add("theorem1", check.satisfied)
        self._add("undecided1", check.undecided)

    def add_satisfied(self, key: str, found: LayerSums | TheoremCheck) -> None:
        """Add the samples for which a condition holds.

        **Arguments:**

        - `key`: of the sum.
        - `found`: of R * B samples.
        """
        check = found.check() if isinstance(found, LayerSums) else found
        self._add(key, check.satisfied)

    def add_joint(
        self, local: TheoremCheck, total: LayerSums, change: Tensor, dead_after: Tensor
    ) -> None:
        """Add what the joint step of all layers does to samples.

        **Arguments:**

        - `local`: the verdict on R * B samples as if the layers below stood still.
        - `total`: their sums along the joint step.
        - `change`: (R, B) float64, how S changes in that step.
        - `dead_after`: (R, B) bool, no unit is active after it.
        """
        check = total.check()
        rose = (change > 0).reshape(-1) & ~dead_after.reshape(-1) & ~check.dead
        self._add("theorem2_total", check.satisfied)
        self._add("joint_rose", rose)
        self._add("total_agree", (rose == check.satisfied) & ~check.dead)
        self._add("local_agree", (rose == local.satisfied) & ~check.dead)

    def row(
        self,
        replica: int,
        seed: int,
        split: Split,
        facts: "LayerFacts",
        directions: UnitDirections,
    ) -> EpochRow:
        """Return the row of one replica.

        **Arguments:**

        - `replica`: its number.
        - `seed`, `split`: copied into the row.
        - `facts`: of the layer.
        - `directions`: of the replica's weights.

        **Returns:**

        The row; a mean over no samples is null, and so is a goodness beyond float64.

        **Raises:**

        - `Diverged`: a sum is not finite.
        """
        total = {key: float(value[replica]) for key, value in self.sums.items()}
        if broken := sorted(
            key for key, value in total.items() if not math.isfinite(value) and key != "excitation"
        ):
            raise Diverged(divergence(layer=facts.layer, epoch=facts.epoch, seed=seed, what=broken))
        live = self.samples - int(total["dead"])
        decided = live - int(total["undecided2"])
        activations = self.samples * self.width
        theorem2, exponent = 2 in facts.theorems, facts.exponents[replica]

        def mean(key: str, over: int = live) -> float | None:
            return total[key] / over if over and key in total else None

        # a dead sample has no active unit, so that the sum over all is that over live samples
        active = (activations - total["zeros"]) / self.width
        share, kappa = active / live if live else None, mean("kappa")
        return EpochRow(
            seed=seed,
            layer=facts.layer,
            epoch=facts.epoch,
            split=split,
            samples=self.samples,
            dead_samples=int(total["dead"]),
            dead_units=int((~self.active_units[replica]).sum()),
            sparsity=mean("sparsity"),
            zero_fraction=total["zeros"] / activations,
            treves_rolls=mean("treves_rolls"),
            gini=mean("gini"),
            kurtosis=mean("kurtosis"),
            goodness=true_goodness(total["goodness"] / self.samples, exponent),
            loss=true_goodness(total["loss"] / self.samples, exponent),
            theorem1_ratio=mean("theorem1"),
            theorem1_undecided=int(total["undecided1"]) if "undecided1" in total else None,
            theorem2_ratio=mean("theorem2") if theorem2 else None,
            theorem2_undecided=int(total["undecided2"]) if theorem2 else None,
            observed_increase_ratio=mean("rose"),
            agreement=mean("agree", decided),
            mask_flip_rate=total["flipped"] / activations,
            near_zero_rate=total["near_zero"] / activations,
            eta=facts.eta,
            coefficient_sum=total["coefficient"] / self.batches,
            input_norm=total["input_norm"] / self.samples,
            tau=facts.tau if math.isfinite(facts.tau) else None,
            active_share=share,
            kappa=kappa,
            kappa_gap=kappa - gaussian_kappa(share)
            if facts.gaussian and kappa is not None and share
            else None,
            theorem2_margin=mean("margin2"),
            theorem2_sd=self._sd_of_ratios(replica),
            theorem2_difference_ratio=mean("theorem2_difference"),
            theorem2_expected_ratio=mean("theorem2_expected"),
            log_goodness=_logarithm(total["excitation"] / self.samples, exponent),
            effective_units=directions.effective_units,
            effective_rank=directions.effective_rank,
            basins=directions.basins,
            theorem2_total_ratio=mean("theorem2_total"),
            joint_increase_ratio=mean("joint_rose"),
            total_agreement=mean("total_agree"),
            local_agreement=mean("local_agree"),
        )

    def _sd_of_ratios(self, replica: int) -> float | None:
        """Return the standard deviation of theorem 2's ratio between batches with live samples."""
        found = [float(ratios[replica]) for ratios in self.batch_ratios]
        found = [ratio for ratio in found if not math.isnan(ratio)]
        return statistics.stdev(found) if len(found) > 1 else None

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


def _logarithm(goodness: float, exponent: int) -> float | None:
    """Return ln of a mean goodness of 2^-k W, as W has it; None where it is 0 or beyond float32."""
    if not 0 < goodness < math.inf:
        return None
    # of mantissa and exponent apart: the same bits however much of the scale is in k
    mantissa, power = math.frexp(goodness)
    return math.log(mantissa) + (power + 2 * exponent) * math.log(2)


def _along_own(x: Tensor, pull: Tensor) -> Tensor:
    """Return zdot (R, B, n) of samples (R, B, m) along the step that their pulls (R, B, n) make."""
    return torch.bmm(x, torch.bmm(pull.mT, x).mT)
