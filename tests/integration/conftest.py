"""The real stack, as `fflab up` starts it, in a temporary home: Redis, API and worker, and what
tests need to look at it.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.waiting import PATIENCE_SECONDS
from service.stack.redis_server import BrokerError, find_server
from service.stack.stack import Stack
from tests.needs import lacking
from tests.stack import LEASE_SECONDS, SPECS, STEADY_LEASE_SECONDS, Lab, figures, lab_settings


@pytest.fixture(autouse=True, scope="session")
def _patient_start() -> Iterator[None]:
    """A stack that a test starts may take its time for it, on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.stack.stack.START_SECONDS", 2 * PATIENCE_SECONDS)
        yield


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


@contextmanager
def lasting(lease_seconds: float) -> Iterator[Stack]:
    """A real stack in a home of its own."""
    folder = Path(tempfile.mkdtemp(prefix="fflab-"))
    settings = lab_settings(folder, lease_seconds=lease_seconds)
    with Stack(settings, port=0, device="cpu") as running:
        yield running
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stack(redis_server: Path) -> Iterator[Stack]:
    """The real stack, for all tests of the session; a worker that lives does not lose its lease,
    however busy the machine is.
    """
    with lasting(STEADY_LEASE_SECONDS) as running:
        yield running


@pytest.fixture(scope="session")
def hasty_stack(redis_server: Path) -> Iterator[Stack]:
    """Another one, for what happens when a lease has run out: its leases are short."""
    with lasting(LEASE_SECONDS) as running:
        yield running


@pytest.fixture
def lab(stack: Stack) -> Iterator[Lab]:
    """The stack with a client and a view of its processes."""
    with Lab(stack) as seen:
        yield seen


@pytest.fixture
def hasty_lab(hasty_stack: Stack) -> Iterator[Lab]:
    """The same of the stack whose leases are short."""
    with Lab(hasty_stack) as seen:
        yield seen


@pytest.fixture(scope="session")
def undisturbed(stack: Stack) -> dict[str, tuple[Any, Any]]:
    """The figures of the specs, from runs that nothing happened to."""
    with Lab(stack) as lab:
        jobs = {name: lab.submit(spec) for name, spec in SPECS.items()}
        return {name: figures(lab.succeeded(job_id)) for name, job_id in jobs.items()}
