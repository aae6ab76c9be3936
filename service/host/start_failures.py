"""The one line by which a program says why it cannot start, and by which its parent finds it."""

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

MARK = "cannot start: "
EXIT_REFUSED = 3
READ_BYTES = 1_000_000  # from the end of a log
SECRETS = ("url", "secret", "key")  # how settings are named that may hold one

log = logging.getLogger(__name__)


class ServeError(Exception):
    """The API cannot be started; the message says why and what to do, in one line."""


def reason_of(error: BaseException) -> str:
    """Return why something failed, in one line.

    A setting that is wrong is named, and of an error of the database its own words are given.
    """
    if isinstance(error, ValidationError):
        return wrong_setting(error)
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    return text or type(error).__name__


def wrong_setting(error: ValidationError) -> str:
    """Return the first thing that is wrong with the settings, in one line, without any secret."""
    wrong = error.errors(include_url=False)[0]
    said = wrong["msg"].removeprefix("Value error, ")
    place = "__".join(str(step) for step in wrong["loc"])
    if not place:
        return said
    name = f"FFLAB_{place.upper()}" if error.title == "Settings" else place
    is_plain = isinstance(wrong["input"], str | int | float) and not place.endswith(SECRETS)
    return f"{name}: {said}" + (f", got {wrong['input']!r}" if is_plain else "")


@contextlib.contextmanager
def one_line_failure(program: str, *expected: type[Exception]) -> Iterator[None]:
    """End the program with the marked line and exit code 3 where its start fails.

    **Arguments:**

    - `program`: the name to print.
    - `expected`: errors whose message says all; of others the log has the traceback, too.
    """
    try:
        yield
    except Exception as error:
        known = isinstance(error, (*expected, ValidationError))
        if not known:
            log.exception("%s failed at its start", program)
        kind = "" if known else f"{type(error).__name__}: "
        sys.stderr.write(f"{program} {MARK}{kind}{reason_of(error)}\n")
        sys.exit(EXIT_REFUSED)


def reason_in(log_file: Path, since: int = 0) -> str:
    """Return the reason that a log gives for the end of a program.

    **Arguments:**

    - `log_file`: the file of its output.
    - `since`: the byte at which the program's output begins.

    **Returns:** what follows the mark in the last line that has one, else the last line.
    """
    try:
        with log_file.open("rb") as content:
            end = content.seek(0, 2)
            content.seek(max(since if since <= end else 0, end - READ_BYTES))
            text = content.read().decode(errors="replace")
    except OSError:
        return "it wrote no log"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    marked = [line.partition(MARK)[2] for line in lines if MARK in line]
    return (marked or lines or ["it wrote no log"])[-1]
