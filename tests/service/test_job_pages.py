"""Tables of jobs and of runs on the pages, and the forms that change jobs, without a script."""

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from benchmarks.waiting import wait_until
from service.jobs import Job, JobState
from service.store import Store
from service.web.dashboard import shown_results
from service.web.dependencies import Resources
from service.web.drawing.protocol import ChartView
from tests.factories import ERROR, LEASE, finished, read
from tests.over_http import submit, succeed
from tests.service.samples import train_result

STUDY = {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [1, 2, 3]}}


@pytest.fixture
def jobs(client: httpx.Client, store: Store) -> list[str]:
    """Three jobs, oldest first: succeeded, queued, cancelled."""
    made = [
        submit(client, {"kind": "train", "optimizer": {"name": "sgd", "lr": lr}}, name=name).id
        for name, lr in (("first", 0.5), ("second", 0.1), ("third", 0.02))
    ]
    succeed(store, made[0])
    client.post(f"/v1/jobs/{made[2]}/cancel")
    return made


def page(client: httpx.Client, address: str, **query: Any) -> str:
    answer = client.get(address, params=query or None)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def listed(text: str) -> list[str]:
    return re.findall(r'name="job" form="picked" value="(job_\w+)"', text)


def headings(text: str) -> list[str]:
    head = text.partition('<table class="jobs">')[2].partition("</thead>")[0]
    return re.findall(r"<th [^>]*>(?:<a [^>]*>)?([^<]+)", head)[1:]


def post(client: httpx.Client, action: str, **fields: Any) -> str:
    answer = client.post("/jobs/act", data={"action": action, **fields}, follow_redirects=False)
    assert answer.status_code == 200, answer.text
    return html.unescape(answer.text)


def states(client: httpx.Client, jobs: list[str]) -> list[str]:
    answers = [client.get(f"/v1/jobs/{job}") for job in jobs]
    return [one.json()["state"] if one.status_code == 200 else "gone" for one in answers]


def test_a_list_says_once_what_was_cancelled_before_it_began(
    client: httpx.Client, jobs: list[str]
) -> None:
    text = page(client, "/", state="cancelled")
    assert listed(text) == [jobs[2]]
    assert "never begun" in text
    assert "0 %" not in text


def test_columns_sorting_and_filters_are_in_the_address(
    client: httpx.Client, jobs: list[str]
) -> None:
    text = page(client, "/", columns=["lr", "T2+,T2-"], sort="lr", where="kind=train")
    assert listed(text) == [jobs[2], jobs[1], jobs[0]]
    assert headings(text) == ["lr", "T2+", "T2−"]
    explained = text.partition("What the columns mean")[2]  # for who has no pointer to rest on them
    assert all(f"<dt>{name}</dt><dd>" in explained for name in headings(text))
    assert '<td class="number">0.7500</td>' in text
    (turned,) = re.findall(r'aria-sort="ascending"><a href="([^"]+)"', text)
    assert parse_qs(urlsplit(turned).query) == {
        "columns": ["lr,T2+,T2-"],
        "sort": ["-lr"],
        "where": ["kind=train"],
    }
    assert listed(page(client, turned)) == jobs
    assert "<b>3 jobs</b>" in text
    assert listed(page(client, "/", state="queued")) == [jobs[1]]
    assert listed(page(client, "/", where="state=queued,cancelled", rows="50")) == jobs[:0:-1]


