"""Lines of logs: one for each record, of a bounded length, without what a terminal would obey."""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.encoding.escaping import LONGEST_LOG_LINE
from service.encoding.log_format import (
    FIELDS,
    LONGEST_TRACE,
    JsonFormatter,
    LogFormatter,
    add_fields,
    logged_with,
)
from service.stack.redis_server import free_port
from service.store import Store
from service.web.access_log import LONGEST_ADDRESS, RequestFormatter, log_config
from tests.hostile import HIDDEN, NASTY
from tests.over_http import submit
from workers.app import escape_lines

FORM = "%(asctime)s %(levelname)s api: %(message)s"


def written(formatter: logging.Formatter, message: str, *arguments: object) -> str:
    """What a logger with that formatter writes for a record."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.warning(message, *arguments)
    return out.getvalue()


@pytest.mark.parametrize("text", NASTY)
def test_a_record_is_one_short_line(text: str) -> None:
    for found in (
        written(LogFormatter(FORM), "%s is not there", text),
        written(LogFormatter(FORM), f"a{text}\n2026-01-01 00:00:00 ERROR api: forged"),
        written(LogFormatter(FORM), "%s", ValueError(text * 10_000)),
    ):
        assert found.count("\n") == 1
        assert found.endswith("\n")
        assert not HIDDEN.search(found.rstrip("\n"))
        assert len(found) < LONGEST_LOG_LINE + 100


def test_a_trace_keeps_its_lines_and_is_cut() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(LogFormatter(FORM))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("\x1b[31m" + "a" * 900_000)
    except ValueError:
        logger.exception("it failed")
    lines = out.getvalue().splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert any(line.startswith("ValueError: \\x1b[31maaa") for line in lines)
    assert len(out.getvalue()) < LONGEST_TRACE + 100


def test_a_request_is_logged_with_a_part_of_its_address() -> None:
    form = log_config()["formatters"]["access"]["fmt"]
    formatter = RequestFormatter(form, use_colors=False)
    path = "/v1/jobs/" + "a" * 60_000
    found = written(formatter, '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", path, "1.1", 401)
    assert '127.0.0.1:1 - "GET /v1/jobs/aaaa' in found
    assert "401" in found
    assert len(found) < LONGEST_ADDRESS + 100
    odd = written(
        formatter, '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "\x1b[2J", "/\x9b\n", "1.1", 400
    )
    assert odd.count("\n") == 1
    assert not HIDDEN.search(odd.rstrip("\n"))


@pytest.mark.slow
def test_the_log_of_a_running_api_stays_short(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "log"
    environment = {**os.environ, "FFLAB_HOME": str(tmp_path / "home")}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "service.serve", "--port", str(port)],
            env=environment,
            stdout=file,
            stderr=file,
        )
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
        return False

    try:
        wait_until(is_up, "the API answers")
        with httpx.Client(base_url=url, trust_env=False) as client:
            for _ in range(20):
                assert client.get(f"/v1/jobs/{'a' * 40_000}").status_code == 404
            client.get("/v1/jobs/%1b%5b31m%c2%9b%0a2026 ERROR forged")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)
    lines = log.read_text().splitlines()
    requests = [line for line in lines if "GET /v1/jobs/aaa" in line]
    assert len(requests) == 20
    assert max(map(len, lines)) < LONGEST_LOG_LINE + 100
    assert log.stat().st_size < 60_000
    assert not [line for line in lines if HIDDEN.search(line) or line.startswith("2026 ERROR")]


def test_celerys_lines_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    logger = logging.Logger("celery")
    logger.addHandler(logging.StreamHandler(out))
    escape_lines(logger, "[%(levelname)s] %(message)s", loglevel=20)
    logger.warning("a\x1b[31m\nb")
    assert out.getvalue() == "[WARNING] a\\x1b[31m\\nb\n"


def test_the_log_of_a_job_is_escaped(client: httpx.Client, store: Store) -> None:
    job = submit(client)
    claim = store.queue.claim(job.id, "w\x1b[31m", 60.0)
    assert claim is not None
    text = client.get(f"/v1/jobs/{job.id}/log").text
    assert "worker w\\x1b[31m" in text
    assert not HIDDEN.search(text.replace("\n", ""))


def as_json(out: str) -> list[dict[str, object]]:
    """The objects of lines of JSON; a line that is none fails."""
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("text", NASTY)
def test_a_record_is_a_json_object_of_one_line(text: str) -> None:
    out = written(JsonFormatter("api"), "%s is not there", text)
    assert out.count("\n") == 1
    assert out.isascii()
    assert not HIDDEN.search(out.rstrip("\n"))
    (found,) = as_json(out)
    assert (found["level"], found["process"], found["logger"]) == ("warning", "api", "test")
    assert str(found["message"]).startswith(text[:20])
    assert len(str(found["message"])) <= LONGEST_LOG_LINE + 1


def test_a_record_has_the_fields_of_its_request_and_its_own() -> None:
    record = logging.makeLogRecord(
        {"msg": "%s", "args": ("done",), "job_id": "job_1", "worker": None, "level": "forged"}
    )
    token = FIELDS.set({"request": "r", "job_id": "of the request"})
    try:
        add_fields(key="ada", address=None)
        found = json.loads(JsonFormatter("runner").format(record))
    finally:
        FIELDS.reset(token)
    assert found["request"] == "r"
    assert found["key"] == "ada"
    assert found["job_id"] == "job_1", "what a line says itself comes first"
    assert found["level"] != "forged"
    assert "worker" not in found
    assert "address" not in found


def test_a_json_trace_is_a_field_that_is_cut() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonFormatter("worker"))
    logger = logging.Logger("test")
    logger.addHandler(handler)
    try:
        raise ValueError("a" * 900_000)
    except ValueError:
        logger.exception("it failed")
    (found,) = as_json(out.getvalue())
    assert str(found["trace"]).startswith("Traceback (most recent call last):")
    assert len(out.getvalue()) < LONGEST_TRACE + 1_000


def test_a_request_is_a_json_object_with_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFLAB_LOG_FORMAT", "json")
    made = log_config()["formatters"]["access"]
    path = "/v1/jobs/" + "a" * 60_000
    formatter = made["()"](made["process"])
    (found,) = as_json(
        written(formatter, '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", path, "1.1", 401)
    )
    parts = ("address", "method", "http", "status")
    assert [found[name] for name in parts] == ["127.0.0.1:1", "GET", "1.1", 401]
    assert str(found["path"]).startswith("/v1/jobs/aaaa")
    assert len(str(found["path"])) < LONGEST_ADDRESS + 10


def test_the_lines_of_a_job_have_nothing_of_the_job_before() -> None:
    record = logging.makeLogRecord({"msg": "computed"})
    with logged_with(job_id="job_1", key="ada"):
        add_fields(layer=0)
        first = json.loads(JsonFormatter("runner").format(record))
    with logged_with(job_id="job_2", key=None):
        second = json.loads(JsonFormatter("runner").format(record))
    assert (first["job_id"], first["key"], first["layer"]) == ("job_1", "ada", 0)
    assert second["job_id"] == "job_2"
    assert not {"key", "layer"} & set(second)
    assert "job_id" not in json.loads(JsonFormatter("runner").format(record))
