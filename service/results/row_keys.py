"""What a row of the comparison is about: a key, and the key in words.

Rows of several jobs are joined by their keys. The words are for people: no code reads them.
"""

from typing import Any, Literal, NamedTuple

from ffengine.results import Split
from ffengine.theorems import DIRECTIONS, Direction
from service.results.run_labels import RunKey

Figure = Literal["theorem1", "theorem2", "theorem2_training", "sparsity_rise", "test_accuracy"]
Role = Literal["", "lowest_ratio", "lowest_sparsity", "predicted_turn", "last"]
Method = Literal["exact", "infinite_width"]

ROLES: dict[Role, str] = {
    "": "",
    "lowest_ratio": " (lowest ratio while S falls)",
    "lowest_sparsity": " (lowest S)",
    "predicted_turn": " (nearest to the predicted turn)",
    "last": "",
}


class EpochRef(NamedTuple):
    """An epoch of a run.

    epoch: its number, 0 at initialisation; None for the last one, whatever its number.
    role: why the run has a row of this epoch, "" for the first.
    """

    epoch: int | None
    role: Role = ""


class RowKey(NamedTuple):
    """What a figure is of; a field that does not apply is None.

    at: the epoch of the figure, of a rise the later one.
    since: of a rise, the earlier epoch.
    layer: the layer, where the network has several.
    split: the samples, where the figure is of one split.
    method, width: how a check was computed, and for which width; the infinite-width limit has none.
    run: the run of a study.
    along: the step of a check of theorem 2, None for that on G(negative) - G(positive).
    """

    figure: Figure
    at: EpochRef | None = None
    since: EpochRef | None = None
    layer: int | None = None
    split: Split | None = None
    method: Method | None = None
    width: int | None = None
    run: RunKey | None = None
    along: Direction | None = None

    @property
    def direction(self) -> Direction | None:
        """Along which step the figure is measured; None where it is not of theorem 2."""
        directions: dict[Figure, Direction] = {
            "theorem2": self.along or "goodness_difference",
            "theorem2_training": "training_step",
        }
        return directions.get(self.figure)

    @property
    def is_of_a_layer(self) -> bool:
        """Whether the figure is of one layer, also where its network has no other."""
        return self.figure in ("theorem2_training", "sparsity_rise")

    def as_first_layer(self) -> "RowKey":
        """The same key with the only layer of a network as layer 0, as deeper networks have it."""
        only = self.is_of_a_layer and self.layer is None
        return self._replace(layer=0) if only else self

    def at_any_last(self) -> "RowKey":
        """The same key with the last epoch as such, so that runs of unequal length share it."""
        if self.at is None or self.at.role != "last":
            return self
        return self._replace(at=EpochRef(None, "last"))

    def document(self) -> dict[str, Any]:
        """The key as JSON: the fields that apply."""
        fields = self._asdict() | {
            "direction": self.direction,
            "at": self.at and self.at._asdict(),
            "since": self.since and self.since._asdict(),
            "run": self.run and {"part": self.run.part, "params": self.run.values},
        }
        del fields["along"]
        return {name: value for name, value in fields.items() if value is not None}


def quantity_of(key: RowKey) -> str:
    """The key in words, without the run: `Theorem 1 at initialisation, n = 64`."""
    parts = (
        _figure_in_words(key),
        f"{key.split} samples" if key.split else "",
        "infinite-width limit" if key.method == "infinite_width" else "",
        f"n = {key.width:,}" if key.width is not None else "",
        f"layer {key.layer}" if key.layer is not None else "",
    )
    return ", ".join(filter(None, parts))


def _figure_in_words(key: RowKey) -> str:
    match key.figure:
        case "theorem1":
            return f"Theorem 1 {_of_check(key.at)}"
        case "theorem2":
            return (
                f"Theorem 2 {DIRECTIONS[key.along or 'goodness_difference']}, {_of_check(key.at)}"
            )
        case "theorem2_training":
            return f"Theorem 2 {DIRECTIONS['training_step']}, {_of_training(key.at)}"
        case "sparsity_rise":
            return f"Rise of S from {_of_training(key.since)} to {_end(key.at)}"
        case "test_accuracy":
            return "Test accuracy by goodness"


def _of_check(at: EpochRef | None) -> str:
    if at is None or at.epoch is None:
        return "at the last epoch"
    return f"at epoch {at.epoch:,}" if at.epoch else "at initialisation"


def _of_training(at: EpochRef | None) -> str:
    if at is None or at.epoch is None:
        return "last epoch"
    return f"epoch {at.epoch:,}{ROLES[at.role]}"


def _end(at: EpochRef | None) -> str:
    if at is None or at.epoch is None:
        return "the last epoch"
    return f"{at.epoch:,}{ROLES[at.role]}"
