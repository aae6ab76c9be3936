"""The Python clients over HTTP, one set of tests for both: against the API, and against servers
that drop, cut and babble.
"""

import asyncio
import inspect
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import fflab
from benchmarks.waiting import PATIENCE_SECONDS
from ffengine.attempts import with_attempts
from ffengine.negatives import Noise
from ffengine.spec import CheckSpec, TrainSpec
from fflab import (
    AsyncClient,
    Client,
    Event,
    Job,
    JobState,
    KeyRefused,
    NotFflab,
    NotFound,
    Refused,
    Unreachable,
    VersionSkew,
)
from service.artifacts import epoch_name
from service.client import dataframes, progress, retries
from service.client.notebook_display import Charts, job_html
from service.client.retries import RetryPolicy, backoff_seconds, retry_after
from service.client.stream import EventStream
from service.jobs import Progress
from service.schemas import ChartLine
from service.store import Store
from service.web.auth import create_key
from service.web.dependencies import Resources
from tests.factories import ERROR, LEASE, finished, submit
from tests.over_http import NOBODY, succeed
from tests.service.arrays import X, Y
from tests.service.callers import Caller
from tests.service.flaky import answers, flaky, half_of, hang_up, reset, streams
from tests.service.samples import epoch_row, train_result

SPEC = TrainSpec(epochs=2)
REFUSING = "http://127.0.0.1:1"  # nobody listens there


