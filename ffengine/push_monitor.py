"""Who pushes while training: the decomposition of margins at the epochs that a spec names.

It is that of `ffengine.decomposition`, along the gradient of the run's objective on the first batch
of monitored pairs, which is the same at every epoch.

Legend: R replicas, B pairs of the batch, N = 2B samples, m inputs, n width.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.decomposition import (
    NOTHING_DECOMPOSED,
    Decomposition,
    Moment,
    PairLabels,
    exact_pushes,
    halves,
    pair_angles,
    push_rows,
)
from ffengine.monitor import goodness_of_layers, paired
from ffengine.network import Network, SummedGoodness
from ffengine.objectives import Objective
from ffengine.random_streams import Draws
from ffengine.results import EpochRow, PushedSample, Pusher, SamplePicture
from ffengine.samples import Samples
from ffengine.spec import LARGEST_SIDE, MOST_PUSHED, PUSHERS, TrainSpec

IMAGE_CHANNELS = (1, 3, 4)


class Batch(NamedTuple):
    """The decomposed pairs of one replica.

    **Attributes:**

    - `images`: (B,) int64, positions of the images in the training partition.
    - `labels`: of the B pairs.
    - `pushes`: (N, B), what each pair adds to the margin of each sample.
    - `angles`: (N, B), of each pair at each sample.
    """

    images: Tensor
    labels: PairLabels
    pushes: Tensor
    angles: Tensor


class PushMonitor:
    """Decomposes the margins of the first monitored batch.

    **Arguments:**

    - `spec`: epochs, samples, strategy and objective.
    - `train`: the training partition.
    - `draws`: the randomness of the run.
    """

    def __init__(self, spec: TrainSpec, train: Samples, draws: Draws) -> None:
        self.spec, self.train, self.draws = spec, train, draws

    def decompose(self, network: Network, measured: Sequence[EpochRow]) -> Decomposition:
        """Split the margins of the layers that were measured, if the spec names the epoch.

        **Arguments:**

        - `network`: nothing in it changes.
        - `measured`: the rows of the epoch with their acts, of all layers that learn together.

        **Returns:**

        The rows of each layer, seed and split.
        """
        if not measured or measured[0].epoch not in self.spec.monitor.decomposition:
            return NOTHING_DECOMPOSED
        layers = tuple(sorted({row.layer for row in measured}))
        found = NOTHING_DECOMPOSED
        for layer in layers:
            of_layer = [row for row in measured if row.layer == layer]
            found = found.and_then(self._of_layer(network, layer, layers, of_layer))
        return found

    def _of_layer(
        self, network: Network, layer: int, layers: tuple[int, ...], measured: Sequence[EpochRow]
    ) -> Decomposition:
        """Return rows of every seed, and the most pushed samples of the first."""
        index, x = self._pairs(network, layers)
        received = network.layer_input(layer, x)
        inherited = self._inherited(network, x, layer)
        found = NOTHING_DECOMPOSED
        for replica, seed in enumerate(self.spec.seeds):
            rows = [row for row in measured if row.seed == seed]
            if not rows:  # the seed has stopped
                continue
            weight = network.weights[layer][replica]
            added = None if inherited is None else inherited[replica]
            batch = self._batch(index[replica], x[replica], received[replica], weight, added)
            moment = Moment(rows[0].tau, {row.split: row.act for row in rows})
            pushes = push_rows(
                batch.pushes,
                batch.labels,
                batch.angles,
                seed=seed,
                width=len(weight),
                layer=layer,
                epoch=rows[0].epoch,
                method="exact",
                moment=moment,
            )
            pushed = tuple(most_pushed(batch, rows)) if replica == 0 else ()
            found = found.and_then(Decomposition(pushes, pushed))
        return found

    def _inherited(self, network: Network, x: Tensor, layer: int) -> Tensor | None:
        """Return what other layers' goodness adds to a layer's (R, 2B); None: nothing."""
        objective = self.spec.pairwise
        if not objective.collaborates:
            return None
        return objective.inherited(goodness_of_layers(network, objective.layer_goodness, x), layer)

    def _pairs(self, network: Network, layers: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return positions (R, B) and samples (R, 2B, m) of the first monitored batch."""
        chosen = self.draws.at("monitor").permutation(len(self.train))
        index = chosen[:, : min(self.spec.batch_size, self.spec.monitor.samples)]
        goodness = SummedGoodness(
            network, self.spec.pairwise.layer_goodness, layers, self.train.patterns
        )
        address = ("monitor-negatives", 0)
        return index, paired(self.spec, self.train, index, self.draws, address, goodness)

    def _batch(
        self,
        index: Tensor,
        x: Tensor,
        received: Tensor,
        weight: Tensor,
        inherited: Tensor | None,
    ) -> Batch:
        """Return what the pairs of a replica push, from samples and the inputs of its layer."""
        _, negative = x.chunk(2)
        labels = PairLabels(
            self.train.labels[index], negative[:, : self.train.classes].argmax(dim=-1)
        )
        of_positive, of_negative = received.chunk(2)
        s = gradient_coefficients(self.spec.pairwise, weight, received, inherited)
        pushes = exact_pushes(weight, of_positive, of_negative, s)
        return Batch(index, labels, pushes, pair_angles(of_positive, of_negative))


