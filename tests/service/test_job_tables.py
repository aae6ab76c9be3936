"""Lists of jobs as tables: filters, orders, columns, projects and notes over HTTP, by clients, and
by command.
"""

import asyncio
import json

import httpx
import pytest

from service.client import AsyncClient, Client, Refused
from service.store import Store, job_cache
from tests.commands import Fflab
from tests.factories import submit as made
from tests.over_http import refused, submit, succeed


def train(lr: float, *widths: int) -> dict[str, object]:
    optimizer = {"name": "sgd", "lr": lr}
    return {"kind": "train", "epochs": 2, "optimizer": optimizer, "network": {"widths": widths}}


@pytest.fixture
def jobs(client: httpx.Client, store: Store) -> list[str]:
    """Four jobs, oldest first: done, queued, cancelled, queued."""
    ids = [
        submit(client, train(0.5, 64), name="a", project="paper").id,
        submit(client, train(0.1, 256), name="b", project="paper", note="two\r\nlines").id,
        submit(client, train(0.01, 256, 32), name="c", tags=["x"]).id,
        submit(client, {"kind": "check", "widths": [64]}).id,
    ]
    succeed(store, ids[0])
    client.post(f"/v1/jobs/{ids[2]}/cancel")
    return ids


def listed(client: httpx.Client, **query: str) -> list[str]:
    response = client.get("/v1/jobs", params=query)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


@pytest.mark.slow
def test_a_list_is_filtered_and_sorted(client: httpx.Client, jobs: list[str]) -> None:
    assert listed(client, where="widths>=256 lr<0.1") == [jobs[2]]
    assert listed(client, where="T2+>0.5") == [jobs[0]]
    assert listed(client, where="state=active kind=train") == [jobs[1]]
    assert listed(client, project="paper") == [jobs[1], jobs[0]]
    assert listed(client, sort="lr") == [jobs[2], jobs[1], jobs[0], jobs[3]]
    assert listed(client, sort="-lr") == [jobs[0], jobs[1], jobs[2], jobs[3]]
    assert listed(client, sort="-widths", where="kind=train") == [jobs[2], jobs[1], jobs[0]]
    assert listed(client, sort="state")[:2] == [jobs[3], jobs[1]]


def test_the_pages_of_a_sorted_list_are_one_list(client: httpx.Client, jobs: list[str]) -> None:
    response = client.get("/v1/jobs", params={"sort": "lr", "limit": 1, "columns": "lr"})
    found = [(response.json()["items"][0]["id"], response.json()["values"][0]["lr"])]
    while "next" in response.links:
        response = client.get(response.links["next"]["url"])
        found.append((response.json()["items"][0]["id"], response.json()["values"][0]["lr"]))
    assert found == [(jobs[2], 0.01), (jobs[1], 0.1), (jobs[0], 0.5), (jobs[3], None)]
    gone = {"sort": "lr", "cursor": "job_" + "0" * 32}
    refused(client.get("/v1/jobs", params=gone), 400, "bad-cursor")


def test_totals_are_by_state(client: httpx.Client, jobs: list[str]) -> None:
    page = client.get("/v1/jobs?total=true&limit=1").json()
    assert page["total"] == 4
    assert page["states"] == {"queued": 2, "succeeded": 1, "cancelled": 1}
    page = client.get("/v1/jobs", params={"total": "true", "where": "lr<0.2", "fields": "id"})
    assert page.json()["states"] == {"queued": 1, "cancelled": 1}
    assert client.get("/v1/jobs").json()["states"] is None


@pytest.mark.slow
def test_values_of_columns_are_sent_beside_the_jobs(client: httpx.Client, jobs: list[str]) -> None:
    query = {"columns": "widths,T2\u2212,tag,project,bias,duration", "fields": "id", "limit": 2}
    page = client.get("/v1/jobs", params={**query, "sort": "lr"}).json()
    names = ["widths", "T2-", "tag", "project", "network.bias", "duration"]
    assert [list(values.items()) for values in page["values"]] == [
        list(zip(names, ([256, 32], None, ["x"], None, False, None), strict=True)),
        list(zip(names, ([256], None, [], "paper", False, None), strict=True)),
    ]
    (done,) = client.get("/v1/jobs", params={"where": "state=done", "columns": "T2+"}).json()[
        "values"
    ]
    assert done == {"T2+": 0.75}


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("where", "lr<", "at 'lr<', character 1: no value stands after 'lr<'; write one, as in"),
        ("where", "wdth>3", "at 'wdth>3', character 1: 'wdth' is not a column; did you mean"),
        ("where", "T2 >0.5", "in an address, + is written %2B"),
        ("sort", "lrr", "'lrr' is not a column; did you mean 'lr'?"),
        ("columns", "lr,T3+", "'T3+' is not a column; did you mean 'T2+'?"),
        ("where", "x" * 1001, "should have 1 to 1000 characters, got 1001"),
        ("where", "a\x00b", "which no name has"),
    ],
)
def test_what_is_wrong_is_said(
    client: httpx.Client, parameter: str, value: str, message: str
) -> None:
    problem = refused(client.get("/v1/jobs", params={parameter: value}), 422, "invalid")
    assert problem.errors[0].pointer == f"query/{parameter}"
    assert message in problem.errors[0].message


