"""Requests that schemathesis makes up of an OpenAPI document, against a real API process.

`python -m tests.fuzzing --port PORT` is the API as `python -m service.serve` starts it, but that no
message to a webhook leaves this machine, and that streams and long polls end after a moment.
"""

import base64
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from fastapi.sse import KEEPALIVE_COMMENT

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.host.names import is_loopback
from service.store import Store
from service.web import event_feed
from service.web.problems import PROBLEMS
from service.web.routes import jobs
from service.web.server import main as serve
from tests.furnished import UNHEARD, Furnished
from tests.needs import program
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
MOMENT_SECONDS = 0.05
KNOWN_SHARE = 0.8  # of the names in generated requests are those of something that is there
WITH_BODIES = (
    "POST /v1/jobs",
    "POST /v1/runs",
    "POST /v1/estimate",
    "PATCH /v1/jobs/{job_id}",
    "POST /v1/datasets",
    "POST /v1/weights",
)
WITH_A_GRAMMAR = re.compile(r"query/(where|sort|columns|objective|x|y|width_mm|font_pt)\b")
RULES_OF_LISTS = ('"bad-cursor"', "query/fields", "which no name has")


@contextmanager
def api(environment: Mapping[str, str], log: Path) -> Iterator[str]:
    """The URL of an API process with these settings."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as kept:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzzing", "--port", str(port)],
            env=os.environ | environment,
            cwd=ROOT,
            stdout=kept,
            stderr=kept,
        )
    try:
        wait_until(lambda: _answers(url, process), f"{url} answers")
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the API has ended"
    try:
        return httpx.get(f"{url}/healthz", trust_env=False).is_success
    except httpx.TransportError:
        return False


class Finding(NamedTuple):
    """A check that an answer did not pass."""

    check: str
    operation: str
    message: str
    request: str
    status: int
    answer: str


class Fuzzed(NamedTuple):
    """What came of a run: how many requests were sent, and what was found."""

    requests: int
    findings: list[Finding]
    errors: list[str]


def fuzz(
    url: str,
    document: Mapping[str, Any],
    there: Furnished,
    folder: Path,
    options: Sequence[str],
    *,
    key: str | None = None,
    uncovered: Sequence[str] = (),
) -> Fuzzed:
    """Send requests that are made up of the document, and read the report.

    `uncovered`: operations without the thousands of requests that go through all of a schema.
    """
    folder.mkdir()
    (folder / "openapi.json").write_text(json.dumps(_with_examples(document, there)), "utf-8")
    (folder / "schemathesis.toml").write_text(_configuration(there, key, uncovered), "utf-8")
    report = folder / "report.ndjson"
    command = [program("bin/schemathesis"), "--config-file", "schemathesis.toml", "run"]
    command += ["openapi.json", "--url", url, "--report-ndjson-path", report, *options]
    command += ["--no-color", "--continue-on-failure", "--generation-database", "none"]
    command += ["--request-timeout", str(PATIENCE_SECONDS)]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert "test cases:" in ended.stdout.lower(), ended.stdout[-3000:] + ended.stderr[-3000:]
    return _read(report)


def _with_examples(document: Mapping[str, Any], there: Furnished) -> Mapping[str, Any]:
    """The document, with the ids of jobs that are there as examples."""
    found: dict[str, Any] = json.loads(json.dumps(document))
    for methods in found["paths"].values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if (parameter["in"], parameter["name"]) == ("path", "job_id"):
                    parameter["schema"]["examples"] = there.jobs[:MANY_EXAMPLES]
    return found


MANY_EXAMPLES = 11  # one of each kind


def _configuration(there: Furnished, key: str | None, uncovered: Sequence[str]) -> str:
    """What schemathesis is told: the names of what is there, the key, and what to leave out."""
    names = {
        "path.job_id": there.jobs,
        "path.name": there.datasets,
        "path.file": there.charts,
        "path.delivery_id": there.deliveries,
        "path.code": list(PROBLEMS),
        "query.parent": there.jobs,
        "body.webhook": [UNHEARD],
        "body.webhook.url": [UNHEARD],
    }
    lines = []
    for place, values in names.items():
        name = place.replace(".", "-")
        lines.append(f"dictionaries.{name} = {{values = {json.dumps(values)}}}")
        lines.append(
            f'parameters."{place}" = {{dictionary = "{name}", probability = {KNOWN_SHARE}}}'
        )
    if key:
        lines.append(f'auth.openapi.bearer.bearer = "{key}"')
        lines.append(f'auth.openapi.key.api_key = "{key}"')
    for name in uncovered:
        lines += ["[[operations]]", f'include-operation-id = "{name}"']
        lines.append("phases.coverage.enabled = false")
    return "\n".join(lines) + "\n"


def _read(report: Path) -> Fuzzed:
    requests = 0
    findings: list[Finding] = []
    errors: list[str] = []
    with report.open(encoding="utf-8") as lines:
        for kind, event in (item for line in lines for item in json.loads(line).items()):
            if kind in ("NonFatalError", "FatalError", "Interrupted"):
                errors.append(json.dumps(event)[:2000])
            if kind == "ScenarioFinished":
                sent = event["recorder"].get("interactions", {})
                requests += sum(1 for one in sent.values() if one.get("response"))
                findings += _findings(event["recorder"], sent)
    return Fuzzed(requests, findings, errors)


def _findings(recorder: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[Finding]:
    for case, checks in recorder.get("checks", {}).items():
        for check in checks:
            if check["status"] == "success":
                continue
            failure = check["failure_info"]["failure"]
            request, response = sent[case]["request"], sent[case].get("response") or {}
            yield Finding(
                check["name"],
                failure.get("operation") or recorder["label"],
                failure["message"],
                f"{request['method']} {request['uri']} {_text(request.get('body'))[:1000]}",
                response.get("status_code", 0),
                _text(response.get("content"))[:1000],
            )


def _text(content: Mapping[str, str] | None) -> str:
    return base64.b64decode((content or {}).get("$base64", "")).decode("utf-8", "backslashreplace")


def is_fault(finding: Finding) -> bool:
    """Whether a finding is a fault of the service, and not of what a schema can say.

    - A schema has no words for all that a body, a cursor, a list of fields or a name must be.
    - Filters, columns and objectives have a grammar, and a width and a size of text must fit.
    - A text that is the id of no study has no runs, also where it is no id at all.
    - Anybody may send headers that nobody has heard of.
    - Rows that are too many for the schema may be too many bytes before anybody has counted them.
    - A service without a broker is not ready.
    """
    match finding.check:
        case "positive_data_acceptance":
            by_rule = any(rule in finding.answer for rule in RULES_OF_LISTS)
            by_rule = by_rule and finding.operation in (
                "GET /v1/jobs",
                "GET /v1/datasets",
                "GET /v1/weights",
            )
            said = finding.status in (400, 422)
            by_rule = by_rule or bool(WITH_A_GRAMMAR.search(finding.answer))
            return not (said and (by_rule or finding.operation in WITH_BODIES))
        case "negative_data_rejection":
            no_study = "parameter `parent` in query" in finding.message
            unheard = "in header - object with unexpected properties" in finding.message
            too_many = "more items than allowed" in finding.message and finding.status == 413
            return not (no_study or unheard or too_many)
        case "not_a_server_error":
            return (finding.operation, finding.status) != ("GET /readyz", 503)
    return True


def _resolve_here_alone() -> None:
    """Let no name or address beyond this machine be found."""
    resolve = socket.getaddrinfo

    def found(host: Any, *given: Any, **named: Any) -> Any:
        if host is not None and not is_loopback(str(host)):
            raise socket.gaierror(socket.EAI_NONAME, "this test stays on this machine")
        return resolve(host, *given, **named)

    socket.getaddrinfo = found


_stream = event_feed.stream


async def _until_a_pause(
    feed: event_feed.EventFeed, store: Store, subscription: event_feed.Subscription, after: int
) -> AsyncIterator[bytes]:
    """The stream of a job's events, until nothing has happened for a moment."""
    async for piece in _stream(feed, store, subscription, after):
        if piece == KEEPALIVE_COMMENT:
            return
        yield piece


def _hold_nothing_for_long() -> None:
    """Let streams and long polls end soon."""
    event_feed.HEARTBEAT_SECONDS = MOMENT_SECONDS
    jobs.LONGEST_WAIT_SECONDS = MOMENT_SECONDS  # type: ignore[assignment]
    event_feed.stream = _until_a_pause


if __name__ == "__main__":
    _resolve_here_alone()
    _hold_nothing_for_long()
    serve(sys.argv[1:])
