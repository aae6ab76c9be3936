"""What is measured while training: the rows of a layer, along the step that training would take.

Where phases of positives and negatives alternate, that is the first step after the epoch: on the
split whose phase it falls into.

The samples are the same at every measurement.

Legend: R replicas, B samples of one split in a batch, n width, m inputs. Positives come first in
every batch. Products are computed in float32, sums over units in float64. The step is linear in the
weights, so z + eta * (x D^T) is exactly what it makes of the pre-activations: this costs no second
product and does not round tiny steps away.
"""

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cache, cached_property, partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ffengine.activations import Activation
from ffengine.acts import gaussian_kappa
from ffengine.deep import InputMotion, layer_motion
from ffengine.diagnostics import divergence
from ffengine.expected_step import ExpectedStep
from ffengine.flow import flow_times
from ffengine.interrupts import Diverged
from ffengine.label_patterns import OneHotPatterns
from ffengine.layer_updates import LayerLearner, Learner, parts_over_whole
from ffengine.margins import LayerSums, TheoremCheck, near_zero
from ffengine.negatives import NetworkGoodness, Positives, Relabelling, WrongLabel
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import Goodness
from ffengine.own_steps import Grams, cancellation_of, grams_of, rates_of
from ffengine.pairs import AnyPairs, Pairs, RelabelledPairs, half
from ffengine.products import product
from ffengine.random_streams import Draws
from ffengine.results import EpochRow, Split
from ffengine.samples import Samples
from ffengine.scaling import true_goodness
from ffengine.sparsity import gini, kurtosis
from ffengine.spec import TrainSpec
from ffengine.unit_directions import UnitDirections, unit_directions
from ffengine.weight_sparsity import NOT_MEASURED, WeightSparsity, weight_sparsity

SPLITS: tuple[Split, Split] = ("positive", "negative")
GRAM_ELEMENTS = 2**25
USED_SHARE = 0.01  # of the mean |h| of the loudest unit (Terres-Escudero et al. 2024)
MOST_USED = 0.95  # of all inputs; where more are used, products go through all of them
MEASURES: dict[str, Callable[[Tensor], Tensor]] = {"gini": gini, "kurtosis": kurtosis}


class Batch(NamedTuple):
    """Monitored pairs as the layer receives them.

    **Attributes:**

    - `pairs`: positives and negatives.
    - `used`: the same without inputs that are 0 in all monitored samples.
    - `grams`: their products with each other, where these are cheaper than products with x; else
      None.
    - `lengths`: ||x|| (R, 2B).
    """

    pairs: AnyPairs
    used: AnyPairs
    grams: Grams | None
    lengths: Tensor


class Moment(NamedTuple):
    """A batch at the moment when its layer is measured.

    **Attributes:**

    - `learner`: the network and its optimisers.
    - `layer`: the layer, from 0.
    - `used`: its weights (R, n, m') of the inputs that the batch has as `used`.
    - `eta`: its step size.
    - `stepped`: the split that the step learns from; None: both.
    - `batch`: what the layer receives.
    - `below`: how that moves in a joint step; None where the layers below stand still.
    - `inherited`: what the goodness of other layers adds to its own (R, 2B); None: nothing.
    """

    learner: Learner
    layer: int
    used: Tensor
    eta: float
    stepped: Split | None
    batch: Batch
    below: InputMotion | None
    inherited: Tensor | None


