"""What a browser does with what is served: a chart draws itself and can be saved, and nothing in it
acts for whoever looks at it.
"""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from benchmarks.waiting import PATIENCE_SECONDS
from ffengine.results import RunResult
from ffengine.spec import CheckSpec, NetworkSpec, RunSpec, TrainSpec
from service.store import Store
from tests.chromium import chromium
from tests.factories import finished
from tests.factories import submit as submit_to
from tests.hostile import SCRIPT, stored_once
from tests.over_http import submit
from tests.service.courses import training
from tests.service.samples import check_result

PATIENCE = 1000 * PATIENCE_SECONDS  # milliseconds
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser, client: httpx.Client) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=str(client.base_url))
    context.set_default_timeout(PATIENCE)
    yield context
    context.close()


def complaints_of(page: Page) -> list[str]:
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on(
        "console",
        lambda said: (
            found.append(said.text)
            if "Content Security Policy" in said.text or "sandbox" in said.text
            else None
        ),
    )
    return found


def test_a_chart_draws_itself_and_can_be_saved_but_acts_for_nobody(
    context: BrowserContext, client: httpx.Client, store: Store
) -> None:
    victim = submit(client, name="mine")
    job_id = stored_once(store, SCRIPT.replace("VICTIM", victim.id))
    for name in [line["name"] for line in client.get(f"/v1/jobs/{job_id}/charts").json()["items"]]:
        page = context.new_page()
        complaints = complaints_of(page)
        for _ in range(2):  # the second time it has not changed: 304, with the same policy
            page.goto(f"/v1/jobs/{job_id}/chart/{name}.html")
            expect(page.locator("#chart svg.marks")).to_be_visible()
        assert page.evaluate("origin") == "null"
        assert not complaints
        page.locator("#chart summary").click()
        with page.expect_download() as saved:
            page.get_by_role("link", name="Save as SVG").click()
        assert saved.value.path().read_text().startswith("<svg")
        assert (
            page.evaluate("fetch('/v1/jobs').then(answer => answer.status, () => 'refused')")
            == "refused"
        )
        page.close()
    assert client.get(f"/v1/jobs/{victim.id}").json()["name"] == "mine"