def gradient_coefficients(
    objective: Objective, weight: Tensor, x: Tensor, inherited: Tensor | None = None
) -> Tensor:
    """Compute dL/dG of samples, in units of its mean size.

    **Arguments:**

    - `objective`: L; of `difference` they are -1 and 1.
    - `weight`: W (n, m) of a layer of relu units.
    - `x`: (N, m), positives first.
    - `inherited`: (N,), what the goodness of other layers adds to its own; None: nothing.

    **Returns:**

    s (N,) float64.
    """
    h = (x.double() @ weight.double().T).clamp_min_(0)
    positives = len(x) // 2
    goodness = objective.above(objective.layer_goodness.value(h), positives, len(weight))
    if inherited is not None:
        goodness += inherited
    s = objective.coefficients(goodness, positives)
    return s / (s.abs().mean() or 1.0)


def most_pushed(batch: Batch, measured: Sequence[EpochRow]) -> Iterable[PushedSample]:
    """Yield the samples with the most negative margins of each split, the most negative first.

    **Arguments:**

    - `batch`: pairs and pushes.
    - `measured`: the rows of both splits of its layer and seed.

    **Returns:**

    At most MOST_PUSHED samples of each split, each with the pairs that push it down most.
    """
    rows = {row.split: row for row in measured}
    for split, samples in halves(len(batch.images)):
        margins = batch.pushes[samples].sum(1)
        live = batch.pushes[samples].abs().sum(1) > 0
        spread = float(margins[live].std(correction=0)) if bool(live.any()) else 0.0
        for at in margins.argsort(stable=True)[:MOST_PUSHED].tolist():
            if spread and float(margins[at]) < 0:
                yield _pushed(batch, rows[split], at, samples.start or 0, spread)


def _pushed(batch: Batch, row: EpochRow, at: int, first: int, spread: float) -> PushedSample:
    """Return one sample, at its place within its split, with its pushers."""
    labels, pushes = batch.labels, batch.pushes[first + at]
    relations = labels.relations()
    pushers = [
        Pusher(
            sample=int(batch.images[pair]),
            image_class=int(labels.image[pair]),
            wrong_label=int(labels.wrong[pair]),
            relation=next(name for name, of in relations.items() if bool(of[first + at, pair])),
            push=float(pushes[pair]) / spread,
            angle=float(batch.angles[first + at, pair]),
        )
        for pair in pushes.argsort(stable=True)[:PUSHERS].tolist()
        if float(pushes[pair]) < 0
    ]
    return PushedSample(
        seed=row.seed,
        layer=row.layer,
        epoch=row.epoch,
        split=row.split,
        tau=row.tau,
        act=row.act,
        sample=int(batch.images[at]),
        image_class=int(labels.image[at]),
        label=int((labels.image if row.split == "positive" else labels.wrong)[at]),
        margin=float(pushes.sum()) / spread,
        pushers=tuple(pushers),
    )


def sample_pictures(samples: Samples, pushed: Sequence[PushedSample]) -> tuple[SamplePicture, ...]:
    """Return the images of pushed samples and of their pushers, each once.

    **Arguments:**

    - `samples`: the training partition.
    - `pushed`: the samples.

    **Returns:**

    The pictures in the order of their positions; none where samples are not images.
    """
    channels, height, width = samples.shape
    if channels not in IMAGE_CHANNELS or min(height, width) < 2:
        return ()
    named = {one.sample for one in pushed} | {by.sample for one in pushed for by in one.pushers}
    step = math.ceil(max(height, width) / LARGEST_SIDE)
    return tuple(_picture(samples, at, step) for at in sorted(named))


def _picture(samples: Samples, at: int, step: int) -> SamplePicture:
    """Return every step-th pixel of an image; floats are spread from its lowest to its highest."""
    pixels = samples.image(at)[:, ::step, ::step]
    if pixels.dtype != torch.uint8:
        low, high = pixels.aminmax()
        pixels = ((pixels - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8)
    channels, height, width = pixels.shape
    return SamplePicture(
        sample=at,
        shape=(channels, height, width),
        pixels=base64.b64encode(pixels.cpu().numpy().tobytes()).decode(),
    )
