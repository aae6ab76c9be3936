"""A job as a folder for a paper, which compiles as it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from service.cli.options import EXIT_USAGE, fail, write_file
from service.client import Client, Refused, requests
from service.jobs import Job
from service.results.paper_folder import (
    MAKEFILE,
    TABLES,
    figure_of,
    main_tex,
    ordered,
    provenance_json,
)
from service.results.paper_tables import TableKind
from service.specs.files import as_yaml

DATA = {
    "data/result.csv": ("result.csv", {}),
    "data/curves.csv": ("curves.csv", {}),
    "data/means.csv": ("curves.csv", {"mean": "true"}),
}
NOT_THERE = frozenset({404, 409})


def refuse_used(folder: Path, *, force: bool) -> None:
    """Fail where the folder is a file, or has something in it that might be lost."""
    if folder.exists() and not folder.is_dir():
        fail(f"{folder}: is a file; name a folder that is new or empty", EXIT_USAGE)
    if not force and folder.is_dir() and any(folder.iterdir()):
        fail(
            f"{folder}: is not empty; name another folder, or replace the files of the same names "
            "with --force",
            EXIT_USAGE,
        )


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files below a folder; fail where one of them is a link to somewhere else."""
    for name, content in files.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"{path.parent}: cannot be made ({error.strerror or error})", EXIT_USAGE)
        if path.is_symlink() or path.parent.resolve() != folder.resolve() / Path(name).parent:
            fail(f"{path}: is a link, which is not written through; remove it", EXIT_USAGE)
        write_file(path, content)


def paper_files(client: Client, job: Job, width_mm: float, font_pt: float) -> dict[str, bytes]:
    """All files of the folder by their names in it."""
    charts = {name: one.meaning for name, one in client.charts(job.id).items()}
    names, leading_ones = ordered(job, charts)
    figures = [
        figure_of(name, charts[name], client.download(job.id, f"chart/{name}.json"), width_mm)
        for name in names
    ]
    tables = dict(_tables(client, job))
    runs = [job] if job.kind != "study" else list(client.jobs(parent=job.id, limit=500))[::-1]
    return {
        "main.tex": main_tex(job, figures, leading_ones, list(tables)).encode("ascii"),
        "methods.tex": client.download(job.id, "methods.tex"),
        "references.bib": client.download(job.id, "references.bib"),
        "Makefile": MAKEFILE.encode(),
        "spec.yaml": as_yaml(job.spec).encode(),
        "provenance.json": provenance_json(runs).encode(),
        **{f"tables/{kind}.tex": text for kind, text in tables.items()},
        **{
            f"figures/{one.name}.pdf": client.download(
                job.id, f"chart/{one.name}.pdf", requests.look("none", one.width_mm, font_pt)
            )
            for one in figures
        },
        **{name: client.download(job.id, what, params) for name, (what, params) in DATA.items()},
    }


def _tables(client: Client, job: Job) -> Iterator[tuple[TableKind, bytes]]:
    for kind in TABLES[job.kind]:
        try:
            yield kind, client.download(job.id, "result.tex", {"rows": kind})
        except Refused as error:
            if error.status not in NOT_THERE:
                raise
