"""What is answered of a job whose numbers diverged: JSON that every parser takes."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn

import httpx
import pytest
from sqlalchemy.exc import StatementError

import ffengine
from ffengine.interrupts import Control, Diverged
from ffengine.results import EpochRow
from ffengine.spec import TrainSpec
from ffengine.training import EpochReport
from service.store import Store
from tests.factories import HALF, LEASE
from tests.over_http import submit
from tests.service.samples import epoch_row
from workers.error_mapping import failure_of

DIVERGING = {
    "kind": "train",
    "dataset": {"name": "digits", "train_samples": 60, "test_samples": 20},
    "network": {"widths": [8], "activation": "squared_relu"},
    "optimizer": {"name": "sgd", "lr": 1e9},
    "epochs": 30,
    "monitor": {"samples": 20},
}


def _refuse(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON")


def strictly(text: str) -> Any:
    """The document. Fails for NaN and Infinity, which Python reads and others do not."""
    return json.loads(text, parse_constant=_refuse)


@pytest.fixture(scope="module")
def course() -> tuple[list[EpochRow], Diverged]:
    """The rows of a run until it diverged, and how it ended."""
    rows: list[EpochRow] = []

    def on_epoch(report: EpochReport) -> Control:
        rows.extend(report.rows)
        return "continue"

    with pytest.raises(Diverged) as ended:
        ffengine.train(TrainSpec.model_validate(DIVERGING), device="cpu", on_epoch=on_epoch)
    assert rows
    return rows, ended.value


@pytest.fixture
def job(client: httpx.Client, store: Store, course: tuple[list[EpochRow], Diverged]) -> str:
    """A job that diverged, as its worker records it."""
    rows, error = course
    made = submit(client, DIVERGING).id
    claim = store.queue.claim(made, "w", LEASE)
    assert claim is not None
    store.queue.record(made, claim.attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    store.queue.fail(made, claim.attempt, failure_of(error), (error.diagnostic,))
    return made


def documents(client: httpx.Client, job: str) -> Iterator[tuple[str, str]]:
    """All JSON that is answered of a job, with its addresses."""
    at = f"/v1/jobs/{job}"
    links = [line["links"]["json"] for line in strictly(client.get(f"{at}/charts").text)["items"]]
    assert links
    for path in ("/v1/jobs", at, f"{at}/curves", f"{at}/events", f"{at}/charts", *links):
        answer = client.get(path, headers={"Accept": "application/json"})
        assert answer.status_code == 200, answer.text
        yield path, answer.text
    refusal = client.get(f"{at}/result")
    assert refusal.status_code == 409
    yield f"{at}/result", refusal.text


@pytest.mark.slow
def test_all_that_is_answered_of_a_diverged_job_is_json(client: httpx.Client, job: str) -> None:
    for path, text in documents(client, job):
        assert strictly(text), path
    assert strictly(client.get(f"/v1/jobs/{job}").text)["error"]["code"] == "diverged"
    with client.stream(
        "GET", f"/v1/jobs/{job}/events", headers={"Accept": "text/event-stream"}
    ) as stream:
        told = [line.partition(":")[2] for line in stream.iter_lines() if line[:5] == "data:"]
    assert [strictly(line) for line in told]
    for path in (f"/jobs/{job}", "/jobs", f"/compare?job={job}"):
        assert client.get(path).status_code == 200, path


@pytest.mark.slow
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_row_that_is_not_finite_is_never_answered(
    client: httpx.Client, store: Store, value: float
) -> None:
    made = submit(client, DIVERGING).id
    claim = store.queue.claim(made, "w", LEASE)
    assert claim is not None
    with pytest.raises(StatementError, match="not JSON compliant"):
        store.queue.record(
            made,
            claim.attempt,
            lease_seconds=LEASE,
            progress=HALF,
            rows=[epoch_row().model_copy(update={"loss": value})],
        )
    assert strictly(client.get(f"/v1/jobs/{made}/curves").text)["items"] == []
