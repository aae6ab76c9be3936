"""`fflab export --paper`: the folder, what it does not overwrite, and that it compiles."""

import asyncio
import io
import json
import os
import random
import re
import shutil
import subprocess
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pypdf
import pytest
import yaml

from ffengine.optimizers import Adam
from ffengine.spec import StudySpec, TrainSpec
from ffengine.study import resolved
from service.cli.exports.paper_folder import refuse_used, write_folder
from service.encoding.latex import for_latex
from service.jobs import Job
from service.results import paper_folder
from service.results.charts import print_layout
from service.results.paper_setting import nearest_first
from service.store import Store
from service.web import paper_zip, problems
from service.web.drawing.protocol import ChartRequest
from tests.commands import Fflab
from tests.needs import lacking
from tests.over_http import NOBODY, refused, submit, succeed

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
    [(1, 84.0, 84.0), (2, 84.0, 174.0), (12, 180.0, 180.0), (0, 84, 84)],
)
def test_a_chart_of_several_panels_is_as_wide_as_the_text(
    panels: int, asked: float, drawn: float
) -> None:
    chart = {"facet": {"sort": [str(place) for place in range(panels)]}} if panels else {}
    figure = paper_folder.figure_of("loss", "The loss.", json.dumps(chart).encode(), asked)
    assert figure == ("loss", "The loss.", drawn)


def test_a_printed_caption_has_no_tooltips_and_its_quantities_are_signs() -> None:
    lines = ["data: digits.", "Tooltips show 95 % intervals, by t. The turn is 0.9 / (q lambda_1)"]
    caption = paper_folder.caption({"usermeta": {"caption": lines}}, "What it shows.")
    assert caption == "What it shows. Data: digits. The turn is 0.9 / (q lambda_1)."
    written = paper_folder.in_signs(for_latex("the turn τ* = 0.9 / (q lambda_1)"))
    assert written == r"the turn $\tau^{*}$ = 0.9 / (q $\lambda_1$)"


def test_figures_of_a_column_stand_two_to_a_row() -> None:
    widths = {"a": 84.0, "b": 174.0, "c": 84.0, "d": 84.0}
    figures = [paper_folder.Figure(name, name, width) for name, width in widths.items()]
    rows = paper_folder.in_rows(figures)
    assert [re.findall(r"fig:(\w)", row) for row in rows] == [["a", "c"], ["b"], ["d"]]
    assert [row.count("minipage") for row in rows] == [4, 0, 0]


def study(**fields: object) -> Job:
    spec = resolved(StudySpec.model_validate({"kind": "study", **fields}))
    now = datetime(2026, 11, 27, tzinfo=UTC)
    return Job.model_construct(
        id="job_1",
        kind="study",
        spec=spec,
        created_at=now,
        finished_at=now,
        name="x",
        provenance=None,
    )


CHARTS = [
    *("search_history", "study_scatter", "grid_theorem2", "grid_sparsity", "grid_accuracy"),
    *("loss", "sparsity", "theorem2"),
]


def test_a_study_of_few_runs_begins_with_curves_and_one_of_many_with_its_grid() -> None:
    few = study(grid={"optimizer.lr": [0.1, 1.0]})
    names, leading = paper_folder.ordered(few, CHARTS)
    assert (names[:leading], names[-2:]) == (["sparsity", "theorem2"], CHARTS[:2])
    many = study(grid={"optimizer.lr": [0.1, 1.0, 2.0], "epochs": [2, 4]})
    names, leading = paper_folder.ordered(many, CHARTS)
    assert names[:leading] == ["grid_accuracy", "grid_sparsity"]
    names, leading = paper_folder.ordered(study(preset="search"), [*CHARTS, "search_importance"])
    assert names[:leading] == ["search_history", "search_importance"]
    assert paper_folder.ordered(few, ["../x", "study_scatter"]) == (["study_scatter"], 0)


def test_the_text_says_which_charts_were_not_drawn() -> None:
    text = paper_folder.main_tex(study(preset="quick"), [], 0, [], {"loss_50%": "too large"})
    assert r"\paragraph{Not drawn} loss\_50\%: too large" in text


