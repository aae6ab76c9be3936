"""Which epoch's weights are kept, and where a stage ends before its last epoch.

Both follow from what is measured on the validation samples, for each seed by itself: a seed that
has stopped is left as it is while others go on, so that it has the result that it has alone.

Legend: R replicas, n width, m inputs, k (R,) int32 the exponents of one layer.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ffengine.network import Network
from ffengine.optimizers import State
from ffengine.results import EpochAccuracyRow, SelectedRow
from ffengine.spec import TrainSpec

# beside the optimiser's tensors in a checkpoint: weights, their exponents, and class vectors if any
KEPT = ("kept", "kept_exponent", "kept_classes")


class Standing(NamedTuple):
    """How far a seed has come in a stage.

    **Attributes:**

    - `best`: the epoch with the best measure so far; of equal ones the earliest.
    - `value`: the measure there; None where it is not known at any epoch.
    - `last`: the last epoch that was measured.
    - `stopped`: whether the seed has stopped there.
    """

    best: int
    value: float | None
    last: int
    stopped: bool


class Course:
    """How a seed does in a stage, epoch after epoch; no row is read twice.

    **Arguments:**

    - `spec`: the training run; it measures on validation samples.
    - `layers`: the layers that learn together in the stage.
    - `seed`: one of its seeds.
    """

    def __init__(self, spec: TrainSpec, layers: tuple[int, ...], seed: int) -> None:
        self.spec, self.layers, self.seed = spec, layers, seed
        self.standing = Standing(0, None, 0, stopped=False)
        self._since = 0  # measured epochs since the best one

    def add(self, rows: Iterable[EpochAccuracyRow]) -> None:
        """Go on to further epochs.

        **Arguments:**

        - `rows`: what layers told apart there, in the order of the epochs; those of other seeds,
          layers, methods and partitions count for nothing.
        """
        for row in rows:
            is_own = row.seed == self.seed and row.layers == self.layers
            if is_own and row.method == "goodness" and row.partition == "validation":
                self._add(row)

    def _add(self, row: EpochAccuracyRow) -> None:
        """Go on to the epoch of a row of this seed and stage."""
        best, value, _last, _stopped = self.standing
        found = getattr(row, self.spec.measure)
        if found is not None and (value is None or is_better(self.spec, found, value)):
            best, value, self._since = row.epoch, found, 0
        elif row.epoch:
            self._since += 1
        stopped = self.spec.stop is not None and self._since >= self.spec.stop.patience
        self.standing = Standing(best, value, row.epoch, stopped)


def standing_of(
    spec: TrainSpec, layers: tuple[int, ...], seed: int, rows: Iterable[EpochAccuracyRow]
) -> Standing:
    """Read how far a seed has come in a stage.

    **Arguments:**

    - `spec`: the training run; it measures on validation samples.
    - `layers`: the layers that learn together in the stage.
    - `seed`: one of its seeds.
    - `rows`: what layers told apart so far, in the order of the epochs.

    **Returns:**

    Its standing; at epoch 0 where nothing is measured yet.
    """
    course = Course(spec, layers, seed)
    course.add(rows)
    return course.standing


def is_better(spec: TrainSpec, found: float, other: float) -> bool:
    """Whether a value of the run's measure is better than another."""
    return found < other if spec.measure == "loss" else found > other


def selected_rows(spec: TrainSpec, rows: Sequence[EpochAccuracyRow]) -> tuple[SelectedRow, ...]:
    """Say from which epoch the weights of each seed and layer are.

    **Arguments:**

    - `spec`: the training run.
    - `rows`: what its layers told apart.

    **Returns:**

    A row for each seed and layer; none where every layer keeps the weights of its last epoch.
    """
    if not spec.chooses_epochs:
        return ()
    found: list[SelectedRow] = []
    for layers in spec.stages:
        for seed in spec.seeds:
            standing = standing_of(spec, layers, seed, rows)
            epoch = standing.best if spec.select == "best_validation" else standing.last
            found += [
                SelectedRow(
                    seed=seed,
                    layer=layer,
                    epoch=epoch,
                    last_epoch=standing.last,
                    stopped=standing.stopped,
                    measure=spec.measure,
                    best_epoch=standing.best,
                    best=standing.value,
                )
                for layer in layers
            ]
    return tuple(found)