def test_hostile_filters_are_values_and_nothing_else(client: httpx.Client, jobs: list[str]) -> None:
    for where in ('name="\' OR 1=1 --"', 'tag="x\') --"', 'note~"%"', 'project="$.a"'):
        assert listed(client, where=where) == [], where


@pytest.mark.slow
def test_a_project_and_a_note_are_given_and_changed(client: httpx.Client, jobs: list[str]) -> None:
    job = client.get(f"/v1/jobs/{jobs[1]}").json()
    assert (job["project"], job["note"]) == ("paper", "two\nlines")
    changed = client.patch(f"/v1/jobs/{jobs[1]}", json={"project": "thesis", "note": "  "}).json()
    assert (changed["project"], changed["note"]) == ("thesis", None)
    changed = client.patch(f"/v1/jobs/{jobs[1]}", json={"project": None}).json()
    assert changed["project"] is None
    for body in ({"note": "x" * 10_001}, {"note": "\x1b[2J"}, {"project": ""}, {"project": 3}):
        problem = refused(client.patch(f"/v1/jobs/{jobs[1]}", json=body), 422, "invalid")
        assert problem.errors[0].pointer == f"/{next(iter(body))}"


def test_runs_share_the_project_of_their_study_and_not_its_note(client: httpx.Client) -> None:
    study = {"kind": "study", "base": {"kind": "train"}, "grid": {"epochs": [1, 2]}}
    job = submit(client, study, project="paper", note="for the talk")
    client.patch(f"/v1/jobs/{job.id}", json={"project": "thesis", "note": "for the paper"})
    runs = client.get("/v1/jobs", params={"parent": job.id, "sort": "run"}).json()["items"]
    assert [(run["project"], run["note"], run["cell"]) for run in runs] == [
        ("thesis", None, 0),
        ("thesis", None, 1),
    ]


@pytest.mark.slow
def test_clients_read_tables(client: httpx.Client, jobs: list[str]) -> None:
    url = str(client.base_url)
    with Client(url) as fflab:
        found = [job.name for job in fflab.jobs(where="kind=train", sort="-lr", limit=1)]
        assert found == ["a", "b", "c"]
        rows = list(fflab.job_table(["name", "lr"], where="kind=train", sort="lr", limit=2))
        assert rows[0] == {"id": jobs[2], "name": "c", "lr": 0.01}
        assert len(rows) == 3
        assert fflab.count_jobs(where="project=paper") == 2
        job = fflab.submit({"kind": "train", "epochs": 3}, project="thesis", note="a")
        assert (job.job.project, job.job.note) == ("thesis", "a")
        assert fflab.change(job.id, {"project": None}).project is None
        with pytest.raises(Refused, match="is not a column"):
            list(fflab.job_table(["lrr"]))

    async def read() -> list[dict[str, object]]:
        async with AsyncClient(url) as fflab:
            table = fflab.job_table(["lr"], where="kind=train", sort="lr", limit=2)
            return [row async for row in table]

    assert [row["lr"] for row in asyncio.run(read())] == [0.01, 0.1, 0.5, 1.0]


@pytest.mark.slow
def test_the_command_filters_sorts_and_shows_columns(fflab: Fflab, jobs: list[str]) -> None:
    found = fflab("jobs", "--where", "kind=train", "--sort", "-lr", "--columns", "name,lr,T2+")
    assert found.lines == [
        "id\tname\tlr\tT2+",
        f"{jobs[0]}\ta\t0.5\t0.7500",
        f"{jobs[1]}\tb\t0.1\t",
        f"{jobs[2]}\tc\t0.01\t",
    ]
    assert fflab("jobs", "--where", "project=paper", "--count").out == "2\n"
    assert fflab("jobs", "--project", "paper", "--count").out == "2\n"
    rows = json.loads(fflab("jobs", "--columns", "widths", "--limit", "1", "--json").out)
    assert rows == [{"id": jobs[3], "widths": [64]}]
    wrong = fflab("jobs", "--where", "wdth>3")
    assert wrong.code != 0
    assert "'wdth' is not a column; did you mean 'widths'?" in wrong.err


