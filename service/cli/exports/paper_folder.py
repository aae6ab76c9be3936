"""A job as a folder for a paper, which compiles as it is."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from service.cli.options import EXIT_USAGE, fail, write_file
from service.client import Client, Refused, requests
from service.encoding.latex import for_latex
from service.jobs import Job
from service.results.descriptions import title_of
from service.results.leading_charts import leading
from service.results.paper_tables import TableKind
from service.specs.files import as_yaml

CHART_NAME = re.compile(r"[a-z0-9_]+")  # no other name becomes that of a file
TABLES: dict[str, tuple[TableKind, ...]] = {
    "train": ("comparison", "curves", "decomposition"),
    "check": ("comparison", "cells", "potentials", "decomposition"),
    "forecast": ("epochs",),
    "recorded": (),
    "study": ("comparison", "runs", "figures", "epochs"),
}
LONG_TABLES: frozenset[TableKind] = frozenset({"figures"})  # a file for those who want it
DATA = {
    "data/result.csv": ("result.csv", {}),
    "data/curves.csv": ("curves.csv", {}),
    "data/means.csv": ("curves.csv", {"mean": "true"}),
}
FLOATS_AT_ONCE = 6  # LaTeX holds only so many back
NOT_THERE = frozenset({404, 409})
TEXT_WIDTH_MM, MOST_IN_A_COLUMN = 160.0, 3  # panels of a chart that stand above each other
SENTENCE_END = re.compile(r"(?<=\.) (?=[A-Z])")
SIGNS = {r"lambda\_1": r"$\lambda_1$", r"$\tau${*}": r"$\tau^{*}$"}  # as for_latex writes them
Document = dict[str, Any]

MAKEFILE = """\
# needs pdflatex and bibtex: apt-get install texlive-latex-base texlive-latex-recommended
PDFLATEX = pdflatex -interaction=nonstopmode -halt-on-error

