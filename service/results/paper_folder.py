"""The folder of a paper, which compiles as it is: its text, and which files there are. No HTTP.

`fflab export JOB --paper DIR` writes it file by file, and the API sends it as a zip.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ffengine.spec import StudySpec
from ffengine.study import expand, is_resolved, search_of
from ffengine.text import STORED
from service.encoding.latex import for_latex
from service.jobs import Job
from service.results.chart_formats import COLUMN_FONT_PT, COLUMN_MM, ChartLook
from service.results.descriptions import title_of
from service.results.leading_charts import GRID_CHARTS, PAPER_CHARTS, SEARCH_CHARTS, leading
from service.results.paper_tables import TableKind

TEXT_WIDTH_MM = 174.0  # of a sheet of A4 with margins of 18 mm
BETWEEN_MM = 4.0  # two figures in a row, at least
CHART_NAME = re.compile(r"[a-z0-9_]+")  # no other name becomes that of a file
TABLES: dict[str, tuple[TableKind, ...]] = {
    "train": ("comparison", "curves", "decomposition", "baselines"),
    "check": ("comparison", "cells", "potentials", "decomposition"),
    "forecast": ("epochs",),
    "recorded": (),
    "study": ("comparison", "runs", "figures", "epochs"),
}
LONG_TABLES: frozenset[TableKind] = frozenset({"figures"})  # a file for those who want it
FLOATS_AT_ONCE = 12  # LaTeX holds only so many back
MANY_RUNS = 5  # of a grid, before its figures over what it varies say more than its curves
COMPARED = frozenset({"search_history", "search_importance", "search_parallel", "study_scatter"})
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
\documentclass[a4paper]{article}
\usepackage[margin=18mm]{geometry}
\usepackage{booktabs,graphicx,longtable}
\setlength{\emergencystretch}{3em}
%% a page may be full of figures, and one with figures alone begins at its top
\renewcommand{\topfraction}{0.9}\renewcommand{\textfraction}{0.07}
\renewcommand{\floatpagefraction}{0.8}\setcounter{topnumber}{4}\setcounter{totalnumber}{6}
\makeatletter\setlength{\@fptop}{0pt}\setlength{\@fpsep}{12pt plus 1fil}\makeatother
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

\bibliographystyle{plain}
\bibliography{references}
%(further)s
\end{document}
"""
ROW = r"""\begin{figure}[!htbp]
\centering
%s
\end{figure}
"""
FIGURE = r"""\fflabfigure{figures/%(name)s}
\caption{%(caption)s}\label{fig:%(name)s}"""
BESIDE = r"""\begin{minipage}[t]{%(width)gmm}
\centering
%(figure)s
\end{minipage}"""


class Figure(NamedTuple):
    """A figure of the folder: the name of its chart, its caption in words, and its width."""

    name: str
    caption: str
    width_mm: float


def ordered(job: Job, names: Iterable[str]) -> tuple[list[str], int]:
    """The charts of a job in the order of the folder, and how many of them carry what was found.

    A study of a few runs has its curves first: its figures over what it varies are so many points.
    """
    there = [name for name in names if CHART_NAME.fullmatch(name)]
    few = not _is_search(job) and _runs(job) < MANY_RUNS
    compared = [name for name in there if few and name in COMPARED]
    there = [name for name in there if name not in compared]
    first = _leading(job, there) or there[:2]
    further = [name for name in there if name not in first]
    return [*first, *further, *compared], len(first)


def _leading(job: Job, there: Sequence[str]) -> list[str]:
    """The charts that carry what was found; none where it is a job of another kind."""
    if _is_search(job):
        places = SEARCH_CHARTS
    elif _runs(job) < MANY_RUNS or PAPER_CHARTS[0][0] in there:
        places = PAPER_CHARTS
    else:
        places = GRID_CHARTS
    return leading(there, places)


def _is_search(job: Job) -> bool:
    spec = job.spec
    return isinstance(spec, StudySpec) and is_resolved(spec) and search_of(spec, STORED) is not None


def _runs(job: Job) -> int:
    """How many runs a study has by its spec; 1 of another job."""
    if not isinstance(job.spec, StudySpec) or not is_resolved(job.spec) or _is_search(job):
        return 1
    return len(expand(job.spec, STORED))


def figure_of(name: str, meaning: str, drawn: bytes, width_mm: float = COLUMN_MM) -> Figure:
    """A figure.

    **Arguments:**

    - `meaning`: what the chart shows, in one sentence.
    - `drawn`: the chart as JSON.
    - `width_mm`: of a column; a chart of several panels is as wide as the text.
    """
    chart = json.loads(drawn)
    several = len(chart.get("facet", {}).get("sort", ())) > 1
    width = max(width_mm, TEXT_WIDTH_MM) if several else width_mm
    return Figure(name, caption(chart, meaning), width)


