"""The pages of the findings: each study is run at a tiny size, and its page is written."""

import json
import re
from pathlib import Path

import pytest

from ffengine.findings import FINDINGS
from scripts.findings import cells_of, keep, read, run, write
from service.results.finding_page import runs_of

PAGES = Path(__file__).parents[1] / "docs" / "findings"


@pytest.mark.slow
@pytest.mark.parametrize("name", FINDINGS)
def test_the_page_of_a_finding_is_written_from_the_results_of_its_study(
    name: str, tmp_path: Path
) -> None:
    finding = FINDINGS[name]
    cells = cells_of(finding, tiny=True)
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


def test_every_finding_has_its_page_and_every_page_its_finding() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == {*FINDINGS, "index"}
    index = (PAGES / "index.md").read_text("utf-8")
    for name, finding in FINDINGS.items():
        assert f"({name}.md)" in index
        page = (PAGES / f"{name}.md").read_text("utf-8")
        assert page.startswith(f"# {finding.question}\n")
        assert finding.method in page
        assert finding.falsified_by in page
