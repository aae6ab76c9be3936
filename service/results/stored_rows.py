"""The rows of a training run as they are stored: read anew each time, never all in memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from ffengine.results import EpochRow

FIGURES = (
    "theorem1_ratio",
    "theorem2_ratio",
    "observed_increase_ratio",
    "agreement",
    "sparsity",
    "goodness",
    "tau",
    "theorem2_expected_ratio",
    "kappa_gap",
    "basins",
)


class StoredRows:
    """The rows with these numbers; those that are added later are not among them."""

    def __init__(self, ids: Sequence[int], read: Callable[[Sequence[int]], Iterator[str]]) -> None:
        self._ids, self._read = ids, read

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[EpochRow]:
        return map(EpochRow.model_validate_json, self._read(self._ids))

    @property
    def last_epochs(self) -> dict[int, int]:
        """The last epoch of each layer, in the order of the layers."""
        return self._facts[0]

    @property
    def figures(self) -> frozenset[str]:
        """Which of FIGURES any row has."""
        return self._facts[1]

    @cached_property
    def _facts(self) -> tuple[dict[int, int], frozenset[str]]:
        last, figures = dict[int, int](), set[str]()
        for row in self:
            last[row.layer] = max(row.epoch, last.get(row.layer, 0))
            if len(figures) < len(FIGURES):
                figures |= {name for name in FIGURES if getattr(row, name) is not None}
        return dict(sorted(last.items())), frozenset(figures)
