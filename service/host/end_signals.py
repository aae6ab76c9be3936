"""The signals that end a program; those that the caller has set to be ignored stay ignored.

`nohup` ignores SIGHUP, and a shell ignores SIGINT for its background jobs.
"""

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class EndRequest(threading.Event):
    """Set when the program is asked to end; `name` says by which signal."""

    name = ""

    def note(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.name = self.name or signal.Signals(number).name
        self.set()


def ignored_signals() -> frozenset[int]:
    """The end signals that are ignored now."""
    return frozenset(number for number in END_SIGNALS if signal.getsignal(number) == signal.SIG_IGN)


def ignore_again(numbers: Iterable[int]) -> None:
    """Ignore signals that were ignored at the start, which a library has handled since."""
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def noted_signals() -> Iterator[EndRequest]:
    """Note end signals instead of ending by them. Call it in the main thread."""
    request = EndRequest()
    noted = [number for number in END_SIGNALS if number not in ignored_signals()]
    before = [(number, signal.signal(number, request.note)) for number in noted]
    try:
        yield request
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def interrupt_by_signals() -> None:
    """Have each end signal raise KeyboardInterrupt, so that what was opened is closed."""
    for number in END_SIGNALS:
        if number not in ignored_signals():
            signal.signal(number, signal.default_int_handler)
