"""Whose a job is: others read it and do not change it; private ones are nobody else's business."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from sqlalchemy import insert, select

from service.encoding.viewer import Scope, Viewer, seen_by
from service.jobs import JobState
from service.settings import Settings
from service.store import KeyNameTaken, OwnerLimitReached, OwnerLimits, Store, SubmitLimits
from service.store.api_keys import limits_by_owner, limits_of
from service.store.owner_limits import refuse_beyond
from service.store.queue_limit import count_waiting
from service.store.tables import JobRow, KeyRow
from service.web import auth
from service.web.app import create_app
from service.web.auth import create_key
from tests.commands import Fflab
from tests.factories import STUDY as THREE_RUNS
from tests.factories import TRAIN, read, worker_info
from tests.factories import submit as stored
from tests.over_http import refused, submit, succeed
from tests.serving import client_of, http_client
from tests.statements import statements

Person = Callable[..., httpx.Client]
STUDY = {"kind": "study", "base": {"kind": "train", "epochs": 1}, "grid": {"epochs": [1, 2]}}


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBERED_SECONDS", 0.0)


@pytest.fixture
def person(client: httpx.Client, store: Store) -> Iterator[Person]:
    """A client with a new key of a name and scope."""
    with ExitStack() as stack:

        def made(name: str, scope: Scope = "submit", **limits: int) -> httpx.Client:
            found = stack.enter_context(http_client(str(client.base_url)))
            key = create_key(store.api_keys, name, scope=scope, **limits)
            found.headers["X-API-Key"] = key.secret
            return found

        yield made


def test_others_read_a_job_and_do_not_change_it(person: Person, store: Store) -> None:
    ada, bob, root = person("ada"), person("bob"), person("root", "admin")
    job = submit(ada)
    assert job.submitted_by == "ada"
    at = f"/v1/jobs/{job.id}"
    assert bob.get(at).status_code == 200
    for method, path, body in (
        ("POST", f"{at}/cancel", None),
        ("POST", f"{at}/pause", None),
        ("POST", f"{at}/resume", None),
        ("POST", f"{at}/retry", None),
        ("DELETE", at, None),
        ("PATCH", at, {"priority": "high"}),
        ("POST", f"{at}/shares", {}),
        ("DELETE", f"{at}/shares", None),
        ("DELETE", f"{at}/shares/share_x", None),
        ("POST", f"{at}/webhook/msg_x/redeliver", None),
    ):
        problem = refused(bob.request(method, path, json=body), 403, "not-yours")
        assert "belongs to ada" in problem.detail
        assert "administrator" in problem.detail
    assert read(store, job.id).state == JobState.queued
    assert ada.patch(at, json={"name": "mine"}).json()["name"] == "mine"
    assert root.post(f"{at}/cancel").json()["state"] == "cancelled"
    assert ada.delete(at).status_code == 204


def test_runs_of_a_study_belong_to_its_owner(person: Person, store: Store) -> None:
    ada, bob = person("ada"), person("bob")
    study = submit(ada, STUDY)
    runs = [job.id for job, _ in store.jobs.children(study.id)]
    assert {read(store, run).submitted_by for run in runs} == {"ada"}
    refused(bob.post(f"/v1/jobs/{runs[0]}/cancel"), 403, "not-yours")


def test_jobs_of_nobody_are_everybodys(person: Person, store: Store) -> None:
    job = stored(store)
    assert person("bob").post(f"/v1/jobs/{job.id}/cancel").json()["state"] == "cancelled"


def test_private_jobs_are_neither_seen_nor_found(person: Person, store: Store) -> None:
    ada, bob, root = person("ada"), person("bob"), person("root", "admin")
    job = submit(ada, private=True, name="secret", project="hidden", tags=["hush"])
    study = submit(ada, STUDY, private=True)
    runs = [run.id for run, _ in store.jobs.children(study.id)]
    succeed(store, job.id)
    for one in (job.id, study.id, *runs):
        for path in ("", "/result", "/curves", "/events", "/charts", "/shares", "/log", "/webhook"):
            refused(bob.get(f"/v1/jobs/{one}{path}"), 404, "no-such-job")
        refused(bob.post(f"/v1/jobs/{one}/cancel"), 404, "no-such-job")
        assert bob.get(f"/jobs/{one}").status_code == 404
    for query in ("", "?search=secret", f"?search={job.id}", "?tag=hush", "?children=true"):
        page = bob.get(f"/v1/jobs{query}", params={"total": True}).json()
        assert (page["items"], page["total"]) == ([], 0)
    assert bob.get(f"/v1/jobs?parent={study.id}").json()["items"] == []
    assert bob.get("/v1/projects").json()["items"] == []
    assert "secret" not in bob.get("/").text
    assert "project=hidden" not in bob.get("/").text
    for seer in (ada, root):
        assert seer.get(f"/v1/jobs/{job.id}").json()["private"] is True
        assert seer.get("/v1/jobs", params={"total": True}).json()["total"] == 2
        assert [one["name"] for one in seer.get("/v1/projects").json()["items"]] == ["hidden"]


def test_private_results_answer_their_owner_alone(person: Person, store: Store) -> None:
    ada, bob = person("ada"), person("bob")
    first = submit(ada, private=True)
    assert submit(ada, private=True).waits_for == first.id
    assert submit(bob).waits_for is None
    succeed(store, first.id)
    again = submit(ada, private=True)
    assert again.cached_from == first.id
    other = submit(bob)
    assert (other.cached, first.id in other.progress.message) == (False, False)


def test_a_share_link_shows_a_private_job(person: Person, client: httpx.Client) -> None:
    ada = person("ada")
    job = submit(ada, private=True, name="secret")
    made = ada.post(f"/v1/jobs/{job.id}/shares", json={}).json()
    page = client.get(made["url"])
    assert page.status_code == 200
    assert "secret" in page.text


def test_a_private_job_leads_no_others(either_store: Store) -> None:
    first = stored(either_store, submitted_by="ada")
    hidden = stored(either_store, submitted_by="ada", private=True)
    other = stored(either_store, submitted_by="bob")
    assert {read(either_store, one.id).waits_for for one in (hidden, other)} == {first.id}
    either_store.actions.cancel(first.id)
    assert either_store.queue.resolve_duplicates() == 2
    assert {read(either_store, one.id).waits_for for one in (hidden, other)} == {None}


def test_lists_of_the_store_leave_private_jobs_out(either_store: Store) -> None:
    job = stored(either_store, submitted_by="ada", private=True, project="hidden")
    open_one = stored(either_store, submitted_by="ada")
    with seen_by(Viewer("bob", "submit")):
        assert either_store.jobs.get(job.id) is None
        assert either_store.jobs.cached_if_current(job.id) is None
        assert either_store.jobs.ids(limit=9) == [open_one.id]
        assert either_store.jobs.count() == 1
        assert either_store.jobs.project_names() == []
    with seen_by(Viewer("ada", "submit")):
        assert either_store.jobs.count() == 2
        assert either_store.jobs.project_names() == ["hidden"]


def test_a_key_that_reads_changes_nothing(person: Person) -> None:
    ada, eve = person("ada"), person("eve", "read")
    job = submit(ada)
    assert eve.get(f"/v1/jobs/{job.id}").status_code == 200
    assert eve.post("/v1/estimate", json={"spec": TRAIN.model_dump()}).status_code == 200
    for method, path, body in (
        ("POST", "/v1/jobs", {"spec": {"kind": "train"}}),
        ("POST", f"/v1/jobs/{job.id}/cancel", None),
        ("PATCH", f"/v1/jobs/{job.id}", {"name": "x"}),
        ("DELETE", f"/v1/jobs/{job.id}", None),
        ("POST", "/v1/datasets?name=x", None),
        ("DELETE", "/v1/datasets/x", None),
    ):
        problem = refused(eve.request(method, path, json=body), 403, "key-may-not")
        assert "eve has the scope read; this needs submit" in problem.detail
    assert eve.post("/jobs/act").status_code == 403


def test_expired_keys_are_refused_and_their_names_are_free(
    person: Person, client: httpx.Client, store: Store
) -> None:
    short = create_key(store.api_keys, "ada", expires_in_seconds=1_000)
    headers = {"X-API-Key": short.secret}
    assert client.get("/v1/jobs", headers=headers).status_code == 200
    with pytest.raises(KeyNameTaken, match=short.id):
        create_key(store.api_keys, "ada")
    with store.database.writing() as session:
        session.scalars(select(KeyRow)).one().expires_at = 1.0
    refused(client.get("/v1/jobs", headers=headers), 401, "key-needed")
    assert person("ada").get("/v1/jobs").status_code == 200


def test_names_of_valid_keys_are_unique(either_store: Store) -> None:
    first = create_key(either_store.api_keys, "ada")
    with pytest.raises(KeyNameTaken):
        create_key(either_store.api_keys, "ada")
    assert either_store.api_keys.revoke("ada")
    assert create_key(either_store.api_keys, "ada").id != first.id


def test_the_last_use_is_written_once_a_minute(
    person: Person, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    note = store.api_keys.note_use

    def noting(key: str) -> None:
        written.append(key)
        note(key)

    monkeypatch.setattr(store.api_keys, "note_use", noting)
    ada = person("ada")
    assert store.api_keys.all()[0].used_at is None
    for _ in range(5):
        ada.get("/v1/jobs")
    assert len(written) == 1
    used = store.api_keys.all()[0].used_at
    assert used is not None
    note(written[0])  # another process
    assert store.api_keys.all()[0].used_at == used


def test_keys_are_made_and_listed_with_scope_and_expiry(fflab: Fflab) -> None:
    assert fflab("keys", "create", "ada", "--scope", "read", "--expires", "90d").code == 0
    assert "is named 'ada' already" in fflab("keys", "create", "ada").err
    assert fflab("keys", "create", "bob", "--expires", "soon").code == 2
    columns = fflab("keys", "list").lines[1].split("\t")
    assert columns[1:4] == ["ada", "valid", "read"]
    assert columns[4].endswith("UTC")
    assert columns[5] == "never"


def test_submits_beyond_the_limits_of_an_owner_are_refused_with_the_figures(
    person: Person, store: Store
) -> None:
    ada, bob = person("ada", max_queued=3), person("bob")
    submit(ada)
    submit(ada, STUDY)
    answer = ada.post("/v1/jobs", json={"spec": {"kind": "train", "epochs": 7}})
    problem = refused(answer, 429, "limit-reached")
    assert "ada has 3 jobs that wait, and this would be 1 more; the limit is 3" in problem.detail
    assert answer.headers["ratelimit-policy"] == '"queued";q=3'
    assert answer.headers["ratelimit"] == f'"queued";r=0;t={answer.headers["retry-after"]}'
    assert (answer.json()["limit"], answer.json()["has"], answer.json()["most"]) == ("queued", 3, 3)
    submit(bob)
    assert store.api_keys.limit("ada", {"max_queued": None}) == OwnerLimits()
    submit(ada, {"kind": "train", "epochs": 7})


def test_what_is_queued_again_keeps_to_the_limits_of_its_owner(
    person: Person, store: Store
) -> None:
    ada, boss = person("ada", max_queued=2), person("boss", scope="admin")
    study = submit(ada, STUDY)
    for action in ("pause", "cancel"):
        ada.post(f"/v1/jobs/{study.id}/{action}")
    waits = submit(ada, {"kind": "train", "epochs": 7})
    for who in (ada, boss):  # the limits are those of the job's owner
        problem = refused(who.post(f"/v1/jobs/{study.id}/retry"), 429, "limit-reached")
        assert "ada has 1 job" in problem.detail
        assert "this would be 2 more; the limit is 2" in problem.detail
    assert store.jobs.counts()["queued"] == 1, "nothing of the study is queued again"
    ada.post(f"/v1/jobs/{waits.id}/cancel")
    assert ada.post(f"/v1/jobs/{study.id}/retry").is_success
    assert store.jobs.counts()["queued"] == 2
    paused = ada.post(f"/v1/jobs/{study.id}/pause")
    assert paused.is_success
    submit(ada, {"kind": "train", "epochs": 8})
    refused(ada.post(f"/v1/jobs/{study.id}/resume"), 429, "limit-reached")


def test_unmade_runs_of_a_paused_study_do_not_wait(either_store: Store) -> None:
    keys = create_key(either_store.api_keys, "ada", max_queued=10).id
    study = stored(either_store, THREE_RUNS, submitted_by="ada")
    with either_store.database.writing() as session:
        session.get_one(JobRow, study.id).cells = 10  # seven of them are not made yet
    limits = SubmitLimits()
    with either_store.database.reading() as session, pytest.raises(OwnerLimitReached):
        refuse_beyond(session, "ada", jobs=1, is_high=False, limits=limits)
    either_store.actions.pause(study.id)
    with either_store.database.reading() as session:
        assert count_waiting(session) == 0
        refuse_beyond(session, "ada", jobs=10, is_high=False, limits=limits)
    either_store.api_keys.limit(keys, {"max_queued": 9})
    with pytest.raises(OwnerLimitReached) as refusal:
        either_store.actions.resume(study.id)
    assert (refusal.value.has, refusal.value.asked) == (0, 10)
    either_store.api_keys.limit(keys, {"max_queued": 10})
    either_store.actions.resume(study.id)
    with either_store.database.reading() as session:
        assert count_waiting(session) == 10


def test_of_several_keys_of_one_name_the_largest_limits_count(either_store: Store) -> None:
    create_key(either_store.api_keys, "ada", max_queued=5, max_running=1)
    with either_store.database.writing() as session:  # as earlier versions let it be
        first = session.scalars(select(KeyRow)).one()
        values = {"name": "ada", "created_at": first.created_at + 1, "scope": "submit"}
        session.execute(
            insert(KeyRow).values(id="key_2", digest="2", max_queued=3, max_running=2, **values)
        )
    with either_store.database.reading() as session:
        usual = OwnerLimits(1, 1, max_gpu_seconds=7)
        assert limits_of(session, "ada", usual) == OwnerLimits(5, 2, 7)
        assert limits_of(session, "bob", usual) == usual
        assert limits_by_owner(session) == {"ada": OwnerLimits(5, 2)}


def test_what_has_no_limit_is_not_counted(either_store: Store) -> None:
    job = stored(either_store, submitted_by="ada")
    either_store.actions.pause(job.id)
    with statements(either_store) as free:
        either_store.actions.resume(job.id)
    either_store.actions.pause(job.id)
    with statements(either_store) as limited:
        either_store.actions.resume(job.id, limits=SubmitLimits(OwnerLimits(9), max_high=9))
    assert len(limited) - len(free) == 4, "two counts before and after, where there are limits"


def test_a_retry_takes_no_more_time_of_gpus_than_a_submit(person: Person, store: Store) -> None:
    ada = person("ada", max_gpu_seconds=100)
    job, other = submit(ada), submit(ada, {"kind": "train", "epochs": 7})
    ada.post(f"/v1/jobs/{other.id}/cancel")
    store.workers.heartbeat(worker_info(device="cuda:0"))
    succeed(store, job.id)
    with store.database.writing() as session:
        session.get_one(JobRow, job.id).gpu_seconds = 250.0
    refused(ada.post(f"/v1/jobs/{other.id}/retry"), 429, "limit-reached")


def test_a_day_of_gpus_is_limited(person: Person, store: Store) -> None:
    ada = person("ada", max_gpu_seconds=100)
    job = submit(ada)
    store.workers.heartbeat(worker_info(device="cuda:0"))
    succeed(store, job.id)
    with store.database.writing() as session:
        row = session.get_one(JobRow, job.id)
        assert row.gpu_seconds == row.ran_seconds > 0
        row.gpu_seconds = 250.0
    problem = refused(ada.post("/v1/jobs", json={"spec": {"kind": "train"}}), 429, "limit-reached")
    assert "ada has 250 seconds of GPUs in jobs that ended within a day" in problem.detail
    with store.database.writing() as session:
        row = session.get_one(JobRow, job.id)
        row.finished_at = row.created_at - 90_000
    submit(ada, {"kind": "train"})


def test_jobs_on_cpus_take_no_time_of_gpus(store: Store) -> None:
    job = stored(store)
    store.workers.heartbeat(worker_info(device="cpu"))
    succeed(store, job.id)
    with store.database.reading() as session:
        assert session.get_one(JobRow, job.id).gpu_seconds == 0.0


def test_few_jobs_of_an_owner_go_first(settings: Settings) -> None:
    with client_of(create_app(Settings(home=settings.home, max_high_per_key=2))) as client:
        submit(client, STUDY, priority="high")
        submit(client, priority="high")  # while no key is needed, nobody is limited
        with Store(settings.database) as store:
            client.headers["X-API-Key"] = create_key(store.api_keys, "ada").secret
        first = submit(client, STUDY, priority="high", fresh=True)
        for answer in (
            client.post("/v1/jobs", json={"spec": {"kind": "train"}, "priority": "high"}),
            client.patch(f"/v1/jobs/{submit(client).id}", json={"priority": "high"}),
        ):
            problem = refused(answer, 429, "limit-reached")
            assert "2 unfinished jobs of high priority" in problem.detail
        client.post(f"/v1/jobs/{first.id}/cancel")
        submit(client, {"kind": "train", "epochs": 9}, priority="high")


def test_limits_are_set_and_shown_on_the_command_line(fflab: Fflab) -> None:
    assert fflab("keys", "create", "ada", "--max-queued", "500").code == 0
    assert fflab("keys", "limit", "ada").lines[1:] == [
        "queued\t500",
        "running\tas set",
        "gpu seconds\tas set",
        "bytes\tas set",
    ]
    changed = fflab("keys", "limit", "ada", "--clear", "--max-running", "2", "--json")
    assert '"max_queued": null' in changed.out
    assert '"max_running": 2' in changed.out
    assert fflab("keys", "limit", "eve").code == 4
