"""Trained weights as a safetensors file that other programs can read. The spec travels with them.

A layer l is `layers.l.weight` (R, n, m) and, where it has a bias, `layers.l.bias` (R, n); replica r
belongs to seeds[r]. No pickles are written or read.
"""

import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from ffengine.datasets import figures_version
from ffengine.spec import TrainSpec, digest

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Weights:
    """The weights of a training run at the end of an epoch.

    **Attributes:**

    - `spec`: the spec of the run.
    - `epoch`: the epoch, in each stage.
    - `layers`: (R, n, m) float32 of each layer; m counts the bias input where there is one.
    """

    spec: TrainSpec
    epoch: int
    layers: tuple[Float32, ...]

    @classmethod
    def from_checkpoint(cls, data: bytes, spec: TrainSpec, epoch: int) -> "Weights":
        """Read the weights from the bytes of a checkpoint.

        **Arguments:**

        - `data`: what `Checkpoint.to_bytes` returned.
        - `spec`: the spec of the run.
        - `epoch`: the epoch at whose end the checkpoint was made.

        **Returns:**

        The weights.

        **Raises:**

        - `ValueError`: the bytes are damaged or not a checkpoint.
        """
        try:
            tensors = load(data)
            return cls(
                spec,
                epoch,
                tuple(tensors[f"layer_{layer}"] for layer in range(len(spec.network.widths))),
            )
        except (SafetensorError, KeyError) as error:
            raise ValueError(f"checkpoint: damaged or not a checkpoint ({error})") from error


def export_weights(weights: Weights) -> bytes:
    """Write weights as a safetensors file.

    Its metadata hold the spec, its digest, the seeds, the epoch and the version of the numerics.
    The same weights give the same bytes.

    **Arguments:**

    - `weights`: the weights of a run.

    **Returns:**

    The file.
    """
    tensors: dict[str, Float32] = {}
    for layer, weight in enumerate(weights.layers):
        inputs = weight.shape[-1] - weights.spec.network.bias
        tensors[f"layers.{layer}.weight"] = np.ascontiguousarray(weight[..., :inputs])
        if weights.spec.network.bias:
            tensors[f"layers.{layer}.bias"] = np.ascontiguousarray(weight[..., -1])
    metadata = {
        "format": "fflab weights 1",
        "engine_version": figures_version(weights.spec.dataset.name),
        "spec": weights.spec.model_dump_json(),
        "spec_digest": digest(weights.spec),
        "epoch": str(weights.epoch),
        "seeds": ",".join(map(str, weights.spec.seeds)),
    }
    return canonical(save(tensors, metadata))


def canonical(file: bytes) -> bytes:
    """Return the same safetensors file with its header in order.

    The library writes the header in another order in every process.

    **Arguments:**

    - `file`: a safetensors file.

    **Returns:**

    The file, with its tensors still aligned to 8 bytes.
    """
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.dumps(json.loads(file[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # keeps the tensors aligned
    return len(header).to_bytes(8, "little") + header + file[start:]


def import_weights(data: bytes) -> Weights:
    """Read weights from a file that `export_weights` wrote.

    **Arguments:**

    - `data`: the file.

    **Returns:**

    The weights with their spec.

    **Raises:**

    - `ValueError`: the file is damaged, comes from another program, has numbers that are not
      finite, or does not fit its own spec.
    """
    try:
        tensors = load(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        spec = TrainSpec.model_validate_json(metadata["spec"])
        epoch = int(metadata["epoch"])
        layers = tuple(
            _layer(tensors, layer, bias=spec.network.bias)
            for layer in range(len(spec.network.widths))
        )
    except (SafetensorError, KeyError, TypeError, ValidationError, json.JSONDecodeError) as error:
        raise ValueError(
            f"weights: damaged, or not a file that fflab exported "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    below = layers[0].shape[-1] - spec.network.bias
    for layer, (weight, width) in enumerate(zip(layers, spec.network.widths, strict=True)):
        if weight.dtype != np.float32 or weight.shape != (
            len(spec.seeds),
            width,
            below + spec.network.bias,
        ):
            raise ValueError(
                f"weights: layer {layer} is {weight.dtype} {weight.shape}, which is not what its "
                f"spec says"
            )
        if not np.isfinite(weight).all():
            raise ValueError(f"weights: layer {layer} has numbers that are not finite")
        below = width
    return Weights(spec, epoch, layers)


def _layer(tensors: dict[str, npt.NDArray[np.generic]], layer: int, *, bias: bool) -> Float32:
    """Return the weights (R, n, m) of a layer of a file, with the bias as the last input."""
    weight = tensors[f"layers.{layer}.weight"]
    if bias:
        column = tensors[f"layers.{layer}.bias"]
        if column.shape != weight.shape[:2]:
            raise KeyError(f"layers.{layer}.bias of shape {weight.shape[:2]}")
        weight = np.concatenate([weight, column[..., None]], axis=-1)
    if weight.ndim != 3 or weight.dtype != np.float32:
        raise KeyError(f"layers.{layer}.weight (R, n, m) of float32")
    return np.ascontiguousarray(weight, dtype=np.float32)