@pytest.mark.slow
def test_a_page_has_the_folder_as_a_zip(
    client: httpx.Client, job: Job, fflab: Fflab, tmp_path: Path
) -> None:
    folder = tmp_path / "paper"
    assert fflab("export", job.id, "--paper", str(folder)).code == 0
    address = f"/v1/jobs/{job.id}/paper.zip"
    assert f'href="{address}"' in client.get(f"/jobs/{job.id}").text
    answer = client.get(address)
    assert answer.headers["content-type"] == "application/zip"
    assert "content-encoding" not in answer.headers
    assert client.get(address, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        there = {name: archive.read(name) for name in archive.namelist()}
    top = f"paper-{job.id}/"
    written = {path for path in folder.rglob("*") if path.is_file()}
    assert {top + str(path.relative_to(folder)) for path in written} == set(there)
    for path in written:
        if path.suffix != ".pdf":  # these hold the time at which they were drawn
            assert there[top + str(path.relative_to(folder))] == path.read_bytes(), path


def test_a_zip_needs_a_result_and_room(client: httpx.Client, store: Store) -> None:
    queued = submit(client).id
    refused(client.get(f"/v1/jobs/{queued}/paper.zip"), 409, "no-result-yet")
    refused(client.get(f"/v1/jobs/{NOBODY}/paper.zip"), 404, "no-such-job")
    succeed(store, queued)
    address = f"/v1/jobs/{queued}/paper.zip?width_mm=41&font_pt=24"
    assert "have no room" in refused(client.get(address), 422, "invalid").errors[0].message
    assert client.head(f"/v1/jobs/{queued}/paper.zip").status_code == 200


def test_a_zip_leaves_out_what_cannot_be_drawn(
    client: httpx.Client, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def names(*_: object) -> dict[str, str]:
        return {"sparsity": "S.", "loss": "The loss."}

    async def draw(_: object, request: ChartRequest, __: int) -> bytes:
        if request.name == "loss" or "busy" in tried.setdefault(request.name, ["busy"]):
            tried.get(request.name, []).clear()
            raise (
                problems.NotDrawn("it died")
                if request.name == "loss"
                else problems.RenderersAreBusy
            )
        return b"{}" if request.fmt == "json" else b"%PDF"

    tried: dict[str, list[str]] = {}
    monkeypatch.setattr(paper_zip, "chart_names", names)
    monkeypatch.setattr(paper_zip, "drawn", draw)
    monkeypatch.setattr(paper_zip, "BUSY_SECONDS", 0.0)
    answer = client.get(f"/v1/jobs/{job.id}/paper.zip")
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        figures = [name for name in archive.namelist() if "/figures/" in name]
        text = archive.read(f"paper-{job.id}/main.tex").decode()
    assert figures == [f"paper-{job.id}/figures/sparsity.pdf"]
    assert r"\paragraph{Not drawn} loss: it died" in text
    assert "fig:loss" not in text


@pytest.mark.slow
def test_a_large_file_is_sent_in_pieces(job: Job) -> None:
    chance = random.Random(0)  # so that it stays large when it is compressed
    rows = (",".join(str(chance.random()) for _ in range(200)) for _ in range(200))
    archive = paper_zip.ZipStream("paper", job)
    sent = list(archive.add("data/curves.csv", (row.encode() for row in rows)))
    content = b"".join([*sent, archive.end()])
    assert max(map(len, sent)) < len(content) / 5
    with zipfile.ZipFile(io.BytesIO(content)) as whole:
        assert whole.read("paper/data/curves.csv").startswith(b"0.844")


def test_what_is_in_a_folder_stays_unless_it_is_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "main.tex"
    mine.write_text("mine")
    with pytest.raises(SystemExit):
        refuse_used(tmp_path, force=False)
    with pytest.raises(SystemExit):
        refuse_used(mine, force=True)
    assert "is a file" in capsys.readouterr().err
    refuse_used(tmp_path, force=True)
    refuse_used(tmp_path / "new", force=False)
    (tmp_path / "notes.txt").write_text("mine, too")
    write_folder(tmp_path, {"main.tex": b"new", "tables/curves.tex": b"table"})
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
        write_folder(folder, {"main.tex": b"new", "tables/curves.tex": b"table"})
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


def test_runs_of_the_papers_setting_come_first_and_others_keep_their_order() -> None:
    softplus = TrainSpec.model_validate({"objective": {"name": "softplus"}})
    deep = softplus.model_copy(update={"optimizer": Adam()})
    paper, again = TrainSpec(), TrainSpec(epochs=3)
    found = nearest_first([deep, softplus, paper, deep, again], lambda spec: (spec, None))
    assert found == [paper, again, deep, softplus, deep]
    assert nearest_first([deep, softplus, None], lambda spec: (spec, None)) == [
        softplus,
        deep,
        None,
    ]
    assert nearest_first([], lambda spec: (spec, None)) == []


def test_three_panels_stand_in_one_row_where_there_is_room() -> None:
    panels = {"facet": {"sort": ["a", "b", "c"]}, "columns": 2, "spec": {}}
    columns = [print_layout._with_columns(panels, width, None)["columns"] for width in (660, 300)]
    assert columns == [3, 1]
    assert (
        print_layout._with_columns({**panels, "facet": {"sort": list("abcd")}}, 660, None)[
            "columns"
        ]
        == 2
    )


def test_a_file_of_which_nobody_takes_the_rest_is_closed(job: Job) -> None:
    archive = paper_zip.ZipStream("paper", job)

    async def begin() -> None:
        pieces = paper_zip._added(archive, "rows.csv", (os.urandom(2**20) for _ in range(9)))
        await anext(pieces)
        await pieces.aclose()

    asyncio.run(begin())
    archive.end()  # it would be refused while a file is open
