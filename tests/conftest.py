"""What every test shares: settings, marks, lanes, and what is said of skipped tests at the end."""

import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Set before torch is loaded: beside another lane or a busy machine its threads would spin for one
# another and compute little.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

gc.disable()  # until all tests are collected: what that makes stays

import pytest
from hypothesis import settings

from tests.examples import USUAL
from tests.needs import summary
from tests.parts import outside

# In a shell's background and under nohup these are ignored, and so they would be by what the tests
# start: fflab leaves ignored signals alone. A handler of Python's ends with `exec`.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, lambda _signal, _frame: None)

settings.register_profile("many", deadline=None, max_examples=USUAL, print_blob=True)
settings.register_profile("some", deadline=None, max_examples=25, print_blob=True)
settings.register_profile("few", deadline=None, max_examples=10, print_blob=True)
settings.register_profile("quick", deadline=None, max_examples=4, print_blob=True)
settings.load_profile("many")


STACK = "the stack"
OTHERS = {
    "test_disasters": "a stack that is harmed",
    "test_faults": "a stack that is harmed",
} | {  # a lane each: they start what they need
    name: name
    for name in (
        "test_backup",
        "test_demo",
        "test_fault_bench",
        "test_full_disk",
        "test_generators",
        "test_identity",
        "test_old_home",
        "test_signals",
    )
}


def lane_of(nodeid: str) -> str:
    """What a test must follow in one process: all that shares a stack, which is started once;
    elsewhere the tests of its file.
    """
    file = nodeid.partition("::")[0]
    if not file.startswith("tests/integration/"):
        return file
    return OTHERS.get(Path(file).stem, STACK)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no tests of real processes where `-m` leaves them all out."""
    left_out = "not stack" in config.option.markexpr
    return True if left_out and collection_path.name == "integration" else None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cases", type=int, help="how many cases of each parametrized test run, the first ones"
    )
    parser.addoption(
        "--part",
        metavar="MARK=K/N",
        action="append",
        default=[],
        help="of the tests with a mark, run every N-th one, from the K-th on",
    )


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what starts the stack or a browser, and put first what takes long and waits: beside it
    there is time to compute.
    """
    if most := config.getoption("cases"):
        keep_first_cases(config, items, most)
    for part in config.getoption("part"):
        keep_part(config, items, part)
    for item in items:
        if item.nodeid.startswith("tests/integration/"):
            item.add_marker(pytest.mark.stack)
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    longest = {STACK: 0, OTHERS["test_faults"]: 1}
    items.sort(key=lambda item: longest.get(lane_of(item.nodeid), 2 if waits(item) else 3))


def keep_first_cases(config: pytest.Config, items: list[pytest.Item], most: int) -> None:
    """Leave out all but so many cases of each parametrized test."""
    seen: Counter[str] = Counter()
    kept, left_out = [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        seen[name] += 1
        (kept if seen[name] <= most else left_out).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left_out)


def _is_in_one_part(item: pytest.Item, mark: str) -> bool:
    """Whether a test has the mark, and not with `in_each_part=True`."""
    found = item.get_closest_marker(mark)
    return found is not None and not found.kwargs.get("in_each_part", False)


def keep_part(config: pytest.Config, items: list[pytest.Item], option: str) -> None:
    """Leave out the tests with a mark that are in the other parts: the option is MARK=K/N."""
    mark, _, part = option.partition("=")
    try:
        others = outside(part, [item for item in items if _is_in_one_part(item, mark)])
    except ValueError as error:
        raise pytest.UsageError(f"--part {option}: {error}") from None
    left_out = set(others)
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=others)


def waits(item: pytest.Item) -> bool:
    """Whether a test is of those that take long and mostly wait."""
    return any(map(item.get_closest_marker, ("stack", "soak")))


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over what is loaded and stays: each look at all of it takes
    the better part of a second, and there would be dozens while tests are collected.
    """
    gc.freeze()
    gc.enable()


PYTHONS = Path(sys.executable).parent
_started: list[str] = []


def _note_python(
    event: str,
    arguments: tuple[Any, ...],
    folder: str = f"{PYTHONS}{os.sep}",
    started: list[str] = _started,
) -> None:
    if event == "subprocess.Popen" and str(arguments[0]).startswith(folder):
        started.append(str(arguments[1]))


sys.addaudithook(_note_python)


@pytest.fixture(autouse=True)
def _no_other_python(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test without a mark that starts another Python: it takes longer than a hundred tests
    that call a function. What a fixture of a whole module starts does not count.
    """
    _started.clear()
    yield
    if not any(map(request.node.get_closest_marker, ("stack", "browser", "soak", "slow"))):
        assert not _started, "it starts another Python: call a function, or mark the test as slow"


@pytest.hookimpl(optionalhook=True)  # where pytest-xdist is installed
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Whole lanes to whichever process is free, in the order above.

    (`--dist loadgroup` tells pytest 9.2 nothing of groups.)
    """
    from xdist.scheduler import LoadScopeScheduling

    class Lanes(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return lane_of(nodeid)

    config.option.loadscopereorder = False
    return Lanes(config, log)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line how many tests were skipped, what was missing, and how to install it."""
    reasons = [
        report.longrepr[2]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple | list)
    ]
    if line := summary(reasons):
        terminalreporter.write_line(line, yellow=True)