def test_totals_lead_to_the_jobs_of_a_state(client: httpx.Client, jobs: list[str]) -> None:
    text = page(client, "/", where="lr<0.2")
    links = dict(re.findall(r'<a href="([^"]+)">(1 \w+)</a>', text))
    assert sorted(links.values()) == ["1 cancelled", "1 queued"]
    for address, words in links.items():
        (job,) = listed(page(client, address))
        assert states(client, [job]) == [words.split()[1]]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"where": "lrr<1"}, "'lrr' is not a column; did you mean 'lr'?"),
        ({"sort": "T3+"}, "'T3+' is not a column; did you mean 'T2+'?"),
        ({"columns": "wdths"}, "'wdths' is not a column; did you mean 'widths'?"),
        ({"where": '<script>"'}, "'<script>\"' is not a column"),
    ],
)
def test_a_filter_that_is_not_understood_shows_no_list(
    client: httpx.Client, jobs: list[str], query: dict[str, str], said: str
) -> None:
    """Who selects all that match would change jobs that they did not ask for."""
    answer = client.get("/", params=query)
    assert listed(answer.text) == []
    assert "<script>" not in answer.text.partition("<main")[2]
    text = html.unescape(answer.text)
    assert said.split(";", maxsplit=1)[0].split(" is", maxsplit=1)[0] in text
    assert "The list is not shown" in text


@pytest.mark.slow
def test_a_list_that_is_sorted_has_pages(client: httpx.Client, jobs: list[str]) -> None:
    for number in range(60):
        submit(client, name=f"n {number:02}", fresh=True)
    text = page(client, "/", sort="name", where="n")
    first = listed(text)
    (following,) = re.findall(r'href="([^"]+)" rel="next"', text)
    second = listed(page(client, following))
    assert len(first) == 50
    assert not set(first) & set(second)
    assert len(first) + len(second) == 61, "one of the jobs of the fixture has an n in its name"
    assert len(listed(page(client, "/", rows="100"))) == 63


@pytest.mark.slow
def test_cancelling_is_asked_first_and_what_could_not_be_is_said(
    client: httpx.Client, jobs: list[str]
) -> None:
    text = post(client, "cancel", job=jobs, back="/?sort=lr")
    assert "<h1>Cancel 1 job?</h1>" in text
    assert f'name="jobs" value="{jobs[1]}"' in text
    assert "2 of the selected stay as they are, because their state does not allow it" in text
    assert states(client, jobs) == ["succeeded", "queued", "cancelled"], "nothing is done yet"
    text = post(client, "cancel", jobs=" ".join(jobs), confirmed="yes", back="/?sort=lr")
    assert "<h1>2 jobs cancelled, 1 could not be</h1>" in text
    assert f"{jobs[0]} is succeeded: it cannot be cancelled" in text
    assert 'href="/?sort=lr">Back to the list' in text
    assert states(client, jobs) == ["succeeded", "cancelled", "cancelled"]
    text = post(client, "cancel", job=jobs[0])
    assert "<h1>0 jobs cancelled, 1 could not be</h1>" in text, "there is nothing to ask"
    text = post(client, "retry", job=jobs[1:])
    assert "<h1>2 jobs queued again</h1>" in text
    assert states(client, jobs) == ["succeeded", "queued", "queued"]


@pytest.mark.slow
def test_all_that_match_are_found_on_the_server(client: httpx.Client, jobs: list[str]) -> None:
    text = post(client, "delete", all="yes", where="state=ended", job=jobs[1])
    assert "<h1>Delete 2 jobs?</h1>" in text
    (ids,) = re.findall(r'name="jobs" value="([^"]+)"', text)
    assert ids.split() == [jobs[2], jobs[0]]
    late = submit(client, name="late", fresh=True).id
    client.post(f"/v1/jobs/{late}/cancel")
    text = post(client, "delete", jobs=ids, confirmed="yes")
    assert "<h1>2 jobs deleted</h1>" in text
    assert states(client, [*jobs, late]) == ["gone", "queued", "gone", "cancelled"]
    text = post(client, "delete", jobs=ids, confirmed="yes")
    assert "0 jobs deleted, 2 could not be" in text
    assert "there is no such job any more" in text


