"""Renderers: what kills one ends its own request, and nothing else."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from fastapi import FastAPI
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.settings import Settings
from service.store import Store
from service.store.database import DatabaseReplaced
from service.store.tables import JobRow
from service.web.dependencies import Resources
from service.web.drawing.pictures import Pictures
from service.web.drawing.pool import RendererPool, RenderersBusy, how_many
from service.web.drawing.process import Drawn, Limits, RendererExceeded, RendererFailed, bare
from service.web.drawing.protocol import Answer, ChartRequest, NamesRequest, Request, Setup
from tests.factories import finished
from tests.factories import submit as submit_to
from tests.over_http import NOBODY, refused, submit, succeed
from tests.service.samples import train_result

WILD = (sys.executable, "-m", "tests.service.wild_renderer")
MEMORY = 400 * 2**20
PATIENT = Limits(PATIENCE_SECONDS, PATIENCE_SECONDS, MEMORY)


def asking_for(name: str) -> ChartRequest:
    return ChartRequest(job_id=NOBODY, name=name, fmt="svg")


@pytest.fixture
def setup(settings: Settings, tmp_path: Path) -> Setup:
    (tmp_path / "artifacts").mkdir(exist_ok=True)
    return Setup.of(settings).model_copy(update={"memory_bytes": MEMORY})


@pytest.fixture
def make(setup: Setup) -> Iterator[Callable[..., RendererPool]]:
    """Makes pools, and closes them."""
    made = []

    def pool(limits: Limits = PATIENT, **how: Any) -> RendererPool:
        made.append(RendererPool(setup, limits, **{"command": WILD, "most_renderers": 1} | how))
        return made[-1]

    yield pool
    for one in made:
        one.close()


def good(pool: RendererPool) -> bytes:
    drawn = pool.submit(asking_for("good")).result(2 * PATIENCE_SECONDS)
    assert drawn.answer.outcome == "done"
    assert drawn.content.startswith(b"<svg")
    return drawn.content


def reason(result: "Future[Drawn]") -> str:
    """Why a request was not answered."""
    with pytest.raises(RendererFailed) as error:
        result.result(2 * PATIENCE_SECONDS)
    return str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("control", "ended by SIGABRT"),
        pytest.param("leaving", "ended with code 3", marks=pytest.mark.soak),
    ],
)
def test_a_renderer_that_dies_takes_one_request_down(
    make: Callable[..., RendererPool], name: str, said: str
) -> None:
    pool = make()
    before = good(pool)
    (first,) = pool.pids
    assert said in reason(pool.submit(asking_for(name)))
    assert pool.pids == []
    assert good(pool) == before
    assert pool.pids != [first]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["greedy", pytest.param("endless", marks=pytest.mark.soak)])
def test_memory_has_a_limit(make: Callable[..., RendererPool], name: str) -> None:
    pool = make()
    good(pool)
    (first,) = pool.pids
    drawing = pool.submit(asking_for(name))
    most = 0
    while not drawing.done():
        try:
            most = max(most, psutil.Process(first).memory_info().rss)
        except psutil.NoSuchProcess:
            break
    try:
        assert drawing.result(PATIENCE_SECONDS).answer.outcome == "memory"
    except RendererFailed as error:
        assert "more than 400 MiB of memory (FFLAB_RENDERER_MEMORY)" in str(error)  # noqa: PT017
    assert most < 4 * MEMORY
    good(pool)


@pytest.mark.slow
def test_a_picture_that_takes_too_long_is_given_up(make: Callable[..., RendererPool]) -> None:
    pool = make(PATIENT._replace(seconds=5.0))
    assert reason(pool.submit(asking_for("hanging"))) == "it took longer than 5 s"
    assert pool.pids == []
    good(pool)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGKILL, "its process was killed"),
        pytest.param(signal.SIGSTOP, "it took longer than 8 s", marks=pytest.mark.soak),
    ],
)
def test_a_renderer_may_be_killed_or_stopped_in_the_middle(
    make: Callable[..., RendererPool], setup: Setup, number: int, said: str
) -> None:
    pool = make(PATIENT._replace(seconds=8.0))
    drawing = pool.submit(asking_for("hanging"))
    wait_until((setup.artifacts / "begun").exists, "the picture is begun")
    (pid,) = pool.pids
    os.kill(pid, number)
    assert reason(drawing).startswith(said)
    assert not psutil.pid_exists(pid)
    good(pool)


@pytest.mark.slow
def test_one_that_died_while_idle_is_replaced_and_nobody_notices(
    make: Callable[..., RendererPool],
) -> None:
    pool = make()
    good(pool)
    (pid,) = pool.pids
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "it has ended")
    good(pool)
    assert pool.pids != [pid]


@pytest.mark.slow
def test_one_that_cannot_start_is_told(make: Callable[..., RendererPool]) -> None:
    pool = make(command=(sys.executable, "-c", "raise SystemExit(7)"))
    assert reason(pool.submit(asking_for("good"))).startswith("its process ended with code 7")
    pool = make(command=("/no/such/program",))
    assert "its process ended with code" in reason(pool.submit(asking_for("good")))


@pytest.mark.slow
def test_an_error_while_drawing_ends_no_renderer(make: Callable[..., RendererPool]) -> None:
    pool = make()
    answer, _ = pool.submit(asking_for("raising")).result(2 * PATIENCE_SECONDS)
    assert (answer.outcome, answer.detail) == ("failed", "it raised an error, which is in the log")
    (pid,) = pool.pids
    good(pool)
    assert pool.pids == [pid]


@pytest.mark.slow
def test_the_queue_has_an_end(make: Callable[..., RendererPool], setup: Setup) -> None:
    pool = make(most_waiting=2)
    first = pool.submit(asking_for("once"))
    wait_until((setup.artifacts / "once").exists, "the picture is begun")
    waiting = [pool.submit(asking_for("good")) for _ in range(2)]
    with pytest.raises(RenderersBusy):
        pool.submit(asking_for("good"))
    os.kill(pool.pids[0], signal.SIGKILL)
    reason(first)
    for one in waiting:
        assert one.result(2 * PATIENCE_SECONDS).answer.outcome == "done"


@pytest.mark.slow
def test_renderers_are_started_late_and_end_when_nobody_asks(
    make: Callable[..., RendererPool],
) -> None:
    pool = make(idle_seconds=0.5)
    assert pool.pids == []
    good(pool)
    wait_until(lambda: pool.pids == [], "the renderer has ended")
    good(pool)


@pytest.mark.slow
def test_a_pool_that_is_closed_waits_for_nothing(
    make: Callable[..., RendererPool], setup: Setup
) -> None:
    pool = make()
    drawing = pool.submit(asking_for("hanging"))
    wait_until((setup.artifacts / "begun").exists, "the picture is begun")
    waiting, (pid,) = pool.submit(asking_for("good")), pool.pids
    pool.close()
    reason(drawing)
    with pytest.raises(RenderersBusy):
        waiting.result(PATIENCE_SECONDS)
    with pytest.raises(RenderersBusy):
        pool.submit(asking_for("good"))
    assert not psutil.pid_exists(pid)


@pytest.mark.slow
def test_as_many_renderers_as_requests_and_no_more(make: Callable[..., RendererPool]) -> None:
    pool = make(most_renderers=2)
    for one in [pool.submit(asking_for("good")) for _ in range(8)]:
        one.result(2 * PATIENCE_SECONDS)
    assert len(pool.pids) <= 2
    assert 1 <= how_many() <= 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux shows them")
def test_a_renderer_has_no_sockets_and_no_keys(
    make: Callable[..., RendererPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FFLAB_WEBHOOK_SECRET", "whsec_hidden")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        pool = make()
        good(pool)
    process = psutil.Process(pool.pids[0])
    assert not {name for name in process.environ() if name.startswith(("FFLAB_", "AWS_"))}
    assert "hidden" not in str(process.environ()) + str(process.cmdline())
    assert process.net_connections() == []
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    assert f"{MEMORY + 2**30}" in limits
    assert os.getsid(process.pid) == process.pid


def test_what_finds_programs_and_databases_is_kept() -> None:
    given = {"PATH": "/bin", "LC_ALL": "C", "PGPASSFILE": "/p", "FFLAB_API_KEY": "k", "TOKEN": "t"}
    assert bare(given) == {"PATH": "/bin", "LC_ALL": "C", "PGPASSFILE": "/p"}


@pytest.mark.slow
def test_what_is_drawn_is_read_from_either_database(either_store: Store, tmp_path: Path) -> None:
    job = submit_to(either_store).id
    finished(either_store, job, train_result(epochs=2))
    url = either_store.database.url.render_as_string(hide_password=False)
    setup = Setup(database_url=url, artifacts=tmp_path, memory_bytes=MEMORY)
    pool = RendererPool(setup, PATIENT, most_renderers=1)
    try:
        request = ChartRequest(job_id=job, name="sparsity", fmt="svg")
        answer, content = pool.submit(request).result(2 * PATIENCE_SECONDS)
        assert (answer.outcome, content[:4]) == ("done", b"<svg")
        missing = request.model_copy(update={"name": "layers"})
        answer, _ = pool.submit(missing).result(2 * PATIENCE_SECONDS)
        assert answer.outcome == "nothing"
        assert answer.detail.startswith("'layers.svg' is not a chart of this job; there are ")
        gone = NamesRequest(job_id=NOBODY)
        assert pool.submit(gone).result(2 * PATIENCE_SECONDS).answer.outcome == "no_job"
    finally:
        pool.close()


@pytest.mark.slow
def test_a_database_that_is_away_is_told(make: Callable[..., RendererPool], tmp_path: Path) -> None:
    (tmp_path / "fflab.db").rename(tmp_path / "elsewhere.db")
    pool = make()
    answer, _ = pool.submit(NamesRequest(job_id=NOBODY)).result(2 * PATIENCE_SECONDS)
    assert answer.outcome == "database_away"
    assert not (tmp_path / "fflab.db").exists()


def test_a_store_that_only_reads_cannot_write(either_store: Store) -> None:
    with Store(either_store.database.url.render_as_string(hide_password=False)) as store:
        store.database.only_read()
        assert store.jobs.counts()["queued"] == 0
        with pytest.raises(DBAPIError, match=r"readonly|read-only"), store.database.writing() as it:
            it.execute(update(JobRow).values(pinned=True))


def test_a_store_that_only_reads_makes_no_file(tmp_path: Path) -> None:
    with Store(tmp_path / "gone.db") as store:
        store.database.only_read()
        with pytest.raises(DatabaseReplaced, match="missing"):
            store.jobs.counts()
    assert not (tmp_path / "gone.db").exists()


# What was drawn is kept


class CountingPool:
    """A pool that answers when it is told to, and counts."""

    memory_bytes = 2**30

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.asked: list[Request] = []
        self.results: list[Future[Drawn]] = []

    def submit(self, request: Request) -> "Future[Drawn]":
        self.asked.append(request)
        self.results.append(Future())
        return self.results[-1]

    def answer(self) -> None:
        content = b"x" * self.size
        for one in self.results:
            if not one.done():
                one.set_result(Drawn(Answer(outcome="done", length=len(content)), content))


def pictures_of(pool: CountingPool, most_bytes: int = 1_000) -> Pictures:
    return Pictures(pool, most_bytes)  # type: ignore[arg-type]


def test_equal_requests_at_once_draw_once() -> None:
    pool = CountingPool()

    async def ask() -> None:
        pictures = pictures_of(pool)
        waiting = [asyncio.create_task(pictures.get(asking_for("a"), 1)) for _ in range(10)]
        other = asyncio.create_task(pictures.get(asking_for("a"), 2))
        await asyncio.sleep(0)
        waiting[0].cancel()  # the first one hangs up; the others have their picture
        await asyncio.sleep(0)
        pool.answer()
        assert len({id((await one).content) for one in waiting[1:]}) == 1
        await other
        await pictures.get(asking_for("a"), 1)

    asyncio.run(ask())
    assert len(pool.asked) == 2


def test_what_is_kept_is_bounded_in_bytes() -> None:
    pool = CountingPool(size=200)

    async def ask() -> None:
        pictures = pictures_of(pool)

        async def draw(name: str) -> None:
            getting = asyncio.create_task(pictures.get(asking_for(name), 1))
            await asyncio.sleep(0)
            pool.answer()
            await getting

        for name in "abcde":
            await draw(name)
        assert len(pool.asked) == 5
        await draw("a")  # still there, and the newest now
        await draw("f")  # in the place of b
        await draw("a")
        assert len(pool.asked) == 6
        await draw("b")
        assert len(pool.asked) == 7
        pool.size = 300  # more than a quarter of all
        await draw("large")
        await draw("large")
        assert len(pool.asked) == 9

    asyncio.run(ask())


def test_what_failed_is_not_kept() -> None:
    pool = CountingPool()

    async def ask() -> None:
        pictures = pictures_of(pool)
        for _ in range(2):
            getting = asyncio.create_task(pictures.get(asking_for("a"), 1))
            await asyncio.sleep(0)
            pool.results[-1].set_exception(RendererFailed("killed"))
            with pytest.raises(RendererFailed):
                await getting

    asyncio.run(ask())
    assert len(pool.asked) == 2


def test_what_took_too_much_is_not_tried_again_at_once() -> None:
    pool = CountingPool()
    clock = [0.0]

    async def ask() -> None:
        pictures = Pictures(pool, clock=lambda: clock[0])  # type: ignore[arg-type]

        async def fail(ends: Callable[["Future[Drawn]"], None]) -> None:
            getting = asyncio.create_task(pictures.get(asking_for("a"), 1))
            await asyncio.sleep(0)
            if pool.results and not pool.results[-1].done():
                ends(pool.results[-1])
            with contextlib.suppress(RendererExceeded):
                assert (await getting).answer.outcome == "memory"

        for ends in (
            lambda result: result.set_exception(RendererExceeded("it took longer than 60 s")),
            lambda result: result.set_result(Drawn(Answer(outcome="memory"), b"")),
        ):
            before = len(pool.asked)
            for _ in range(3):
                await fail(ends)
            assert len(pool.asked) == before + 1
            clock[0] += 61
        getting = asyncio.create_task(pictures.get(asking_for("a"), 2))  # another version
        await asyncio.sleep(0)
        pool.answer()
        assert (await getting).answer.outcome == "done"

    asyncio.run(ask())


# Over HTTP


@pytest.fixture
def wild_pool(
    resources: Resources, make: Callable[..., RendererPool], monkeypatch: pytest.MonkeyPatch
) -> RendererPool:
    """A wild renderer in place of the app's own."""
    pool = make(PATIENT._replace(seconds=20.0), most_waiting=1)
    monkeypatch.setattr(resources.pictures, "pool", pool)
    return pool


