"""The state of a training run as safetensors bytes: weights, optimiser states, rows and position.

A checkpoint may be kept in two files, one with the weights and one with the optimiser states, so
that only the newest need both. Nothing else is needed to resume: all randomness is addressed (see
random_streams), so there is no generator state to keep.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor

from ffengine.baseline_plan import find_leg, legs
from ffengine.baselines import SavedBaselines
from ffengine.datasets import Dataset
from ffengine.decomposition import NOTHING_DECOMPOSED, Decomposition
from ffengine.optimizers import State
from ffengine.results import EpochAccuracyRow, EpochRow
from ffengine.spec import TrainSpec, digest
from ffengine.weights import HEAD, Weights

FORMAT = 2
SCALED = 3  # the same with exponents that are not 0
OF_BASELINES = "baselines."  # prefix of their tensors
_ROWS: TypeAdapter[tuple[EpochRow, ...]] = TypeAdapter(tuple[EpochRow, ...])
_DECOMPOSITION: TypeAdapter[Decomposition] = TypeAdapter(Decomposition)


@dataclass(frozen=True)
class Position:
    """The next thing that a training run does.

    **Attributes:**

    - `stage`: the stage, from 0; the number of stages after the last.
    - `epoch`: the epoch; 0 is the measurement before the first step of the stage. After the last
      stage: how many epochs of the baselines are done.
    - `batch`: how many batches of the epoch are done.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0