@pytest.mark.slow
def test_tags_and_projects_are_given_to_many(client: httpx.Client, jobs: list[str]) -> None:
    assert "3 jobs tagged" in post(client, "tag", job=jobs, given_tag="talk")
    assert "1 job left without the tag" in post(client, "untag", job=jobs[:1], given_tag="talk")
    assert "2 jobs moved" in post(client, "move", job=jobs[:2], given_project="Paper")
    found = [client.get(f"/v1/jobs/{job}").json() for job in jobs]
    assert [job["tags"] for job in found] == [[], ["talk"], ["talk"]]
    assert [job["project"] for job in found] == ["Paper", "Paper", None]
    assert listed(page(client, "/", project="Paper")) == [jobs[1], jobs[0]]
    assert "1 job moved" in post(client, "move", job=jobs[:1])
    assert client.get(f"/v1/jobs/{jobs[0]}").json()["project"] is None
    assert "No tag is given" in post(client, "tag", job=jobs)
    text = post(client, "tag", job=jobs[:1], given_tag="x" * 201)
    assert "0 jobs tagged, 1 could not be" in text
    assert "at most 200 characters" in text


def test_a_comparison_is_of_two_to_twelve(client: httpx.Client, jobs: list[str]) -> None:
    answer = client.post(
        "/jobs/act", data={"action": "compare", "job": jobs}, follow_redirects=False
    )
    assert answer.status_code == 303
    assert answer.headers["location"] == "/compare?" + "&".join(f"job={job}" for job in jobs)
    assert "2 to 12 jobs can be compared, not 1" in post(client, "compare", job=jobs[:1])
    assert "No job is selected" in post(client, "compare")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"action": "explode", "job": "job_" + "0" * 32}, "is not one of the buttons"),
        ({"action": "cancel", "joob": "x"}, "is not a known field"),
        ({"action": "cancel", "all": "yes", "where": "lrr<1"}, "'lrr' is not a column"),
        ({"action": "cancel", "all": "yes", "where": "a\x00"}, "has a NUL character"),
    ],
)
def test_forms_that_no_page_sends_are_refused(
    client: httpx.Client, fields: dict[str, str], said: str
) -> None:
    answer = client.post("/jobs/act", data=fields)
    assert answer.status_code == 422
    assert said in html.unescape(answer.text)


@pytest.mark.slow
def test_pages_of_other_sites_change_nothing(client: httpx.Client, jobs: list[str]) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    for path, fields in (
        ("/jobs/act", {"action": "cancel", "jobs": jobs[1], "confirmed": "yes"}),
        (f"/jobs/{jobs[1]}/edit", {"name": "stolen"}),
    ):
        assert client.post(path, data=fields, headers=elsewhere).status_code == 403
    job = client.get(f"/v1/jobs/{jobs[1]}").json()
    assert (job["state"], job["name"]) == ("queued", "second")


@pytest.mark.slow
def test_nobody_is_sent_elsewhere(client: httpx.Client, jobs: list[str]) -> None:
    for back in ("//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example"):
        text = post(client, "retry", job=jobs[2], back=back)
        assert 'href="/">Back to the list' in text


@pytest.mark.slow
def test_a_job_is_edited_on_its_page(client: httpx.Client, jobs: list[str]) -> None:
    hostile = "<script>alert(1)</script>\r\n</textarea>& \"'"
    fields = {"name": "renamed", "tags": "a, b,, a", "project": "Paper", "note": hostile}
    answer = client.post(
        f"/jobs/{jobs[1]}/edit",
        data={**fields, "priority": "high", "pinned": "on"},
        follow_redirects=False,
    )
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{jobs[1]}")
    job = client.get(f"/v1/jobs/{jobs[1]}").json()
    expected = {"name": "renamed", "tags": ["a", "b"], "project": "Paper", "pinned": True}
    expected |= {"note": hostile.replace("\r\n", "\n"), "priority": "high"}
    assert {name: job[name] for name in expected} == expected
    text = client.get(f"/jobs/{jobs[1]}").text
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;\n&lt;/textarea&gt;") == 2
    client.post(f"/jobs/{jobs[1]}/edit", data={"name": "", "tags": "", "priority": "low"})
    job = client.get(f"/v1/jobs/{jobs[1]}").json()
    assert (job["name"], job["tags"], job["project"]) == (None, [], None)
    assert (job["note"], job["pinned"], job["priority"]) == (None, False, "low")


