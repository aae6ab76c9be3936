"""Which finding the runs of a study answer, and what they say."""

from collections.abc import Sequence
from typing import NamedTuple

from ffengine.findings import FINDINGS, Finding, Run
from ffengine.presets import PRESETS
from ffengine.study import expand
from service.results.sentences import sentences
from service.results.sources import ChartSource, Source, StudyGrid
from service.results.trials import best_in_words, compared


class Answered(NamedTuple):
    """A finding with the runs of a study of its preset."""

    finding: Finding
    runs: list[Run]


def answered(drawn: Sequence[ChartSource]) -> Answered | None:
    """Return the finding that a study answers.

    **Arguments:**

    - `drawn`: what the charts of a job are drawn of.

    **Returns:**

    None where the job is no study of a finding's preset, where not all of its runs have results, or
    where its runs are not those of the preset. Sizes and seeds may be others.
    """
    grids = (source for source in drawn if isinstance(source, StudyGrid))
    grid = next((grid for grid in grids if grid.preset in FINDINGS), None)
    if grid is None or grid.preset is None:
        return None
    results = [source.result for source in drawn if isinstance(source, Source)]
    asked = [(cell.part, cell.params) for cell in expand(PRESETS[grid.preset].spec)]
    made = [(cell.found.part, cell.found.params) for cell in grid.cells]
    if asked != made or len(results) != len(made):
        return None
    runs = [
        Run(part, params, cell.spec, result)
        for (part, params), cell, result in zip(made, grid.cells, results, strict=True)
        if cell.spec is not None
    ]
    return Answered(FINDINGS[grid.preset], runs) if len(runs) == len(made) else None


def what_was_found(drawn: Sequence[ChartSource]) -> list[str]:
    """Return the conclusion of a finding, the best run of a search, and for other jobs what its
    results say in sentences.
    """
    found_best = compared(drawn)
    if found_best is not None and found_best.grid.is_search:
        return best_in_words(found_best)
    if found := answered(drawn):
        return found.finding.conclusion(found.runs)
    return sentences([source for source in drawn if isinstance(source, Source)])
