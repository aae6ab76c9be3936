"""What the pages show of a job: findings, downloads, and snippets to paste. No HTTP, no SQL."""

import json
import shlex
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from ffengine.datasets import Datasets, figures_version
from ffengine.onset import onset_before
from ffengine.proposals import LEAST_FOR_IMPORTANCE
from ffengine.results import (
    CheckResult,
    Diagnostic,
    Onset,
    Provenance,
    RecordedResult,
    RunResult,
    TrainResult,
)
from ffengine.spec import CheckSpec, RecordedSpec, TrainedWeights, TrainSpec, as_document
from ffengine.spec_values import params_in_words
from ffengine.study import Cell
from ffengine.text import LONGEST
from service.jobs import TERMINAL, Job, JobState
from service.results import trials
from service.results.baseline_table import baseline_table
from service.results.bibliography import bibtex
from service.results.column_labels import figure_tables
from service.results.csv_export import OF_UNITS
from service.results.methods import methods
from service.results.paper_tables import TableKind
from service.results.sources import ChartSource
from service.results.text_tables import TextTable, check_tables, push_table, pushes_of
from service.schemas import RESULT
from service.specs.files import as_yaml
from service.web.drawing.protocol import ChartView

ALWAYS = {
    "curves.csv": "every measured epoch as a table",
    "curves.parquet": "the same for pandas, polars, R or DuckDB, with the type of each column",
    "curves.csv?mean=true": "the means over seeds with their intervals",
}
DOWNLOADS = {
    "result": "all figures, findings and provenance, as JSON",
    "result.csv": "the figures as a table",
    "result.npz": "arrays: of a check every sample's margin, of a training run the curves",
    "weights.safetensors": "what the network has learnt",
    "report.html": "charts, figures and provenance on one page",
}
TABLES: dict[TableKind, str] = {
    "comparison": "measured beside published",
    "runs": "the runs with their last figures",
    "figures": "every figure of the runs",
    "curves": "epoch by epoch",
    "cells": "the cells of the check",
    "epochs": "the epochs needed",
    "potentials": "potentials of positives and of negatives",
    "decomposition": "who pushes a sample",
    "baselines": "the run beside its baselines",
}
MOST_OPEN_ROWS = 24  # a longer table is folded
MORE_ROWS = {
    "potentials": "potentials of positives and of negatives at each split, by seed",
    "decomposition": "who pushes a sample, by seed, layer, epoch, split and method",
    "accuracy": "accuracy, AUC and loss by seed, layers, epoch and partition",
    "baselines": "baselines by seed, layer and partition, with what was tried",
    "usage": "how units share the work, by seed, layer and partition",
    "selectivity": "selectivity of units for classes, by seed, layer and partition",
    "lesions": "accuracy after lesions by seed, network, layer, order and share",
    "layer_range": "which layers predict best on validation samples, by seed, with their test",
    "ood": "how test samples are told from other data, by seed, layer and figure",
}
LEAST_DONE = 0.02  # of a study, before the rest is estimated by it
UNSHARED = frozenset({"weights.safetensors"})
SEVERITIES = ("error", "warning", "info")
KINDS_WITH = {"result.npz": ("train", "check"), "weights.safetensors": ("train",)}


class Paper(NamedTuple):
    """What a job's page shows for a paper: tables by their addresses, and texts to copy."""

    tables: Sequence[tuple[str, str]]
    methods: str
    references: str


def paper(
    job: Job, provenance: Sequence[Provenance], cells: Sequence[Cell], tables: Iterable[TableKind]
) -> Paper:
    """Return what goes into a paper.

    **Arguments:**

    - `provenance`: of the job, or of its runs; none before there is a result.
    - `cells`: the runs of a study.
    - `tables`: the tables that its result has.
    """
    return Paper(
        [(f"result.tex?rows={kind}", TABLES[kind]) for kind in tables],
        methods(job.spec, provenance, cells, form="txt"),
        bibtex(job.spec, provenance, cells),
    )


class Finding(NamedTuple):
    """A finding of one run, and the findings of the same kind in other runs.

    `run` is "" where the finding is about the job itself.
    """

    run: str
    diagnostic: Diagnostic
    others: Sequence[tuple[str, Diagnostic]]


class TrialsView(NamedTuple):
    """What the page of a study says of its runs as trials.

    `best_job` is the id of the best run's job, `best` what it is, `counted` how the runs stand.
    `columns` and `figures` may be chosen, and `chosen` are the present ones.
    """

    is_search: bool
    objective: str
    best_job: str | None
    best: str
    counted: str
    remark: str
    columns: list[tuple[str, str]]
    figures: list[tuple[str, str]]
    chosen: dict[str, str]


