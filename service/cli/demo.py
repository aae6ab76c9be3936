"""`fflab demo`: run the paper's study in the whole stack and write a report, in minutes."""

import json
import tempfile
from pathlib import Path

from ffengine.presets import PRESETS
from ffengine.results import CheckResult, TrainResult
from ffengine.spec import StudySpec
from ffengine.study import expand
from service.cli.output import comparison_table, err, heading, line, progress_bar
from service.cli.paper_plots import paper_plots
from service.client import Client
from service.results.charts import CHARTS, available
from service.results.leading_charts import leading
from service.results.paper_comparison import comparison
from service.results.run_labels import labels_of, run_keys
from service.results.sentences import sentences
from service.results.sources import Source
from service.settings import Settings
from service.stack.stack import Stack


def demo(settings: Settings, output: Path, preset: str, device: str) -> None:
    """Start the stack in a temporary home, run a preset over REST, write report and result.

    Prints what was found: sentences first, then the charts that carry them, then the table.
    Progress goes to standard error. Raises StackError, FflabError and OSError, each with a message
    of one line.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fflab-demo-") as home:
        fresh = settings.model_copy(
            update={"home": Path(home), "database_url": None, "redis_url": None}
        )
        err.print("starting the stack: API, worker, Redis")
        with Stack(fresh, port=0, device=device) as stack, Client(stack.url) as client:
            err.print(
                f"submitting the preset {preset!r} to {stack.url}: {PRESETS[preset].meaning}",
                soft_wrap=True,
            )
            job = client.submit(StudySpec(preset=preset), name=f"demo of {preset}")
            with progress_bar(err) as follow:
                job.wait(on_progress=follow)
            sources = study_sources(client, job.id, preset)
            for sentence in sentences(sources):
                line(sentence)
            charts = {name: output / f"{name}.svg" for name in leading(available(sources))}
            heading("Charts")
            paper_plots(sources)
            for name, file in charts.items():
                file.write_bytes(client.download(job.id, f"chart/{file.name}"))
                line(f"{file}: {CHARTS[name].meaning}")
            heading(f"Measured beside the paper, arXiv 2311.05667 (data: {_data(sources)})")
            comparison_table(comparison(sources))
            report, result = output / "report.html", output / "result.json"
            report.write_bytes(client.download(job.id, "report.html"))
            document = {
                "job": job.job.model_dump(mode="json"),
                "cells": [source.result.model_dump(mode="json") for source in sources],
            }
            result.write_text(json.dumps(document, indent=1))
            heading("Files")
            line(f"{report}: all of this and more charts, on one page")
            line(f"{result}: every figure, with its provenance")
            err.print("stopping the stack")


def _data(sources: list[Source]) -> str:
    return ", ".join(dict.fromkeys(one.result.provenance.dataset.name for one in sources))


def study_sources(client: Client, job_id: str, preset: str) -> list[Source]:
    """The results of a study's runs, read over REST."""
    study = StudySpec(preset=preset)
    cells = expand(study)
    runs = sorted(client.jobs(parent=job_id, limit=500), key=lambda run: run.id)
    results = [client.result(run.id) for run in runs]
    return [
        Source(label, result, cell.spec, run=key)
        for key, label, cell, result in zip(
            run_keys(cells), labels_of(cells, study), cells, results, strict=True
        )
        if isinstance(result, TrainResult | CheckResult)
    ]
