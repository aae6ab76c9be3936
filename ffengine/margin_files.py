"""What a check found for every single sample, and the file that keeps it. numpy here; torch stays
out, the service reads this.

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
FIELDS = {
    "sample": "<i8",
    "margin": "<f8",
    "satisfied": "|b1",
    "dead": "|b1",
    "undecided": "|b1",
}  # with their types in a file


class CellMargins(NamedTuple):
    """The samples of one cell of a check.

    sample (N,): index into the training partition; of a negative, that of the positive it was made
    for. margin (N,): in the units of theorem1 and theorem2, 1 / eta for the step W + eta D with the
    factor 2 of D; 0 for dead samples. satisfied, dead, undecided (N,): the verdict, as in
    TheoremCheck; a cell counts them.
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
        """The cell's key with its arrays (N,), by field.

        Raises ValueError where they are not of the cell's number of samples.
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
    """The samples of a cell, batch after batch."""

    def __init__(self, samples: int) -> None:
        self.arrays: dict[str, npt.NDArray[Any]] = {
            field: np.empty(samples, dtype=kind) for field, kind in FIELDS.items()
        }
        self.filled = 0

    def add(self, **batch: npt.NDArray[Any]) -> None:
        """The next samples: an array (B,) for every field."""
        rows = slice(self.filled, self.filled + len(batch["sample"]))
        for field, array in self.arrays.items():
            array[rows] = batch[field]
        self.filled = rows.stop

    def of(self, cell: CheckCell) -> CellMargins:
        """All samples so far, under the cell's key."""
        return CellMargins.of(
            cell, {field: array[: self.filled] for field, array in self.arrays.items()}
        )


def cell_name(cell: CheckCell | CellMargins) -> str:
    """What a cell's arrays are called in a file, before `/` and the field."""
    network = f"seed{cell.seed}_width{cell.width}_layer{cell.layer}"
    return f"{cell.split}_{cell.method}_{network}_epoch{cell.epoch}"


def write_margins(cells: Sequence[CellMargins]) -> bytes:
    """An uncompressed .npz of the cells' arrays; the same bytes for the same cells."""
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w"
    ) as archive:  # np.savez cannot be typed with names that are not known beforehand
        for cell in cells:
            for name, array in cell.members.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    return file.getvalue()


def read_margins(data: bytes, cells: Iterable[CheckCell]) -> Iterator[CellMargins]:
    """The arrays of those cells, one cell after the other.

    KeyError where a cell is not in the file, ValueError where it does not fit.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        for cell in cells:
            yield CellMargins.of(
                cell, {field: archive[f"{cell_name(cell)}/{field}"] for field in FIELDS}
            )
