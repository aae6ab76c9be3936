"""When a request is sent again, and after how long: growing pauses with jitter, up to a limit."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

ATTEMPTS = 6
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
LONGEST_ASKED_SECONDS = 30.0  # the most that a Retry-After may ask for
PATIENCE_SECONDS = 60.0  # all pauses of one request together
PASSING_STATUS = frozenset({429, 502, 503, 504})
BROKEN_STATUS = frozenset({502, 504})  # what a gateway says that did not wait for the answer
# how a connection ends that a gateway has cut
CUT = (httpx.ReadTimeout, httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError)
IN_FLIGHT = (
    b'"still-in-flight"'  # the 409 of a repeated submit whose first request is being worked on
)


class RetryPolicy:
    """Counts the attempts at one request."""

    def __init__(self, attempts: int = ATTEMPTS) -> None:
        self._attempts = attempts
        self.reset()

    def reset(self) -> None:
        """Count from the beginning, since there was progress."""
        self.failures, self._waited = 0, 0.0

    def pause(self, response: httpx.Response | None = None) -> float | None:
        """Return the seconds until the next attempt; None: do not retry.

        `response` is None where there was no answer.
        """
        if response is not None and not is_retryable(response):
            return None
        self.failures += 1
        if self.failures >= self._attempts or self._waited >= PATIENCE_SECONDS:
            return None
        asked = 0.0 if response is None else retry_after(response)
        seconds = max(asked, backoff_seconds(self.failures, random.random()))  # noqa: S311 - jitter
        self._waited += seconds
        return seconds


def is_retryable(response: httpx.Response) -> bool:
    """Whether the same request may succeed later."""
    return response.status_code in PASSING_STATUS or (
        response.status_code == 409 and IN_FLIGHT in response.content
    )


def backoff_seconds(failures: int, jitter: float) -> float:
    """Return the pause after `failures` failures in a row; the first is 1.

    It doubles; `jitter` (0 to 1) chooses between half and all of it, so that clients do not come
    back in step.
    """
    whole = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 30))
    return whole * (0.5 + 0.5 * jitter)


def retry_after(response: httpx.Response) -> float:
    """Return the seconds that Retry-After asks for, as a number or a date; 0 if it says neither."""
    text = response.headers.get("Retry-After", "")
    try:
        seconds = (
            float(text)
            if text.strip().isdigit()
            else (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError):  # not a date, or a date without a zone
        return 0.0
    return max(0.0, min(LONGEST_ASKED_SECONDS, seconds))
