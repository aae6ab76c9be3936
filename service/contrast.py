"""Several jobs beside each other: in which fields their specs differ, their figures, and how these were obtained."""

import json
from collections.abc import Mapping, Sequence

from pydantic import JsonValue

from service.comparison import Line
from service.descriptions import provenance_lines
from service.jobs import Job


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
    shown = {field: [json.dumps(document[field]) if field in document else "–" for document in documents] for field in fields}
    return [(field, values) for field, values in shown.items() if len(set(values)) > 1]


def beside(lines: Mapping[str, Sequence[Line]]) -> list[tuple[str, list[Line | None]]]:
    """The lines of several jobs by quantity, None where a job has none."""
    quantities = list(dict.fromkeys(line.quantity for found in lines.values() for line in found))
    by_job = [{line.quantity: line for line in found} for found in lines.values()]
    return [(quantity, [found.get(quantity) for found in by_job]) for quantity in quantities]


def provenance_differences(jobs: Sequence[Job]) -> list[tuple[str, list[str]]]:
    """The facts of provenance in which jobs that have some differ; how long they took and what they were asked is no part of it."""
    found = [{fact: text for fact, text in provenance_lines(job.provenance) if fact not in ("wall time", "spec digest")} for job in jobs]
    facts = list(dict.fromkeys(fact for one in found for fact in one))
    shown = [(fact, [one.get(fact, "–") for one in found]) for fact in facts]
    return [(fact, values) for fact, values in shown if len(set(values)) > 1]


def differ(lines: Sequence[Line | None]) -> bool | None:
    """Whether the 95 % intervals of two figures are apart; None where one has no interval, or there are not two."""
    if len(lines) != 2 or any(line is None or line.low is None or line.high is None for line in lines):
        return None
    one, other = sorted((line.low or 0.0, line.high or 0.0) for line in lines if line)
    return one[1] < other[0]