main.pdf: main.tex methods.tex references.bib $(wildcard tables/*.tex figures/*.pdf)
\t$(PDFLATEX) main
\tbibtex main
\t$(PDFLATEX) main
\t$(PDFLATEX) main

clean:
\trm -f main.aux main.bbl main.blg main.log main.out main.pdf

.PHONY: clean
"""
MAIN = r"""%% Written by fflab %(version)s from %(id)s. `make` compiles it.
\ifdefined\pdfminorversion\pdfminorversion=7\pdfsuppresswarningpagegroup=1\fi
\documentclass{article}
\usepackage[margin=25mm]{geometry}
\usepackage{booktabs,graphicx,longtable}
\setlength{\emergencystretch}{3em}
%% a figure in its own size, or as high as a page has room for; \leavevmode lets it be centred
\newcommand{\fflabfigure}[1]{\leavevmode\setbox0=\hbox{\includegraphics{#1}}%%
\ifdim\ht0>0.78\textheight \includegraphics[height=0.78\textheight]{#1}\else\box0 \fi}
\title{%(title)s}
\author{}
\date{%(date)s}
\begin{document}
\maketitle

\section{Methods}
\input{methods}

\section{Results}
%(pointers)s

%(results)s

%(further)s
\bibliographystyle{plain}
\bibliography{references}
\end{document}
"""
FIGURE = r"""\begin{figure}[htbp]
\centering
\fflabfigure{figures/%(name)s}
\caption{%(caption)s}\label{fig:%(name)s}
\end{figure}
"""


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


def paper_files(client: Client, job: Job, look: Mapping[str, requests.Sent]) -> dict[str, bytes]:
    """All files of the folder by their names in it."""
    charts = {name: one.meaning for name, one in client.charts(job.id).items()}
    names = [name for name in charts if CHART_NAME.fullmatch(name)]
    first = leading(names) or names[:2]
    names = [*first, *(name for name in names if name not in first)]
    drawn = {name: json.loads(client.download(job.id, f"chart/{name}.json")) for name in names}
    captions = {name: _caption(drawn[name], charts[name]) for name in names}
    tables = dict(_tables(client, job))
    main = _main(job, captions, len(first), list(tables))
    return {
        "main.tex": main.encode("ascii"),
        "methods.tex": client.download(job.id, "methods.tex"),
        "references.bib": client.download(job.id, "references.bib"),
        "Makefile": MAKEFILE.encode(),
        "spec.yaml": as_yaml(job.spec).encode(),
        "provenance.json": json.dumps(_provenance(client, job), indent=2).encode(),
        **{f"tables/{kind}.tex": text for kind, text in tables.items()},
        **{
            f"figures/{name}.pdf": client.download(
                job.id, f"chart/{name}.pdf", _with_room(look, drawn[name])
            )
            for name in names
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


def _with_room(look: Mapping[str, requests.Sent], chart: Document) -> dict[str, requests.Sent]:
    """The look of a chart; one of many panels, which would be small above each other, is as wide
    as the text.
    """
    many = len(chart.get("facet", {}).get("sort", ())) > MOST_IN_A_COLUMN
    width = look.get("width_mm")
    wider = many and isinstance(width, int | float) and width < TEXT_WIDTH_MM
    return {**look, "width_mm": TEXT_WIDTH_MM} if wider else dict(look)


def _caption(chart: Document, meaning: str) -> str:
    """What a chart shows, and how: its meaning, and the caption that pages show above it."""
    caption = chart.get("usermeta", {}).get("caption", [])
    lines = [sentence for one in caption for sentence in SENTENCE_END.split(str(one))]
    # a page of paper has no tooltips
    printed = [one.rstrip(".") for one in lines if not one.lower().startswith("tooltips")]
    said = " ".join(f"{one[:1].upper()}{one[1:]}." for one in printed)
    return f"{meaning} {said}".strip().rstrip(".") + "."


def _provenance(client: Client, job: Job) -> JsonValue:
    """How the job was computed; of a study, how each of its runs was."""
    jobs = [job] if job.kind != "study" else list(client.jobs(parent=job.id, limit=500))[::-1]
    return [
        {
            "job": one.id,
            "kind": one.kind,
            "place": dict(one.place) if one.place else None,
            "provenance": one.provenance.model_dump(mode="json") if one.provenance else None,
        }
        for one in jobs
    ]


def _main(job: Job, captions: Mapping[str, str], leading_ones: int, tables: list[TableKind]) -> str:
    figures = [
        FIGURE % {"name": name, "caption": _in_signs(for_latex(caption))}
        for name, caption in captions.items()
    ]
    shown = [kind for kind in tables if kind not in LONG_TABLES]
    inputs = [rf"\input{{tables/{kind}}}" for kind in shown]
    further = figures[leading_ones:]
    pages = [
        "\n".join(further[at : at + FLOATS_AT_ONCE])
        for at in range(0, len(further), FLOATS_AT_ONCE)
    ]
    ended = job.finished_at or job.created_at
    return MAIN % {
        "version": _version(job),
        "id": job.id,
        "title": for_latex(title_of(job)),
        "date": ended.strftime("%Y-%m-%d"),
        "pointers": _pointers(list(captions)[:leading_ones], shown),
        "results": "\n".join([*figures[:leading_ones], *inputs]),
        "further": "\\clearpage\n".join(
            ["", r"\appendix\section{Further figures}" + "\n" + pages[0], *pages[1:]]
        )
        if pages
        else "",
    }


def _in_signs(text: str) -> str:
    """A caption whose quantities are signs, as in formulas."""
    for words, sign in SIGNS.items():
        text = text.replace(words, sign)
    return text


def _pointers(figures: list[str], tables: list[TableKind]) -> str:
    """A sentence that points to figures and tables."""
    found = [
        *(rf"Figure~\ref{{fig:{name}}}" for name in figures),
        *(rf"Table~\ref{{tab:fflab-{kind}}}" for kind in tables),
    ]
    return f"What was measured is in {', '.join(found)}." if found else ""


def _version(job: Job) -> str:
    return job.provenance.program if job.provenance else "and its runs"