def test_what_a_job_needs_is_edited_on_its_page(client: httpx.Client) -> None:
    job = submit(client, name="a", needs={"device": "cuda", "tags": ["a100"]}).id
    client.post(f"/jobs/{job}/edit", data={"name": "b"})

    def needs() -> Any:
        return client.get(f"/v1/jobs/{job}").json()["needs"]

    assert needs() == {"device": "cuda", "memory_gb": None, "tags": ["a100"]}, "left as they were"
    text = client.get(f"/jobs/{job}").text
    assert "<option selected>cuda</option>" in text
    assert 'name="need_tags" value="a100"' in text
    asked = {"need_device": "cpu", "need_memory": "2.5", "need_tags": "80g, A100"}
    client.post(f"/jobs/{job}/edit", data={"name": "b", **asked})
    assert needs() == {"device": "cpu", "memory_gb": 2.5, "tags": ["80g", "a100"]}
    before = client.get(f"/v1/jobs/{job}").json()
    same = {"need_device": "cpu", "need_memory": "2.5", "need_tags": "80g, a100"}
    client.post(f"/jobs/{job}/edit", data={"name": "b", **same})
    assert client.get(f"/v1/jobs/{job}").json() == before
    empty = dict.fromkeys(asked, "")
    client.post(f"/jobs/{job}/edit", data={"name": "b", **empty})
    assert needs() is None


def test_an_edit_changes_what_was_changed(client: httpx.Client) -> None:
    job = submit(client, name="a", tags=["one, two", "three"]).id
    before = client.get(f"/v1/jobs/{job}").json()
    same = {"name": "a", "tags": "one, two, three", "priority": "normal", "note": "n"}
    client.post(f"/jobs/{job}/edit", data=same)
    after = client.get(f"/v1/jobs/{job}").json()
    assert after == {**before, "note": "n"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"note": "x" * 10_001}, "at most 10000 characters"),
        ({"note": "\u202e"}, "cannot be seen"),
        ({"name": "x" * 201}, "at most 200 characters"),
        ({"priority": "urgent"}, "priority"),
        ({"state": "succeeded"}, "is not a known field"),
        ({"need_memory": "much"}, "is no number of GB"),
        ({"need_memory": "-1"}, "memory_gb"),
        ({"need_device": "tpu"}, "cuda"),
        ({"need_tags": "a b"}, "is not a tag of a worker"),
    ],
)
def test_an_edit_that_cannot_be_is_refused(
    client: httpx.Client, jobs: list[str], fields: dict[str, str], said: str
) -> None:
    answer = client.post(f"/jobs/{jobs[1]}/edit", data={"name": "second", **fields})
    assert answer.status_code == 422
    assert said in html.unescape(answer.text)
    assert client.get(f"/v1/jobs/{jobs[1]}").json()["name"] == "second"


def hidden(form: str) -> dict[str, str]:
    """The hidden fields of the first form of a text."""
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form.partition("</form>")[0])
    return {name: html.unescape(value) for name, value in found}


