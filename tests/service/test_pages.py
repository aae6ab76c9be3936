"""The pages as a browser gets them: what they say, what they refuse, what nobody can put into
them.
"""

import html
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import httpx
import pytest
import yaml
from PIL import Image
from pydantic import JsonValue
from sqlalchemy import update

from ffengine.findings import FINDINGS
from ffengine.optimizers import Adam
from ffengine.presets import PRESETS
from ffengine.results import Diagnostic, Split
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import resolved, written_out
from service.jobs import JobError, JobState, Progress
from service.store import NewJob, Store
from service.store.tables import JobRow
from service.web.auth import create_key
from service.web.dashboard.templating import NO_BREAK, evidence_in_words, together
from service.web.dashboard.view_models import name_of_copy, seconds_left
from service.web.dependencies import Resources
from tests.factories import HALF, LEASE, claimed, finished, read, submit
from tests.service.samples import epoch_row, train_result

ORDER = NewJob(spec=TrainSpec(epochs=2), fresh=True)
SPLITS: tuple[Split, ...] = ("positive", "negative")
PAGES = (
    "/",
    "/new",
    "/compare",
    "/workers",
    "/usage",
    "/audit",
    "/datasets",
    "/findings",
    "/catalog",
    "/docs",
    "/login",
)


def submitted(store: Store, **fields: object) -> str:
    return store.jobs.submit(ORDER.model_copy(update=fields), max_queued=100).job.id


@pytest.fixture(scope="module")
def status_of(hardy: httpx.Client) -> Callable[[str], int]:
    """The status of what there is at an address; each is asked for once."""
    return cache(lambda address: hardy.get(address).status_code)


@pytest.mark.slow
@pytest.mark.parametrize("path", PAGES)
def test_every_page_loads_nothing_from_elsewhere_and_no_inline_script(
    hardy: httpx.Client, status_of: Callable[[str], int], path: str
) -> None:
    answer = hardy.get(path)
    assert answer.status_code == 200, answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(
        r"(?:src|href)=\"(?!/|#)|<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", answer.text
    )
    for address in re.findall(r"(?:src|href)=\"(/[^\"#]*)\"", answer.text):
        assert status_of(address) == 200, address


def test_every_negative_strategy_has_its_picture(client: httpx.Client) -> None:
    text = client.get("/catalog").text
    for line in client.get("/v1/catalog").json()["negatives"]:
        assert f"/static/negatives-{line['name']}.png?v=" in text, (
            f"{line['name']} has no picture: python scripts/make_negatives.py"
        )


@pytest.mark.slow
def test_what_people_write_is_shown_as_text(client: httpx.Client, store: Store) -> None:
    job = submitted(store, name="<script>alert(1)</script>", tags=["<b>"])
    for path in (
        "/",
        f"/jobs/{job}",
        f"/new?like={job}",
        f"/compare?job={job}&job={submitted(store)}",
        "/?name=%3Cscript%3E",
    ):
        text = client.get(path).text
        assert "<script>alert" not in text
        assert "<b></a>" not in text


def test_jobs_are_found_by_a_part_of_their_name(client: httpx.Client, store: Store) -> None:
    wanted, other = submitted(store, name="Peer normalisation"), submitted(store, name="100% other")
    assert wanted in client.get("/?name=peer").text
    assert other not in client.get("/?name=peer").text
    assert other in client.get("/", params={"name": "0%"}).text
    assert wanted not in client.get("/", params={"name": "0%"}).text
    assert [job["id"] for job in client.get("/v1/jobs?search=PEER").json()["items"]] == [wanted]
    assert "No job fits the filter" in client.get("/?name=nothing").text


