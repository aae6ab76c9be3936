"""Clients behind a gateway that gives up sooner than a long poll or a quiet stream."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from fflab import Client, StillRunning, TrainSpec, Unreachable
from service.client.errors import NotFflab
from service.store import Store
from tests.gateways import Gateway, gateway
from tests.over_http import succeed
from tests.service.callers import Caller
from tests.service.flaky import answers, flaky

SPEC = TrainSpec(epochs=2)


def ended_after(given_up: Callable[[], bool], end: Callable[[], object]) -> threading.Thread:
    """A thread that ends the job once the gateway has given up often enough."""

    def run() -> None:
        wait_until(lambda: given_up() or None, "the gateway has given up")
        end()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.fixture(params=[502, 504])
def impatient(request: pytest.FixtureRequest, client: httpx.Client) -> Iterator[Gateway]:
    with gateway(str(client.base_url), patience=0.4, status=request.param) as proxy:
        yield proxy


@pytest.mark.slow
def test_a_wait_goes_on_where_long_polls_do_not_get_through(
    call: Caller,
    impatient: Gateway,
    store: Store,
) -> None:
    job = call(call.client(impatient.url).submit(SPEC))
    polls = lambda: [path for path in impatient.given_up if "wait=" in path]  # noqa: E731
    # 30, 15, 7.5, 3.75, 1.875 seconds; then it reads the job each second
    ending = ended_after(lambda: len(polls()) >= 5, lambda: succeed(store, job.id))
    assert call(job.wait(progress=False)).state == "succeeded"
    ending.join()
    waits = [float(path.rpartition("=")[2]) for path in polls()]
    assert waits == [30.0 / 2**number for number in range(len(waits))]
    assert len(waits) <= 6


@pytest.mark.slow
def test_a_wait_behind_a_gateway_ends_in_time(call: Caller, impatient: Gateway) -> None:
    job = call(call.client(impatient.url).submit(SPEC))
    with pytest.raises(StillRunning, match="is still queued after 2 s"):
        call(job.wait(2, progress=False))


@pytest.mark.slow
def test_events_are_read_page_by_page_where_streams_are_cut(
    call: Caller,
    client: httpx.Client,
    store: Store,
) -> None:
    with gateway(str(client.base_url), patience=0.4) as proxy:
        job = call(call.client(proxy.url).submit(SPEC))
        ending = ended_after(
            lambda: sum("after=" in path for path in proxy.passed) >= 2,
            lambda: succeed(store, job.id),
        )
        found = [event.type for event in call(job.events())]
        ending.join()
    assert found[0] == "state"
    assert found[-1] == "end"
    assert found.count("end") == 1


@pytest.mark.parametrize("status", [408, 413, 429, 502, 503, 504])
def test_the_answer_of_a_gateway_is_called_that(call: Caller, status: int) -> None:
    with (
        flaky(answers(status, "<html>nginx</html>", "text/html")) as server,
        pytest.raises(Unreachable, match=f"a gateway in between answered HTTP {status}") as error,
    ):
        call(call.client(server.url, attempts=1).read("job_1"))
    assert not isinstance(error.value, NotFflab)
    assert len(str(error.value).splitlines()) == 1


def fflab(url: str, *arguments: str, **how: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-P", "-m", "service.cli", *arguments]
    return subprocess.Popen(
        command,
        env=os.environ | {"FFLAB_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", ["watch", "submit --wait"])
def test_commands_that_wait_outlast_a_gateway_that_breaks(
    client: httpx.Client, store: Store, command: str, tmp_path: Any
) -> None:
    with gateway(str(client.base_url), patience=0.4) as proxy:
        if command == "watch":
            with Client(proxy.url) as own:
                job_id = own.submit(SPEC).id
            process = fflab(proxy.url, "watch", job_id)
        else:
            (tmp_path / "spec.json").write_text(SPEC.model_dump_json(exclude_unset=True))
            process = fflab(proxy.url, "submit", str(tmp_path / "spec.json"), "--wait")
        # perhaps on the estimate already, which comes before the job
        (job,) = wait_until(lambda: store.jobs.page(limit=2).jobs, "there is a job")
        wait_until(lambda: proxy.given_up, "the gateway has given up")
        succeed(store, job.id)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, err
    assert "succeeded" in out
    assert err == ""