@pytest.fixture
def user(call: Caller, client: httpx.Client) -> Any:
    """A client of the real API."""
    return call.client(str(client.base_url))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses too short to notice."""
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)


def value(call: Caller, member: Any) -> Any:
    """What a handle says: a property of one kind, a method of the other."""
    return call(member() if callable(member) else member)


def job_json(state: str = "queued", **fields: Any) -> str:
    job = Job(
        id=NOBODY,
        kind="train",
        name=None,
        tags=[],
        priority="normal",
        pinned=False,
        state=state,
        wanted="run",
        spec=SPEC,
        spec_digest="0",
        progress=Progress(fraction=0.5, message="epoch 1", eta_seconds=None),
        attempts=0,
        created_at=datetime.now(UTC),
        started_at=None,
        finished_at=None,
        timeout_seconds=None,
        error=None,
        provenance=None,
        parent=None,
        place=None,
        cached=False,
        cached_from=None,
        waits_for=None,
        webhook=None,
        links={},
    )
    return job.model_copy(update=fields).model_dump_json()


# Against the API


@pytest.mark.slow
def test_a_job_is_submitted_followed_and_read(call: Caller, user: Any, store: Store) -> None:
    job = call(
        user.submit(
            SPEC, name="first", tags=["a"], priority="high", pinned=True, timeout_seconds=60
        )
    )
    assert (job.job.name, job.job.tags, job.job.priority, job.job.pinned) == (
        "first",
        ["a"],
        "high",
        True,
    )
    assert job.job.spec == SPEC
    finished(store, job.id, train_result(epochs=2))
    told: list[JobState] = []
    assert call(job.wait(PATIENCE_SECONDS, on_progress=lambda seen: told.append(seen.state))) is job
    assert (told[0], told[-1], job.state) == (
        JobState.queued,
        JobState.succeeded,
        JobState.succeeded,
    )
    result = value(call, job.result)
    assert result == with_attempts(train_result(epochs=2), result.provenance.attempts)
    assert value(call, job.rows) == [
        row.model_dump(mode="json") for row in train_result(epochs=2).curves
    ]
    assert [event.type for event in call(job.events())][-1] == "end"
    assert call(call(user.job(job.id)).refresh()) == job.job
    assert [found.id for found in call(user.jobs(tag="a", limit=1))] == [job.id]
    assert call(user.change(job.id, {"name": "second", "pinned": False})).name == "second"
    call(user.delete(job.id))
    with pytest.raises(NotFound, match="no such job"):
        call(user.job(job.id))


@pytest.mark.parametrize(
    "spec", [TrainSpec(negatives=Noise()), fflab.CheckSpec(negatives=Noise(scale=0.25))]
)
def test_the_choice_of_a_catalogue_arrives_also_where_nothing_but_its_defaults_was_said(
    call: Caller, user: Any, spec: TrainSpec
) -> None:
    assert call(user.submit(spec)).job.spec == spec


@pytest.mark.slow
def test_the_name_of_a_preset_is_a_spec(call: Caller, user: Any) -> None:
    job = call(user.submit("quick"))
    assert (job.job.kind, job.job.spec.preset) == ("study", "quick")
    assert call(user.estimate("quick")).runs > 1
    with pytest.raises(Refused, match="did you mean 'quick'"):
        call(user.submit("quik"))


def test_numbers_of_numpy_and_specs_within_a_document_are_sent_as_json(
    call: Caller, user: Any
) -> None:
    spec = {
        "kind": "study",
        "base": TrainSpec(epochs=4),
        "grid": {"optimizer.lr": (np.float64(0.5), np.float32(0.25)), "seeds": [[np.int64(7)]]},
    }
    found = call(user.submit(spec)).job.spec
    assert found.base.epochs == 4
    assert dict(found.grid) == {"optimizer.lr": [0.5, 0.25], "seeds": [[7]]}


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ("spec.yaml", TypeError, "'spec.yaml' is no spec: pass TrainSpec(...)"),
        ("kind: train\nepochs: 3", TypeError, "is no spec"),
        (TrainSpec, TypeError, "is no spec: pass TrainSpec(...)"),
        (None, TypeError, "'NoneType' is no spec"),
        ([SPEC], TypeError, "'list' is no spec"),
        ({"kind": "train", "seeds": {1, 2}}, TypeError, "the spec's field seeds is of type set"),
        (
            {"kind": "train", "network": {"widths": np.array([8])}},
            TypeError,
            "network.widths is of type ndarray",
        ),
        (
            {"kind": "train", "optimizer": {"lr": float("nan")}},
            ValueError,
            "optimizer.lr is nan, which JSON cannot hold",
        ),
    ],
)
def test_what_is_no_spec_is_refused_in_one_line(
    call: Caller, user: Any, wrong: Any, error: type[Exception], words: str
) -> None:
    for method in (user.submit, user.estimate):
        with pytest.raises(error, match=re.escape(words)) as caught:
            call(method(wrong))
        assert "\n" not in str(caught.value)


def test_a_data_set_is_uploaded_once_and_can_be_named_in_specs(
    call: Caller, user: Any, tmp_path: Path
) -> None:
    name = f"mine-{type(user).__name__.lower()}"
    arrays = {"x": np.arange(240, dtype=np.uint8).reshape(60, 2, 2), "y": np.arange(60) % 3}
    facts = call(user.upload(name, arrays, meaning="small ones"))
    assert (facts["name"], facts["classes"], facts["meaning"].startswith("small ones")) == (
        name,
        3,
        True,
    )
    np.savez(tmp_path / "same.npz", **arrays)
    assert call(user.upload(name, tmp_path / "same.npz"))["digest"] == facts["digest"]
    assert (
        call(
            user.submit(TrainSpec.model_validate({"dataset": {"name": name}}))
        ).job.spec.dataset.name
        == name
    )
    with pytest.raises(Refused, match="y"):
        call(user.upload("other", {"x": arrays["x"]}))
    with pytest.raises(FileNotFoundError):
        call(user.upload("other", tmp_path / "none.npz"))


def test_jobs_come_page_after_page(call: Caller, user: Any) -> None:
    made = [call(user.submit({"kind": "train", "epochs": number})).id for number in range(1, 6)]
    assert [job.id for job in call(user.jobs(limit=2))] == made[::-1]
    assert call(user.estimate(SPEC)).runs == 1
    assert call(user.get("/v1/workers")) == {"items": []}


@pytest.mark.slow
def test_what_a_job_does_can_be_changed(call: Caller, user: Any, store: Store) -> None:
    job = call(user.submit(SPEC))
    for act, state in (
        (job.pause, "paused"),
        (job.resume, "queued"),
        (job.cancel, "cancelled"),
        (job.retry, "queued"),
    ):
        assert call(act()).state.value == job.state.value == state
    claim = store.queue.claim(job.id, "w", LEASE)
    assert claim is not None
    store.queue.fail(job.id, claim.attempt, ERROR)
    with pytest.raises(fflab.JobFailed, match=ERROR.detail) as failed:
        call(job.wait(PATIENCE_SECONDS))
    assert failed.value.job.state is JobState.failed
    with pytest.raises(Refused, match="has no result") as refused:
        value(call, job.result)
    assert (refused.value.status, refused.value.code) == (409, "no-result-yet")
    with pytest.raises(Refused, match="/spec/epochs") as invalid:
        call(user.submit({"kind": "train", "epochs": 0}))
    assert invalid.value.problem["errors"][0]["pointer"] == "/spec/epochs"


def test_a_wait_that_takes_too_long_is_over_and_the_job_goes_on(call: Caller, user: Any) -> None:
    job = call(user.submit(SPEC))
    with pytest.raises(fflab.StillRunning, match=r"still queued after 0\.2 s") as over:
        call(job.wait(0.2))
    assert isinstance(over.value, TimeoutError)
    assert over.value.job.id == job.id


@pytest.mark.slow
def test_events_from_the_end_on_are_none_and_the_stream_is_over(
    call: Caller, user: Any, store: Store
) -> None:
    job = call(user.submit(SPEC))
    succeed(store, job.id)
    events = call(job.events())
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert call(job.events(after=events[-1].id)) == []
    assert call(job.events(after=2)) == events[2:]


def test_arrays_of_a_result_are_read_without_unpickling(
    call: Caller, user: Any, store: Store
) -> None:
    job = call(user.submit(SPEC))
    finished(store, job.id, train_result(epochs=2))
    arrays = call(job.arrays())
    assert arrays["curves/epoch"].tolist() == [0, 1, 2]
    assert json.loads(arrays["header"].item())["job"] == job.id


def test_the_weights_that_are_kept_are_listed(
    call: Caller, user: Any, store: Store, resources: Resources
) -> None:
    training, check = submit(store, fresh=True).id, submit(store, CheckSpec(), fresh=True).id
    assert call(user.checkpoints(training)) == []
    with pytest.raises(Refused, match="it has none at all"):
        call(user.download(training, "weights.safetensors"))
    for layer, epoch in ((1, 2), (0, 1), (0, 2)):
        resources.artifacts.put(training, epoch_name(layer, epoch), b"weights")
    found = call(user.checkpoints(training))
    assert [(one.layer, one.epoch) for one in found] == [(0, 1), (0, 2), (1, 2)]
    assert found[0].weights == f"/v1/jobs/{training}/weights.safetensors?epoch=1&layer=0"
    with pytest.raises(Refused, match="/checkpoints lists those that it has"):
        call(user.download(training, "weights.safetensors", {"epoch": 9}))
    with pytest.raises(Refused, match="is a check, not a training job"):
        call(user.checkpoints(check))


@pytest.mark.slow
def test_the_charts_of_a_job_are_named_and_shown_as_pictures(
    call: Caller, user: Any, store: Store
) -> None:
    job = call(user.submit(SPEC))
    assert dict(value(call, job.charts)) == {}
    finished(store, job.id, train_result(epochs=2))
    charts = value(call, job.charts)
    assert {"theorem2", "sparsity"} <= set(charts)
    data, size = charts["sparsity"]._repr_mimebundle_()
    assert data["image/svg+xml"].startswith("<svg")
    assert charts["sparsity"].png.startswith(b"\x89PNG")
    assert call(job.chart("sparsity")) == charts["sparsity"].png
    assert 100 < size["image/png"]["width"] < 2000
    with pytest.raises(KeyError, match="there are"):
        charts["nothing"]


@pytest.mark.slow
def test_a_study_is_a_tidy_table_of_what_was_varied_and_found(
    call: Caller, user: Any, store: Store
) -> None:
    grid = {"network.widths": [[8], [16]], "seeds": [[0], [1, 2]]}
    study = call(user.submit({"kind": "study", "base": {"kind": "train"}, "grid": grid}))
    for child, _ in store.jobs.children(study.id):
        succeed(store, child.id)
    store.studies.advance(study.id)
    rows = value(call, study.rows)
    assert {(row["network.widths"], row["params.seeds"]) for row in rows} == {
        (width, seeds) for width in (8, 16) for seeds in ("0", "1 · 2")
    }
    assert list(rows[0]) == [
        *("part", "network.widths", "params.seeds", "job", "state", "theorem", "figure"),
        *("layer", "layers", "epoch", "split", "width", "method", "partition"),
        *("act", "theorem2_direction", "mean", "low", "high", "seeds"),
    ]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}
    last = next(row for row in rows if row["figure"] == "theorem2_ratio" and row["epoch"] == 1)
    assert last["theorem2_direction"] == "training_step"
    assert (last["layer"], last["split"], last["mean"], last["width"]) == (
        0,
        "positive",
        0.75,
        None,
    )


@pytest.mark.slow
def test_a_key_that_is_missing_or_unknown_is_said_with_what_to_do(
    call: Caller, client: httpx.Client, resources: Resources
) -> None:
    secret = create_key(resources.store.api_keys, "me").secret
    resources.authenticator.refresh()
    url = str(client.base_url)
    with pytest.raises(KeyRefused, match="set FFLAB_API_KEY"):
        call(call.client(url).submit(SPEC))
    with pytest.raises(KeyRefused, match="not known there"):
        call(call.client(url, api_key="fflab_wrong").submit(SPEC))
    assert call(call.client(url, api_key=secret).submit(SPEC)).id


def test_without_arguments_the_environment_says_where_and_who(
    call: Caller, client: httpx.Client, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFLAB_URL", f"{client.base_url}/")
    monkeypatch.setenv("FFLAB_API_KEY", create_key(resources.store.api_keys, "me").secret)
    resources.authenticator.refresh()
    assert call(call.client(None).submit(SPEC)).state is JobState.queued
    monkeypatch.delenv("FFLAB_URL")
    assert call.client(None).url == "http://127.0.0.1:8000"


# Against servers that fail


def test_a_submit_is_repeated_under_one_key_until_it_is_answered(call: Caller, quick: None) -> None:
    busy = answers(
        409,
        json.dumps({"title": "t", "status": 409, "code": "still-in-flight"}),
        "application/problem+json",
    )
    with flaky(
        hang_up, reset, half_of(job_json()), answers(503), busy, answers(202, job_json())
    ) as server:
        assert call(call.client(server.url).submit(SPEC)).id == NOBODY
    keys = {heard.headers["idempotency-key"] for heard in server.heard}
    assert (len(server.heard), len(keys)) == (6, 1)
    assert len({heard.body for heard in server.heard}) == 1


def test_a_pause_that_is_asked_for_is_made(
    call: Caller, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "LONGEST_ASKED_SECONDS", 0.2)
    begun = datetime.now(UTC)
    with flaky(answers(503, retry_after="900"), answers(202, job_json())) as server:
        call(call.client(server.url).submit(SPEC))
    assert timedelta(seconds=0.2) <= datetime.now(UTC) - begun < timedelta(seconds=900)


def test_a_service_that_is_not_there_is_said_after_some_attempts(call: Caller, quick: None) -> None:
    with pytest.raises(
        Unreachable,
        match=r"127\.0\.0\.1:1: the service does not answer .* start it with `fflab up` or set "
        r"FFLAB_URL",
    ):
        call(call.client(REFUSING).jobs())
    with flaky(hang_up) as server, pytest.raises(Unreachable):
        call(call.client(server.url, attempts=3).read(NOBODY))
    assert len(server.heard) == 3
    with pytest.raises(Unreachable, match=r"event stream of .* could not be resumed"):
        call(call.client(REFUSING).events(NOBODY))


@pytest.mark.parametrize(
    "address", ["lab:8000", "ftp://lab", "http://", "http://lab:x", "nonsense"]
)
def test_what_is_no_address_is_said_at_once(call: Caller, address: str) -> None:
    with pytest.raises(Unreachable, match="is no address"):
        call.client(address)


@pytest.mark.parametrize(
    ("play", "kind", "words"),
    [
        (
            answers(200, "<html>Sign in</html>", "text/html"),
            NotFflab,
            "not an fflab service .*Sign in",
        ),
        (answers(404, '{"detail": "Not Found"}'), NotFflab, "HTTP 404, application/json"),
        (answers(500, "oops", "text/plain"), NotFflab, "HTTP 500"),
        (answers(307, location="https://elsewhere/"), NotFflab, "redirects to https://elsewhere/"),
        (answers(200, "{"), VersionSkew, "pip install --upgrade fflab"),
        (answers(200, '{"id": "job_1"}'), VersionSkew, "differences, the first: kind"),
        (
            answers(404, '{"title": "t", "code": "no-such-page"}', "application/problem+json"),
            VersionSkew,
            "does not know GET /v1/jobs/",
        ),
        (answers(418, "[1]", "application/problem+json"), NotFflab, "HTTP 418"),
    ],
)
def test_answers_of_others_and_of_other_versions_are_told_apart(
    call: Caller, play: Callable[..., None], kind: type[fflab.FflabError], words: str
) -> None:
    with flaky(play) as server, pytest.raises(kind, match=words) as error:
        call(call.client(server.url, attempts=1).read(NOBODY))
    assert len(str(error.value).splitlines()) == 1
    with flaky(play) as server, pytest.raises((NotFflab, VersionSkew)):
        call(call.client(server.url, attempts=1).events(NOBODY))


def test_an_id_cannot_lead_elsewhere(call: Caller) -> None:
    with flaky(answers(200, job_json())) as server:
        call(call.client(server.url).read("../keys?x=1#"))
    assert server.heard[0].line.startswith("GET /v1/jobs/..%2Fkeys%3Fx%3D1%23 ")


def test_an_archive_that_is_none_is_not_opened(call: Caller) -> None:
    pickled = io.BytesIO()
    np.save(pickled, np.array([object()]), allow_pickle=True)
    for body in ("<html>", "", pickled.getvalue().decode("latin-1")):
        with flaky(
            answers(200, job_json("succeeded")), answers(200, body, "application/octet-stream")
        ) as server:
            job = call(call.client(server.url).job(NOBODY))
            with pytest.raises(NotFflab, match=r"not an \.npz"):
                call(job.arrays())


# Streams


def event(number: int, kind: str = "progress", message: str = "") -> bytes:
    made = Event.model_validate(
        {
            "id": number,
            "job": NOBODY,
            "type": kind,
            "at": datetime.now(UTC),
            "data": {"message": message},
        }
    )
    return f"event: {kind}\nid: {number}\ndata: {made.model_dump_json()}\n\n".encode()


def test_a_stream_that_is_cut_anywhere_is_resumed_without_loss_or_repetition(
    call: Caller, quick: None
) -> None:
    # str.splitlines would break the line there
    odd = "a line\u2028separator, \u0085 and \r in a text: ü"
    first, second, third = event(1, message=odd), event(2), event(3, "end")
    with flaky(
        streams(b": hello\n\n", first[:50], first[50:] + second[:20], whole=False),
        answers(503, retry_after="0"),
        hang_up,
        streams(second),
        streams(third[:10], third[10:]),
    ) as server:
        found = call(call.client(server.url).events(NOBODY))
    assert [(item.id, item.type) for item in found] == [
        (1, "progress"),
        (2, "progress"),
        (3, "end"),
    ]
    assert found[0].data["message"] == odd
    assert [heard.headers.get("last-event-id") for heard in server.heard] == [
        None,
        "1",
        "1",
        "1",
        "2",
    ]


def test_the_end_of_a_job_that_was_retried_is_not_the_end_of_the_stream(
    call: Caller, quick: None
) -> None:
    with flaky(streams(event(1, "end"), event(2)), streams(event(3, "end"))) as server:
        assert [item.id for item in call(call.client(server.url).events(NOBODY))] == [1, 2, 3]


def test_an_event_of_another_version_is_said(call: Caller) -> None:
    with (
        flaky(streams(event(1).replace(b'"progress"', b'"news"'))) as server,
        pytest.raises(VersionSkew, match="an event has a form"),
    ):
        call(call.client(server.url).events(NOBODY))


def test_a_stream_that_says_nothing_while_the_job_lives_is_given_up(
    call: Caller, quick: None
) -> None:
    with flaky(
        *(play for _ in range(9) for play in (streams(), answers(200, job_json("running"))))
    ) as server:
        with pytest.raises(Unreachable, match="closed without an event"):
            call(call.client(server.url, attempts=3).events(NOBODY))
        assert [heard.line.split()[1].rpartition("/")[2] for heard in server.heard] == [
            "events",
            NOBODY,
            "events",
            NOBODY,
            "events",
        ]


def test_a_cancelled_task_ends_at_once_and_leaves_no_connection() -> None:
    hung_up = threading.Event()

    def until_they_leave(connection: Any) -> None:
        streams(event(1), whole=False)(connection)
        connection.settimeout(PATIENCE_SECONDS)
        assert connection.recv(1) == b""
        hung_up.set()

    async def follow(url: str) -> None:
        async with AsyncClient(url) as client:
            async for _ in client.events(NOBODY):
                arrived.set()

    async def cancelled(url: str) -> None:
        task = asyncio.create_task(follow(url))
        await asyncio.wait_for(arrived.wait(), PATIENCE_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE_SECONDS)

    arrived = asyncio.Event()
    with flaky(until_they_leave) as server:
        asyncio.run(cancelled(server.url))
        assert hung_up.wait(PATIENCE_SECONDS)


@pytest.mark.slow
def test_many_jobs_are_waited_for_at_once(client: httpx.Client, store: Store) -> None:
    async def all_of_them() -> list[JobState]:
        async with AsyncClient(str(client.base_url)) as user:
            jobs = [
                await user.submit({"kind": "train", "epochs": number}) for number in range(1, 9)
            ]
            waiting = asyncio.gather(*(job.wait(PATIENCE_SECONDS) for job in jobs))
            await asyncio.sleep(0)
            for job in jobs:
                await asyncio.to_thread(succeed, store, job.id)
            return [job.state for job in await waiting]

    assert asyncio.run(all_of_them()) == [JobState.succeeded] * 8


# The parts


def test_pauses_grow_with_jitter_and_end() -> None:
    assert [backoff_seconds(failures, 1.0) for failures in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert backoff_seconds(2, 0.0) == 0.2
    assert backoff_seconds(10_000, 1.0) == retries.LONGEST_PAUSE_SECONDS
    tries = RetryPolicy(attempts=100)
    pauses = list(iter(tries.pause, None))
    assert (
        retries.PATIENCE_SECONDS
        <= sum(pauses)
        <= retries.PATIENCE_SECONDS + retries.LONGEST_PAUSE_SECONDS
    )
    tries.reset()
    assert tries.pause(httpx.Response(404)) is None
    assert tries.pause(httpx.Response(503)) is not None


def test_retry_after_is_read_in_both_forms_and_never_trusted_too_far() -> None:
    def asked(text: str) -> float:
        return retry_after(httpx.Response(503, headers={"Retry-After": text}))

    assert (asked("3"), asked("9999"), asked("-1"), asked("soon"), asked(""), asked("nan")) == (
        3.0,
        30.0,
        0.0,
        0.0,
        0.0,
        0.0,
    )
    assert 5 < asked(format_datetime(datetime.now(UTC) + timedelta(seconds=29), usegmt=True)) <= 29
    assert asked("Wed, 21 Oct 2015 07:28:00 -0000") == 0.0


def test_a_stream_does_not_care_where_its_bytes_are_cut() -> None:
    text = event(1).replace(b"\n", b"\r\n") + b": beat\n\n" + event(2, message="ü")
    for size in (1, 2, 3, 7, len(text)):
        stream = EventStream("http://x", NOBODY, 0, 3)
        assert [
            item.id
            for at in range(0, len(text), size)
            for item in stream.feed(text[at : at + size])
        ] == [1, 2]
        assert stream.after == 2


@pytest.mark.parametrize(
    ("there", "form"), [({"pandas", "polars"}, "pandas"), ({"polars"}, "polars"), (set(), "rows")]
)
def test_the_table_is_in_the_form_that_is_installed(
    there: set[str], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataframes, "find_spec", lambda name: name in there or None)
    monkeypatch.setattr(dataframes, "to_pandas", lambda rows, columns: ("pandas", rows, columns))
    monkeypatch.setattr(dataframes, "to_polars", lambda rows, columns: ("polars", rows, columns))
    rows = [epoch_row().model_dump(mode="json")]
    assert dataframes.to_table(rows, ["seed"]) == (
        rows if form == "rows" else (form, rows, ["seed"])
    )


def test_what_a_notebook_shows_is_escaped() -> None:
    evil = "<script>alert(1)</script>"
    job = Job.model_validate_json(job_json())
    job = job.model_copy(
        update={
            "name": evil,
            "id": '"><b>',
            "progress": Progress(fraction=0.5, message=evil, eta_seconds=None),
        }
    )
    shown = job_html(job, "http://lab:8000")
    assert "<script" not in shown
    assert '"><b>' not in shown
    assert 'href="http://lab:8000/jobs/' in shown
    page = Charts(
        [ChartLine(name="x", meaning='">' + evil, links={})], lambda file: b"\x89PNG"
    )._repr_html_()
    assert "<script" not in page
    assert page.count("<img") == 1


def test_progress_is_shown_in_a_notebook_only_when_it_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shown: list[str] = []

    class Output:
        def update(self, piece: Any) -> None:
            shown.append(piece._repr_html_())

    def display(piece: Any, display_id: bool) -> Output:
        assert display_id
        shown.append(repr(piece))
        return Output()

    shell = type("Shell", (), {"kernel": object()})()
    monkeypatch.setitem(
        sys.modules, "IPython", type("IPython", (), {"get_ipython": staticmethod(lambda: shell)})
    )
    monkeypatch.setitem(
        sys.modules, "IPython.display", type("display", (), {"display": staticmethod(display)})
    )
    job = Job.model_validate_json(job_json("running"))
    with progress.progress_reporter(None, progress=True, url="http://lab") as tell:
        assert tell is not None
        for seen in (job, job, job.model_copy(update={"state": JobState.succeeded})):
            tell(seen)
    assert shown[0].startswith(NOBODY)
    assert len(shown) == 2
    assert "succeeded" in shown[1]


WAITING = """
import sys
from fflab import Client
Client(sys.argv[1]).job(sys.argv[2]).wait(180{more})
"""


def waited(url: str, job_id: str, *, terminal: bool, more: str = "") -> str:
    """What a script prints, on both of its streams, while it waits; its standard error is a
    terminal or a pipe.
    """
    ours, theirs = pty.openpty() if terminal else os.pipe()
    environment = {
        **os.environ,
        "TERM": "xterm",
        "PYTHONPATH": os.pathsep.join(sys.path),
        "COLUMNS": "120",
    }
    command = [sys.executable, "-c", WAITING.format(more=more), url, job_id]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=environment
    ) as script:
        os.close(theirs)
        said = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # a terminal whose other side is closed
                break
            if not piece:
                break
            said += piece
        assert script.stdout is not None
        said += script.stdout.read()
    os.close(ours)
    assert script.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.slow
def test_a_bar_is_shown_on_a_terminal_and_never_in_a_pipe() -> None:
    running, ended = answers(200, job_json("running")), answers(200, job_json("succeeded"))
    with flaky(running, running, ended) as server:
        said = waited(server.url, NOBODY, terminal=True)
    assert "running" in said
    assert "epoch 1" in said
    for terminal, more in (
        (False, ""),
        (True, ", progress=False"),
        (True, ", on_progress=lambda job: None"),
    ):
        with flaky(running, running, ended) as server:
            assert waited(server.url, NOBODY, terminal=terminal, more=more) == ""
    with flaky(ended) as server:
        assert waited(server.url, NOBODY, terminal=True) == ""


# The package


FORBIDDEN = (
    "torch",
    "fastapi",
    "starlette",
    "sqlalchemy",
    "altair",
    "celery",
    "redis",
    "jinja2",
    "safetensors",
    "PIL",
    "pandas",
    "polars",
)


@pytest.mark.slow
def test_the_client_loads_nothing_of_the_servers_side() -> None:
    code = (
        f"import sys, fflab, service.client; print([name for name in {FORBIDDEN} if name in "
        f"sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_the_public_names_are_those_that_are_meant() -> None:
    assert fflab.__all__ == [
        "AccuracyRow",
        "AsyncClient",
        "AsyncJobHandle",
        "Charts",
        "CheckCell",
        "CheckResult",
        "CheckSpec",
        "Client",
        "Diagnostic",
        "EpochRow",
        "EpochsNeeded",
        "Estimate",
        "Event",
        "FflabError",
        "ForecastPoint",
        "ForecastResult",
        "ForecastRow",
        "ForecastSpec",
        "Interval",
        "Job",
        "JobFailed",
        "JobHandle",
        "JobState",
        "KeyRefused",
        "NotFflab",
        "NotFound",
        "Onset",
        "Picture",
        "Provenance",
        "Refused",
        "Result",
        "SelectionOnset",
        "StillRunning",
        "StudyCell",
        "StudyResult",
        "StudySpec",
        "TrainResult",
        "TrainSpec",
        "Unreachable",
        "VersionSkew",
        "__version__",
        "verdict_on",
    ]
    assert all(hasattr(fflab, name) for name in fflab.__all__)


def test_both_clients_offer_the_same() -> None:
    for one, other in ((Client, AsyncClient), (fflab.JobHandle, fflab.AsyncJobHandle)):
        names = {name for name in dir(one) if not name.startswith("_")}
        assert names == {name for name in dir(other) if not name.startswith("_")}
        for name in names:
            ours, theirs = getattr(one, name), getattr(other, name)
            if inspect.isfunction(ours):
                assert list(inspect.signature(ours).parameters) == list(
                    inspect.signature(theirs).parameters
                ), name


def test_an_upload_is_removed_by_either_client(client: httpx.Client) -> None:
    arrays = {"x": X, "y": Y}
    url = str(client.base_url)
    with Client(url) as here:
        here.upload("mine", arrays)
        here.delete_dataset("mine")
        with pytest.raises(Refused, match="mine"):
            here.delete_dataset("mine")

    async def there() -> None:
        async with AsyncClient(url) as elsewhere:
            await elsewhere.upload("mine", arrays)
            await elsewhere.delete_dataset("mine")

    asyncio.run(there())
    assert client.get("/v1/datasets/mine").status_code == 404