@pytest.mark.slow
def test_a_running_job_has_charts_of_its_rows_so_far(client: httpx.Client, store: Store) -> None:
    job = submitted(store)
    assert "Curves appear here" in client.get(f"/jobs/{job}").text
    _, attempt = claimed(store, store.jobs.get(job))
    rows = [epoch_row(epoch, split) for epoch in (0, 1) for split in SPLITS]
    store.queue.record(job, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    assert f'data-chart="/v1/jobs/{job}/chart/theorem2.json"' in client.get(f"/jobs/{job}").text
    chart = client.get(f"/v1/jobs/{job}/chart/theorem2.json").json()
    measured = [row for rows in chart["datasets"].values() for row in rows if "epoch" in row]
    assert sorted({row["epoch"] for row in measured}) == [0, 1]
    assert ">epoch~1: S+~0.500 S−~0.500 T2+~0.750 T2−~0.750</td>".replace("~", NO_BREAK) in (
        client.get("/").text
    )


def test_the_head_of_a_list_is_sent_before_its_rows(client: httpx.Client, store: Store) -> None:
    job = submitted(store, name="a row of the list")
    with client.stream("GET", "/", headers={"Accept-Encoding": "identity"}) as answer:
        head, *rest = answer.iter_raw()
    assert b"style.css" in head
    assert b"<h1>Jobs</h1>" in head
    assert job.encode() not in head
    assert job.encode() in b"".join(rest)
    whole = (head + b"".join(rest)).decode()
    assert whole.startswith("<!doctype html>")
    assert whole.endswith("</html>")
    assert "then -->" not in whole


def test_no_line_ends_between_a_name_and_its_number() -> None:
    for text in (
        "layer~3, epoch~1,200: S+~0.445 S−~−0.442 T2-~-0.1 accuracy~0.222",
        "n~=~128: T1~0.7500",
        "26~% [0,~100]~/~15~% [0,~52] of samples",
        "0.4~/~0.5 → 0.6".replace("→ ", "→~"),
        "seeds~0 1 2 3",  # a list may be long
    ):
        assert together(text.replace("~", " ")) == text.replace("~", NO_BREAK)
    assert evidence_in_words(0.09489423774022372) == "0.09489"
    assert evidence_in_words(2**60) == str(2**60)
    assert evidence_in_words(["a", None]) == '["a", null]'


def test_a_job_that_was_cancelled_in_the_queue_says_that_it_never_began(
    client: httpx.Client, store: Store
) -> None:
    job = submitted(store)
    client.post(f"/v1/jobs/{job}/cancel")
    assert "Stopped before it began." in client.get(f"/jobs/{job}").text


@pytest.mark.slow
def test_a_lost_page_speaks_to_people(client: httpx.Client) -> None:
    answer = client.get(f"/jobs/job_{32 * '0'}")
    assert answer.status_code == 404
    assert "may be mistyped" in answer.text
    assert "GET /v1/jobs" not in answer.text


@pytest.mark.slow
def test_a_study_shows_the_curves_of_the_run_that_is_computed(
    client: httpx.Client, store: Store
) -> None:
    study = StudySpec(base=TrainSpec(epochs=2), grid={"optimizer.lr": [0.1, 0.5], "seeds": [[3]]})
    job = submit(store, study)
    first, second = (run for run, _ in store.jobs.children(job.id))
    finished(store, first.id, train_result())
    run, attempt = claimed(store, second)
    rows = [epoch_row(epoch, split) for epoch in (0, 1) for split in SPLITS]
    store.queue.record(run, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    page = client.get(f"/jobs/{job.id}").text
    assert f'Run 2 of 2: <a href="/jobs/{run}">lr 0.5, seed 3</a>' in page
    drawn = re.findall('data-chart="/v1/jobs/(.*?)/chart/(.*?).json"', page)
    assert [chart for owner, chart in drawn if owner == run] == ["theorem2", "sparsity"]


def test_a_running_study_tells_how_long_it_goes_on_by_what_it_took(store: Store) -> None:
    job = read(store, submit(store, StudySpec(grid={"epochs": [1, 2]})).id)
    begun = datetime.now(UTC) - timedelta(seconds=60)
    running = {"state": JobState.running, "started_at": begun}
    progress = Progress(fraction=0.25, message="", eta_seconds=None)
    left = seconds_left(job.model_copy(update={**running, "progress": progress}))
    assert left == pytest.approx(180, abs=30)
    assert seconds_left(job) is None


@pytest.mark.slow
def test_a_finished_job_shows_figures_downloads_and_how_they_were_obtained(
    client: httpx.Client, store: Store
) -> None:
    job = submitted(store, name="done")
    finished(store, job, train_result(epochs=2))
    text = client.get(f"/jobs/{job}").text
    for word in (
        "Measured beside published",
        "Rise of S",
        "result.csv",
        "weights.safetensors",
        "data digest",
        "curl -s",
        "epochs: 2",
    ):
        assert word in text, word
    assert client.get(f"/compare/sparsity.json?job={job}&job={job}").status_code == 200
    assert client.get(f"/compare/nothing.json?job={job}").status_code == 404


@pytest.mark.slow
def test_verdicts_have_a_heading_and_a_legend_and_one_seed_has_none(
    client: httpx.Client, store: Store
) -> None:
    rows = [
        epoch_row(epoch, split, seed=seed, ratio=0.4 + 0.2 * seed)
        for seed in (0, 1)
        for epoch in (0, 1)
        for split in SPLITS
    ]
    several, one = submitted(store), submitted(store, spec=TrainSpec(seeds=(0, 1)))
    finished(store, several, train_result().model_copy(update={"curves": tuple(rows)}))
    finished(store, one, train_result())
    for job, verdict, legend in (
        (
            several,
            "open",
            "open: the interval includes the paper&#39;s figure, so these seeds do not decide.",
        ),
        (one, "one seed: no verdict", "one seed: no verdict: an interval needs two seeds or more."),
    ):
        page, report = (
            client.get(f"/jobs/{job}").text,
            client.get(f"/v1/jobs/{job}/report.html").text,
        )
        assert f">{verdict}</td>" in page
        assert f'<p class="legend">{legend}</p>' in page
        assert legend in report
        assert ">verdict</th>" in page
        assert ">verdict<" in report
        assert "holds the paper" not in page + report


@pytest.mark.slow
def test_a_page_and_its_report_open_with_what_was_found(client: httpx.Client, store: Store) -> None:
    course = {0: (0.7, 0.47), 1: (0.1, 0.40), 2: (0.69, 0.46)}
    rows = [
        epoch_row(epoch, split, seed=seed, ratio=ratio).model_copy(update={"sparsity": sparsity})
        for epoch, (ratio, sparsity) in course.items()
        for split in ("positive", "negative")
        for seed in (0, 1)
    ]  # type: ignore[arg-type]
    job = submitted(store)
    finished(store, job, train_result((0, 1)).model_copy(update={"curves": tuple(rows)}))
    page, report = client.get(f"/jobs/{job}").text, client.get(f"/v1/jobs/{job}/report.html").text
    page, report = (text.replace("\xa0", " ") for text in (page, report))
    for document in (page, report):
        answer = document.index(
            "0.470 / 0.470 → 0.400 / 0.400 (epoch 1) → 0.460 / 0.460 at epoch 2"
        )
        training = document.index("Training with pixels as they are, n = 500: S falls first")
        assert document.index("What was found") < answer < training
        assert training < document.index("Measured beside published")
        assert "From epoch 1 to 2 S rises from 0.400 / 0.400 to 0.460 / 0.460." in document
    assert page.index("What was found") < page.index("data-chart")


def test_what_is_not_there_is_said_on_a_page(client: httpx.Client) -> None:
    answer = client.get("/jobs/job_0")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such job" in answer.text
    for query in (
        "state=happy",
        "name=%00",
        "tag=a%00",
        "who=%00",
        "cursor=%00",
        f"name={'x' * 201}",
    ):
        assert client.get(f"/?{query}").status_code == 422
    assert client.get("/compare", params={"job": ["job_0"] * 13}).status_code == 422


@pytest.mark.parametrize(
    ("path", "page", "current"),
    [
        ("/", "/", "page"),
        ("/?state=running", "/", "page"),
        ("/jobs", "/", "page"),
        ("/jobs/", "/", "page"),
        ("/jobs/job_0", "/", "true"),
        ("/compare", "/", "true"),
        ("/workers", "/workers", "page"),
        ("/usage?by=device", "/workers", "true"),
        ("/audit", "/workers", "true"),
        ("/findings", "/findings", "page"),
    ],
)
def test_the_navigation_marks_the_page_that_one_is_on(
    hardy: httpx.Client, path: str, page: str, current: str
) -> None:
    text = hardy.get(path, follow_redirects=True).text
    marked = re.findall(r'<a href="([^"]*)" aria-current="([^"]*)"', text)
    assert marked == [(page, current)]


@pytest.mark.slow
def test_an_unknown_address_answers_browsers_with_a_page_and_programs_with_a_problem(
    client: httpx.Client,
) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/nowhere", "/jobs/a/b"):
        page = client.get(path, headers=browser)
        assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
        assert "There is nothing at this address." in page.text
        assert "Content-Security-Policy" in page.headers
        assert client.get(path).headers["content-type"] == "application/problem+json"
    for path in ("/v1/nowhere", "/v1/jobs/job_0"):
        answer = client.get(path, headers=browser)
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("code", ["diverged", "out_of_memory"])
def test_a_job_that_failed_says_once_why_and_how_far_it_came(
    client: httpx.Client, store: Store, code: str
) -> None:
    job, attempt = claimed(store, store.jobs.get(submitted(store)))
    progress = Progress(fraction=0.5, message="epoch 1 of 2", eta_seconds=None)
    store.queue.record(job, attempt, lease_seconds=LEASE, progress=progress)
    detail = "Values that are not finite."
    finding = Diagnostic(code=code, severity="error", message=detail, suggestion="Lower it.")
    error = JobError(code=code, title="Why it failed", detail=detail)
    store.queue.fail(job, attempt, error, (finding,))
    page = client.get(f"/jobs/{job}").text
    assert page.count(detail) == 1 + page.partition('id="log"')[2].count(detail)
    assert "Stopped at 50 %, epoch 1 of 2." in page
    assert (">Retry</button>" in page) == (code != "diverged")  # which it would again


def test_data_sets_are_searched_and_shown_on_pages(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/datasets?name=MNIST-mini").text.count('class="dataset"') == 1
    assert "No data set has nothing-like-it" in client.get("/datasets?name=nothing-like-it").text
    monkeypatch.setattr("service.web.dashboard.pages.DATASETS_SHOWN", 3)
    first, second = client.get("/datasets").text, client.get("/datasets?page=2").text
    assert first.count('class="dataset"') == second.count('class="dataset"') == 3
    assert 'href="/datasets?name=&amp;page=2">Next</a>' in first
    assert ">Previous</a>" in second
    assert set(re.findall('<h2 id="(.*?)"', first)).isdisjoint(re.findall('<h2 id="(.*?)"', second))
    assert client.get("/datasets?page=0").status_code == 422


@pytest.mark.parametrize(
    ("name", "copy"),
    [
        ("mine", "mine (2)"),
        ("mine (2)", "mine (3)"),
        ("f(x)", "f(x) (2)"),
        ("(2)", "(2) (2)"),
        ("x" * 200, "x" * 196 + " (2)"),
    ],
)
def test_a_clone_has_a_name_of_its_own(name: str, copy: str) -> None:
    assert name_of_copy(name) == copy


@pytest.mark.slow
def test_pages_link_to_the_documentation_where_its_address_is_known(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch, resources: Resources
) -> None:
    assert ">Documentation</a>" not in client.get("/findings").text
    known = resources.settings.model_copy(update={"docs_url": "https://docs.example.org/fflab"})
    monkeypatch.setattr(resources, "settings", known)
    page = client.get("/findings").text
    assert '<a href="https://docs.example.org/fflab">Documentation</a>' in page
    for name in FINDINGS:
        assert f'href="https://docs.example.org/fflab/findings/{name}.html"' in page


@pytest.mark.slow
def test_a_spec_becomes_a_file_and_comes_back(client: httpx.Client) -> None:
    whole = [
        TrainSpec(seeds=(2**53 + 1, 2**63 - 1), optimizer=Adam(lr=1e-7)),
        CheckSpec(step=1e-5),
        StudySpec(grid={"optimizer.lr": [1e-5, 1.0]}),
    ]
    for spec in (
        *whole,
        *(StudySpec(preset=name) for name in PRESETS),
        *(preset.spec for preset in PRESETS.values()),
    ):
        text = client.post("/spec.yaml", content=spec.model_dump_json()).text
        complete = written_out(spec).model_dump_json()
        for content in (
            text,
            complete,
            yaml.safe_dump({"spec": yaml.safe_load(text)}, sort_keys=False),
        ):
            assert client.post("/spec.json", content=content).text == complete
        assert client.post("/spec.yaml", content=complete).text == text
    wrong_value = '{"kind": "train", "epochs": "abc", "seeds": [9007199254740993]}'
    assert yaml.safe_load(client.post("/spec.yaml", content=wrong_value).text) == json.loads(
        wrong_value
    ), "as it stands"


@pytest.mark.parametrize(
    ("text", "status", "pointer"),
    [
        *(
            (text, 400, None)
            for text in (
                "a: [",
                "just words",
                "!!python/object/apply:os.system ['true']",
                "[" * 5_000,
            )
        ),
        ("kind: train\nepochs: abc", 422, "/spec/epochs"),
        ("kind: study\npreset: papre", 422, "/spec/preset"),
        ("spec: {kind: check, theorem: 3}", 422, "/spec/theorem"),
        (
            "kind: study\npreset: mpezeshki\nbase: {kind: train, dataset: {name: digits}}",
            422,
            "/spec/base/dataset",
        ),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_what_is_wrong(
    client: httpx.Client, text: str, status: int, pointer: str | None
) -> None:
    answer = client.post("/spec.json", content=text)
    assert (answer.status_code, answer.headers["content-type"]) == (
        status,
        "application/problem+json",
    )
    assert pointer is None or [one["pointer"] for one in answer.json()["errors"]] == [pointer]


def begun(client: httpx.Client, query: str) -> dict[str, Any]:
    """What the form begins with."""
    found = re.search(r'data-start="([^"]*)"', client.get(f"/new?{query}").text)
    assert found
    return dict(json.loads(html.unescape(found[1])))


@pytest.mark.slow
def test_the_form_says_in_full_what_the_chosen_preset_answers(client: httpx.Client) -> None:
    found = html.unescape(client.get("/new?preset=polar").text)
    assert f"<small>{PRESETS['polar'].meaning}</small>" in found
    assert "<small>" not in client.get("/new").text.partition("<fieldset")[0]


def test_the_form_begins_with_what_runs(client: httpx.Client, store: Store) -> None:
    for preset in client.get("/v1/presets").json()["items"]:
        assert json.dumps(begun(client, f"preset={preset['name']}")["spec"]) == json.dumps(
            preset["spec"]
        ), "also in its order"
    assert begun(client, "")["spec"] == TrainSpec().model_dump(mode="json")
    assert begun(client, "")["defaults"]["study"] == resolved(StudySpec()).model_dump(mode="json")
    grid: dict[str, list[JsonValue]] = {"seeds": [[2**63 - 1]], "batch_size": [50]}
    study = client.post(
        "/v1/jobs",
        json={"spec": {"kind": "study", "grid": grid}, "tags": ["b", "a, c"], "priority": "low"},
    ).json()
    clone = begun(client, f"like={study['id']}")
    assert (json.dumps(clone["spec"]), clone["tags"]) == (json.dumps(study["spec"]), ["b", "a, c"])
    assert "<option selected>low</option>" in client.get(f"/new?like={study['id']}").text
    job = submitted(store, name="to be checked")
    check = begun(client, f"weights={job}")["spec"]
    assert CheckSpec.model_validate(check).model_dump(mode="json") == check
    assert check["at"] == {"job": job, "epoch": 2, "layer": 0}


@pytest.mark.slow
def test_a_study_of_an_earlier_version_is_cloned_as_it_is_today(
    client: httpx.Client, store: Store
) -> None:
    job = client.post("/v1/jobs", json={"spec": {"kind": "study", "preset": "quick"}}).json()["id"]
    for preset, status in (("quick", 200), ("gone", 422)):
        with store.database.writing() as session:
            values = {"spec": {"kind": "study", "preset": preset}, "version": JobRow.version + 1}
            session.execute(update(JobRow).where(JobRow.id == job).values(**values))
        assert client.get(f"/v1/jobs/{job}").json()["spec"] == {"kind": "study", "preset": preset}
        assert client.get(f"/jobs/{job}").status_code == 200
        assert client.get(f"/new?like={job}").status_code == status
        if status == 200:
            found = begun(client, f"like={job}")
            assert "as it is today" in found["title"]
            assert found["spec"] == resolved(StudySpec(preset="quick")).model_dump(mode="json")


def test_a_data_set_is_shown_as_a_picture_of_its_samples(client: httpx.Client) -> None:
    picture = Image.open(io.BytesIO(client.get("/datasets/digits.png").content))
    assert f'width="{picture.width}" height="{picture.height}"' in client.get("/datasets").text
    assert client.get("/datasets/..%2Fdigits.png").status_code == 404
    assert (
        client.get("/datasets/cifar10.png").status_code == 404
    )  # not on this machine: nothing is fetched for a picture


class TestKeys:
    """Where keys are needed, people sign in with theirs."""

    def test_who_has_no_key_is_sent_to_sign_in_and_then_back(
        self, client: httpx.Client, store: Store
    ) -> None:
        key = create_key(store.api_keys, "ada")
        job = submitted(store, name="secret")
        asked = client.get(f"/jobs/{job}?a=1")
        assert asked.status_code == 303
        entrance = client.get(asked.headers["location"])
        assert entrance.status_code == 200
        assert "secret" not in entrance.text
        wrong = client.post("/login", data={"key": "fflab_wrong", "to": "/"})
        assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
        right = client.post("/login", data={"key": key.secret, "to": f"/jobs/{job}?a=1"})
        assert (right.status_code, right.headers["location"]) == (303, f"/jobs/{job}?a=1")
        assert {"HttpOnly", "SameSite=lax"} <= set(right.headers["set-cookie"].split("; "))
        assert (
            "secret" in client.get(f"/jobs/{job}").text
        )  # the client keeps the cookie, as browsers do
        assert client.get(f"/v1/jobs/{job}").status_code == 200
        store.api_keys.revoke("ada")

    @pytest.mark.parametrize("key", ["ß", "\U0001f511", "a; b", '"', "\x00", "any"])
    def test_while_no_key_is_needed_any_will_do_and_none_is_stored(
        self, client: httpx.Client, key: str
    ) -> None:
        response = client.post("/login", data={"key": key, "to": "/workers"})
        assert (response.status_code, response.headers["location"]) == (303, "/workers")
        assert "set-cookie" not in response.headers

    @pytest.mark.parametrize("key", ["ß", "\U0001f511", "a; b", '"', "\x00"])
    def test_a_key_that_no_header_can_hold_is_a_wrong_one(
        self, client: httpx.Client, store: Store, key: str
    ) -> None:
        create_key(store.api_keys, "ada")
        assert client.post("/login", data={"key": key, "to": "/"}).status_code == 401

    @pytest.mark.parametrize(
        "to",
        [
            "https://elsewhere.example",
            "//elsewhere.example",
            "/\\elsewhere.example",
            "javascript:alert(1)",
        ],
    )
    def test_nobody_is_sent_elsewhere(self, client: httpx.Client, store: Store, to: str) -> None:
        key = create_key(store.api_keys, "ada")
        assert client.post("/login", data={"key": key.secret, "to": to}).headers["location"] == "/"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "same-site"},
        *(
            {"Origin": origin}
            for origin in (
                "http://[::1",
                "http://]",
                "http://[x]",
                "//",
                "[",
                "http://\u2100".encode(),
                "",
                "http://a@[::1",
            )
        ),
    ],
)
def test_pages_of_other_sites_change_nothing(
    client: httpx.Client, resources: Resources, store: Store, headers: dict[str, str | bytes]
) -> None:
    job = submitted(store)
    refused = client.post(f"/v1/jobs/{job}/cancel", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "wrong-origin")
    found = store.jobs.get(job)
    assert found is not None
    assert found.state == JobState.queued
    assert client.post("/login", data={"key": "x"}, headers=headers).status_code == 403
    create_key(store.api_keys, "ada")  # a foreign page is refused before a key is looked for
    resources.authenticator.refresh()
    assert client.post("/v1/jobs", json={}, headers=headers).status_code == 403
    assert client.post("/spec.json", content="a: 1", headers=headers).status_code == 403
    store.api_keys.revoke("ada")


def test_pages_of_its_own_change_what_they_like(client: httpx.Client, store: Store) -> None:
    job = submitted(store)
    own = {"Origin": str(client.base_url).rstrip("/")}
    assert client.post(f"/v1/jobs/{job}/cancel", headers=own).status_code in (200, 202)


@pytest.mark.slow
def test_findings_are_listed_with_what_would_falsify_them_and_run_again(
    client: httpx.Client,
) -> None:
    page = html.unescape(client.get("/findings").text)
    for name, finding in FINDINGS.items():
        for text in (finding.question, finding.method, finding.falsified_by):
            assert text in page
        assert f'href="/new?preset={name}"' in page
        form = html.unescape(client.get(f"/new?preset={name}").text)
        assert f"the preset {name}" in form


def test_a_page_that_fails_is_a_page_that_says_so_and_leads_back(
    client: httpx.Client,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(store.jobs, "page", fail)
    monkeypatch.setattr("service.store.Jobs.page", fail)
    answer = client.get("/", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["connection"]) == (500, "close")
    assert answer.headers["content-type"].startswith("text/html")
    assert "logs/api.log" in answer.text
    assert "nobody foresaw this" not in answer.text
    assert '<a href="/">All jobs</a>' in answer.text
    assert "nobody foresaw this" in caplog.text
    assert client.get("/v1/jobs").json()["code"] == "unexpected"
