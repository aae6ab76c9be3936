"""The rows of a training run as they are stored: read anew each time, never all in memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

from ffengine.results import EpochRow


class StoredRows:
    """The rows with these numbers; those that are added later are not among them."""

    def __init__(self, ids: Sequence[int], read: Callable[[Sequence[int]], Iterator[str]]) -> None:
        self._ids, self._read = ids, read

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[EpochRow]:
        return map(EpochRow.model_validate_json, self._read(self._ids))

    def at_ends(self, count: int) -> Iterator[EpochRow]:
        """So many first rows and so many last ones; all of them where they are fewer."""
        if len(self._ids) <= 2 * count:
            return iter(self)
        ids = [*self._ids[:count], *self._ids[-count:]]
        return map(EpochRow.model_validate_json, self._read(ids))

    @property
    def last_epochs(self) -> dict[int, int]:
        """The last epoch of each layer, in the order of the layers."""
        return self._facts[0]

    @property
    def figures(self) -> frozenset[str]:
        """The fields of which any row has a value."""
        return self._facts[1]

    @cached_property
    def _facts(self) -> tuple[dict[int, int], frozenset[str]]:
        last, absent = dict[int, int](), set(EpochRow.model_fields)
        for row in self:
            last[row.layer] = max(row.epoch, last.get(row.layer, 0))
            absent -= {name for name in absent if getattr(row, name) is not None}
        return dict(sorted(last.items())), frozenset(EpochRow.model_fields) - absent