@pytest.mark.slow
def test_a_study_has_a_table_of_its_runs_with_the_best(client: httpx.Client, store: Store) -> None:
    study = submit(client, STUDY, name="many").id
    runs = client.get("/v1/jobs", params={"parent": study, "sort": "run"}).json()["items"]
    succeed(store, runs[1]["id"])
    text = page(client, f"/jobs/{study}")
    ids = [run["id"] for run in runs]
    assert listed(text) == ids, "in the order of the study"
    assert headings(text)[0] == "epochs", "the field that varies comes first"
    assert "<b>3 runs</b>" in text
    assert "weights are of one network: they are on the page of each training run" in text
    text = page(client, f"/jobs/{study}/runs", sort="-T2+")
    assert listed(text)[0] == ids[1]
    assert re.search(rf'Best run by T2\+: <a href="/jobs/{ids[1]}">epochs 2</a>, <b>0.7500', text)
    text = page(client, f"/jobs/{study}/runs", where="epochs>1 state=queued", rows="100")
    assert listed(text) == [ids[2]]
    _, _, best = text.partition('class="filters best-form"')
    assert hidden(best) == {"where": "epochs>1 state=queued", "rows": "100"}, "the filter stays"
    assert listed(page(client, f"/jobs/{study}/runs", sort="-epochs")) == ids[::-1]
    text = post(client, "cancel", all="yes", parent=study, where="epochs>1")
    assert "<h1>Cancel 1 job?</h1>" in text, "the other one has succeeded"
    assert client.get(f"/jobs/{ids[0]}/runs").status_code == 404
    assert client.get("/jobs/job_0/runs").status_code == 404


@pytest.mark.slow
def test_a_long_study_has_pages_of_runs(client: httpx.Client) -> None:
    grid = {"epochs": list(range(1, 71))}
    study = submit(client, {"kind": "study", "base": {"kind": "train"}, "grid": grid}).id
    text = page(client, f"/jobs/{study}")
    assert len(listed(text)) == 50
    assert "All 70 runs" in text
    text = page(client, f"/jobs/{study}/runs")
    (following,) = re.findall(r'href="([^"]+)" rel="next"', text)
    assert len(listed(page(client, following))) == 20


def test_the_form_of_a_job_knows_projects(client: httpx.Client) -> None:
    job = submit(client, project="Paper").id
    text = page(client, "/new", like=job)
    assert 'name="project" maxlength="200" list="projects" value="Paper"' in text
    assert '<option value="Paper">' in text


@pytest.mark.slow
def test_runs_of_studies_are_found_where_they_are_asked_for(
    client: httpx.Client, store: Store, jobs: list[str]
) -> None:
    study = submit(client, STUDY, project="thesis").id
    runs = [item["id"] for item in client.get(f"/v1/jobs?parent={study}").json()["items"]]
    text = page(client, "/", where="epochs=2")
    assert listed(text) == []
    assert "No job fits the filter" in text
    (address,) = re.findall(r'<a href="([^"]+)">1 fits the filter, too</a>', text)
    assert parse_qs(urlsplit(address).query) == {"where": ["epochs=2"], "runs": ["yes"]}
    assert listed(page(client, address)) == [runs[1]]
    text = page(client, "/", where="project=thesis")
    assert listed(text) == [study]
    assert "3 fit the filter, too" in text
    again = client.get("/?where=project=thesis", headers={"Fflab-Refresh": "yes"}).text
    assert listed(again) == [study]
    assert "the filter, too" not in again, "an open page shows it, and outside of what is renewed"
    assert text.index("the filter, too") < text.index("data-live")
    found = page(client, "/", where="project=thesis", runs="yes")
    assert set(listed(found)) == {study, *runs}
    assert "<b>4 jobs and runs</b>" in found
    assert "the filter, too" not in page(client, "/"), "without a filter nothing is missed"


