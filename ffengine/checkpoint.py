"""Where a training run stands: weights, what the optimiser remembers, rows and position, as
safetensors bytes.

Nothing else is needed to resume: all randomness is addressed (see random_streams), so there is no
generator state to keep.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor

from ffengine.optimizers import State
from ffengine.results import EpochRow
from ffengine.spec import TrainSpec, digest
from ffengine.weights import Weights

FORMAT = 2
_ROWS: TypeAdapter[tuple[EpochRow, ...]] = TypeAdapter(tuple[EpochRow, ...])


@dataclass(frozen=True)
class Position:
    """The next thing to do: epoch 0 is the measurement before the first step of a stage; `batch`
    batches of `epoch` are done.
    """

    stage: int = 0
    epoch: int = 0
    batch: int = 0


def fraction_done(spec: TrainSpec, position: Position) -> float:
    """How much of the training run of a spec is done at a position, in [0, 1]: epochs over epochs,
    counting batches within one.
    """
    batches = -(-spec.dataset.train_count // spec.batch_size)
    epochs = position.stage * spec.epochs + max(0, position.epoch - 1) + position.batch / batches
    return min(1.0, epochs / (len(spec.stages) * spec.epochs))


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training run between two batches.

    weights: one (R, n, m) a layer; states: what the optimiser remembers of each layer; rows: all
    that were measured.
    """

    spec_digest: str
    position: Position
    weights: tuple[Tensor, ...]
    states: tuple[State, ...]
    rows: tuple[EpochRow, ...]

    def to_bytes(self) -> bytes:
        """A safetensors file: the weights by layer, the rest as JSON in a byte tensor."""
        state = {
            "format": FORMAT,
            "spec_digest": self.spec_digest,
            "position": vars(self.position),
            "rows": _ROWS.dump_python(self.rows, mode="json"),
        }
        tensors = {
            f"layer_{layer}": weight.cpu().contiguous() for layer, weight in enumerate(self.weights)
        }
        for layer, remembered in enumerate(self.states):
            tensors |= {
                f"state_{layer}.{name}": value.cpu().contiguous()
                for name, value in remembered.items()
            }
        tensors["state"] = torch.frombuffer(
            bytearray(json.dumps(state).encode()), dtype=torch.uint8
        )
        return safetensors.torch.save(tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """The checkpoint of such a file.

        Raises ValueError where it is damaged or of another format.
        """
        try:
            tensors = safetensors.torch.load(data)
            state = json.loads(tensors.pop("state").numpy().tobytes())
            if state["format"] != FORMAT:
                raise ValueError(f"checkpoint: format {state['format']}, expected {FORMAT}")
            weights = tuple(
                tensors[f"layer_{layer}"]
                for layer in range(sum(name.startswith("layer_") for name in tensors))
            )
            states: tuple[State, ...] = tuple({} for _ in weights)
            for name, value in tensors.items():
                owner, _, slot = name.partition(".")
                if slot:
                    states[int(owner.removeprefix("state_"))][slot] = value
            rows = _ROWS.validate_python(state["rows"])
            return cls(state["spec_digest"], Position(**state["position"]), weights, states, rows)
        except (SafetensorError, KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"checkpoint: damaged or not a checkpoint ({error})") from error

    @classmethod
    def of_weights(cls, weights: Weights) -> "Checkpoint":
        """Imported weights as the checkpoint of a finished run, which a check takes."""
        layers = tuple(torch.from_numpy(np.array(layer)) for layer in weights.layers)
        return cls(
            digest(weights.spec),
            Position(len(weights.spec.stages)),
            layers,
            tuple({} for _ in layers),
            (),
        )

    def weights_of(self, spec: TrainSpec, epoch: int) -> Weights:
        """What an export takes; `epoch` is the one at whose end the checkpoint was made."""
        return Weights(spec, epoch, tuple(weight.cpu().numpy() for weight in self.weights))

    @property
    def layer(self) -> int:
        """The stage that the run was in: with greedy layers, the layer that was learning."""
        return self.position.stage

    @property
    def epoch(self) -> int:
        """The epoch that comes next or was under way."""
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
) -> Checkpoint:
    """A checkpoint whose tensors no later step changes."""
    remembered = tuple({name: value.clone() for name, value in state.items()} for state in states)
    return Checkpoint(
        spec_digest, position, tuple(weight.clone() for weight in weights), remembered, tuple(rows)
    )