def trials_of_study(sources: Sequence[ChartSource], view: ChartView) -> TrialsView | None:
    """What the runs of a study say together; None where no figure compares them."""
    found = trials.compared(sources)
    if found is None or not (found.varied or found.grid.is_search):
        return None
    cells = [cell.found for cell in found.grid.cells]
    best, key = found.best, str(found.objective.key)
    figures, fields = trials.figures_of(cells), trials.columns_of(cells)
    default_x, default_y = trials.default_columns(found)
    columns = list(dict.fromkeys([*fields, default_y]))
    return TrialsView(
        is_search=found.grid.is_search,
        objective=trials.in_words(key),
        best_job=best.job if best else None,
        best=_best_in_words(found),
        counted=_states_in_words(found),
        remark=_remark(found),
        columns=[(column, trials.in_words(column)) for column in columns],
        figures=[(one, trials.in_words(one)) for one in dict.fromkeys([key, *figures])],
        chosen={
            "objective": key,
            "direction": found.objective.direction,
            "x": view.x or default_x,
            "y": view.y or default_y,
        },
    )


def _best_in_words(found: trials.Compared) -> str:
    best = found.best
    if best is None or best.value is None:
        return ""
    return f"{trials.shown(best.value)} with {params_in_words(best.params)}"


def _states_in_words(found: trials.Compared) -> str:
    """How many runs have the objective, and what became of the others."""
    words = {"succeeded": "succeeded without it"}
    others = (f"{count:,} {words.get(one, one)}" for one, count in found.others.items())
    have = f"{len(found.complete):,} of {len(found.trials):,} runs have this figure"
    return ", ".join((have, *others))


def _remark(found: trials.Compared) -> str:
    """Why there is no chart of importance; empty where there is one."""
    lacking = len(found.complete) < LEAST_FOR_IMPORTANCE
    if not lacking or len(found.varied) < 2:
        return ""
    return (
        f"The importance of the fields is estimated where {LEAST_FOR_IMPORTANCE} runs or more have "
        f"the objective; {len(found.complete)} have it."
    )


def findings(found: Sequence[tuple[str, Diagnostic]]) -> list[Finding]:
    """Group the findings of all runs by kind, the most severe first."""
    kinds: dict[str, list[tuple[str, Diagnostic]]] = {}
    for run, diagnostic in sorted(found, key=lambda one: SEVERITIES.index(one[1].severity)):
        kinds.setdefault(diagnostic.code if run else diagnostic.message, []).append(
            (run, diagnostic)
        )
    return [Finding(*first, others) for first, *others in kinds.values()]


def downloads(
    job: Job, *, has_result: bool, rows: Sequence[str] = (), shared: bool = False
) -> list[tuple[str, str]]:
    """Return the files that a job offers, each with its meaning.

    **Arguments:**

    - `shared`: whether by a share link, which has no weights.

    - `rows`: which of MORE_ROWS the result has.
    """
    files = DOWNLOADS if has_result else {}
    of_check = {f"result.csv?rows={kind}": MORE_ROWS[kind] for kind in rows if has_result}
    return [
        (what, meaning)
        for what, meaning in (files | of_check | ALWAYS).items()
        if job.kind in KINDS_WITH.get(what, (job.kind,)) and not (shared and what in UNSHARED)
    ]


def onset_before_result(job: Job, datasets: Datasets) -> Onset | None:
    """Return how a training run is expected to begin; None where its data set is gone."""
    if not isinstance(job.spec, TrainSpec) or datasets.find(job.spec.dataset.name) is None:
        return None
    return onset_before(job.spec, datasets)


def tables_of(results: Sequence[RunResult]) -> list[TextTable]:
    """Return the tables of a job's result; a study has its runs in their place."""
    if len(results) != 1:
        return []
    if isinstance(results[0], CheckResult):
        return check_tables(results[0])
    if isinstance(results[0], TrainResult):
        tables = (
            one._replace(folded=one.folded or len(one.rows) > MOST_OPEN_ROWS)
            for one in (baseline_table(results[0]), push_table(results[0]))
            if one.rows
        )
        return [*tables, *figure_tables(results[0])]
    return []


def more_rows(results: Sequence[RunResult]) -> list[str]:
    """Return which of MORE_ROWS the results have."""
    found: dict[str, bool] = {
        "potentials": any(isinstance(one, CheckResult) and one.potentials for one in results),
        "decomposition": any(pushes_of(one).rows for one in results),
        "accuracy": any(isinstance(one, TrainResult) and one.accuracy_curves for one in results),
        "baselines": any(isinstance(one, TrainResult) and one.baselines for one in results),
        **{
            name: any(isinstance(one, TrainResult) and getattr(one, name) for one in results)
            for name in OF_UNITS
        },
    }
    return [kind for kind in MORE_ROWS if found[kind]]


def check_of(job: Job, datasets: Datasets, result: object = None) -> CheckSpec:
    """Return the check of a training job's final weights, on the same data and negatives.

    **Arguments:**

    - `result`: the job's, which says where it stopped early.
    """
    if not isinstance(job.spec, TrainSpec):
        return CheckSpec()
    chosen = result.selected if isinstance(result, TrainResult) else ()
    ends = [row.last_epoch for row in chosen if row.layer == 0]
    facts = datasets.find(job.spec.dataset.name)
    return CheckSpec.model_construct(
        at=TrainedWeights(job=job.id, epoch=max(ends, default=job.spec.epochs)),
        dataset=job.spec.dataset,
        negatives=job.spec.negatives,
        activation=job.spec.network.activation,
        samples=min(2_000, job.spec.dataset.train_count(facts)) if facts else 2_000,
        methods=("exact",),
        seeds=job.spec.seeds,
    )


