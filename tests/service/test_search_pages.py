"""What is shown of a search, and of the runs of any study: REST, page, charts, command line."""

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ffengine import proposals
from ffengine.results import Interval, StudyCell
from ffengine.search import objective_of
from fflab import Client
from service.results.charts import StudyGrid, available, render
from service.results.charts.drawables import NothingToDraw
from service.results.sources import GridCell
from service.results.trials import best_in_words, columns_of, compared, in_words, seen
from service.schemas import SearchReport
from service.store import Store
from service.web.dashboard import view_models
from service.web.drawing.protocol import ChartView
from tests.commands import Fflab
from tests.factories import submit
from tests.service.trial_runs import BASE, SPACE, advance, finish, queued, search, work_through

VALIDATION = "accuracy[layer=all partition=validation]"


@pytest.fixture(autouse=True)
def _by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials are drawn at random: Optuna takes longer."""
    monkeypatch.setattr(
        proposals, "_proposed", lambda search, _trials, number: proposals.drawn(search, number)
    )


def cells(count: int = 12, **params: Callable[[int], Any]) -> list[GridCell]:
    """Ended runs of a study, whose accuracy rises with their number."""
    fields: dict[str, Callable[[int], Any]] = params or {
        "optimizer.lr": lambda number: 10.0 ** (number - 5),
        "network.widths": lambda number: [8 * (1 + number % 3)],
    }
    found = []
    for number in range(count):
        summary = {
            VALIDATION: Interval(mean=number / count, low=None, high=None, seeds=1),
            "sparsity[layer=0 epoch=3 split=positive]": Interval(
                mean=1 - number / count, low=None, high=None, seeds=1
            ),
        }
        cell = StudyCell(
            part="",
            params={field: value(number) for field, value in fields.items()},
            kind="train",
            spec_digest="0" * 64,
            job=f"job_{number:032x}",
            state="succeeded",
            summary=summary,
        )
        found.append(GridCell(cell))
    return found


def drawn(name: str, grid: StudyGrid) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(render(name, [grid], "json"))
    return found


def rows_of(name: str, grid: StudyGrid, field: str) -> list[dict[str, Any]]:
    return _rows(drawn(name, grid), field)


def _rows(document: dict[str, Any], field: str) -> list[dict[str, Any]]:
    return next(rows for rows in document["datasets"].values() if field in rows[0])


# Charts


def test_the_history_has_the_best_so_far() -> None:
    shuffled = [cells()[number] for number in (3, 1, 7, 2, 11, 0)]
    rows = rows_of("search_history", StudyGrid("", shuffled), "best")
    assert [round(row["value"] * 12) for row in rows] == [3, 1, 7, 2, 11, 0]
    assert [round(row["best"] * 12) for row in rows] == [3, 3, 7, 7, 11, 11]
    smallest = objective_of("accuracy", "minimize")
    rows = rows_of("search_history", StudyGrid("", shuffled, objective=smallest), "best")
    assert [round(row["best"] * 12) for row in rows] == [3, 1, 1, 1, 1, 0]


def test_the_history_of_unlike_parts_names_them() -> None:
    found = [
        cell._replace(found=cell.found.model_copy(update={"part": part}))
        for cell, part in zip(cells()[:4], ("one", "one", "other", "other"), strict=True)
    ]
    document = drawn("search_history", StudyGrid("", found))
    caption = " ".join(document["title"]["subtitle"])
    assert "of 2 parts of the study" in caption
    assert "compare within a part" in caption
    parts = [row["params"].partition(",")[0] for row in _rows(document, "best")]
    assert parts == ["one", "one", "other", "other"]
    alike = drawn("search_history", StudyGrid("", cells()[:4]))
    assert "parts" not in " ".join(alike["title"]["subtitle"])


def test_parallel_axes_place_numbers_in_proportion_on_their_scale() -> None:
    rows = rows_of("search_parallel", StudyGrid("", cells()), "trial")
    rates = sorted((row["trial"], row["place"]) for row in rows if row["axis"] == "optimizer.lr")
    assert [place for _, place in rates] == pytest.approx([number / 11 for number in range(12)])
    widths = {row["text"]: row["place"] for row in rows if row["axis"] == "network.widths"}
    assert sorted(widths.values()) == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("x", "y", "first"),
    [
        ("optimizer.lr", VALIDATION, (1e-5, 0.0)),
        ("network.widths", "sparsity[layer=0 split=positive]", ("8", 1.0)),
        ("trial", "optimizer.lr", (0, 1e-5)),
    ],
)
def test_any_column_is_drawn_over_any_other(x: str, y: str, first: tuple[Any, Any]) -> None:
    grid = StudyGrid("", cells(), x=x, y=y)
    assert {x, y} <= set(columns_of([cell.found for cell in grid.cells]))
    rows = rows_of("study_scatter", grid, "params")
    assert (rows[0]["x"], rows[0]["y"]) == first
    assert len(rows) == 12


def test_a_column_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(NothingToDraw, match=r"'epoch' is no column; there are trial, optimizer.lr"):
        render("study_scatter", [StudyGrid("", cells(), x="epoch")], "json")


def test_importance_says_how_it_was_obtained_and_needs_ten_trials() -> None:
    assert "search_importance" not in available([StudyGrid("", cells(9))])
    document = drawn("search_importance", StudyGrid("", cells(12)))
    caption = " ".join(document["usermeta"]["caption"])
    assert "PED-ANOVA" in caption
    assert "12 trials" in caption
    assert "fewer than 50" in caption


def test_a_search_has_no_heat_maps_of_its_drawn_values() -> None:
    grid = StudyGrid("", cells())
    assert "grid_sparsity" in available([grid])
    assert "grid_sparsity" not in available([grid._replace(is_search=True)])


def test_runs_without_an_accuracy_are_compared_by_what_is_chosen() -> None:
    bare = [
        GridCell(
            cell.found.model_copy(
                update={
                    "summary": {
                        key: one for key, one in cell.found.summary.items() if key != VALIDATION
                    }
                }
            )
        )
        for cell in cells()
    ]
    grid = StudyGrid("", bare)
    assert "search_history" not in available([grid])
    chosen = seen(grid, "sparsity[split=positive]", "minimize")
    assert {"search_history", "study_scatter"} <= set(available([chosen]))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (VALIDATION, "accuracy on validation samples"),
        ("sparsity[layer=1 split=positive]", "sparsity of positive samples in layer 1"),
        (
            "ratio[width=64 split=negative method=exact]",
            "ratio by exact of negative samples at n = 64",
        ),
        ("optimizer.lr", "optimizer.lr"),
    ],
)
def test_figures_are_said_in_words(column: str, words: str) -> None:
    assert in_words(column) == words


# REST, page and command line


@pytest.fixture
def ended(store: Store) -> str:
    """The id of a search of six trials, all of which have succeeded."""
    study = submit(store, search(trials=6), name="lr and width").id
    work_through(store, study)
    return study


def test_the_best_so_far_is_answered_while_a_search_runs(
    client: httpx.Client, store: Store
) -> None:
    study = submit(store, search()).id
    advance(store, study)
    empty = SearchReport.model_validate_json(client.get(f"/v1/jobs/{study}/search").content)
    assert empty.best is None
    assert [trial.state for trial in empty.trials] == ["unfinished"] * 3
    for job in queued(store, study):
        finish(store, job)
    advance(store, study)
    with Client(str(client.base_url)) as lab:
        found = lab.trials(study)
        assert lab.job(study).trials() == found
    widths = [trial.params["network.widths.0"] for trial in found.trials[:3]]
    assert found.best is not None
    assert found.best.params["network.widths.0"] == max(map(int, map(str, widths)))
    assert found.objective == VALIDATION
    smallest = client.get(f"/v1/jobs/{study}/search", params={"direction": "minimize"}).json()
    assert smallest["best"]["params"]["network.widths.0"] == min(map(int, map(str, widths)))


@pytest.mark.slow
def test_what_cannot_be_compared_is_said(client: httpx.Client, store: Store, ended: str) -> None:
    refused = client.get(f"/v1/jobs/{submit(store).id}/search")
    assert (refused.status_code, refused.json()["code"]) == (409, "no-trials")
    wrong = client.get(f"/v1/jobs/{ended}/search", params={"objective": "accuracy[spilt=x]"})
    assert wrong.status_code == 422
    assert "places are layer" in wrong.json()["detail"]


@pytest.mark.slow
def test_the_page_names_the_best_run_and_keeps_the_choice_in_its_address(
    client: httpx.Client, ended: str
) -> None:
    best = client.get(f"/v1/jobs/{ended}/search").json()["best"]
    page = client.get(f"/jobs/{ended}").text
    assert f"/jobs/{best['job']}" in page
    assert "is estimated where 10 runs or more have the objective; 6 have it" in page
    assert "chart/search_history.json" in page
    choice = {"x": "trial", "y": "optimizer.lr"}
    chosen = html.unescape(client.get(f"/jobs/{ended}", params=choice).text)
    assert 'chart/study_scatter.json?x=trial&y=optimizer.lr"' in chosen
    assert re.search(r'<option value="trial" selected>', chosen)
    address = re.search(r'data-chart="([^"]*study_scatter\.json[^"]*)"', chosen)
    assert address
    title = client.get(address[1]).json()["title"]["text"]
    assert title == "optimizer.lr over trial"


@pytest.mark.slow
def test_views_of_a_chart_have_validators_of_their_own(client: httpx.Client, ended: str) -> None:
    at = f"/v1/jobs/{ended}/chart/study_scatter.json"
    one, other = (client.get(at, params={"x": x}) for x in ("trial", "optimizer.lr"))
    assert one.content != other.content
    assert one.headers["etag"] != other.headers["etag"]
    same = client.get(at, params={"x": "trial"}, headers={"If-None-Match": one.headers["etag"]})
    assert same.status_code == 304


@pytest.mark.slow
def test_show_says_the_best_so_far(fflab: Fflab, ended: str, client: httpx.Client) -> None:
    best = client.get(f"/v1/jobs/{ended}/search").json()["best"]
    done = fflab("show", ended)
    line = next(line for line in done.out.splitlines() if line.startswith("best so far"))
    assert f"trial {best['number']}: accuracy on validation samples {best['value']:.4g}" in line


def test_a_search_is_submitted_listed_estimated_and_refused_at_its_field(
    client: httpx.Client,
) -> None:
    spec = {"kind": "study", "base": BASE, "search": {"space": SPACE, "trials": 7}}
    job = client.post("/v1/jobs", json={"spec": spec}).json()
    assert job["spec"]["search"]["trials"] == 7
    estimate = client.post("/v1/estimate", json={"spec": spec}).json()
    assert estimate["runs"] == 7
    assert estimate["least"]["flops"] < estimate["flops"]
    wrong = {**spec, "search": {"space": {"optimizer.rate": [1]}}}
    error = client.post("/v1/jobs", json={"spec": wrong}).json()["errors"][0]
    assert error["pointer"].startswith("/spec/search/space")
    wrong = {**spec, "search": {"space": {"optimizer.lr": {"low": 2, "high": 1}}}}
    error = client.post("/v1/jobs", json={"spec": wrong}).json()["errors"][0]
    assert error["pointer"].startswith("/spec/search/space/optimizer.lr")
    assert "below high" in error["message"]


@pytest.mark.slow
def test_a_search_runs_without_a_service_with_the_same_trials(
    fflab: Fflab, tmp_path: Path, store: Store
) -> None:
    base = {
        **BASE,
        "epochs": 1,
        "dataset": {"train_samples": 40, "validation_samples": 20, "test_samples": 20},
        "batch_size": 20,
        "monitor": {"samples": 20},
    }
    spec = {"kind": "study", "base": base, "search": {"space": SPACE, "trials": 3}}
    file, output = tmp_path / "search.json", tmp_path / "out.json"
    file.write_text(json.dumps(spec))
    done = fflab("run", str(file), "-o", str(output))
    assert done.code == 0, done.err
    assert "best: trial" in done.out
    here = [cell["params"] for cell in json.loads(output.read_text())["cells"]]
    study = submit(store, search(trials=3)).id
    advance(store, study)
    there = [dict((job.place or {})["params"]) for job, _ in store.jobs.children(study)]  # type: ignore[arg-type]
    assert here == there


@pytest.mark.parametrize("trials", [2, 3, 4, 30])
def test_an_axis_of_trials_has_whole_numbers_alone(trials: int) -> None:
    svg = render("search_history", [StudyGrid("", cells(trials))], "svg").decode()
    labels = re.findall(r'aria-label="(\d+)"', svg)  # those of the other axis have a point
    assert len(set(labels)) == len(labels) >= 2
    assert labels[0] == "0"
    if trials < 12:
        assert labels == list(map(str, range(trials)))


def test_parallel_axes_name_the_best_line_and_what_colours_mean() -> None:
    found = drawn("search_parallel", StudyGrid("", cells()))
    caption = " ".join(found["title"]["subtitle"])
    assert "The thick dashed line is trial 11, which has the largest: 0.9167." in caption
    assert "from blue (smallest) to orange (largest)" in caption
    [*_, legend] = [
        layer["encoding"]["color"]["legend"]
        for layer in found["layer"]
        if "color" in layer["encoding"]
    ]
    assert legend["titleLimit"] == 0  # not cut


def test_trials_that_tie_are_named() -> None:
    tied = [cells()[3], cells()[1], cells()[3], cells()[3]]
    found = compared([StudyGrid("", tied)])
    assert found is not None
    assert best_in_words(found)[0].endswith("Trials 2, 3 tie with it.")


def test_runs_that_succeeded_without_the_figure_did_not_fail() -> None:
    there = cells(6)
    told = [there[0], there[5]]
    for number, state in ((1, "succeeded"), (2, "succeeded"), (3, "failed"), (4, "cancelled")):
        bare = there[number].found.model_copy(update={"state": state, "summary": {}})
        told.append(GridCell(bare))
    grid = StudyGrid("", told)
    found = compared([grid])
    assert found is not None
    assert found.others == {"failed": 2, "succeeded": 2}
    assert best_in_words(found)[0].endswith(" 2 more succeeded without that figure.")
    view = view_models.trials_of_study([grid], ChartView())
    assert view is not None
    assert view.counted == "2 of 6 runs have this figure, 2 failed, 2 succeeded without it"
    caption = " ".join(drawn("search_history", grid)["title"]["subtitle"])
    assert "Without the objective: 2 failed, 2 succeeded." in caption
