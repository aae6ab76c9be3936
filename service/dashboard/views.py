"""What the pages show of jobs: names, headline figures, provenance in words, and snippets that work when pasted. No HTTP, no SQL."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from service.jobs import TERMINAL, Job, JobState
from service.specfile import as_yaml

DOWNLOADS = {
    "result": "all figures, findings and provenance, as JSON",
    "result.csv": "the figures as a table",
    "result.npz": "arrays: of a check every sample's margin, of a training run the curves",
    "weights.safetensors": "what the network has learnt",
    "report.html": "charts, figures and provenance on one page",
}
KINDS_WITH = {"result.npz": ("train", "check"), "weights.safetensors": ("train",)}


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


def snippets(job: Job, url: str) -> list[tuple[str, str]]:
    """The spec as a file, and the same job asked for with curl, Python and the command line."""
    document = {"kind": job.kind, **job.spec.model_dump(mode="json", exclude_defaults=True)}
    body = json.dumps({"spec": document, "fresh": True})
    curl = f"curl -s {shlex.quote(f'{url}/v1/jobs')} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    python = f'from service.client import Client\n\njob = Client("{url}").submit({document!r}).wait()\nprint(job.result)'
    return [("YAML", as_yaml(job.spec)), ("curl", curl), ("Python", python)]


def waiting(job: Job) -> str:
    """What a job that has not ended does."""
    if job.state in TERMINAL:
        return ""
    return {JobState.queued: "waits for a worker", JobState.paused: "paused; resume it to go on"}.get(job.state, "starting")
