"""Writes files in a thread of its own, so that what computes does not wait for the disk."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)


class BackgroundWrite:
    """One write at a time, in the background.

    What a write raised is raised again where its end is asked for. Call all methods in one thread.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a write has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, write: Callable[[], None]) -> None:
        """Begin a write. The one before must have been asked for its end."""
        self._thread = threading.Thread(target=self._run, args=(write,), name="write", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for the write that is under way, and raise what it raised."""
        if self._thread is None:
            return
        self._thread.join()
        self._thread, error = None, self._error
        self._error = None
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for the write that is under way; nobody is told any more what it raises."""
        try:
            self.wait()
        except Exception as error:  # noqa: BLE001 - the attempt has ended for another reason
            log.warning("a checkpoint was not written: %s", error)

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001 - it is raised where the end is asked for
            self._error = error