class OwnSteps(NamedTuple):
    """How pre-activations move along steps that are made of the batch alone.

    **Attributes:**

    - `lowering`: zdot (R, 2B, n) of each split along theorem 1's step for the split alone.
    - `difference`: zdot along theorem 2's step, and how much cancels in it (R,); None where that is
      the step of training, or is not measured.
    - `trained`: the same of the step of training, where that is theorem 2's.
    """

    lowering: Tensor | None
    difference: tuple[Tensor, Tensor] | None
    trained: tuple[Tensor, Tensor] | None


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
        self._used: Tensor | None = None  # its inputs that are not always 0; None: all
        self._flow_times = cache(partial(flow_times, spec, len(train)))  # by layer

    def rows(self, learner: LayerLearner, layers: tuple[int, ...], epoch: int) -> list[EpochRow]:
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
        assert isinstance(learner, Learner)  # noqa: S101 - narrows the type
        rows: list[EpochRow] = []
        below: list[InputMotion] | None = None
        inherited = self._inherited(learner.network, layers)
        for layer in layers:
            measured, below = self._rows_of_layer(
                learner, layer, layers, epoch, below, inherited.get(layer)
            )
            rows += measured
        return rows

    def _inherited(self, network: Network, layers: tuple[int, ...]) -> dict[int, list[Tensor]]:
        """Return what other layers' goodness adds to each layer's, (R, 2B) for each batch."""
        objective, found = self.spec.pairwise, defaultdict[int, list[Tensor]](list)
        if not objective.collaborates:
            return found
        summed = SummedGoodness(network, objective.layer_goodness, layers, self.train.patterns)
        chosen = self.draws.at("monitor").permutation(len(self.train))[
            :, : self.spec.monitor.samples
        ]
        for number, index in enumerate(chosen.split(self.spec.batch_size, dim=1)):
            address = ("monitor-negatives", number)
            x = paired(self.spec, self.train, index, self.draws, address, summed)
            goodness = goodness_of_layers(network, objective.layer_goodness, x)
            for layer in layers:
                added = objective.inherited(goodness, layer)
                if added is not None:
                    found[layer].append(added)
        return found

    def _rows_of_layer(
        self,
        learner: Learner,
        layer: int,
        layers: tuple[int, ...],
        epoch: int,
        below: list[InputMotion] | None,
        inherited: list[Tensor] | None,
    ) -> tuple[list[EpochRow], list[InputMotion]]:
        """Return the rows of a layer, and how the inputs of the layer above move, by batch."""
        network, replicas = learner.network, len(self.spec.seeds)
        weight, batches = network.weights[layer], self._batches(network, layer, layers)
        used = weight[..., self._used] if self._held(layer) and self._used is not None else weight
        tally = Tally(replicas, weight, network.activation, self.spec.monitor.theorems)
        stepped = self.spec.split_after(epoch, len(self.train))
        eta = learner.eta(layer, epoch, stepped)
        moving, expected = list[InputMotion](), ExpectedStep(used)
        states: list[LayerSums] = []  # of the batches that the expected step is of
        for number, batch in enumerate(batches):
            inputs = below[number] if below is not None else None
            added = inherited[number] if inherited is not None else None
            moment = Moment(learner, layer, used, eta, stepped, batch, inputs, added)
            z, sums, motion = self._measure(moment, tally, joint=len(layers) > 1)
            if motion is not None:
                moving.append(motion.among_fixed(network.label_inputs, network.spec.bias))
            if self._averages_labels and isinstance(batch.used, RelabelledPairs):
                goodness = network.goodness(layer, self.spec.pairwise.layer_goodness)
                expected.add(batch.used, z, goodness, network.activation)
                states.append(sums)
        if len(expected):
            self._measure_expected(network, layer, layers, expected, states, tally)
        spectral = "spectral_norm" in self.spec.monitor.measures
        directions = [unit_directions(one, spectral=spectral) for one in weight]
        sparse = weights_measured(self.spec, weight)
        facts = facts_of(self.spec, network, layer, epoch, eta, self._flow_times(layer)[epoch])
        rows = [
            tally.row(replica, seed, split, facts, directions[replica], sparse[replica])
            for replica, seed in enumerate(self.spec.seeds)
            for split in SPLITS
        ]
        return rows, moving

    def _measure(
        self, moment: "Moment", tally: "Tally", *, joint: bool
    ) -> tuple[Tensor, LayerSums, InputMotion | None]:
        """Add a batch to the tally.

        Returns z of the batch, its sums over units, and where layers learn together, how the inputs
        of the layer above move.
        """
        learner, layer, used, eta, stepped, batch, below, inherited = moment
        objective, network = self.spec.pairwise, learner.network
        weight = network.weights[layer]
        z = batch.used.times(used, product)  # (R, 2B, n)
        h, positives = network.activation.value(z), z.shape[1] // 2
        goodness_of = network.goodness(moment.layer, objective.layer_goodness)
        excitation = goodness_of.value(h)
        goodness = objective.above(excitation, positives, h.shape[-1])
        together = goodness if inherited is None else goodness + inherited
        terms = objective.terms(together[:, :positives], together[:, positives:])
        s, lengths = self._coefficients(together, stepped), batch.lengths
        if inherited is not None:
            tally.add_inherited(inherited, self._coefficients(goodness, stepped))
        tally.add_state(
            lengths,
            h,
            None if goodness_of.compares else excitation,
            goodness,
            torch.cat(terms, dim=1),
            s,
            self.spec.monitor.measures,
        )
        tally.add_near_zero(near_zero(z, lengths, torch.linalg.vector_norm(weight, dim=-1)))
        own = self._own_steps(moment, z, h, excitation, joint=joint)
        if own.trained is None:
            step = learner.preview(layer, batch.pairs, z, stepped, inherited)
            zdot, cancellation = batch.pairs.times(step.direction, product), step.cancellation
        else:
            zdot, cancellation = own.trained
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
        sums = layer_sums(network, z, h, zdot, eta, cancellation)
        tally.add_sums("step", sums)
        if own.lowering is not None:
            tally.add_sums("lowering", along(sums, network, z, h, own.lowering))
        if own.difference is not None:
            tally.add_sums("difference", along(sums, network, z, h, *own.difference))
        if motion is not None and below is not None:
            tally.add_sums("total", along(sums, network, z, h, motion.zdot, cancellation))
            tally.add_joint(motion.sparsity_change, motion.dead_after)
        return z, sums, motion.above if motion is not None else None

    def _coefficients(self, goodness: Tensor, stepped: Split | None) -> Tensor:
        """Return dL/dG (R, 2B) of G; 0 for the split that has no weight in the step."""
        positives = goodness.shape[1] // 2
        s = self.spec.pairwise.coefficients(goodness, positives)
        if stepped is not None:
            s[:, half("negative" if stepped == "positive" else "positive", 2 * positives)] = 0
        return s

    def _own_steps(
        self,
        moment: "Moment",
        z: Tensor,
        h: Tensor,
        excitation: Tensor,
        *,
        joint: bool,
    ) -> OwnSteps:
        """Return how z moves along the steps that are measured and made of this batch alone."""
        learner, batch = moment.learner, moment.batch
        theorems, positives = self.spec.monitor.theorems, h.shape[1] // 2
        on_difference = learner.steps_on_difference and moment.stepped is None
        trained = on_difference and not joint
        other = 2 in theorems and not on_difference
        if not (1 in theorems or other or trained):
            return OwnSteps(None, None, None)
        pull = self._lowering_pull(learner.network, moment.layer, h, z, excitation)
        rates = rates_of(batch.used, pull) if batch.grams is None else batch.grams.rates(pull)
        lowering = rates.lowering if 1 in theorems else None
        if not (other or trained):
            return OwnSteps(lowering, None, None)
        parts = (torch.linalg.vector_norm(pull, dim=-1) * batch.lengths).sum(-1).double()
        pull[:, :positives].neg_()  # the goodness of positives is raised
        cancellation = cancellation_of(batch.used, pull, rates.difference, parts)
        if trained:
            return OwnSteps(lowering, None, (rates.difference, cancellation))
        return OwnSteps(lowering, (rates.difference, cancellation), None)

    def _lowering_pull(
        self, network: Network, layer: int, h: Tensor, z: Tensor, excitation: Tensor
    ) -> Tensor:
        """Return -dG/dz (R, 2B, n) over B, as training has it."""
        activation, s = network.activation, torch.full_like(excitation, -2 / h.shape[1])
        goodness = network.goodness(layer, self.spec.pairwise.layer_goodness)
        pull = goodness.pull(h.clone(), excitation, s)
        if not activation.slope_where_active_is_one:
            pull *= activation.slope(z)
        return pull

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
        states: list[LayerSums],
        tally: "Tally",
    ) -> None:
        """Add what the step averaged over wrong labels and all batches does to samples."""
        cancellation = parts_over_whole(expected.parts, expected.descent)
        for number, batch in enumerate(self._batches(network, layer, layers)):
            z = expected.held(number)
            if z is None:
                z = batch.used.times(expected.weight, product)
            h = network.activation.value(z)
            zdot = batch.used.times(expected.descent, product)
            tally.add_sums("expected", along(states[number], network, z, h, zdot, cancellation))

    def _batches(self, network: Network, layer: int, layers: tuple[int, ...]) -> Iterator[Batch]:
        """Return the monitored samples as the layer receives them, in training-size batches."""
        if not self._held(layer):
            pairs = self._pairs(network, layer, layers)
            return (Batch(one, one, None, one.lengths()) for one in pairs)
        if self._first is None:
            held = list(self._pairs(network, layer, layers))
            self._used = used_inputs(held)
            self._first = [
                Batch(
                    one,
                    one if self._used is None else one.inputs(self._used),
                    grams_of(one) if self._fit(one) else None,
                    one.lengths(),
                )
                for one in held
            ]
        return iter(self._first)

    def _held(self, layer: int) -> bool:
        """Whether a layer receives the same samples at every measurement."""
        return layer == 0 and not self.spec.negatives.asks_network

    def _pairs(self, network: Network, layer: int, layers: tuple[int, ...]) -> Iterator[AnyPairs]:
        """Yield the monitored positives, the first of a permutation, with their negatives."""
        network_goodness = SummedGoodness(
            network, self.spec.pairwise.layer_goodness, layers, self.train.patterns
        )
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

    def _fit(self, pairs: AnyPairs) -> bool:
        """Whether products of samples with samples are cheaper than with x, and fit in memory."""
        samples, inputs = pairs.batch_size, pairs.x.shape[-1]
        monitored = min(self.spec.monitor.samples, len(self.train))
        elements = len(self.spec.seeds) * samples * monitored
        return samples <= 2 * inputs and elements <= GRAM_ELEMENTS


