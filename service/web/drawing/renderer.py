"""`python -m service.web.drawing.renderer`: draws what it is asked for, request by request.

It reads the database and the artifacts, and writes neither. Its limits come with the first message.
"""

import contextlib
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from service.encoding.log_format import log_to_stderr
from service.web.drawing.protocol import REQUEST, Answer, NoSuchJob, Request, Setup, line

# What the charting library reserves and never touches, which the kernel counts all the same.
RESERVED_BYTES = 2**30
NICENESS = 5  # below those who read
FIRST_TO_KILL = "500"  # of all processes where the machine has no memory left

log = logging.getLogger(__name__)

Draw = Callable[[Request], bytes]


def main(make: Callable[[Setup], Draw] | None = None) -> None:
    """Serve requests from standard input until it is closed.

    **Arguments:**

    - `make`: loads what is needed and returns the function that draws; None: `drawing` of this
      module.
    """
    with _answers() as answers:
        setup = Setup.model_validate_json(sys.stdin.buffer.readline())
        limit(setup.memory_bytes)
        draw = (make or drawing)(setup)
        _send(answers, Answer(outcome="done"))
        for text in sys.stdin.buffer:
            _send(answers, *answer_to(REQUEST.validate_json(text), draw))


def limit(memory_bytes: int) -> None:
    """Bound this process: its memory, its share of the processor, no dumps of its memory.

    Address space is no measure: the charting library reserves gigabytes of it.
    """
    most = memory_bytes + RESERVED_BYTES
    with contextlib.suppress(ValueError, OSError):  # where a lower limit is set already
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_KILL)


def answer_to(request: Request, draw: Draw) -> tuple[Answer, bytes]:
    """Return how a request ended, and what was drawn."""
    from service.results.charts import NothingToDraw
    from service.store.database import DATABASE_ERRORS

    try:
        drawn = draw(request)
    except NothingToDraw as error:
        return Answer(outcome="nothing", detail=str(error)), b""
    except NoSuchJob:
        return Answer(outcome="no_job"), b""
    except MemoryError:
        return Answer(outcome="memory"), b""
    except DATABASE_ERRORS as error:
        return Answer(outcome="database_away", detail=str(error).splitlines()[0]), b""
    except Exception:
        log.exception("%s could not be drawn", request)
        return Answer(outcome="failed", detail="it raised an error, which is in the log"), b""
    return Answer(outcome="done", length=len(drawn)), drawn


def drawing(setup: Setup) -> Draw:
    """Return the function that draws from this database and these artifacts."""
    from service.web.drawing.drawer import Drawer

    return Drawer(setup).draw


@contextlib.contextmanager
def _answers() -> Iterator[BinaryIO]:
    """Keep standard output for answers: what a library prints goes to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        yield answers


def _send(answers: BinaryIO, answer: Answer, drawn: bytes = b"") -> None:
    answers.write(line(answer))
    answers.write(drawn)
    answers.flush()


if __name__ == "__main__":
    log_to_stderr("renderer")
    main()
