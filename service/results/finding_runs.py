"""Which finding the runs of a study answer, and what they say."""

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ffengine.findings import FINDINGS, Finding, Plot, Run
from ffengine.presets import PRESETS
from ffengine.spec_values import flatten, value_in_words
from ffengine.study import Cell, expand
from service.results.sentences import sentences
from service.results.sources import ChartSource, Source, StudyGrid
from service.results.trials import best_in_words, compared

_LOG = logging.getLogger(__name__)
# a study may have others than the preset and still answer its question
SIZES = (
    "seeds",
    "samples",
    "batch_size",
    "dataset.train_samples",
    "dataset.test_samples",
    "dataset.validation_samples",
    "monitor.",
    "evaluation.",
)
# what a finding meets where runs lack what it reads
UNREADABLE = (LookupError, ArithmeticError, ValueError, TypeError, AssertionError, StopIteration)
MOST_NAMED = 4  # fields that differ from the preset's


class Answered(NamedTuple):
    """A finding with the runs of a study of its preset.

    changed: the fields, apart from sizes and seeds, in which its runs are not those of the preset,
    each with its value and the preset's.
    """

    finding: Finding
    runs: list[Run]
    changed: Sequence[str] = ()

    @property
    def conclusion(self) -> list[str]:
        """What was found; where the runs do not say, what cannot be concluded and why."""
        found: list[str] = []
        try:
            found = self.finding.conclusion(self.runs)
        except UNREADABLE:
            _LOG.exception("the finding %s cannot be read off its runs", self.finding.name)
        if not found:
            found = [f"These runs do not answer the question: {self._why}."]
        elif self.changed:
            found = [*found, f"{self._differences} Names of runs above are those of the preset."]
        return found

    @property
    def plot(self) -> Plot | None:
        """The chart of the finding; None where the runs lack what it shows."""
        try:
            found = self.finding.plot(self.runs)
        except UNREADABLE:
            _LOG.exception("the finding %s cannot be drawn of its runs", self.finding.name)
            return None
        return found if found.points else None

    @property
    def _why(self) -> str:
        seeds = {len(run.result.provenance.seeds) for run in self.runs}
        if self.changed:
            return f"they are not those of the finding ({self._named})"
        if seeds == {1}:
            return "with one seed there is no interval, so nothing can be told apart"
        return "what the finding compares was not measured in them; train longer or use more seeds"

    @property
    def _differences(self) -> str:
        return f"These runs are not those of the finding: {self._named}."

    @property
    def _named(self) -> str:
        more = len(self.changed) - MOST_NAMED
        rest = [f"{more} more fields"] if more > 0 else []
        return "; ".join([*self.changed[:MOST_NAMED], *rest])


def answered(drawn: Sequence[ChartSource]) -> Answered | None:
    """Return the finding that a study answers.

    **Arguments:**

    - `drawn`: what the charts of a job are drawn of.

    **Returns:**

    None where the job is no study of a finding's preset, where not all of its runs have results, or
    where it has other runs than the preset. Fields of its runs may be others.
    """
    grids = (source for source in drawn if isinstance(source, StudyGrid))
    grid = next((grid for grid in grids if grid.preset in FINDINGS), None)
    if grid is None or grid.preset is None:
        return None
    results = [source.result for source in drawn if isinstance(source, Source)]
    cells = expand(PRESETS[grid.preset].spec)
    asked = [(cell.part, cell.params) for cell in cells]
    made = [(cell.found.part, cell.found.params) for cell in grid.cells]
    if asked != made or len(results) != len(made):
        return None
    runs = [
        Run(part, params, cell.spec, result)
        for (part, params), cell, result in zip(made, grid.cells, results, strict=True)
        if cell.spec is not None
    ]
    if len(runs) != len(made):
        return None
    return Answered(FINDINGS[grid.preset], runs, list(_changed(runs, cells)))


def _changed(runs: Sequence[Run], asked: Sequence[Cell]) -> Iterator[str]:
    """The fields in which runs are not those of the preset, in words: `epochs 3 (20)`."""
    differences: dict[str, list[tuple[str, str]]] = {}
    for run, cell in zip(runs, asked, strict=True):
        own, preset = (flatten(spec.model_dump(mode="json")) for spec in (run.spec, cell.spec))
        for field in {**preset, **own}:
            both = (own.get(field), preset.get(field))
            if both[0] != both[1] and not field.startswith(SIZES):
                words = (value_in_words(both[0]), value_in_words(both[1]))
                differences.setdefault(field, []).append(words)
    for field, texts in differences.items():
        if len(set(texts)) == 1:
            yield f"{field} {texts[0][0]} in place of {texts[0][1]}"
        else:
            yield f"{field} of {len(texts):,} runs"


def what_was_found(drawn: Sequence[ChartSource]) -> list[str]:
    """Return the conclusion of a finding, the best run of a search, and for other jobs what its
    results say in sentences.
    """
    found_best = compared(drawn)
    if found_best is not None and found_best.grid.is_search:
        return best_in_words(found_best)
    if found := answered(drawn):
        return found.conclusion
    return sentences([source for source in drawn if isinstance(source, Source)])
