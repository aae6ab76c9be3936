"""The pages of the findings: each study is run at a tiny size, and its page is written."""

import json
import re
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import JsonValue

import ffengine
from ffengine.datasets import Datasets
from ffengine.findings import FINDINGS, Finding, Run
from ffengine.results import RunResult
from ffengine.spec import StudySpec, TrainSpec
from ffengine.study import Cell, GridError, expand, study_cell, with_params
from scripts.findings import (
    cells_of,
    keep,
    notes_on,
    options_of,
    parts_at_hand,
    parts_in,
    read,
    run,
    write,
)
from service.results.answers import answer
from service.results.charts import available, render
from service.results.finding_page import answers_page, runs_of
from service.results.finding_runs import answered, what_was_found
from service.results.sources import ChartSource, GridCell, Source, StudyGrid

PAGES = Path(__file__).parents[1] / "docs" / "findings"
# the page of each finding has its own test; all have the same code below them
SOME_FINDINGS = [
    pytest.param(name, marks=pytest.mark.soak) if at % 4 else name
    for at, name in enumerate(FINDINGS)
]


@pytest.mark.slow(in_each_part=True)  # much of the engine is reached by these alone
@pytest.mark.parametrize("name", FINDINGS)
def test_the_page_of_a_finding_is_written_from_the_results_of_its_study(
    name: str, tmp_path: Path
) -> None:
    finding = FINDINGS[name]
    cells = cells_of(finding, "tiny")
    results = [run(cell, "cpu") for cell in cells]
    keep(tmp_path / "kept" / f"{name}.json", results)
    assert read(tmp_path / "kept" / f"{name}.json") == results
    runs = runs_of(cells, results)
    write(finding, runs, tmp_path)
    page = (tmp_path / f"{name}.md").read_text("utf-8")
    assert page.startswith(f"# {finding.question}\n\n**")
    for text in (finding.method, finding.falsified_by, f"python -m scripts.findings {name}"):
        assert text in page
    for sentence in finding.conclusion(runs):
        assert re.search(r"\d", sentence) or len(runs) < 2 or sentence.endswith(".")
    table = finding.table(runs)
    assert all(len(row) == len(table.columns) for row in table.rows)
    assert page.count("\n| ") == len(table.rows) + 2
    assert "sha256" in page
    picture = (tmp_path / f"{name}.svg").read_text("utf-8")
    assert picture.startswith("<svg")
    assert finding.plot(runs).points
    assert json.dumps(finding.plot(runs))  # plain data


@pytest.mark.parametrize("name", FINDINGS)
def test_larger_studies_and_their_further_parts_are_valid_specs(name: str) -> None:
    finding = FINDINGS[name]
    further = list(finding.further)
    full, large = (cells_of(finding, size, {}, further) for size in ("full", "large"))
    assert [cell.part for cell in large] == [cell.part for cell in full]
    assert {cell.part for cell in large} >= set(further)
    for cell in large:
        assert len(cell.spec.seeds) == 10
        # a larger batch is for more images alone: the steps of an epoch stay
        if isinstance(cell.spec, TrainSpec) and cell.spec.batch_size > 2_000:
            assert cell.spec.dataset.name == "mnist"
    (fewer,) = {len(cell.spec.seeds) for cell in cells_of(finding, "full", {"seeds": [4, 5, 6, 7]})}
    assert fewer == 4
    with pytest.raises(GridError, match="no_such_field"):
        cells_of(finding, "full", {"no_such_field": 1})
    # what the page says of a service
    given = expand(StudySpec.model_validate({"preset": name, "base": given_base(finding)}))
    kind = given_base(finding)["kind"]
    reached = {cell.spec.seeds for cell in given if cell.spec.kind == kind}
    grids = any("seeds" in part.grid for part in finding.study.parts.values())
    assert reached == {(0, 1, 2, 3, 4, 5, 6)} or (grids and (0, 1, 2, 3, 4, 5, 6) in reached)


def given_base(finding: Finding) -> dict[str, object]:
    """A base that names the seeds alone, of the kind of the finding's runs."""
    return {"kind": expand(finding.study)[0].spec.kind, "seeds": list(range(7))}


def test_data_sets_that_are_not_at_hand_are_left_out_and_named(tmp_path: Path) -> None:
    onset, nothing = FINDINGS["onset"], Datasets(tmp_path)
    assert parts_at_hand(onset, nothing) == []
    said = notes_on(onset, [], [])
    for name in ("fashion-mnist", "cifar10", "cifar10-grey"):
        assert sum(f"fflab data fetch {name}`" in note for note in said) == 1
    kept = [name for name in onset.further if name.startswith("fashion")]
    said = notes_on(onset, kept, [])
    assert not any("fashion" in note for note in said)
    assert "--size large" in said[-1]
    keep(tmp_path / "onset.json", [], kept)
    assert parts_in(tmp_path / "onset.json") == kept
    (tmp_path / "demo.json").write_text('{"cells": []}')
    assert parts_in(tmp_path / "demo.json") == []