def test_a_chart_works_as_a_file_too(
    context: BrowserContext,
    client: httpx.Client,
    store: Store,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    job_id = stored_once(store, "second part")
    file = tmp_path_factory.mktemp("charts") / "chart.html"
    file.write_bytes(client.get(f"/v1/jobs/{job_id}/chart/grid_theorem1.html").content)
    context.set_offline(True)
    page = context.new_page()
    complaints = complaints_of(page)
    page.goto(file.as_uri())
    expect(page.locator("#chart svg.marks")).to_be_visible()
    assert not complaints


def test_the_report_shows_its_pictures_and_runs_nothing(
    context: BrowserContext, client: httpx.Client, store: Store
) -> None:
    job_id = stored_once(store, SCRIPT)
    page = context.new_page()
    complaints = complaints_of(page)
    page.goto(f"/v1/jobs/{job_id}/report.html")
    pictures = page.locator("figure img")
    assert pictures.count() > 0
    for number in range(pictures.count()):
        assert (
            pictures.nth(number).evaluate(
                "async image => { await image.decode(); return image.naturalWidth }"
            )
            > 0
        )
    assert page.evaluate("getComputedStyle(document.querySelector('figure')).borderRadius") == "8px"
    assert not complaints


def test_what_is_downloaded_arrives(context: BrowserContext, store: Store) -> None:
    job_id = stored_once(store, "a name")
    page = context.new_page()
    page.goto(f"/jobs/{job_id}")
    with page.expect_download() as saved:
        page.get_by_role("link", name="result.csv").click()
    assert saved.value.path().read_text().startswith("part,")
    page.goto(f"/v1/jobs/{job_id}/chart/grid_theorem1.svg")
    expect(page.locator("svg").first).to_be_visible()


@pytest.mark.slow
def test_every_answer_says_that_it_is_what_it_says_and_runs_nothing(
    client: httpx.Client, store: Store
) -> None:
    job_id = stored_once(store, "a name")
    routes = (
        "jobs",
        "catalog",
        "workers",
        "datasets",
        f"jobs/{job_id}/result",
        f"jobs/{job_id}/result.csv",
        f"jobs/{job_id}/log",
        "nothing",
    )
    answers = [client.get(f"/v1/{route}") for route in routes]
    answers += [
        client.get(f"/v1/jobs/{job_id}/{file}")
        for file in ("report.html", "chart/grid_theorem1.svg", "chart/nothing.png")
    ]
    answers += [
        client.post("/v1/jobs", content=b"{"),
        client.post("/v1/jobs", json={"x": "x" * 1_100_000}),
        client.put("/v1/jobs"),
    ]
    answers += [
        client.get(path)
        for path in ("/openapi.json", "/healthz", "/metrics", "/problems/invalid", "/nothing")
    ]
    known = client.get(f"/v1/jobs/{job_id}/report.html", headers={"If-None-Match": "*"})
    assert known.status_code == 304
    for answer in [*answers, known]:
        policy = answer.headers["content-security-policy"].split("; ")
        assert {"default-src 'none'", "sandbox"} <= set(policy), answer.url
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert {413, 404, 405} <= {answer.status_code for answer in answers}
    drawing = client.get(f"/v1/jobs/{job_id}/chart/grid_theorem1.html").headers[
        "content-security-policy"
    ]
    assert "sandbox allow-scripts allow-downloads" in drawing.split("; ")
    assert "allow-same-origin" not in drawing
    assert "sandbox" not in client.get("/").headers["content-security-policy"]


FIRST_SCREENS = ((1440, 900), (390, 844))


def first_screen_of(page: Page, store: Store, spec: RunSpec, result: RunResult) -> list[float]:
    """The lower ends of the answer's lines, then of the two charts, in CSS pixels."""
    job = submit_to(store, spec).id
    finished(store, job, result)
    page.goto(f"/jobs/{job}")
    charts = page.locator("#lead figure")
    for number in range(charts.count()):
        expect(charts.nth(number).locator("canvas")).to_be_visible()
    parts = [page.locator("#answer dl"), *(charts.nth(at) for at in range(charts.count()))]
    boxes = [part.bounding_box() for part in parts]
    return [box["y"] + box["height"] for box in boxes if box]


@pytest.mark.parametrize(("width", "height"), FIRST_SCREENS)
def test_what_was_found_is_read_without_scrolling(
    context: BrowserContext, store: Store, width: int, height: int
) -> None:
    page = context.new_page()
    page.set_viewport_size({"width": width, "height": height})
    course = training([(0.7, 0.47), (0.1, 0.40), (0.4, 0.37), (0.65, 0.46)])
    deep = course.model_copy(
        update={
            "curves": tuple(
                row.model_copy(update={"layer": layer})
                for layer in range(3)
                for row in course.curves
            )
        }
    )
    for spec, result in (
        (TrainSpec(epochs=3, seeds=(0, 1, 2)), course),
        (TrainSpec(epochs=3, seeds=(0, 1, 2), network=NetworkSpec(widths=(8, 8, 8))), deep),
        (CheckSpec(theorem=1, seeds=(0, 1, 2)), check_result()),
    ):
        answer, *charts = first_screen_of(page, store, spec, result)
        assert len(charts) == 2, spec.kind
        assert answer < height
        # beside each other both charts are there; above each other, on a phone, the first one is
        assert max(charts if width > 1_000 else charts[:1]) <= height, spec.kind


def test_long_names_without_spaces_are_wrapped_everywhere(
    context: BrowserContext, client: httpx.Client, store: Store
) -> None:
    long = {letter: 200 * letter for letter in "ntup"}
    job = submit(client, name=long["n"], tags=[long["t"], long["u"]], project=long["p"]).id
    other = submit(client, name=200 * "m", tags=[long["t"]]).id
    finished(store, job, training([(0.7, 0.47), (0.1, 0.40)]))
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    for path in (
        "/",
        f"/?project={long['p']}",
        f"/?name={200 * 'x'}",
        f"/jobs/{job}",
        f"/jobs/{other}",
        f"/compare?job={job}&job={other}",
        f"/new?like={job}",
        f"/datasets?name={200 * 'x'}",
        f"/v1/jobs/{job}/report.html",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") == 390, path
        wide = page.locator("td, th").evaluate_all(
            "cells => cells.filter(cell => cell.clientWidth > 400).length"
        )
        assert not wide, path
