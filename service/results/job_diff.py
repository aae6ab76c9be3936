"""Several jobs side by side: the fields in which their specs differ, their figures, and how these
were obtained.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from ffengine.spec_values import flatten, value_in_words
from service.jobs import Job
from service.results.descriptions import PROVENANCE_LABELS, Fact, provenance_facts
from service.results.paper_comparison import ComparisonRow
from service.results.row_keys import RowKey

ABSENT = "–"
ONLY_LAYER = (
    "The only layer of a network stands beside layer 0 of deeper ones: both receive the data. In "
    "deeper networks it is not the last layer, and not alone in telling classes apart."
)
NOT_COMPARED: frozenset[Fact] = frozenset({"wall_time", "spec_digest"})  # not how, but how long


class Figure(NamedTuple):
    """A figure of several jobs: its row in each of them, None where a job does not have it."""

    key: RowKey
    rows: Sequence[ComparisonRow | None]

    @property
    def quantity(self) -> str:
        """What was measured, in words."""
        return next(row.quantity for row in self.rows if row)

    @property
    def are_disjoint(self) -> bool | None:
        """Whether the 95 % intervals of two jobs are disjoint; None where there are not two."""
        intervals = [
            (row.low, row.high)
            for row in self.rows
            if row and row.low is not None and row.high is not None
        ]
        if len(self.rows) != 2 or len(intervals) != 2:
            return None
        (_, end_of_lower), (start_of_upper, _) = sorted(intervals)
        return end_of_lower < start_of_upper

    def document(self) -> dict[str, Any]:
        """The figure as JSON."""
        return {
            "key": self.key.document(),
            "quantity": self.quantity,
            "values": [row.document() if row else None for row in self.rows],
            "apart": self.are_disjoint,
        }


class JobDiff(NamedTuple):
    """Two or more jobs: what differs, and their figures side by side; each with one value a job.

    notes: what a reader has to know of how figures were joined.
    """

    jobs: Sequence[Job]
    spec: Sequence[tuple[str, list[str]]]
    figures: Sequence[Figure]
    provenance: Sequence[tuple[str, list[str]]]
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, jobs: Sequence[Job], rows: Sequence[Sequence[ComparisonRow]]) -> "JobDiff":
        """What differs between jobs.

        **Arguments:**

        - `rows`: for each job, the rows of its comparison.
        """
        return cls(
            jobs,
            differences(jobs),
            align_rows(rows),
            provenance_differences(jobs),
            [ONLY_LAYER] if _are_layers_joined(rows) else [],
        )

    @property
    def spec_in_words(self) -> list[tuple[str, list[str]]]:
        """The fields in which the specs differ, each with its value in words in every job."""
        return [(field, [_in_words(value) for value in values]) for field, values in self.spec]

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        shown = {"id", "name", "kind", "state"}
        return {
            "jobs": [job.model_dump(mode="json", include=shown) for job in self.jobs],
            "spec": [
                {"field": field, "values": [_parsed(value) for value in values]}
                for field, values in self.spec
            ],
            "figures": [figure.document() for figure in self.figures],
            "provenance": [{"fact": fact, "values": values} for fact, values in self.provenance],
            "notes": list(self.notes),
        }


def differences(jobs: Sequence[Job]) -> list[tuple[str, list[str]]]:
    """The fields in which the specs differ, each with its value as JSON in every job."""
    specs = [flatten({"kind": job.kind, **job.spec.model_dump(mode="json")}) for job in jobs]
    written = [{field: json.dumps(value) for field, value in spec.items()} for spec in specs]
    return _that_differ(written)


def align_rows(rows: Sequence[Sequence[ComparisonRow]]) -> list[Figure]:
    """The rows of several jobs, joined by their keys.

    Where the jobs end at different epochs, the last epoch of one is joined with that of the other.
    Where one has several layers, the only layer of another is joined with its layer 0.
    """
    if _are_layers_joined(rows):
        rows = [[row._replace(key=row.key.as_first_layer()) for row in found] for found in rows]
    if len(_last_epochs(rows)) > 1:
        rows = [[row._replace(key=row.key.at_any_last()) for row in found] for found in rows]
    by_key = [{row.key: row for row in found} for found in rows]
    keys = dict.fromkeys(key for found in by_key for key in found)
    return [Figure(key, [found.get(key) for found in by_key]) for key in keys]


def provenance_differences(jobs: Sequence[Job]) -> list[tuple[str, list[str]]]:
    """The facts of provenance in which the jobs that have any differ, each with its value in every
    job.
    """
    compared = [
        {
            PROVENANCE_LABELS[fact]: text
            for fact, text in provenance_facts(job.provenance).items()
            if fact not in NOT_COMPARED
        }
        for job in jobs
    ]
    return _that_differ(compared)


def _that_differ(documents: Sequence[Mapping[str, str]]) -> list[tuple[str, list[str]]]:
    """The fields that do not have one value in all documents."""
    fields = dict.fromkeys(field for document in documents for field in document)
    values = {field: [document.get(field, ABSENT) for document in documents] for field in fields}
    return [(field, found) for field, found in values.items() if len(set(found)) > 1]


def _are_layers_joined(rows: Sequence[Sequence[ComparisonRow]]) -> bool:
    """Whether some rows are of one layer among several, and others of an only layer."""
    keys = [row.key for found in rows for row in found if row.key.is_of_a_layer]
    return len({key.layer is None for key in keys}) > 1


def _last_epochs(rows: Sequence[Sequence[ComparisonRow]]) -> set[frozenset[int | None]]:
    """The last epochs of each job's runs; jobs without a training run do not count."""
    ends = [
        frozenset(row.key.at.epoch for row in found if row.key.at and row.key.at.role == "last")
        for found in rows
    ]
    return {epochs for epochs in ends if epochs}


def _in_words(value: str) -> str:
    """The value of a field, which may be absent, in words."""
    if value == ABSENT:
        return ABSENT
    found = json.loads(value)
    return "not set" if found is None else value_in_words(found) or "none"


def _parsed(value: str) -> JsonValue:
    found: JsonValue = None if value == ABSENT else json.loads(value)
    return found