@pytest.mark.slow
def test_a_chart_that_kills_its_renderer_is_a_problem_and_the_next_one_is_drawn(
    client: httpx.Client, store: Store, wild_pool: RendererPool
) -> None:
    job = submit(client)
    succeed(store, job.id)
    problem = refused(client.get(f"/v1/jobs/{job.id}/chart/control.svg"), 500, "not-drawn")
    assert problem.detail.startswith(
        "The process that drew it has ended: its process was ended by SIGABRT. Read the figures"
    )
    chart = client.get(f"/v1/jobs/{job.id}/chart/sparsity.svg")
    assert chart.text.startswith("<svg"), chart.text
    greedy = client.get(f"/v1/jobs/{job.id}/chart/greedy.svg")
    problem = refused(greedy, 500, "not-drawn")
    assert "more than 400 MiB of memory (FFLAB_RENDERER_MEMORY)" in problem.detail
    assert client.get(f"/v1/jobs/{job.id}/report.html").status_code == 200


@pytest.mark.slow
def test_too_many_pictures_are_refused_for_now(
    client: httpx.Client, store: Store, wild_pool: RendererPool, setup: Setup
) -> None:
    job = submit(client)
    answers: list[httpx.Response] = []

    def ask(name: str) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: answers.append(client.get(f"/v1/jobs/{job.id}/chart/{name}.svg"))
        )
        thread.start()
        return thread

    hanging = ask("hanging")
    wait_until((setup.artifacts / "begun").exists, "the picture is begun")
    waiting = ask("good")
    wait_until(lambda: wild_pool.waiting == 1, "the next one waits")
    busy = client.get(f"/v1/jobs/{job.id}/chart/sparsity.svg")
    refused(busy, 503, "renderers-are-busy")
    assert int(busy.headers["retry-after"]) > 0
    assert client.get("/v1/jobs").status_code == 200
    os.kill(wild_pool.pids[0], signal.SIGKILL)
    for one in (hanging, waiting):
        one.join(2 * PATIENCE_SECONDS)
    assert sorted(answer.status_code for answer in answers) == [200, 500]


@pytest.mark.slow
def test_head_and_304_draw_nothing_and_what_was_drawn_is_kept(
    client: httpx.Client, app: FastAPI, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, asked = app.state.resources.pictures.pool, list[Request]()
    submit_to = pool.submit
    monkeypatch.setattr(pool, "submit", lambda request: asked.append(request) or submit_to(request))
    job = submit(client)
    succeed(store, job.id)
    address = f"/v1/jobs/{job.id}/chart/sparsity.svg"
    head = client.head(address)
    assert (head.status_code, asked) == (200, [NamesRequest(job_id=job.id)])
    assert client.head(f"/v1/jobs/{job.id}/chart/layers.svg").status_code == 404
    known = client.get(address, headers={"If-None-Match": head.headers["etag"]})
    assert (known.status_code, len(asked)) == (304, 1)
    first = client.get(address)
    assert first.content.startswith(b"<svg")
    assert client.get(address).content == first.content
    assert len(asked) == 2
    client.patch(f"/v1/jobs/{job.id}", json={"name": "another"})
    assert client.get(address).headers["etag"] != first.headers["etag"]
    assert len(asked) == 3