class Keeper:
    """Keeps the weights that a stage ends with, for each seed, while it learns.

    **Arguments:**

    - `spec`: the training run.
    - `network`: its network, whose weights are replaced in place.
    """

    def __init__(self, spec: TrainSpec, network: Network) -> None:
        self.spec, self.network = spec, network
        self.stopped: frozenset[int] = frozenset()  # seeds, in the stage that learns
        self._kept: dict[int, tuple[Tensor, ...]] = {}  # by layer
        self._courses: list[Course] = []  # of the seeds, in the stage that learns

    def put_back(self, layers: tuple[int, ...]) -> None:
        """Give seeds that have stopped the weights that they stopped with.

        **Arguments:**

        - `layers`: the layers that learn.
        """
        places = [at for at, seed in enumerate(self.spec.seeds) if seed in self.stopped]
        self._restore(layers, places)

    def look(self, layers: tuple[int, ...], epoch: int, rows: Sequence[EpochAccuracyRow]) -> bool:
        """Keep the weights of an epoch where they are wanted.

        **Arguments:**

        - `layers`: the layers that learn.
        - `epoch`: the epoch that has been measured.
        - `rows`: what layers told apart at that epoch.

        **Returns:**

        Whether all seeds have stopped.
        """
        standings = self._standings(layers, rows)
        wanted = [
            at
            for at, (seed, found) in enumerate(zip(self.spec.seeds, standings, strict=True))
            if seed not in self.stopped
            and (self.spec.select == "last" or found.best == epoch or epoch == 0)
        ]
        for layer in layers:
            now = self._now(layer)
            kept = self._kept.setdefault(layer, tuple(value.clone() for value in now))
            for there, value in zip(kept, now, strict=True):
                there[wanted] = value[wanted]
        self.stopped = stopped_seeds(self.spec, standings)
        return len(self.stopped) == len(self.spec.seeds)

    def end(self) -> None:
        """Give the layers of a stage that has ended the weights that were kept."""
        self._restore(tuple(self._kept), range(len(self.spec.seeds)))
        self._kept, self._courses, self.stopped = {}, [], frozenset()

    def _standings(
        self, layers: tuple[int, ...], rows: Sequence[EpochAccuracyRow]
    ) -> list[Standing]:
        """Let the seeds go on by these rows, and return where each stands."""
        if not self._courses:
            self._courses = [Course(self.spec, layers, seed) for seed in self.spec.seeds]
        for course in self._courses:
            course.add(rows)
        return [course.standing for course in self._courses]

    def _restore(self, layers: Iterable[int], places: Collection[int]) -> None:
        """Copy what was kept of some replicas into the network."""
        if not places:
            return
        at = torch.tensor([*places], device=self.network.weights[0].device)
        for layer in layers:
            for now, kept in zip(self._now(layer), self._kept[layer], strict=True):
                now[at] = kept[at]

    def _now(self, layer: int) -> tuple[Tensor, ...]:
        """Return what a layer has learnt: weights, exponents, and class vectors if it has any."""
        network = self.network
        return (
            network.weights[layer],
            network.exponents[layer],
            *network.heads[layer : layer + 1],
        )

    def with_kept(self, states: Sequence[State]) -> list[State]:
        """Return the optimiser's tensors of each layer, with what is kept beside them.

        **Arguments:**

        - `states`: the optimiser's tensors.
        """
        return [
            {**state, **dict(zip(KEPT, self._kept[layer], strict=False))}
            if layer in self._kept
            else state
            for layer, state in enumerate(states)
        ]

    def resume(
        self, stage: int, states: Sequence[State], rows: Sequence[EpochAccuracyRow]
    ) -> list[State]:
        """Take up what a checkpoint kept; the inverse of `with_kept`.

        **Arguments:**

        - `stage`: the stage that the run goes on with.
        - `states`: tensors of each layer, as `with_kept` returned them.
        - `rows`: what layers told apart before the checkpoint.

        **Returns:**

        The optimiser's tensors alone.
        """
        for layer, state in enumerate(states):
            if KEPT[0] in state:
                self._kept[layer] = tuple(state[name] for name in KEPT if name in state)
        kept = tuple(self._kept)
        if kept and (stage == len(self.spec.stages) or kept != self.spec.stages[stage]):
            self.end()
        elif kept:
            self.stopped = stopped_seeds(self.spec, self._standings(kept, rows))
        return [
            {name: value for name, value in state.items() if name not in KEPT} for state in states
        ]


def stopped_seeds(spec: TrainSpec, standings: Sequence[Standing]) -> frozenset[int]:
    """Return the seeds that have stopped."""
    both = zip(spec.seeds, standings, strict=True)
    return frozenset(seed for seed, standing in both if standing.stopped)
