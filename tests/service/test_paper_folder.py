"""`fflab export --paper`: the folder, what it does not overwrite, and that it compiles."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pypdf
import pytest
import yaml

from service.cli.exports import paper_folder
from service.encoding.latex import for_latex
from service.jobs import Job
from service.store import Store
from tests.commands import Fflab
from tests.needs import lacking
from tests.over_http import submit, succeed

NAME = r"a_b & 50 % \input{x} $y$ # ~ ^ {z} Größe 数"


@pytest.fixture
def job(client: httpx.Client, store: Store) -> Job:
    found = submit(client, name=NAME)
    succeed(store, found.id)
    return found


@pytest.mark.slow
def test_a_job_becomes_a_folder_that_compiles(job: Job, fflab: Fflab, tmp_path: Path) -> None:
    folder = tmp_path / "paper"
    ended = fflab("export", job.id, "--paper", str(folder), "--json")
    assert ended.code == 0, ended.err
    written = json.loads(ended.out)["written"]["paper"]
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written.startswith(f"{folder}: {len(there)} files; `make -C {folder}` compiles")
    assert {
        "main.tex",
        "methods.tex",
        "references.bib",
        "Makefile",
        "spec.yaml",
        "provenance.json",
        "tables/curves.tex",
        "figures/sparsity.pdf",
        "data/result.csv",
        "data/curves.csv",
        "data/means.csv",
    } <= there
    assert yaml.safe_load((folder / "spec.yaml").read_text())["kind"] == "train"
    assert json.loads((folder / "provenance.json").read_text())[0]["job"] == job.id
    # without it \centering does not reach the box, and figures stand at the left
    assert r"\fflabfigure}[1]{\leavevmode" in (folder / "main.tex").read_text()
    again = fflab("export", job.id, "--paper", str(folder))
    assert (again.code, "is not empty" in again.err) == (2, True)
    if shutil.which("pdflatex") is None:
        lacking("pdflatex", "none is on PATH")
    made = subprocess.run(
        ["make", "-C", str(folder)], capture_output=True, errors="replace", text=True
    )
    assert made.returncode == 0, made.stdout[-3000:]
    text = "".join(page.extract_text() for page in pypdf.PdfReader(folder / "main.pdf").pages)
    assert "The data set is mnist-mini" in text
    assert "Hoyer" in text
    log = (folder / "main.log").read_text(errors="replace")
    assert "undefined" not in log.lower()
    over = [float(width) for width in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log)]
    assert max(over, default=0.0) <= 5


@pytest.mark.parametrize(
    ("panels", "asked", "drawn"),
    [(3, 84.0, 84.0), (4, 84.0, 160.0), (12, 180.0, 180.0), (0, 84, 84)],
)
def test_a_chart_of_many_panels_is_as_wide_as_the_text(
    panels: int, asked: float, drawn: float
) -> None:
    chart = {"facet": {"sort": [str(place) for place in range(panels)]}} if panels else {}
    look = paper_folder._with_room({"title": "none", "width_mm": asked}, chart)
    assert look == {"title": "none", "width_mm": drawn}


def test_a_printed_caption_has_no_tooltips_and_its_quantities_are_signs() -> None:
    lines = ["data: digits.", "Tooltips show 95 % intervals, by t. The turn is 0.9 / (q lambda_1)"]
    caption = paper_folder._caption({"usermeta": {"caption": lines}}, "What it shows.")
    assert caption == "What it shows. Data: digits. The turn is 0.9 / (q lambda_1)."
    written = paper_folder._in_signs(for_latex("the turn τ* = 0.9 / (q lambda_1)"))
    assert written == r"the turn $\tau^{*}$ = 0.9 / (q $\lambda_1$)"


def test_what_is_in_a_folder_stays_unless_it_is_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "main.tex"
    mine.write_text("mine")
    with pytest.raises(SystemExit):
        paper_folder.refuse_used(tmp_path, force=False)
    with pytest.raises(SystemExit):
        paper_folder.refuse_used(mine, force=True)
    assert "is a file" in capsys.readouterr().err
    paper_folder.refuse_used(tmp_path, force=True)
    paper_folder.refuse_used(tmp_path / "new", force=False)
    (tmp_path / "notes.txt").write_text("mine, too")
    paper_folder.write_folder(tmp_path, {"main.tex": b"new", "tables/curves.tex": b"table"})
    assert (mine.read_text(), (tmp_path / "notes.txt").read_text()) == ("new", "mine, too")


@pytest.mark.parametrize("place", ["main.tex", "tables"])
def test_nothing_is_written_through_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "paper"
    (elsewhere / "tables").mkdir(parents=True)
    folder.mkdir()
    (elsewhere / "main.tex").write_text("mine")
    (folder / place).symlink_to(elsewhere / place)
    with pytest.raises(SystemExit):
        paper_folder.write_folder(folder, {"main.tex": b"new", "tables/curves.tex": b"table"})
    assert "is a link" in capsys.readouterr().err
    assert (elsewhere / "main.tex").read_text() == "mine"
    assert not list((elsewhere / "tables").iterdir())


def test_tables_and_references_are_files_of_a_result(
    job: Job, fflab: Fflab, tmp_path: Path
) -> None:
    for name, more, said in (
        ("curves.tex", ("--rows", "curves"), "tabular"),
        ("references.bib", (), "@misc{fflab,"),
        ("methods.md", (), "[@hinton2022forward]"),
    ):
        ended = fflab("result", job.id, "-o", str(tmp_path / name), *more)
        assert ended.code == 0, ended.err
        assert said in (tmp_path / name).read_text()
    wrong = fflab("result", job.id, "-o", str(tmp_path / "a.png"), "--rows", "curves")
    assert (wrong.code, "--rows curves makes a table" in wrong.err) == (2, True)
    wrong = fflab("result", job.id, "-o", str(tmp_path / "a.csv"), "--width-mm", "84")
    assert (wrong.code, "are for charts" in wrong.err) == (2, True)