def look_of(width_mm: float, font_pt: float = COLUMN_FONT_PT) -> ChartLook:
    """How a chart of this width is drawn: its title and caption are those of the paper."""
    return ChartLook(title="none", width_mm=width_mm, font_pt=font_pt)


def caption(chart: Document, meaning: str) -> str:
    """What a chart shows, and how: its meaning, and the caption that pages show above it."""
    said = chart.get("usermeta", {}).get("caption", [])
    lines = [sentence for one in said for sentence in SENTENCE_END.split(str(one))]
    # a page of paper has no tooltips
    printed = [one.rstrip(".") for one in lines if not one.lower().startswith("tooltips")]
    words = " ".join(f"{one[:1].upper()}{one[1:]}." for one in printed)
    return f"{meaning} {words}".strip().rstrip(".") + "."


def provenance_json(jobs: Sequence[Job]) -> str:
    """How the job was computed; of a study, how each of its runs was."""
    found = [
        {
            "job": one.id,
            "kind": one.kind,
            "place": dict(one.place) if one.place else None,
            "provenance": one.provenance.model_dump(mode="json") if one.provenance else None,
        }
        for one in jobs
    ]
    return json.dumps(found, indent=2)


def main_tex(
    job: Job,
    figures: Sequence[Figure],
    leading_ones: int,
    tables: Sequence[TableKind],
    not_drawn: Mapping[str, str] | None = None,
) -> str:
    """The text that holds all of it together.

    **Arguments:**

    - `figures`: in their order; the first `leading_ones` carry what was found.
    - `tables`: those of the folder.
    - `not_drawn`: charts that the folder lacks, each with the reason.
    """
    shown = [kind for kind in tables if kind not in LONG_TABLES]
    inputs = [rf"\input{{tables/{kind}}}" for kind in shown]
    further = in_rows(figures[leading_ones:])
    pages = [
        "\n".join(further[at : at + FLOATS_AT_ONCE])
        for at in range(0, len(further), FLOATS_AT_ONCE)
    ]
    ended = job.finished_at or job.created_at
    return MAIN % {
        "version": job.provenance.program if job.provenance else "and its runs",
        "id": job.id,
        "title": for_latex(title_of(job)),
        "date": ended.strftime("%Y-%m-%d"),
        "pointers": _pointers([one.name for one in figures[:leading_ones]], shown),
        "results": "\n".join([*in_rows(figures[:leading_ones]), *inputs]),
        "further": "\\clearpage\n".join(
            ["", r"\appendix\section{Further figures}" + "\n" + pages[0], *pages[1:]]
        )
        + _lacking(not_drawn or {})
        if pages
        else _lacking(not_drawn or {}),
    }


def in_rows(figures: Iterable[Figure]) -> list[str]:
    """Figures in LaTeX: two of a column's width beside each other, wider ones in a row of their
    own, where their order allows.
    """
    rows: list[str] = []
    waiting: Figure | None = None
    for one in figures:
        if 2 * one.width_mm + BETWEEN_MM > TEXT_WIDTH_MM:
            rows.append(ROW % _figure(one))
        elif waiting is None:
            waiting = one
            rows.append(ROW % _figure(one))
            place = len(rows) - 1
        else:
            rows[place] = ROW % f"{_beside(waiting)}\\hfill\n{_beside(one)}"
            waiting = None
    return rows


def _beside(one: Figure) -> str:
    return BESIDE % {"width": one.width_mm, "figure": f"\\footnotesize{_figure(one)}"}


def _figure(one: Figure) -> str:
    return FIGURE % {"name": one.name, "caption": in_signs(for_latex(one.caption))}


def in_signs(text: str) -> str:
    """A caption whose quantities are signs, as in formulas."""
    for words, sign in SIGNS.items():
        text = text.replace(words, sign)
    return text


def _pointers(figures: Sequence[str], tables: Sequence[TableKind]) -> str:
    """A sentence that points to figures and tables."""
    found = [
        *(rf"Figure~\ref{{fig:{name}}}" for name in figures),
        *(rf"Table~\ref{{tab:fflab-{kind}}}" for kind in tables),
    ]
    return f"What was measured is in {', '.join(found)}." if found else ""


def _lacking(not_drawn: Mapping[str, str]) -> str:
    """A paragraph on the charts that could not be drawn."""
    return "".join(
        f"\n\\paragraph{{Not drawn}} {for_latex(name)}: {for_latex(why)}\n"
        for name, why in not_drawn.items()
    )
