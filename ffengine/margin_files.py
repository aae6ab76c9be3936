"""What a check found for every sample, and the file that keeps it.

This is numpy without torch, because the service reads these files.

Legend: N samples of a cell, in the order in which they were checked.
"""

import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ffengine.results import CheckCell, Split

Bools = npt.NDArray[np.bool_]
# the arrays of a cell, with their types in a file
FIELDS = {
    "sample": "<i8",
    "margin": "<f8",
    "satisfied": "|b1",
    "dead": "|b1",
    "undecided": "|b1",
}


class CellMargins(NamedTuple):
    """The verdict on each sample of one cell of a check.

    **Attributes:**

    - `seed`, `width`, `layer`, `epoch`, `split`, `method`: identify the cell.
    - `sample`: (N,) int64, position in the training partition; of a negative, that of its positive.
    - `margin`: (N,) float64, in the units of `theorem1`: 1 / eta, with the factor 2 of D; 0 for
      dead samples.
    - `satisfied`, `dead`, `undecided`: (N,) bool, as in TheoremCheck.
    """

    seed: int
    width: int
    layer: int
    epoch: int
    split: Split
    method: Literal["exact", "infinite_width"]
    sample: npt.NDArray[np.int64]
    margin: npt.NDArray[np.float64]
    satisfied: Bools
    dead: Bools
    undecided: Bools

    @classmethod
    def of(cls, cell: CheckCell, arrays: Mapping[str, npt.NDArray[Any]]) -> "CellMargins":
        """Put arrays under the key of a cell.

        **Arguments:**

        - `cell`: the row of the cell.
        - `arrays`: (N,) for each of FIELDS.

        **Returns:**

        The margins of the cell.

        **Raises:**

        - `ValueError`: an array does not have the cell's number of samples.
        """
        if any(arrays[field].shape != (cell.samples,) for field in FIELDS):
            raise ValueError(
                f"{cell_name(cell)}: its margins are not those of {cell.samples} samples"
            )
        sample, margin, satisfied, dead, undecided = (arrays[field] for field in FIELDS)
        key = (cell.seed, cell.width, cell.layer, cell.epoch, cell.split, cell.method)
        return cls(*key, sample, margin, satisfied, dead, undecided)

    @property
    def members(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays (N,) by their names in a file."""
        name = cell_name(self)
        return {
            f"{name}/{field}": np.ascontiguousarray(getattr(self, field), dtype=kind)
            for field, kind in FIELDS.items()
        }


class MarginFileWriter:
    """Gathers the samples of a cell, batch after batch.

    **Arguments:**

    - `samples`: how many samples the cell will have.
    """

    def __init__(self, samples: int) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {
            field: np.empty(samples, dtype=kind) for field, kind in FIELDS.items()
        }
        self.filled = 0

    def add(self, **batch: npt.NDArray[Any]) -> None:
        """Append a batch of samples.

        **Arguments:**

        - `batch`: an array (B,) for each of FIELDS.
        """
        rows = slice(self.filled, self.filled + len(batch["sample"]))
        for field, array in self.arrays.items():
            array[rows] = batch[field]
        self.filled = rows.stop

    def of(self, cell: CheckCell) -> CellMargins:
        """Return the samples added so far, under the key of a cell.

        **Arguments:**

        - `cell`: the row of the cell.

        **Returns:**

        The margins of the cell.

        **Raises:**

        - `ValueError`: the cell has another number of samples.
        """
        return CellMargins.of(
            cell, {field: array[: self.filled] for field, array in self.arrays.items()}
        )


def cell_name(cell: CheckCell | CellMargins) -> str:
    """Return the name of a cell's arrays in a file, before `/` and the field.

    **Arguments:**

    - `cell`: a cell.

    **Returns:**

    A name such as `negative_exact_seed0_width64_layer0_epoch0`.
    """
    network = f"seed{cell.seed}_width{cell.width}_layer{cell.layer}"
    return f"{cell.split}_{cell.method}_{network}_epoch{cell.epoch}"


def write_margins(cells: Sequence[CellMargins]) -> bytes:
    """Write the margins of cells as an uncompressed .npz file.

    **Arguments:**

    - `cells`: the margins of each cell.

    **Returns:**

    The file; the same cells give the same bytes.
    """
    file = io.BytesIO()
    # np.savez takes the names as keywords, which cannot be typed.
    with zipfile.ZipFile(file, "w") as archive:
        for cell in cells:
            for name, array in cell.members.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    return file.getvalue()


def read_margins(data: bytes, cells: Iterable[CheckCell]) -> Iterator[CellMargins]:
    """Yield the margins of cells from a file, one cell after the other.

    **Arguments:**

    - `data`: what `write_margins` returned.
    - `cells`: the cells to read.

    **Raises:**

    - `KeyError`: a cell is not in the file.
    - `ValueError`: a cell does not have that many samples in the file.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for cell in cells:
            yield CellMargins.of(
                cell, {field: archive[f"{cell_name(cell)}/{field}"] for field in FIELDS}
            )
