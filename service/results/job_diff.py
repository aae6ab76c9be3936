"""Several jobs beside each other: in which fields their specs differ, their figures, and how these
were obtained.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import JsonValue

from ffengine.spec import TrainSpec
from service.jobs import Job
from service.results.descriptions import provenance_lines
from service.results.paper_comparison import ComparisonRow

ABSENT = "–"


class JobDiff(NamedTuple):
    """Two or more jobs: what differs, and their figures side by side; each with one value a job."""

    jobs: Sequence[Job]
    spec: Sequence[tuple[str, list[str]]]
    figures: Sequence[tuple[str, list[ComparisonRow | None]]]
    provenance: Sequence[tuple[str, list[str]]]

    @classmethod
    def of(cls, jobs: Sequence[Job], lines: Sequence[Sequence[ComparisonRow]]) -> "JobDiff":
        """What differs between jobs with these figures."""
        figures = align_rows(
            {str(place): found for place, found in enumerate(_at_last_epochs(jobs, lines))}
        )
        return cls(jobs, differences(jobs), figures, provenance_differences(jobs))

    def document(self) -> dict[str, Any]:
        """The same as JSON."""
        facts = ("id", "name", "kind", "state")
        return {
            "jobs": [job.model_dump(mode="json", include=set(facts)) for job in self.jobs],
            "spec": [
                {"field": field, "values": [_parsed(value) for value in values]}
                for field, values in self.spec
            ],
            "figures": [
                {
                    "quantity": quantity,
                    "values": [line._asdict() if line else None for line in lines],
                    "apart": intervals_disjoint(lines),
                }
                for quantity, lines in self.figures
            ],
            "provenance": [{"fact": fact, "values": values} for fact, values in self.provenance],
        }


def flat(document: Mapping[str, JsonValue], prefix: str = "") -> dict[str, JsonValue]:
    """A nested document by dotted fields."""
    found: dict[str, JsonValue] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def differences(jobs: Sequence[Job]) -> list[tuple[str, list[str]]]:
    """The fields in which the specs differ, each with the value that every job has there."""
    documents = [flat({"kind": job.kind, **job.spec.model_dump(mode="json")}) for job in jobs]
    fields = list(dict.fromkeys(field for document in documents for field in document))
    shown = {
        field: [
            json.dumps(document[field]) if field in document else ABSENT for document in documents
        ]
        for field in fields
    }
    return [(field, values) for field, values in shown.items() if len(set(values)) > 1]


def align_rows(
    lines: Mapping[str, Sequence[ComparisonRow]],
) -> list[tuple[str, list[ComparisonRow | None]]]:
    """The lines of several jobs by quantity, None where a job has none."""
    quantities = list(dict.fromkeys(line.quantity for found in lines.values() for line in found))
    by_job = [{line.quantity: line for line in found} for found in lines.values()]
    return [(quantity, [found.get(quantity) for found in by_job]) for quantity in quantities]


def provenance_differences(jobs: Sequence[Job]) -> list[tuple[str, list[str]]]:
    """The facts of provenance in which jobs that have some differ; how long they took and what they
    were asked is no part of it.
    """
    found = [
        {
            fact: text
            for fact, text in provenance_lines(job.provenance)
            if fact not in ("wall time", "spec digest")
        }
        for job in jobs
    ]
    facts = list(dict.fromkeys(fact for one in found for fact in one))
    shown = [(fact, [one.get(fact, ABSENT) for one in found]) for fact in facts]
    return [(fact, values) for fact, values in shown if len(set(values)) > 1]


def intervals_disjoint(lines: Sequence[ComparisonRow | None]) -> bool | None:
    """Whether the 95 % intervals of two figures are apart; None where one has no interval, or there
    are not two.
    """
    if len(lines) != 2 or any(
        line is None or line.low is None or line.high is None for line in lines
    ):
        return None
    one, other = sorted((line.low or 0.0, line.high or 0.0) for line in lines if line)
    return one[1] < other[0]


def _at_last_epochs(
    jobs: Sequence[Job], lines: Sequence[Sequence[ComparisonRow]]
) -> list[list[ComparisonRow]]:
    """The lines, those of the last epoch under one name where runs of unequal length are
    compared.
    """
    lasts = [job.spec.epochs if isinstance(job.spec, TrainSpec) else None for job in jobs]
    if len(set(lasts)) == 1:
        return [list(found) for found in lines]
    return [
        [line._replace(quantity=_last_epoch(line.quantity, last)) for line in found]
        for found, last in zip(lines, lasts, strict=True)
    ]


def _last_epoch(quantity: str, last: int | None) -> str:
    if last is None:
        return quantity
    return quantity.replace(f"epoch {last},", "last epoch,").replace(
        f"epoch 0 to {last},", "first to last epoch,"
    )


def _parsed(value: str) -> JsonValue:
    found: JsonValue = None if value == ABSENT else json.loads(value)
    return found