def test_a_page_says_which_options_its_runs_had(tmp_path: Path) -> None:
    assert options_of("full", []) == []
    options = options_of("large", ["network.widths=[64, 32]"])
    assert options == ["--size large", "--set 'network.widths=[64, 32]'"]
    said = notes_on(FINDINGS["acts"], [], options)
    assert len(said) == 1  # nothing of a larger study: this is one
    assert " ".join(options) in said[0]
    assert '`dataset.name: "mnist"`' in said[0]
    assert "dataset.name" not in notes_on(FINDINGS["acts"], [], options[1:])[0]


@pytest.mark.slow
def test_the_answers_of_several_findings_are_one_page() -> None:
    found = []
    for name in ("width", "goodness"):
        cells = cells_of(FINDINGS[name], "tiny")
        found.append((FINDINGS[name], runs_of(cells, [run(cell, "cpu") for cell in cells])))
    page = answers_page(found, "python -m scripts.findings width goodness", {"width": "`a: 1`"})
    assert page.count("python -m scripts.findings width goodness") == 1
    assert page.count("With `a: 1`.") == 1
    for finding, runs in found:
        assert f"[{finding.question}]({finding.name}.md)" in page
        assert all(f"\n- {sentence}\n" in page for sentence in finding.conclusion(runs))


def test_every_finding_has_its_page_and_every_page_its_finding() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {*FINDINGS, "index", "large"}
    index = (PAGES / "index.md").read_text("utf-8")
    for name, finding in FINDINGS.items():
        assert f"({name}.md)" in index
        page = (PAGES / f"{name}.md").read_text("utf-8")
        assert page.startswith(f"# {finding.question}\n")
        assert finding.method in page
        assert finding.falsified_by in page


OTHER_SETTINGS: dict[str, dict[str, JsonValue]] = {
    "one seed, one epoch, one width": {
        "seeds": [3],
        "epochs": 1,
        "network.widths": [12],
        "widths": [12],
        "dataset.train_samples": 100,
        "monitor.samples": 50,
        "samples": 50,
    },
    "other data and objective": {
        "dataset.name": "digits",
        "dataset.train_samples": 100,
        "dataset.test_samples": 50,
        "objective": {"name": "softplus"},
        "negatives": {"strategy": "noise"},
        "epochs": 2,
        "monitor.samples": 50,
        "samples": 50,
        "network.widths": [12, 8],
        "seeds": [0, 1],
    },
}


def altered(finding: Finding, fields: dict[str, JsonValue]) -> list[Cell]:
    """The runs of a finding at its tiny size, with each field set where the run takes it; what the
    grid of the study varies stays.
    """
    cells = []
    for cell in cells_of(finding, "tiny"):
        spec = cell.spec
        for field, value in fields.items():
            with suppress(GridError):
                varied = any(touched in cell.params for touched in (field, f"{field}.name"))
                spec = spec if varied else with_params(spec, {field: value}, (), None)
        cells.append(cell._replace(spec=spec))
    return cells


def study_of(name: str, cells: list[Cell], results: list[RunResult]) -> list[ChartSource]:
    found = [
        GridCell(study_cell(cell, job=None, state="succeeded", result=result), cell.spec)
        for cell, result in zip(cells, results, strict=True)
    ]
    sources = [
        Source(cell.part, result, cell.spec) for cell, result in zip(cells, results, strict=True)
    ]
    return [StudyGrid("", found, name), *sources]


@pytest.mark.slow
@pytest.mark.parametrize("settings", OTHER_SETTINGS)
@pytest.mark.parametrize("name", SOME_FINDINGS)
def test_a_finding_with_other_settings_says_what_cannot_be_concluded_and_why(
    name: str, settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    cells = altered(FINDINGS[name], OTHER_SETTINGS[settings])
    drawn = study_of(name, cells, [run(cell, "cpu") for cell in cells])
    answer_ = answered(drawn)
    assert answer_ is not None
    assert not caplog.records  # nothing failed while it was read or drawn
    *said, last = what_was_found(drawn)
    expected = "These runs do not answer" if not said else "These runs are not those of the finding"
    assert last.startswith(expected) or not answer_.changed
    assert answer(drawn, available(drawn)).statements
    if "finding" in available(drawn):
        assert render("finding", drawn, "json")
    FINDINGS[name].table(answer_.runs)


@pytest.mark.parametrize("widths", [(16,), (16, 8)])
@pytest.mark.parametrize("counted", [True, False])
def test_directions_are_told_of_any_widths_that_somebody_sets(
    widths: tuple[int, ...], counted: bool
) -> None:
    finding = FINDINGS["condensation"]
    cells = cells_of(finding, "tiny", {"network.widths": list(widths)})[:1]
    assert isinstance(cells[0].spec, TrainSpec)
    result = ffengine.train(cells[0].spec)
    if not counted:  # as of layers of more units than are counted
        rows = [row.model_copy(update={"basins": None}) for row in result.curves]
        result = result.model_copy(update={"curves": tuple(rows)})
    runs = [Run(cells[0].part, {}, cells[0].spec, result)]
    first, of_data = finding.conclusion(runs)
    assert first.endswith("that needs two widths of up to 8,192 units.")
    assert ("- for 16 units" in of_data) is not counted
    assert len(finding.table(runs).rows) == (3 if counted else 0)
    assert len(finding.plot(runs).points) == (2 if counted else 0)