def fraction_done(spec: TrainSpec, facts: Dataset, position: Position) -> float:
    """Return how much of a training run is done at a position, in [0, 1].

    Epochs of all stages and of baselines count alike, and batches count within their epoch.

    **Arguments:**

    - `spec`: the spec of the run.
    - `facts`: the facts of its data set.
    - `position`: where it stands.

    **Returns:**

    The share of all batches of the run that are done.
    """
    samples, stages = spec.dataset.train_count(facts), len(spec.stages)
    whole = stages * spec.epochs + sum(leg.epochs for leg in legs(spec))
    if position.stage < stages:
        size, epochs = spec.batch_size, max(0, position.epoch - 1)
    else:
        leg = find_leg(spec, position.epoch)
        size, epochs = leg[0].batch_size if leg else spec.batch_size, position.epoch
    epochs += position.stage * spec.epochs
    return min(1.0, (epochs + position.batch / -(-samples // size)) / whole)


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run between two batches.

    **Attributes:**

    - `spec_digest`: the digest of the run's spec.
    - `position`: what the run does next.
    - `weights`: (R, n, m) float32 of each layer; m counts the bias input where there is one.
    - `states`: the optimiser's tensors of each layer, by name.
    - `rows`: all rows measured so far.
    - `exponents`: k (R,) int32 of each layer whose weights are kept as 2^-k W (see
      ffengine.scaling); empty: all are 0.
    - `decomposition`: who pushed, at the epochs so far that the spec names.
    - `accuracy`: what layers told apart at the epochs so far, where the spec asks.
    - `baselines`: where the baselines stand; None: none has begun.
    - `heads`: class vectors (R, C, n) of each layer; empty: the objective has none.
    """

    spec_digest: str
    position: Position
    weights: tuple[Tensor, ...]
    states: tuple[State, ...]
    rows: tuple[EpochRow, ...]
    exponents: tuple[Tensor, ...] = ()
    decomposition: Decomposition = NOTHING_DECOMPOSED
    accuracy: tuple[EpochAccuracyRow, ...] = ()
    baselines: SavedBaselines | None = None
    heads: tuple[Tensor, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the checkpoint as a safetensors file.

        The weights are tensors by layer; the rest is JSON in a byte tensor.
        """
        exponents = [exponent.tolist() for exponent in self.exponents]
        scaled = any(map(any, exponents))
        state = {
            "format": SCALED if scaled else FORMAT,
            **({"exponents": exponents} if scaled else {}),
            "spec_digest": self.spec_digest,
            "position": vars(self.position),
            "rows": _ROWS.dump_python(self.rows, mode="json"),
        }
        if any(self.decomposition):
            state["decomposition"] = _DECOMPOSITION.dump_python(self.decomposition, mode="json")
        if self.accuracy:  # without the names of the columns, since there may be many rows
            state["accuracy"] = [[*row.model_dump(mode="json").values()] for row in self.accuracy]
        tensors = {
            f"layer_{layer}": weight.cpu().contiguous() for layer, weight in enumerate(self.weights)
        }
        tensors |= {
            f"{HEAD}{layer}": head.cpu().contiguous() for layer, head in enumerate(self.heads)
        }
        for layer, remembered in enumerate(self.states):
            tensors |= {
                f"state_{layer}.{name}": value.cpu().contiguous()
                for name, value in remembered.items()
            }
        if self.baselines is not None:
            state["baselines"] = self.baselines.figures
            tensors |= {
                f"{OF_BASELINES}{name}": value.cpu().contiguous()
                for name, value in self.baselines.tensors.items()
            }
        tensors["state"] = torch.frombuffer(
            bytearray(json.dumps(state).encode()), dtype=torch.uint8
        )
        return safetensors.torch.save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """Read a checkpoint from the bytes of such a file.

        **Arguments:**

        - `data`: what `to_bytes` returned.

        **Returns:**

        The checkpoint, its tensors on the CPU.

        **Raises:**

        - `ValueError`: the file is damaged or of another format.
        """
        try:
            tensors = safetensors.torch.load(data)
            state = json.loads(tensors.pop("state").numpy().tobytes())
            if state["format"] not in (FORMAT, SCALED):
                raise ValueError(
                    f"checkpoint: format {state['format']}, expected {FORMAT} or {SCALED}"
                )
            of_baselines = {
                name.removeprefix(OF_BASELINES): tensors.pop(name)
                for name in [name for name in tensors if name.startswith(OF_BASELINES)]
            }
            weights = tuple(
                tensors[f"layer_{layer}"]
                for layer in range(sum(name.startswith("layer_") for name in tensors))
            )
            slots = [
                (int(owner.removeprefix("state_")), slot, value)
                for name, value in tensors.items()
                for owner, _, slot in (name.partition("."),)
                if slot
            ]
            layers = len(weights) or 1 + max((layer for layer, _, _ in slots), default=-1)
            states: tuple[State, ...] = tuple({} for _ in range(layers))
            for layer, slot, value in slots:
                states[layer][slot] = value
            rows = _ROWS.validate_python(state["rows"])
            exponents = tuple(
                torch.tensor(exponent, dtype=torch.int32) for exponent in state.get("exponents", [])
            )
            return cls(
                state["spec_digest"],
                Position(**state["position"]),
                weights,
                states,
                rows,
                exponents,
                _DECOMPOSITION.validate_python(state.get("decomposition", ())),
                tuple(
                    EpochAccuracyRow(**dict(zip(EpochAccuracyRow.model_fields, row, strict=True)))
                    for row in state.get("accuracy", [])
                ),
                SavedBaselines(state["baselines"], of_baselines) if "baselines" in state else None,
                tuple(
                    tensors[f"{HEAD}{layer}"]
                    for layer in range(sum(name.startswith(HEAD) for name in tensors))
                ),
            )
        except (SafetensorError, KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"checkpoint: damaged or not a checkpoint ({error})") from error

    @classmethod
    def of_weights(cls, weights: Weights) -> "Checkpoint":
        """Return imported weights as the checkpoint of a finished run, which `check` accepts.

        **Arguments:**

        - `weights`: what `import_weights` returned.

        **Returns:**

        A checkpoint after the last stage, without optimiser states and rows.
        """
        layers = tuple(torch.from_numpy(np.array(layer)) for layer in weights.layers)
        return cls(
            digest(weights.spec),
            Position(len(weights.spec.stages)),
            layers,
            tuple({} for _ in layers),
            (),
            tuple(torch.tensor(exponent, dtype=torch.int32) for exponent in weights.exponents),
            heads=tuple(torch.from_numpy(np.array(head)) for head in weights.heads),
        )

    @property
    def scales(self) -> tuple[Tensor, ...]:
        """k (R,) int32 of each layer, zeros included."""
        return self.exponents or tuple(
            torch.zeros(len(weight), dtype=torch.int32) for weight in self.weights
        )

    @property
    def on_cpu(self) -> "Checkpoint":
        """The same checkpoint with all of its tensors on the CPU."""
        baselines = self.baselines
        if baselines is not None:
            tensors = {name: value.cpu() for name, value in baselines.tensors.items()}
            baselines = SavedBaselines(baselines.figures, tensors)
        return replace(
            self,
            weights=tuple(weight.cpu() for weight in self.weights),
            states=tuple(
                {name: value.cpu() for name, value in state.items()} for state in self.states
            ),
            exponents=tuple(exponent.cpu() for exponent in self.exponents),
            baselines=baselines,
            heads=tuple(head.cpu() for head in self.heads),
        )

    @property
    def without_states(self) -> "Checkpoint":
        """The same checkpoint without the optimiser's tensors."""
        return replace(self, states=tuple({} for _ in self.states))

    @property
    def without_weights(self) -> "Checkpoint":
        """The same checkpoint with the optimiser's tensors alone, without weights and rows."""
        return replace(
            self, weights=(), rows=(), decomposition=NOTHING_DECOMPOSED, accuracy=(), heads=()
        )

    def with_states_of(self, other: "Checkpoint") -> "Checkpoint":
        """Return the same checkpoint with the optimiser's tensors of another.

        **Arguments:**

        - `other`: what `without_weights` returned, of the same run at the same position.

        **Returns:**

        The checkpoint with both.

        **Raises:**

        - `ValueError`: they do not belong together.
        """
        same = (other.spec_digest, other.position) == (self.spec_digest, self.position)
        missing = len(self.weights) - len(other.states)  # layers that a file of states lacks
        if not same or missing < 0:
            raise ValueError("checkpoint: the states are those of another checkpoint")
        none = tuple[State, ...]({} for _ in range(missing))
        return replace(self, states=other.states + none)

    def weights_of(self, spec: TrainSpec, epoch: int) -> Weights:
        """Return the weights with their spec, as `export_weights` takes them.

        **Arguments:**

        - `spec`: the spec of the run.
        - `epoch`: the epoch at whose end the checkpoint was made.

        **Returns:**

        The weights as numpy arrays.
        """
        return Weights.of_scaled(
            spec,
            epoch,
            [weight.cpu().numpy() for weight in self.weights],
            [tuple(exponent.tolist()) for exponent in self.exponents],
            [head.cpu().numpy() for head in self.heads],
        )

    @property
    def layer(self) -> int:
        """The stage of the run, from 0; with greedy layers it is the layer that learns."""
        return self.position.stage

    @property
    def epoch(self) -> int:
        """The epoch that is under way or comes next."""
        return self.position.epoch

    @property
    def batch(self) -> int:
        """How many batches of that epoch are done."""
        return self.position.batch


def snapshot(
    spec_digest: str,
    position: Position,
    weights: Sequence[Tensor],
    states: Sequence[State],
    rows: Sequence[EpochRow],
    exponents: Sequence[Tensor],
    decomposition: Decomposition = NOTHING_DECOMPOSED,
    accuracy: Sequence[EpochAccuracyRow] = (),
    heads: Sequence[Tensor] = (),
) -> Checkpoint:
    """Copy the state of a run into a checkpoint that no later step changes.

    **Arguments:**

    - `spec_digest`: the digest of the run's spec.
    - `position`: what the run does next.
    - `weights`: (R, n, m) of each layer.
    - `states`: the optimiser's tensors of each layer.
    - `rows`: all rows measured so far.
    - `exponents`: k (R,) of each layer.
    - `decomposition`: who pushed so far.
    - `accuracy`: what layers told apart so far.
    - `heads`: class vectors of each layer, if any.

    **Returns:**

    The checkpoint.
    """
    remembered = tuple({name: value.clone() for name, value in state.items()} for state in states)
    return Checkpoint(
        spec_digest,
        position,
        tuple(weight.clone() for weight in weights),
        remembered,
        tuple(rows),
        tuple(exponent.clone() for exponent in exponents),
        decomposition,
        tuple(accuracy),
        heads=tuple(head.clone() for head in heads),
    )
