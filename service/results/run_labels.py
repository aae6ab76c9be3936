"""The runs of a study: what identifies each, and its label in words."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from ffengine.datasets import DATASETS
from ffengine.presets import PRESETS
from ffengine.spec import CheckSpec, Preprocess, RecordedSpec, StudySpec, TrainSpec, UnreadSpec
from ffengine.spec_values import flatten, params_in_words, plain, value_in_words
from ffengine.study import Cell
from service.jobs import Job

INPUTS: dict[Preprocess, str] = {
    "unit": "{} as they are",
    "standardize": "standardised {}",
    "center": "centred {}",
    "unit_norm": "{} of each sample scaled to length 1",
}
# fields that the facts of a training run speak of; seeds are counted beside each figure
TOLD = ("network.widths", "dataset.preprocess", "epochs", "optimizer.lr", "seeds")
TOLD_BY_OBJECTIVE = ("objective.", "optimizer.scale_lr_by_width")
MEASURING = ("monitor.", "evaluation.")  # what is measured of a run, not what it is


class RunKey(NamedTuple):
    """What identifies a run within its study.

    part: the part of the study, "" where the varied fields identify the run without it.
    params: each varied field with its value as JSON.
    """

    part: str
    params: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, part: str, params: Mapping[str, JsonValue]) -> "RunKey":
        """The key of a run with these varied fields."""
        return cls(
            part,
            tuple(
                (field, json.dumps(plain(value), sort_keys=True)) for field, value in params.items()
            ),
        )

    @property
    def values(self) -> dict[str, JsonValue]:
        """The varied fields with their values."""
        return {field: json.loads(value) for field, value in self.params}

    @property
    def label(self) -> str:
        """The key in words: `slow, lr 0.5`."""
        return ", ".join(filter(None, (self.part, params_in_words(self.values))))


def run_keys(cells: Sequence[Cell]) -> list[RunKey]:
    """The key of each run of a study; those of one kind are different.

    **Arguments:**

    - `cells`: all runs of the study that are shown together.
    """
    keys = [RunKey.of("", cell.params) for cell in cells]
    kinds = [cell.spec.kind for cell in cells]
    alike = Counter(zip(keys, kinds, strict=True))
    return [
        key._replace(part=cell.part) if alike[key, kind] > 1 else key
        for cell, key, kind in zip(cells, keys, kinds, strict=True)
    ]


def labels_of(cells: Sequence[Cell], study: StudySpec | None) -> list[str]:
    """The label of each run of a study, "" for a check that is the only one of its theorem.

    A preset names its parts for `--set`. Where its training runs are told apart by such names, they
    are labelled by what they are: units, inputs, objective, epochs and learning rate.

    **Arguments:**

    - `cells`: all runs of the study that are shown together.
    - `study`: the study; None where it is not at hand.
    """
    keys = run_keys(cells)
    preset = PRESETS.get(study.preset) if study and study.preset else None
    if preset is None or not {cell.part for cell in cells} <= set(preset.spec.parts):
        return [key.label for key in keys]
    facts = _training_facts(cells, keys)
    theorems = Counter(cell.spec.theorem for cell in cells if isinstance(cell.spec, CheckSpec))
    labels = []
    for number, (cell, key) in enumerate(zip(cells, keys, strict=True)):
        alone = isinstance(cell.spec, CheckSpec) and theorems[cell.spec.theorem] == 1
        labels.append("" if alone else facts.get(number, key.label))
    return labels


def _training_facts(cells: Sequence[Cell], keys: Sequence[RunKey]) -> dict[int, str]:
    """What each training run is, by its place; nothing unless that tells all of them apart, and
    nothing where the varied fields do.
    """
    runs = [(at, cell.spec) for at, cell in enumerate(cells) if isinstance(cell.spec, TrainSpec)]
    if not any(keys[at].part for at, _ in runs):
        return {}
    documents = [flatten(spec.model_dump(mode="json")) for _, spec in runs]
    fields = dict.fromkeys(field for document in documents for field in document)
    for field in fields:
        differs = len({json.dumps(document.get(field)) for document in documents}) > 1
        if differs and field not in TOLD and not field.startswith((*TOLD_BY_OBJECTIVE, *MEASURING)):
            return {}
    found = {at: facts_of(spec) for at, spec in runs}
    return found if len(set(found.values())) == len(found) else {}


def facts_of(spec: TrainSpec) -> str:
    """A training run in words: `n = 256, centred pixels, 8 epochs, lr 2.13`."""
    objective = spec.objective.name
    facts = (
        f"n = {value_in_words(list(spec.network.widths))}",
        inputs_of(spec),
        "" if objective == "difference" else objective,
        f"{spec.epochs:,} epoch{'' if spec.epochs == 1 else 's'}",
        f"lr {spec.optimizer.lr:.3g}",
    )
    return ", ".join(filter(None, facts))


def inputs_of(spec: TrainSpec) -> str:
    """How the inputs are prepared, in words."""
    return INPUTS[spec.dataset.preprocess].format(
        "pixels" if spec.dataset.name in DATASETS else "inputs"
    )


def cell_of(run: Job) -> Cell | None:
    """The cell of a study that a job runs; None where the job is no run of a study."""
    if run.place is None or isinstance(run.spec, StudySpec | RecordedSpec | UnreadSpec):
        return None
    params = run.place.get("params")
    part = str(run.place.get("part", ""))
    return Cell(part, params if isinstance(params, dict) else {}, run.spec)
