"""The errors of the client. Each message says in one line what was wrong and what to do.

FflabError
├── Unreachable      no answer from the service
│   ├── Gateway      a gateway in between answered that it had no answer
│   └── NotFflab     something answers at that address, but not this service
├── VersionSkew      client and service are of versions that do not understand each other
├── Refused          the service answered with a problem: `status`, `code`, `problem`
│   ├── KeyRefused   an API key is needed, or this one is not known
│   └── NotFound     there is no such job, chart or data set
├── JobFailed        the job that was waited for ended without success: `job`
└── StillRunning     the job had not ended in time: `job`; also a TimeoutError
"""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from service.jobs import Job, JobState

PROBLEM = "application/problem+json"
EXCERPT_CHARACTERS = 60
# answers that gateways give of their own
GATEWAY_STATUS = frozenset({408, 413, 414, 429, 431, 502, 503, 504})


class FflabError(Exception):
    """Something went wrong between this client and the service."""


class Unreachable(FflabError):
    """The service did not answer."""


class NotFflab(Unreachable):
    """What answers at this address is not an fflab service."""


class Gateway(Unreachable):
    """A gateway between client and service answered in place of the service."""


class VersionSkew(FflabError):
    """The answer has a form that this version of the client does not know."""


class Refused(FflabError):
    """The service answered with a problem (RFC 9457); `status` and `problem` hold it."""

    def __init__(self, status: int, problem: Mapping[str, Any], advice: str = "") -> None:
        self.status, self.problem = status, problem
        self.code = str(problem.get("code") or "")
        places = [
            f"{error.get('pointer', '')}: {error.get('message', '')}"
            for error in problem.get("errors", [])
        ]
        title, detail = (
            str(problem.get("title") or f"HTTP {status}"),
            advice or str(problem.get("detail") or ""),
        )
        super().__init__("; ".join(places) or f"{title} {detail}".strip())


class KeyRefused(Refused):
    """An API key is needed, or the one that was sent is not known."""


class NotFound(Refused):
    """There is no such job, chart or data set."""


class JobFailed(FflabError):
    """The job ended without success; `job` is its last state."""

    def __init__(self, job: Job) -> None:
        self.job = job
        reason = f"{job.error.title}: {job.error.detail}" if job.error else "no reason was given"
        super().__init__(
            f"{job.id} {job.state.value}" + (f": {reason}" if job.state == JobState.failed else "")
        )


class StillRunning(FflabError, TimeoutError):
    """The job had not ended in time; it goes on, and `job` is its last state."""

    def __init__(self, job: Job, seconds: float) -> None:
        self.job = job
        super().__init__(
            f"{job.id} is still {job.state.value} after {seconds:g} s; it goes on, and can be "
            f"waited for again"
        )


def unreachable(url: str, fault: httpx.TransportError, proxy: object | None = None) -> Unreachable:
    """Return the error for a service that did not answer any attempt.

    **Arguments:**

    - `url`: the address of the service.
    - `fault`: how the last attempt failed.
    - `proxy`: what stands between, with its name as a text.
    """
    why = str(fault) or type(fault).__name__
    if proxy is not None and isinstance(fault, httpx.ConnectError | httpx.ProxyError):
        return Unreachable(
            f"{url}: {proxy} does not let us through ({why}); mend that variable, or set "
            f"NO_PROXY={httpx.URL(url).host} to reach the service without it"
        )
    if proxy is not None:
        why += f", through {proxy}"
    return Unreachable(
        f"{url}: the service does not answer ({why}); start it with `fflab up` or set FFLAB_URL"
    )


def error_from(url: str, response: httpx.Response, *, keyed: bool) -> FflabError:
    """Return the error that an unsuccessful response means.

    **Arguments:**

    - `url`: the address of the service.
    - `response`: the response.
    - `keyed`: whether the request had an API key.
    """
    problem = _problem(response)
    if response.is_redirect:
        return NotFflab(
            f"{url}: redirects to {response.headers.get('Location', 'elsewhere')}; give the "
            f"client the address of the service"
        )
    if problem is None and response.status_code in GATEWAY_STATUS:
        return Gateway(
            f"{url}: a gateway in between answered HTTP {response.status_code} "
            f"({response.reason_phrase or 'no reason'}) in place of the service; look at its "
            f"limits and at the service behind it"
        )
    if problem is None:
        return not_fflab(url, response)
    if response.status_code == 401:
        advice = "The one that was sent is not known there (any more): " if keyed else ""
        advice += (
            "set FFLAB_API_KEY or give Client(url, api_key); `fflab keys create NAME` on the "
            "server makes one."
        )
        return KeyRefused(401, problem, advice)
    if problem.get("code") in ("no-such-page", "wrong-method"):
        return VersionSkew(
            f"{url}: does not know {response.request.method} {response.request.url.path}; "
            f"{_UPGRADE}"
        )
    return (NotFound if response.status_code == 404 else Refused)(response.status_code, problem)


def not_fflab(url: str, response: httpx.Response) -> NotFflab:
    """Return the error for a response that another program sent."""
    kind = response.headers.get("Content-Type", "no content type").partition(";")[0]
    excerpt = " ".join(response.text.split())[:EXCERPT_CHARACTERS]
    said = f"HTTP {response.status_code}, {kind}" + (f": {excerpt!r}" if excerpt else "")
    return NotFflab(
        f"{url}: what answers is not an fflab service ({said}); look at FFLAB_URL, and at proxies "
        f"in between"
    )


def version_skew(url: str, what: str, why: str) -> VersionSkew:
    """Return the error for JSON that does not have the expected form."""
    return VersionSkew(
        f"{url}: {what} has a form that this client does not know "
        f"({' '.join(why.split())[:200]}); {_UPGRADE}"
    )


_UPGRADE = "bring both to one version: `pip install --upgrade fflab` here, or on the server"


def _problem(response: httpx.Response) -> Mapping[str, Any] | None:
    if not response.headers.get("Content-Type", "").startswith(PROBLEM):
        return None
    try:
        document = response.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None
    return document if isinstance(document, dict) else None
