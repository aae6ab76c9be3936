"""`fflab export`: writes a job for other tools. Each target is an option, and a function here."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from service.cli.exports.exported_runs import exported_runs
from service.cli.options import (
    EXIT_UNREACHABLE,
    EXIT_USAGE,
    PATIENT_ATTEMPTS,
    JobArgument,
    JsonOption,
    fail,
    make_client,
    require_extra,
    resolve,
    show_json,
)
from service.cli.results import FontOption, WidthOption
from service.client import Client
from service.jobs import Job
from service.results.chart_formats import COLUMN_FONT_PT, COLUMN_MM

TARGETS = "--paper DIR, --tensorboard DIR, --mlflow URI or --wandb FILE.csv"
MLFLOW_ADDRESS = re.compile(r"[a-z][a-z0-9+-]*:|databricks$|uc$")  # also of MLflow's other stores
# ends of the names of files: a folder that is called so is a slip
OF_FILES = (
    *(".csv", ".json", ".txt", ".md", ".html", ".tex", ".pdf", ".bib", ".png", ".svg"),
    *(".parquet", ".npz", ".zip", ".db", ".yaml", ".yml"),
)


def export(
    job_id: JobArgument,
    paper: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder that `make` compiles: text, tables in LaTeX, figures as PDF, data.",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Of --paper: replace files of these names in the folder."),
    ] = False,
    width_mm: WidthOption = COLUMN_MM,
    font_pt: FontOption = COLUMN_FONT_PT,
    tensorboard: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Event files of TensorBoard: a folder for each run."),
    ] = None,
    mlflow: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="A run of MLflow, with those of a study nested in it: http://..., or "
            "sqlite:///FILE.",
        ),
    ] = None,
    experiment: Annotated[
        str, typer.Option(metavar="NAME", help="Of MLflow; it is made where there is none.")
    ] = "fflab",
    wandb: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.csv",
            help="CSV in the form of Weights & Biases' tables: a line for each epoch.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a job for other tools, with the runs of a study. A second time changes nothing twice.

    Jobs in any state can be exported; what a job lacks so far is written by a later export.
    """
    if not (paper or tensorboard or mlflow or wandb):
        fail(f"say what to write: {TARGETS}", EXIT_USAGE)
    _refuse_folder_of_a_files_name("paper", paper)
    _refuse_folder_of_a_files_name("tensorboard", tensorboard)
    if mlflow and not MLFLOW_ADDRESS.match(mlflow):
        fail(f"--mlflow {mlflow}: expected http://HOST:PORT or sqlite:///FILE", EXIT_USAGE)
    if wandb and wandb.suffix.lower() != ".csv":
        fail(f"--wandb {wandb}: the table is CSV; choose a name that ends in .csv", EXIT_USAGE)
    written: dict[str, str] = {}
    with make_client(PATIENT_ATTEMPTS) as client:
        job = resolve(client, job_id)
        if paper:
            width, font = width_mm or COLUMN_MM, font_pt or COLUMN_FONT_PT
            written["paper"] = _to_paper(client, job, paper, width, font, force=force)
        if tensorboard:
            written["tensorboard"] = _to_tensorboard(client, job, tensorboard)
        if mlflow:
            written["mlflow"] = _to_mlflow(client, job, mlflow, experiment)
        if wandb:
            written["wandb"] = _to_wandb(client, job, wandb)
    if as_json:
        show_json({"id": job.id, "written": written})
    else:
        for line in written.values():
            typer.echo(line)


def _refuse_folder_of_a_files_name(option: str, folder: Path | None) -> None:
    """Fail where a folder has the name of a file, such as run.csv, or where one has its name."""
    if folder is None or folder.is_dir():
        return
    if folder.is_file() or folder.suffix.lower() in OF_FILES:
        fail(f"--{option} {folder}: expected a folder, and this is the name of a file", EXIT_USAGE)


def _to_paper(
    client: Client, job: Job, folder: Path, width_mm: float, font_pt: float, *, force: bool
) -> str:
    from service.cli.exports.paper_folder import paper_files, refuse_used, write_folder

    refuse_used(folder, force=force)
    client.download(job.id, "result")  # raises where there is no result
    files = paper_files(client, job, width_mm, font_pt)
    refuse_used(folder, force=force)  # it has taken a while
    write_folder(folder, files)
    return f"{folder}: {len(files)} files; `make -C {folder}` compiles main.pdf"


def _to_tensorboard(client: Client, job: Job, folder: Path) -> str:
    with require_extra("tensorboard"):
        from service.cli.exports.to_tensorboard import write_event_files
    with _writing(folder):
        found = write_event_files(exported_runs(client, job), folder)
    return (
        f"{folder}: {_counted(len(found), 'run')}; look at them with: tensorboard --logdir {folder}"
    )


def _to_mlflow(client: Client, job: Job, uri: str, experiment: str) -> str:
    with require_extra("mlflow"):
        from service.cli.exports.to_mlflow import MlflowException, MlflowExport

        try:
            there = MlflowExport(uri, experiment)
        except MlflowException as error:
            fail(f"--mlflow {uri}: {error}", EXIT_UNREACHABLE)
    try:
        found = there.write(client, job, exported_runs(client, job))
    except MlflowException as error:
        fail(f"--mlflow {uri}: {error}", EXIT_UNREACHABLE)
    return f"{uri}: {_counted(len(found), 'run')} in the experiment {experiment}"


def _to_wandb(client: Client, job: Job, file: Path) -> str:
    from service.cli.exports.to_wandb import write_table

    with _writing(file):
        count = write_table(lambda: exported_runs(client, job), file)
    return f"{file}: {_counted(count, 'run')} as CSV, a line for each epoch"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Fail with one line where files cannot be written."""
    try:
        yield
    except OSError as error:
        fail(f"{path}: cannot be written ({error.strerror or error})", EXIT_USAGE)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
