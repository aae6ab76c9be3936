"""The runs of a study: what identifies each, and its label in words."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from ffengine.spec import StudySpec
from ffengine.spec_values import value_in_words
from ffengine.study import Cell
from service.jobs import Job


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
            tuple((field, json.dumps(value, sort_keys=True)) for field, value in params.items()),
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


def cell_of(run: Job) -> Cell | None:
    """The cell of a study that a job runs; None where the job is no run of a study."""
    if run.place is None or isinstance(run.spec, StudySpec):
        return None
    params = run.place.get("params")
    part = str(run.place.get("part", ""))
    return Cell(part, params if isinstance(params, dict) else {}, run.spec)


def params_in_words(params: Mapping[str, JsonValue]) -> str:
    """The varied fields of a run with their values: `lr 0.5, widths 8 · 8`."""
    short = Counter(_last_name(field) for field in params)
    names = {
        field: _last_name(field) if short[_last_name(field)] == 1 else field for field in params
    }
    return ", ".join(f"{names[field]} {value_in_words(value)}" for field, value in params.items())


def _last_name(field: str) -> str:
    return field.rpartition(".")[2]
