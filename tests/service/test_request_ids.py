"""Requests have names: of a proxy or client where they are plain, else new ones."""

import logging

import httpx
import pytest

from service.encoding.log_format import JsonFormatter

SPEC = {"kind": "train", "epochs": 1, "network": {"widths": [8]}}


@pytest.mark.parametrize("given", ["7f3c", "a.b-c_1", "A" * 64])
def test_a_plain_name_is_kept(client: httpx.Client, given: str) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", ["", "a b", 'a"b', "-a", "A" * 65, "a,b"])
def test_another_one_is_replaced(client: httpx.Client, given: str) -> None:
    found = client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert found != given
    assert len(found) == 32


def test_every_answer_has_a_name_of_its_own(client: httpx.Client) -> None:
    answers = [client.get(path) for path in ("/", "/v1/jobs", "/v1/jobs/nothing", "/v1/nothing")]
    names = {answer.headers["X-Request-ID"] for answer in answers}
    assert len(names) == len(answers)


def test_a_submission_is_logged_with_request_and_job(
    client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.handler.setFormatter(JsonFormatter("api"))
    with caplog.at_level(logging.INFO, "service"):
        answer = client.post("/v1/jobs", json={"spec": SPEC}, headers={"X-Request-ID": "r-1"})
    job = answer.json()["id"]
    lines = [line for line in caplog.text.splitlines() if "submitted" in line]
    assert len(lines) == 1
    assert '"request": "r-1"' in lines[0]
    assert f'"job_id": "{job}"' in lines[0]
