"""The page of a finding, written from the results of its study."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ffengine.findings import Finding, Run
from ffengine.results import RunResult
from ffengine.study import Cell
from service.results.markdown import table_lines


class Lines(NamedTuple):
    """How the figures of a finding were obtained, in lines for a page or a caption."""

    data: str
    made_by: str
    computed_in: str


def runs_of(cells: Sequence[Cell], results: Sequence[RunResult]) -> list[Run]:
    """Return the runs of a study, in its order.

    Raises ValueError where there are not as many results as runs.
    """
    return [
        Run(cell.part, cell.params, cell.spec, result)
        for cell, result in zip(cells, results, strict=True)
    ]


def lines_of(runs: Sequence[Run]) -> Lines:
    """Return data with digest and seeds, program and device, and time of computation."""
    made = [run.result.provenance for run in runs]
    data = {
        f"{one.dataset.name} (sha256 {one.dataset.digest.removeprefix('sha256:')[:12]}, "
        f"{one.dataset.train_samples:,} training samples)"
        for one in made
    }
    seeds = sorted({len(one.seeds) for one in made})
    counted = f"{' or '.join(map(str, seeds))} seed{'' if seeds == [1] else 's'} a run"
    programs = sorted({one.program for one in made})
    devices = sorted({f"{one.device_name}, torch {one.torch_version}" for one in made})
    seconds = sum(sum(one.wall_seconds.values()) for one in made)
    return Lines(
        f"{', '.join(sorted(data))}; {counted}",
        f"{'; '.join(programs)}; {'; '.join(devices)}",
        f"{len(runs)} run{'' if len(runs) == 1 else 's'}, {seconds / 60:.1f} minutes",
    )


def finding_page(
    finding: Finding, runs: Sequence[Run], command: str, picture: str, notes: Sequence[str] = ()
) -> str:
    """Return the page as Markdown: question, answer, chart, table, how, and what would falsify it.

    **Arguments:**

    - `finding`: the entry of the catalogue.
    - `runs`: the runs of its study.
    - `command`: what the reader types to have it again.
    - `picture`: the address of the chart, beside the page.
    - `notes`: paragraphs behind the command, such as what was left out.
    """
    lines, plot = lines_of(runs), finding.plot(runs)
    answer, *more = finding.conclusion(runs)
    return "\n".join(
        [
            f"# {finding.question}",
            "",
            f"**{answer}**",
            "",
            *(f"- {sentence}" for sentence in more),
            *([""] if more else []),
            f"![{plot.title}]({picture})",
            "",
            "Brackets, bands and bars are 95 % intervals over seeds "
            "([how](../numerics.md#intervals)); a pair x / y is of positive / negative samples.",
            "",
            "## How it was measured",
            "",
            finding.method,
            "",
            "```bash no-run: takes minutes; a test runs each study at a tiny size",
            command,
            "```",
            "",
            f"Data: {lines.data}. Computed by {lines.made_by}: {lines.computed_in}.",
            "",
            *(line for note in notes for line in (note, "")),
            "## What would falsify it",
            "",
            finding.falsified_by,
            "",
            "## Figures",
            "",
            *table_lines(*finding.table(runs)),
            "",
        ]
    )


def answers_page(
    found: Sequence[tuple[Finding, Sequence[Run]]], command: str, changed: Mapping[str, str]
) -> str:
    """Return one page of the answers of several findings as Markdown.

    **Arguments:**

    - `found`: each finding with the runs of its study.
    - `command`: what the reader types to have them again.
    - `changed`: what differs from the usual runs, by finding; empty where nothing does.
    """
    blocks = [
        "# The findings at a larger size",
        "",
        "Studies of [the findings](index.md) with more seeds, most of them with more data too. "
        "Each section has the question, the answer at this size, and how its figures were "
        "obtained. "
        "Settings keep the names of the usual runs: `mnist-mini` in a list of settings stands for "
        "the data set that the section names. Brackets are 95 % intervals over seeds "
        "([how](../numerics.md#intervals)); a pair x / y is of positive / negative samples.",
        "",
        "```bash no-run: takes minutes on a GPU, hours on a processor",
        command,
        "```",
        "",
    ]
    for finding, runs in found:
        lines = lines_of(runs)
        changes = f" With {changed[finding.name]}." if finding.name in changed else ""
        blocks += [
            f"## {finding.name}",
            "",
            f"[{finding.question}]({finding.name}.md)",
            "",
            *(f"- {sentence}" for sentence in finding.conclusion(runs)),
            "",
            f"Data: {lines.data}.{changes} Computed by {lines.made_by}: {lines.computed_in}.",
            "",
        ]
    return "\n".join(blocks)
