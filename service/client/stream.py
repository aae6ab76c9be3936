"""Reads a job's Server-Sent Events from bytes, and says where to resume a broken stream.

Nothing here connects, so that both clients share it.
"""

from collections.abc import Iterator

import httpx
from pydantic import ValidationError

from service.client.errors import Unreachable, error_from, not_fflab, version_skew
from service.client.requests import job_path
from service.client.retries import CUT, PASSING_STATUS, RetryPolicy
from service.jobs import TERMINAL, Event, Job
from service.schemas import EventPage

BREAKS = 4  # in a row without an event; then the events are read page by page
POLL_SECONDS = 1.0
SILENCE_SECONDS = 60.0  # the service sends a heartbeat every 15


class EventStream:
    """The events of one job, over as many connections as it takes."""

    def __init__(self, url: str, job_id: str, after: int, attempts: int) -> None:
        self.job_id, self.after = job_id, after
        self.over = False
        self.polls = False  # streams do not get through: read pages
        self._breaks = 0
        # the last connection was closed without an event: the job may have ended, so read it
        self.silent = False
        self.pause_seconds = 0.0
        self._url, self._retries = url, RetryPolicy(attempts)
        self._ended = False  # the job had ended before this connection was made
        self._held, self._data = b"", list[bytes]()
        self._last: str | None = None  # the kind of the last event of this connection

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """Build the request that resumes the stream."""
        headers = {
            "Accept": "text/event-stream",
            **({"Last-Event-ID": str(self.after)} if self.after else {}),
        }
        return http.build_request(
            "GET",
            job_path(self.job_id, "events"),
            headers=headers,
            timeout=httpx.Timeout(SILENCE_SECONDS),
        )

    def opened(self, response: httpx.Response) -> bool:
        """Whether the response is a stream; if not, read its body and call `after_refusal`."""
        self._held, self._data, self._last, self.silent = b"", [], None, False
        return response.status_code == 200 and response.headers.get("Content-Type", "").startswith(
            "text/event-stream"
        )

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that these bytes complete.

        Lines are split at line feeds only: str.splitlines would also split within JSON texts.
        """
        *lines, self._held = (self._held + chunk).split(b"\n")
        for line in (line.removesuffix(b"\r") for line in lines):
            if line.startswith(b"data:"):
                self._data.append(line.removeprefix(b"data:").removeprefix(b" "))
            elif line.startswith(b":"):
                self._progress()  # a heartbeat counts as progress
            elif not line and self._data:
                yield self._event()

    def after_close(self) -> None:
        """Decide how to go on after the service has closed the stream."""
        if self._last == "end" or (
            self._last is None and self._ended
        ):  # an `end` in the middle is that of a job that was retried
            self.over = True
        elif self._last is not None:
            self.pause_seconds = 0.0
        else:
            self.silent = True
            self._fault("it is closed without an event")

    def after_silence(self, job: Job) -> None:
        """Decide how to go on after a silent connection, by the job as it is now.

        If it has ended, the next silent connection ends the stream.
        """
        self._ended = job.state in TERMINAL

    def after_refusal(self, response: httpx.Response) -> None:
        """Decide how to go on after the service refused the stream.

        Raises FflabError if that is final.
        """
        if response.status_code in PASSING_STATUS and self._gives_up_streams():
            return
        pause = self._retries.pause(response)
        if pause is None:
            fault = not_fflab(self._url, response) if response.is_success else None
            raise fault or error_from(
                self._url, response, keyed="Authorization" in response.request.headers
            )
        self.pause_seconds = pause

    def after_break(self, error: httpx.TransportError) -> None:
        """Decide how to go on after the connection broke.

        Raises Unreachable after too many in a row without an event between them.
        """
        if isinstance(error, CUT) and self._gives_up_streams():
            return
        self._fault(str(error) or type(error).__name__, error)

    def page(self, page: EventPage, job: Job) -> Iterator[Event]:
        """Yield the events of a page, read after the job; the last page ends the stream."""
        for event in page.items:
            self.after = event.id
            yield event
        self.over = job.state in TERMINAL and page.next_cursor is None
        self.pause_seconds = 0.0 if self.over or page.next_cursor is not None else POLL_SECONDS

    def _gives_up_streams(self) -> bool:
        self._breaks += 1
        self.polls = self._breaks >= BREAKS
        self.pause_seconds = 0.0
        return self.polls

    def _progress(self) -> None:
        self._breaks = 0
        self._retries.reset()

    def _fault(self, why: str, error: httpx.TransportError | None = None) -> None:
        pause = self._retries.pause()
        if pause is None:
            raise Unreachable(
                f"{self._url}: the event stream of {self.job_id} broke and could not be resumed "
                f"({why})"
            ) from error
        self.pause_seconds = pause

    def _event(self) -> Event:
        data, self._data = b"\n".join(self._data), []
        try:
            event = Event.model_validate_json(data)
        except ValidationError as error:
            raise version_skew(self._url, "an event", str(error)) from error
        self.after, self._last = event.id, event.type
        self._progress()
        return event
