"""Lists of jobs: several states, times, totals, and some fields only; over HTTP, by clients and by
command.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from service.client import AsyncClient, Client, Refused
from service.store import Store
from tests.commands import Fflab
from tests.over_http import refused, submit, succeed


@pytest.fixture
def jobs(client: httpx.Client, store: Store) -> list[str]:
    """Four jobs, oldest first: queued, succeeded, cancelled, queued."""
    made = [submit(client, name=f"job {number}", fresh=True).id for number in range(4)]
    succeed(store, made[1])
    client.post(f"/v1/jobs/{made[2]}/cancel")
    return made


def listed(client: httpx.Client, query: str) -> list[str]:
    response = client.get(f"/v1/jobs?{query}")
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def test_several_states_are_listed_together(client: httpx.Client, jobs: list[str]) -> None:
    assert listed(client, "state=queued") == [jobs[3], jobs[0]]
    assert listed(client, "state=queued&state=cancelled") == [jobs[3], jobs[2], jobs[0]]
    first = client.get("/v1/jobs?state=queued&state=cancelled&limit=2&total=true").json()
    assert first["total"] == 3
    rest = f"state=queued&state=cancelled&cursor={first['next_cursor']}"
    assert listed(client, rest) == [jobs[0]]
    problem = refused(client.get("/v1/jobs?state=queued&state=dead"), 422, "invalid")
    assert problem.errors[0].pointer.startswith("query/state")


def test_the_next_page_keeps_all_filters(client: httpx.Client, jobs: list[str]) -> None:
    response = client.get("/v1/jobs?state=queued&state=cancelled&limit=1&fields=id")
    found = [item["id"] for item in response.json()["items"]]
    while "next" in response.links:
        response = client.get(response.links["next"]["url"])
        assert all(list(item) == ["id"] for item in response.json()["items"])
        found += [item["id"] for item in response.json()["items"]]
    assert found == [jobs[3], jobs[2], jobs[0]]


@pytest.mark.slow
def test_jobs_of_a_time_are_listed(client: httpx.Client, jobs: list[str]) -> None:
    times = [client.get(f"/v1/jobs/{job}").json()["created_at"] for job in jobs]
    assert listed(client, f"created_after={times[2]}") == [jobs[3], jobs[2]]
    assert listed(client, f"created_before={times[1]}") == [jobs[0]]
    assert listed(client, f"created_after={times[1]}&created_before={times[3]}") == jobs[2:0:-1]
    moved = datetime.fromisoformat(times[2]).astimezone(
        datetime.now(UTC).astimezone().tzinfo or UTC
    )
    query = httpx.QueryParams({"created_after": moved.isoformat()})
    assert listed(client, str(query)) == [jobs[3], jobs[2]]
    for value in ("yesterday", "2026-11-26T08:00:00", "2026", "0.5", "-1", "%201795676690", ""):
        problem = refused(client.get(f"/v1/jobs?created_after={value}"), 422, "invalid")
        assert problem.errors[0].pointer == "query/created_after"


@pytest.mark.slow
def test_a_total_is_counted_where_it_is_asked_for(client: httpx.Client, jobs: list[str]) -> None:
    assert client.get("/v1/jobs").json()["total"] is None
    page = client.get("/v1/jobs?total=true&limit=1").json()
    assert (len(page["items"]), page["total"]) == (1, len(jobs))
    later = client.get(f"/v1/jobs?total=true&limit=1&cursor={page['next_cursor']}").json()
    assert later["total"] == len(jobs), "of all pages"
    assert client.get("/v1/jobs?total=true&search=JOB 2").json()["total"] == 1
    assert client.get("/v1/jobs?total=true&tag=nothing").json()["total"] == 0


@pytest.mark.slow
def test_some_fields_are_sent_alone(client: httpx.Client, jobs: list[str]) -> None:
    page = client.get("/v1/jobs?fields=id,name,%20state&limit=2").json()
    assert page["items"] == [
        {"id": jobs[3], "name": "job 3", "state": "queued"},
        {"id": jobs[2], "name": "job 2", "state": "cancelled"},
    ]
    assert set(page) == {"items", "next_cursor", "total"}
    problem = refused(client.get("/v1/jobs?fields=id,sate"), 422, "invalid")
    assert problem.errors[0].message == "'sate' is not a field of a job; did you mean 'state'?"
    for nothing in ("", ",", "%20"):
        refused(client.get(f"/v1/jobs?fields={nothing}"), 422, "invalid")


@pytest.mark.slow
def test_clients_filter_count_and_read_some_fields(client: httpx.Client, jobs: list[str]) -> None:
    url = str(client.base_url)
    hour = timedelta(hours=1)
    with Client(url) as fflab:
        both = ["queued", "cancelled"]
        assert [job.id for job in fflab.jobs(state=both)] == [jobs[3], jobs[2], jobs[0]]
        assert fflab.count_jobs(state=both) == 3
        assert fflab.count_jobs(created_after=datetime.now(UTC) + hour) == 0
        assert fflab.count_jobs(created_before=datetime.now(UTC) + hour) == len(jobs)
        names = [job["name"] for job in fflab.job_fields(["name"], limit=3)]
        assert names == ["job 3", "job 2", "job 1", "job 0"]
        with pytest.raises(Refused, match="is not a field of a job"):
            list(fflab.job_fields(["nam"]))

    async def count() -> tuple[int, list[str]]:
        async with AsyncClient(url) as fflab:
            found = [job["id"] async for job in fflab.job_fields(["id"], state="queued")]
            return await fflab.count_jobs(state=["queued"]), found

    assert asyncio.run(count()) == (2, [jobs[3], jobs[0]])


@pytest.mark.slow
def test_the_command_lists_several_states_and_times_and_counts(
    fflab: Fflab, jobs: list[str]
) -> None:
    assert fflab("jobs", "--count").out == "4\n"
    assert fflab("jobs", "--count", "--state", "queued", "--state", "cancelled").out == "3\n"
    assert fflab("jobs", "--count", "--created-before", "2020-01-01T00:00:00Z").out == "0\n"
    assert jobs[2] in fflab("jobs", "--json", "--state", "cancelled").out
    wrong = fflab("jobs", "--created-after", "yesterday")
    assert wrong.code != 0
    assert "created_after" in wrong.err
