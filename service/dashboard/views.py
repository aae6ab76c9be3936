"""What the pages show of jobs: names, headline figures, provenance in words, and snippets that work when pasted. No HTTP, no SQL."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import JsonValue

from ffengine.results import Provenance
from ffengine.spec import CheckSpec, TrainSpec
from service.comparison import Line
from service.jobs import TERMINAL, Job, JobState
from service.specfile import as_yaml

ACTIONS: dict[JobState, tuple[str, ...]] = {
    JobState.queued: ("pause", "cancel"),
    JobState.running: ("pause", "cancel"),
    JobState.paused: ("resume", "cancel"),
    JobState.failed: ("retry",),
    JobState.cancelled: ("retry",),
    JobState.succeeded: (),
}
DOWNLOADS = {
    "result": "all figures, findings and provenance, as JSON",
    "result.csv": "the figures as a table",
    "result.npz": "arrays: of a check every sample's margin, of a training run the curves",
    "weights.safetensors": "what the network has learnt",
    "report.html": "charts, figures and provenance on one page",
}
KINDS_WITH = {"result.npz": ("train", "check"), "weights.safetensors": ("train",)}


def title_of(job: Job) -> str:
    """The job's name, or what it does in a few words."""
    if job.name:
        return job.name
    spec = job.spec
    if isinstance(spec, TrainSpec):
        return f"train {' x '.join(map(str, spec.network.widths))} on {spec.dataset.name}, {spec.epochs} epochs"
    if isinstance(spec, CheckSpec):
        return f"theorem {spec.theorem} on {spec.dataset.name}, width {', '.join(map(str, spec.widths))}"
    return f"study {spec.preset}" if spec.preset else "study"


def place_of(job: Job) -> str:
    """Where a run stands in its study's grid, in words."""
    params = (job.place or {}).get("params")
    if not isinstance(params, Mapping) or not params:
        return title_of(job)
    return ", ".join(f"{field.rpartition('.')[2]} {value}" for field, value in params.items())


def headline(row: Mapping[str, Any] | None) -> str:
    """The figure that a list shows, of the newest row of a job."""
    if row is None:
        return ""
    if "ratio" in row:
        return "" if row["ratio"] is None else f"{row['ratio']:.4f} at n = {row['width']}"
    share = row.get("theorem2_ratio")
    found = [f"S {row['sparsity']:.3f}"] if row.get("sparsity") is not None else []
    found += [f"T2 {share:.2f}"] if share is not None else []
    return ", ".join(found)


def downloads(job: Job) -> list[tuple[str, str]]:
    """What can be downloaded of a job that has a result."""
    return [(what, meaning) for what, meaning in DOWNLOADS.items() if job.kind in KINDS_WITH.get(what, (job.kind,))]


def provenance_lines(found: Provenance | None) -> list[tuple[str, str]]:
    """How the figures were obtained, a fact a line."""
    if found is None:
        return []
    data = found.dataset
    revision = f", revision {found.git_revision[:12]}" if found.git_revision else ""
    return [
        ("data", f"{data.name} ({data.preprocess}), {data.train_samples:,} training and {data.test_samples:,} test samples"),
        ("data digest", data.digest),
        ("seeds", ", ".join(map(str, found.seeds))),
        ("engine", f"fflab {found.engine_version}{revision}"),
        ("versions", f"Python {found.python_version}, torch {found.torch_version}, numpy {found.numpy_version}"),
        ("device", f"{found.device} ({found.device_name}), {found.threads} threads, {found.dtype}"),
        ("wall time", ", ".join(f"{phase} {seconds:.1f} s" for phase, seconds in found.wall_seconds.items())),
        ("spec digest", found.spec_digest),
    ]


def snippets(job: Job, url: str) -> list[tuple[str, str]]:
    """The spec as a file, and the same job asked for with curl, Python and the command line."""
    document = {"kind": job.kind, **job.spec.model_dump(mode="json", exclude_defaults=True)}
    body = json.dumps({"spec": document, "fresh": True})
    curl = f"curl -s {shlex.quote(f'{url}/v1/jobs')} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    python = f'from service.client import Client\n\njob = Client("{url}").submit({document!r}).wait()\nprint(job.result)'
    return [("YAML", as_yaml(job.spec)), ("curl", curl), ("Python", python)]


def duration(seconds: float) -> str:
    """A time in its largest fitting unit."""
    for size, unit in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


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


def waiting(job: Job) -> str:
    """What a job that has not ended does."""
    if job.state in TERMINAL:
        return ""
    return {JobState.queued: "waits for a worker", JobState.paused: "paused; resume it to go on"}.get(job.state, "starting")