# along which step sums are: that of training, theorem 1's, theorem 2's, the latter averaged over
# wrong labels, and the joint step of all layers
Direction = Literal["step", "lowering", "difference", "expected", "total"]


class Tally:
    """Figures of the monitored samples of a layer, by replica and split.

    **Arguments:**

    - `replicas`: R.
    - `weight`: (R, n, m) of the layer.
    - `activation`: sigma.
    - `theorems`: those that are measured.
    - `splits`: of which the samples of a batch are, one part after the other.
    - `positions`: P, at how many positions each unit stands; activations are then those of all
      units at all positions, unit after unit, and a unit is dead where it is dead everywhere.
    """

    def __init__(
        self,
        replicas: int,
        weight: Tensor,
        activation: Activation,
        theorems: Collection[int],
        splits: tuple[Split, ...] = SPLITS,
        *,
        positions: int = 1,
    ) -> None:
        self.activation, self.splits, self.positions = activation, splits, positions
        self.replicas, self.width, self.theorems = replicas, weight.shape[1] * positions, theorems
        self.batch_sizes: list[int] = []
        self.values: dict[str, list[Tensor]] = {}  # (R, splits, B) of each batch
        self.sums: dict[Direction, list[LayerSums]] = {}  # of each batch
        self.active_units = torch.zeros(
            replicas, len(splits), self.width, dtype=torch.bool, device=weight.device
        )
        self.unit_sums = torch.zeros(
            replicas, len(splits), self.width, dtype=torch.float64, device=weight.device
        )

    def add_state(
        self,
        lengths: Tensor,
        h: Tensor,
        excitation: Tensor | None,
        goodness: Tensor | None,
        loss: Tensor,
        s: Tensor | None,
        measures: Collection[str],
    ) -> None:
        """Add the state of a batch before the step.

        **Arguments:**

        - `lengths`: ||x|| (R, 2B) of the layer's inputs, positives first.
        - `h`: activations (R, 2B, n).
        - `excitation`: G (R, 2B), before the threshold is subtracted; None where there is no
          goodness, or its size is not how strongly the layer is excited.
        - `goodness`: G (R, 2B), after it is.
        - `loss`: each sample's term of the objective (R, 2B).
        - `s`: dL/dG (R, 2B).
        - `measures`: what is measured as well, of activations where MEASURES has it.
        """
        self.batch_sizes.append(h.shape[1] // len(self.splits))
        active = h.sign()  # numbers are added up sooner than truth values
        if self.activation.slope_below_zero != 0:
            active.abs_()
        self._add("active", active.sum(-1))
        self.active_units |= active.unflatten(1, (len(self.splits), -1)).sum(2) > 0
        sizes = h if self.activation.slope_below_zero == 0 else h.abs()
        self.unit_sums += sizes.unflatten(1, (len(self.splits), -1)).sum(2)
        if excitation is not None:
            self._add("excitation", excitation.abs())
        if goodness is not None and s is not None:
            self._add("goodness", goodness)
            self._add("coefficient", s.abs())
        self._add("loss", loss)
        self._add("input_norm", lengths)
        for name in measures:
            if name in MEASURES:  # others are measured of the weights
                self._add(name, MEASURES[name](h))

    def add_sums(self, direction: "Direction", sums: LayerSums) -> None:
        """Add what a step does to the samples of a batch.

        **Arguments:**

        - `direction`: which step.
        - `sums`: of R * 2B samples.
        """
        self.sums.setdefault(direction, []).append(sums)

    def add_near_zero(self, units: Tensor) -> None:
        """Add how many units of each sample (R, 2B) lie on the kink."""
        self._add("near_zero", units)

    def add_inherited(self, inherited: Tensor, own: Tensor) -> None:
        """Add what the goodness of other layers does to a layer's loss.

        **Arguments:**

        - `inherited`: what is added to G (R, 2B).
        - `own`: dL/dG (R, 2B) without it.
        """
        self._add("inherited", inherited)
        self._add("own_coefficient", own.abs())

    def add_joint(self, change: Tensor, dead_after: Tensor) -> None:
        """Add what the joint step of all layers does to the samples of a batch.

        **Arguments:**

        - `change`: (R, 2B) float64, how S changes in that step.
        - `dead_after`: (R, 2B) bool, no unit is active after it.
        """
        self._add("joint_change", change)
        self._add("joint_dead", dead_after)

    def row(
        self,
        replica: int,
        seed: int,
        split: Split,
        facts: "LayerFacts",
        directions: UnitDirections,
        weights: WeightSparsity = NOT_MEASURED,
    ) -> EpochRow:
        """Return the row of one replica.

        **Arguments:**

        - `replica`: its number.
        - `seed`, `split`: copied into the row.
        - `facts`: of the layer.
        - `directions`: of the replica's weights.
        - `weights`: how sparse they are, where that is measured.

        **Returns:**

        The row; a mean over no samples is null, and so is a goodness beyond float64.

        **Raises:**

        - `Diverged`: a sum is not finite.
        """
        place, samples = self.splits.index(split), sum(self.batch_sizes)
        active_units, unit_sums = self.active_units[replica, place], self.unit_sums[replica, place]
        if self.positions > 1:
            active_units = active_units.view(-1, self.positions).any(-1)
            unit_sums = unit_sums.view(-1, self.positions).sum(-1)
        total = {key: sums[replica][place] for key, sums in self._figures.items()}
        if broken := sorted(
            key for key, value in total.items() if not math.isfinite(value) and key != "excitation"
        ):
            raise Diverged(divergence(layer=facts.layer, epoch=facts.epoch, seed=seed, what=broken))
        live = samples - int(total["dead"])
        decided = live - int(total["undecided2"])
        activations = samples * self.width
        theorem2, exponent = 2 in facts.theorems, facts.exponents[replica]
        goodness, excitation = total.get("goodness"), total.get("excitation")

        def mean(key: str, over: float = live) -> float | None:
            return total[key] / over if over and key in total else None

        # a dead sample has no active unit, so that the sum over all is that over live samples
        share, kappa = total["active"] / self.width / live if live else None, mean("kappa")
        return EpochRow(
            seed=seed,
            layer=facts.layer,
            epoch=facts.epoch,
            split=split,
            samples=samples,
            dead_samples=int(total["dead"]),
            dead_units=int((~active_units).sum()),
            used_units=used_units(unit_sums),
            sparsity=mean("sparsity"),
            zero_fraction=(activations - total["active"]) / activations,
            treves_rolls=mean("treves_rolls"),
            gini=mean("gini"),
            kurtosis=mean("kurtosis"),
            goodness=None if goodness is None else true_goodness(goodness / samples, exponent),
            loss=true_goodness(total["loss"] / samples, exponent),
            theorem1_ratio=mean("theorem1"),
            theorem1_undecided=int(total["undecided1"]) if "undecided1" in total else None,
            theorem2_ratio=mean("theorem2") if theorem2 else None,
            theorem2_undecided=int(total["undecided2"]) if theorem2 else None,
            observed_increase_ratio=mean("rose"),
            agreement=mean("agree", decided),
            mask_flip_rate=total["flipped"] / activations,
            near_zero_rate=total["near_zero"] / activations,
            eta=facts.eta,
            coefficient_sum=mean("coefficient", len(self.batch_sizes)),
            input_norm=total["input_norm"] / samples,
            tau=facts.tau if math.isfinite(facts.tau) else None,
            active_share=share,
            kappa=kappa,
            kappa_gap=kappa - gaussian_kappa(share)
            if facts.gaussian and kappa is not None and share
            else None,
            theorem2_margin=mean("margin2"),
            theorem2_sd=self._sd_of_ratios(replica, place) if theorem2 else None,
            theorem2_difference_ratio=mean("theorem2_difference"),
            theorem2_expected_ratio=mean("theorem2_expected"),
            log_goodness=None
            if excitation is None
            else _logarithm(excitation / samples, 2 * exponent),
            effective_units=directions.effective_units,
            effective_rank=directions.effective_rank,
            basins=directions.basins,
            theorem2_total_ratio=mean("theorem2_total"),
            joint_increase_ratio=mean("joint_rose"),
            total_agreement=mean("total_agree"),
            local_agreement=mean("local_agree"),
            log_weight_norm=_logarithm(directions.norm, exponent),
            log_spectral_norm=None
            if directions.spectral_norm is None
            else _logarithm(directions.spectral_norm, exponent),
            log_activation=_logarithm(total["activation"] / activations, exponent),
            inherited_goodness=mean("inherited", samples),
            gradient_share=mean("coefficient", total.get("own_coefficient", 0.0))
            if "inherited" in total
            else None,
            weight_sparsity=weights.sparsity,
            weight_gini=weights.gini,
            excitatory_share=weights.excitatory_share,
            entropy_rank=weights.entropy_rank,
        )

    @cached_property
    def _figures(self) -> dict[str, list[list[float]]]:
        """The sum of each figure over all samples, by replica and split."""
        found = {key: torch.cat(values, dim=-1) for key, values in self.values.items()}
        found |= {
            key: value.view(self.replicas, len(self.splits), -1)
            for key, value in self._verdicts(found).items()
        }
        return {key: value.double().sum(-1).tolist() for key, value in found.items()}

    def _verdicts(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the steps do to all samples of a row after the other, (R * splits * M,) each;
        `state` is (R, splits, M) each.
        """
        sums = {
            direction: joined(parts, self.replicas * len(self.splits))
            for direction, parts in self.sums.items()
        }
        check, dead_after = self._check, sums["step"].squares_after == 0
        rose = (sums["step"].change > 0) & ~check.dead & ~dead_after
        found = {
            "dead": check.dead,
            "activation": sums["step"].l1,
            "sparsity": sums["step"].sparsity,
            "treves_rolls": sums["step"].treves_rolls,
            "kappa": sums["step"].kappa(state["active"].flatten()),
            "theorem2": check.satisfied,
            "undecided2": check.undecided,
            "rose": rose,
            "agree": (rose == check.satisfied) & ~check.dead & ~check.undecided,
            "flipped": sums["step"].flipped,
        }
        if 2 in self.theorems:
            found["margin2"] = check.margin.abs()
            if len(self.splits) == 2:  # else there is no difference of goodness
                other = sums["difference"].check() if "difference" in sums else check
                found["theorem2_difference"] = other.satisfied
        if "lowering" in sums:
            lowered = sums["lowering"].check()
            found |= {"theorem1": lowered.satisfied, "undecided1": lowered.undecided}
        if "expected" in sums:
            found["theorem2_expected"] = sums["expected"].check().satisfied
        if "total" in sums:
            total = sums["total"].check().satisfied
            rose = (state["joint_change"] > 0).flatten() & ~check.dead
            rose &= state["joint_dead"].flatten() == 0
            found |= {
                "theorem2_total": total,
                "joint_rose": rose,
                "total_agree": (rose == total) & ~check.dead,
                "local_agree": (rose == check.satisfied) & ~check.dead,
            }
        return found

    @cached_property
    def _check(self) -> TheoremCheck:
        """The verdict on R * 2M samples along the step that training would take."""
        return joined(self.sums["step"], self.replicas * len(self.splits)).check()

    def _sd_of_ratios(self, replica: int, place: int) -> float | None:
        """Return the standard deviation of theorem 2's ratio between batches with live samples."""
        satisfied, dead = (
            part.view(self.replicas, len(self.splits), -1)[replica, place].split(self.batch_sizes)
            for part in (self._check.satisfied, self._check.dead)
        )
        found = [
            int(rising.sum()) / live
            for rising, none in zip(satisfied, dead, strict=True)
            if (live := int((~none).sum()))
        ]
        return statistics.stdev(found) if len(found) > 1 else None

    def _add(self, key: str, values: Tensor) -> None:
        """Add values of samples, (R, 2B) or (R * 2B,), positives first in each replica."""
        parts = values.reshape(self.replicas, len(self.splits), -1)
        self.values.setdefault(key, []).append(parts)


def facts_of(
    spec: TrainSpec, network: Network, layer: int, epoch: int, eta: float, tau: float
) -> LayerFacts:
    """Return what the rows of a layer share.

    **Arguments:**

    - `spec`: the run.
    - `network`: its network.
    - `layer`, `epoch`: which rows.
    - `eta`: the step size.
    - `tau`: the flow time.

    **Returns:**

    The facts.
    """
    return LayerFacts(
        layer=layer,
        epoch=epoch,
        eta=eta,
        tau=tau,
        theorems=spec.monitor.theorems,
        gaussian=network.spec.activation == "relu",
        exponents=tuple(network.exponents[layer].tolist()),
    )


def layer_sums(
    network: Network,
    z: Tensor,
    h: Tensor,
    zdot: Tensor,
    eta: float,
    cancellation: Tensor,
) -> LayerSums:
    """Sum over units what a step does to samples.

    **Arguments:**

    - `network`: the network.
    - `z`: (R, B, n) pre-activations.
    - `h`: (R, B, n) activations.
    - `zdot`: (R, B, n), how z moves along the step; it is overwritten.
    - `eta`: the step size.
    - `cancellation`: (R,), how much cancels in the step.

    **Returns:**

    Sums of R * B samples.
    """
    _, samples, width = z.shape
    sums = LayerSums.zeros(z.shape[0] * samples, width, z.device)
    sums.eta = eta
    sums.cancellation = cancellation.repeat_interleave(samples)
    z, h, zdot = (part.reshape(-1, width) for part in (z, h, zdot))
    sums.add(slice(None), z, h, zdot, network.activation)
    return sums


def along(
    sums: LayerSums,
    network: Network,
    z: Tensor,
    h: Tensor,
    zdot: Tensor,
    cancellation: Tensor | None = None,
) -> LayerSums:
    """Sum over units what another step does to the same samples.

    **Arguments:**

    - `sums`: of the samples along a first step.
    - `network`, `z`, `h`, `zdot`: as for `layer_sums`.
    - `cancellation`: (R,), how much cancels in the step; None: nothing.

    **Returns:**

    Sums of R * B samples.
    """
    _, samples, width = z.shape
    z, h, zdot = (part.reshape(-1, width) for part in (z, h, zdot))
    by_sample = 1.0 if cancellation is None else cancellation.repeat_interleave(samples)
    return sums.along(z, h, zdot, network.activation, by_sample)


def weights_measured(spec: TrainSpec, weight: Tensor) -> list[WeightSparsity]:
    """Measure how sparse the weights of a layer are, where the run asks for it.

    **Arguments:**

    - `spec`: the run.
    - `weight`: W (R, n, m).

    **Returns:**

    The figures of each replica, or none of any.
    """
    asked = "weights" in spec.monitor.measures
    return [weight_sparsity(one) if asked else NOT_MEASURED for one in weight]


def used_units(sums: Tensor) -> int:
    """Count the units that are used more than next to nothing, beside the one used most.

    **Arguments:**

    - `sums`: (n,), the sum of |h| of each unit over the same samples.

    **Returns:**

    How many are above 1 % of the largest.

    **Source:**

    E. Terres-Escudero et al., arXiv 2408.09210, neural usage.
    """
    return int((sums > USED_SHARE * sums.max()).sum())


def goodness_of_layers(network: Network, goodness: Goodness, x: Tensor) -> list[Tensor]:
    """Compute the goodness of every layer, before thresholds are subtracted.

    **Arguments:**

    - `network`: the network.
    - `goodness`: the function.
    - `x`: (R, B, m) samples.

    **Returns:**

    g (R, B) of each layer.
    """
    return [
        network.goodness(layer, goodness).value(h) for layer, h in enumerate(network.activations(x))
    ]


def used_inputs(batches: Sequence[AnyPairs]) -> Tensor | None:
    """Find the inputs that are not 0 in all samples, such as the edge of a picture.

    **Arguments:**

    - `batches`: pairs of the same inputs.

    **Returns:**

    Their positions, those of the labels among them; None where nearly all are used.
    """
    used = torch.stack([(batch.x != 0).flatten(0, 1).any(0) for batch in batches]).any(0)
    if isinstance(batches[0], RelabelledPairs):
        used[: batches[0].change.shape[-1]] = True
    return None if used.sum() > MOST_USED * len(used) else used.nonzero().squeeze(1)


def joined(parts: Sequence[LayerSums], rows: int) -> LayerSums:
    """Put sums of batches together.

    **Arguments:**

    - `parts`: sums along one step, each of `rows` times as many samples as its batch has.
    - `rows`: how many parts of a batch follow one another in each.

    **Returns:**

    Sums of all samples: those of the first row of every batch, then those of the second.
    """

    def together(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if not isinstance(values[0], Tensor):
            return float(values[0])
        return torch.cat([value.view(rows, -1) for value in values], dim=1).flatten()

    names = [field.name for field in dataclasses.fields(LayerSums) if field.name != "width"]
    return LayerSums(parts[0].width, **{name: together(name) for name in names})


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

    Where a negative is its positive under another one-hot label, and the layer is the first, the
    pair is kept as the positive and a change of the label inputs.

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
    one_hot = isinstance(train.patterns, OneHotPatterns)
    if layer or not one_hot or not isinstance(strategy, Relabelling) or not strategy.keeps_image:
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


def _logarithm(figure: float, exponent: int) -> float | None:
    """Return ln of 2^exponent times a figure of 2^-k W; None where that is 0 or not finite."""
    if not 0 < figure < math.inf:
        return None
    # of mantissa and exponent apart: the same bits however much of the scale is in k
    mantissa, power = math.frexp(figure)
    return math.log(mantissa) + (power + exponent) * math.log(2)
