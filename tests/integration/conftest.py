"""The real stack, as `fflab up` starts it, in a temporary home: Redis, API and worker, and what
tests need to look at it.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.stack.redis_server import BrokerError, find_server
from service.stack.stack import Stack
from tests.needs import lacking
from tests.stack import SPECS, Lab, figures, lab_settings


@pytest.fixture(scope="session")
def redis_server() -> Path:
    """A Redis server to start."""
    try:
        return find_server()
    except BrokerError as error:
        lacking("Redis", str(error))


@pytest.fixture
def home() -> Iterator[Path]:
    """An empty home with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="fflab-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stack(redis_server: Path) -> Iterator[Stack]:
    """The real stack, for all tests of the session."""
    folder = Path(tempfile.mkdtemp(prefix="fflab-"))
    with Stack(lab_settings(folder), port=0, device="cpu") as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture
def lab(stack: Stack) -> Iterator[Lab]:
    """The stack with a client and a view of its processes."""
    with Lab(stack) as seen:
        yield seen


@pytest.fixture(scope="session")
def undisturbed(stack: Stack) -> dict[str, tuple[Any, Any]]:
    """The figures of the specs, from runs that nothing happened to."""
    with Lab(stack) as lab:
        jobs = {name: lab.submit(spec) for name, spec in SPECS.items()}
        return {name: figures(lab.succeeded(job_id)) for name, job_id in jobs.items()}