@pytest.mark.slow
def test_the_command_gives_and_changes_project_and_note(
    fflab: Fflab, client: httpx.Client, jobs: list[str]
) -> None:
    made = fflab("submit", "quick", "--project", "thesis", "--note", "look again").out.strip()
    assert client.get(f"/v1/jobs/{made}").json()["note"] == "look again"
    shown = fflab("change", jobs[1], "--project", "talk", "--note", "first\nsecond")
    assert "project      talk" in shown.lines
    assert "note         first" in shown.lines
    assert "             second" in shown.lines
    changed = client.get(f"/v1/jobs/{jobs[1]}").json()
    assert (changed["project"], changed["note"]) == ("talk", "first\nsecond")
    fflab("change", jobs[1], "--project", "", "--note", "")
    changed = client.get(f"/v1/jobs/{jobs[1]}").json()
    assert (changed["project"], changed["note"]) == (None, None)


@pytest.mark.slow
def test_runs_of_studies_are_listed_where_they_are_asked_for(
    client: httpx.Client, jobs: list[str], fflab: Fflab
) -> None:
    grid = {"network.widths": [[64], [512]]}
    study = submit(client, {"kind": "study", "base": train(0.1, 8), "grid": grid}, name="wide").id
    narrow, wide = sorted(listed(client, parent=study))
    assert listed(client, where="widths>=512") == []
    assert listed(client, where="widths>=512", parent="any") == [wide]
    assert listed(client, where="widths>=256", children="true") == [wide, jobs[2], jobs[1]]
    assert listed(client, parent="any") == [wide, narrow]
    assert listed(client, parent="anybody") == []

    def names(*arguments: str) -> list[str]:
        found = fflab("jobs", "--where", "widths>=64", *arguments)
        assert found.code == 0, found.err
        return [line.split("\t")[4] for line in found.lines[1:]]

    assert names("--parent", "any", "--sort", "widths") == ["wide / widths 64", "wide / widths 512"]
    assert names("--parent", "wide") == ["wide / widths 64", "wide / widths 512"], "in their order"
    assert len(names("--runs")) == 6 == 2 + len(names())
    assert fflab("jobs", "--count", "--parent", study[-8:]).out == "2\n"
    both = fflab("jobs", "--runs", "--parent", "any")
    assert (both.code, both.err.count("\n")) == (2, 1)
    assert fflab("jobs", "--parent", "nobody").code == 4
    found = fflab("jobs", "--columns", "id,widths", "--parent", "wide", "--sort", "-widths")
    assert found.lines == ["id\twidths", f"{wide}\t512", f"{narrow}\t64"]


@pytest.mark.slow
def test_projects_are_listed(client: httpx.Client, jobs: list[str], fflab: Fflab) -> None:
    study = {"kind": "study", "base": train(0.1, 8), "grid": {"epochs": [1, 2]}}
    submit(client, study, project="thesis")
    listed = client.get("/v1/projects").json()["items"]
    counts = [(one["name"], one["jobs"], one["unfinished"]) for one in listed]
    assert counts == [("thesis", 1, 1), ("paper", 2, 1)]
    assert listed[0]["last_activity"] > listed[1]["last_activity"]
    url = str(client.base_url)
    with Client(url) as reader:
        assert [one.name for one in reader.projects()] == ["thesis", "paper"]

    async def read() -> list[str]:
        async with AsyncClient(url) as reader:
            return [one.name for one in await reader.projects()]

    assert asyncio.run(read()) == ["thesis", "paper"]
    lines = [line.split("\t") for line in fflab("projects").lines]
    assert [line[:3] for line in lines] == [
        ["project", "jobs", "unfinished"],
        ["thesis", "1", "1"],
        ["paper", "2", "1"],
    ]
    assert json.loads(fflab("projects", "--json").out) == listed
    client.patch(f"/v1/jobs/{jobs[0]}", json={"project": "thesis"})
    assert [one["jobs"] for one in client.get("/v1/projects").json()["items"]] == [2, 1]


def test_names_of_projects_are_read_without_their_jobs(either_store: Store) -> None:
    assert either_store.jobs.project_names() == []
    for project in ("thesis", None, "paper", "thesis"):
        made(either_store, project=project)
    assert either_store.jobs.project_names() == ["paper", "thesis"]


def test_a_page_reads_the_rows_of_jobs_that_have_changed_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [made(store).id for _ in range(3)]
    assert [job.id for job in store.jobs.page(limit=2).jobs] == ids[:0:-1]
    store.actions.cancel(ids[2])
    read: list[str] = []
    convert = job_cache.to_job
    monkeypatch.setattr(job_cache, "to_job", lambda row: read.append(row.id) or convert(row))
    page = store.jobs.page(limit=2)
    assert read == [ids[2]]
    assert [(job.id, job.state) for job in page.jobs] == [(ids[2], "cancelled"), (ids[1], "queued")]
    assert page.next_id == ids[1]