def data_note(job: Job, datasets: Datasets) -> str:
    """Return what became of the data set of a job that has figures, and of the rules for it.

    It is "" where both are as they were.
    """
    if job.provenance is None:
        return ""
    measured = job.provenance.dataset
    facts = datasets.find(measured.name)
    if facts is None:
        return (
            f"The data set {measured.name} is gone: the figures stay, and the job cannot run again."
        )
    if facts.uploaded and facts.digest != measured.digest:
        return f"{measured.name} names other arrays now: the figures are of those with this digest."
    if job.provenance.engine_version != figures_version(measured.name):
        return (
            "The rules by which figures on it are computed have changed since: the figures stay, "
            "and the same spec is computed anew."
        )
    return ""


def recorded_lines(job: Job, read: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """Return by whom a run was recorded that fflab did not compute; nothing of other jobs.

    **Arguments:**

    - `read`: reads the result of a job by its id.
    """
    if not isinstance(job.spec, RecordedSpec):
        return []
    result = RESULT.validate_json(read(job.id) or "")
    assert isinstance(result, RecordedResult)  # noqa: S101 - narrows the type
    found, spec = result.recorded, job.spec
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    facts = {
        "computed by": spec.program or "another program",
        "recorded by": found.recorded_by or "somebody without a key",
        "data": spec.data,
        "device": found.device,
        "versions": versions,
        "layers": ", ".join(f"{at} {name}" for at, name in enumerate(spec.layers)),
        "checked by fflab": "that the rows can be such figures; not that they are true",
    }
    return [(name, fact) for name, fact in facts.items() if fact]


def snippets(job: Job, url: str, *, keyed: bool) -> list[tuple[str, str]]:
    """Return the spec as YAML, and the requests that submit the job again.

    **Arguments:**

    - `job`: the job.
    - `url`: the address of the service.
    - `keyed`: whether the service needs a key; the snippets then read it from FFLAB_API_KEY.
    """
    if job.kind == "recorded":
        return [("YAML", as_yaml(job.spec))]  # nobody computes it again
    body = json.dumps({"spec": as_document(job.spec), "fresh": True})
    key = ' -H "Authorization: Bearer $FFLAB_API_KEY"' if keyed else ""
    curl = (
        f"curl -s {shlex.quote(f'{url}/v1/jobs')}{key} -H 'Content-Type: application/json' -d "
        f"{shlex.quote(body)}"
    )
    yaml = as_yaml(job.spec)
    shell = (
        f"cat > spec.yaml <<'END'\n{yaml}END\nFFLAB_URL={shlex.quote(url)} fflab submit "
        f"spec.yaml --fresh --wait"
    )
    quoted = json.dumps(url)  # a string of Python, too
    client = f'Client({quoted}, os.environ["FFLAB_API_KEY"])' if keyed else f"Client({quoted})"
    imports = "import os\n\nfrom fflab import Client" if keyed else "from fflab import Client"
    python = (
        f"{imports}\n\njob = {client}.submit({as_document(job.spec)!r}, "
        f"fresh=True).wait()\nprint(job.curves)"
    )
    return [("YAML", yaml), ("curl", curl), ("Python", python), ("Shell", shell)]


def seconds_left(job: Job) -> float | None:
    """Return how long a job goes on by what is known: of a study, by what it has taken so far."""
    if job.progress.eta_seconds or job.kind != "study" or job.started_at is None:
        return job.progress.eta_seconds
    done = job.progress.fraction
    if job.state != JobState.running or done < LEAST_DONE:
        return None
    return (datetime.now(UTC) - job.started_at).total_seconds() * (1 - done) / done


def seconds_taken(job: Job) -> float | None:
    """Return how long a job took from its beginning to its end; None for one that has no end."""
    if job.started_at is None or job.finished_at is None or job.cached:
        return None
    return (job.finished_at - job.started_at).total_seconds()


def name_of_copy(name: str) -> str:
    """Return a name for a clone: `mine (2)`, and of that `mine (3)`."""
    stem, _, number = name.removesuffix(")").rpartition(" (")
    if name.endswith(")") and stem and number.isascii() and number.isdigit():
        name, copy = stem, int(number) + 1
    else:
        copy = 2
    suffix = f" ({copy})"
    return name[: LONGEST - len(suffix)] + suffix


def waiting(job: Job) -> str:
    """Return why a job makes no progress, in words; "" if the job has ended."""
    if job.state in TERMINAL:
        return ""
    return {
        JobState.queued: "waits for a worker",
        JobState.paused: "paused; resume it to go on",
    }.get(job.state, "starting")