def test_a_study_says_which_of_its_runs_did_not_succeed(client: httpx.Client, store: Store) -> None:
    study = submit(client, STUDY).id
    first, second, third = (job.id for job, _ in store.jobs.children(study))
    finished(store, first, train_result())
    claim = store.queue.claim(second, "w", LEASE)
    assert claim is not None
    store.queue.fail(second, claim.attempt, ERROR)
    finished(store, third, train_result())
    wait_until(
        lambda: read(store, study).state == JobState.succeeded or None, "the study has ended"
    )
    text = page(client, f"/jobs/{study}")
    assert "Not all runs succeeded:" in text
    assert f'<a href="/jobs/{study}/runs?state=failed">1 failed</a>' in text
    assert "2 of 3 runs succeeded" in page(client, "/")
    other = submit(client, {**STUDY, "grid": {"epochs": [4, 5]}}).id
    for run, _ in store.jobs.children(other):
        finished(store, run.id, train_result())
    wait_until(
        lambda: read(store, other).state == JobState.succeeded or None, "the study has ended"
    )
    assert "Not all runs succeeded" not in page(client, f"/jobs/{other}")


def test_a_filter_on_figures_says_that_a_study_is_found_by_its_runs(
    client: httpx.Client, store: Store
) -> None:
    study = submit(client, STUDY).id
    text = page(client, "/", where="T2+>0.5 S->0.1")
    assert "T2+, S−: a study has no such figure of its own, its runs have." in text
    assert "No run of a study fits the filter." in text
    run = next(job for job, _ in store.jobs.children(study))
    finished(store, run.id, train_result())
    store.jobs.refresh_figures()
    text = page(client, "/", where="T2+>0.5")
    (address,) = re.findall(r'<a href="([^"]+)">1 fits the filter, too</a>', text)
    text = page(client, address)
    assert listed(text) == [run.id]
    assert "a study has no such figure" not in text
    assert "a study has no such figure" not in page(client, "/", where="epochs=2")


@pytest.mark.slow
def test_all_that_match_are_those_that_are_listed(client: httpx.Client, jobs: list[str]) -> None:
    study = submit(client, STUDY, tags=["mine"]).id
    runs = [item["id"] for item in client.get(f"/v1/jobs?parent={study}").json()["items"]]
    chosen = {"all": "yes", "where": "epochs>=2", "state": "queued", "confirmed": "yes"}
    post(client, "cancel", **chosen, kind="train")
    assert states(client, runs) == ["queued"] * 3
    post(client, "cancel", **chosen, runs="yes")
    assert set(states(client, runs[:2])) == {"cancelled"}
    assert states(client, runs[2:]) == ["queued"]


def test_projects_are_offered_with_the_number_of_their_jobs(client: httpx.Client) -> None:
    for project in ("thesis", "thesis", "paper & more"):
        submit(client, project=project, fresh=True)
    text = page(client, "/", project="thesis")
    assert '<option value="thesis" selected>thesis (2)</option>' in text
    assert '<option value="paper & more">paper & more (1)</option>' in text
    assert "<option selected>gone</option>" in page(client, "/", project="gone")


@pytest.mark.slow
def test_a_study_that_has_ended_is_read_once_and_shown_as_it_is(
    client: httpx.Client, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = submit(client, STUDY, name="first").id
    runs = client.get("/v1/jobs", params={"parent": study, "sort": "run"}).json()["items"]
    for run in runs:
        page(client, f"/jobs/{study}")  # what is not over is never kept
        succeed(store, run["id"])
    while store.studies.advance(study):
        pass
    assert client.get(f"/v1/jobs/{study}").json()["state"] == "succeeded"

    def answer() -> str:
        text = page(client, f"/jobs/{study}").partition('<div id="answer"')[2]
        return text.partition('<div id="lead"')[0]

    first = answer()
    assert "What was found" in first
    read: list[str] = []
    real = shown_results._read

    def noted(resources: Resources, job: Job, view: ChartView) -> shown_results.Shown:
        read.append(job.id)
        return real(resources, job, view)

    monkeypatch.setattr(shown_results, "_read", noted)
    assert answer() == first
    assert read == []
    client.patch(f"/v1/jobs/{study}", json={"name": "second"})
    assert "<h1>second</h1>" in page(client, f"/jobs/{study}")
    assert read == [study], "sentences may name the study"
    page(client, f"/jobs/{study}", objective="T2+")
    assert read == [study, study], "another view is another page"
