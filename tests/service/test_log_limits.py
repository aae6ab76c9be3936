"""What would be logged again and again is logged once."""

import logging

import pytest

from service.host import log_limits
from service.host.log_limits import Outage, Rarely, RareWarnings

log = logging.getLogger("service.test_log_limits")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which the test may set."""
    seconds = [100.0]
    monkeypatch.setattr(log_limits.time, "monotonic", lambda: seconds[0])
    return seconds


def test_an_outage_is_told_once_and_its_end_with_its_length(
    now: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage(log, "the broker")
    for number in range(1000):
        outage.noticed(OSError(f"refused {number}\nanother line"))
    now[0] += 90
    for _ in range(3):
        outage.over()
    outage.noticed("gone again")
    assert caplog.messages == [
        "the broker is away: refused 0",
        "the broker is back, after 90 s",
        "the broker is away: gone again",
    ]


def test_an_error_without_a_text_has_its_name(caplog: pytest.LogCaptureFixture) -> None:
    Outage(log, "it").noticed(TimeoutError())
    assert caplog.messages == ["it is away: TimeoutError"]


def test_a_text_is_due_again_after_a_while(now: list[float]) -> None:
    rarely = Rarely(60.0)
    assert [rarely.is_due("a"), rarely.is_due("a"), rarely.is_due("b")] == [True, False, True]
    now[0] += 60
    assert rarely.is_due("a")


def test_texts_are_not_remembered_without_end() -> None:
    rarely = Rarely()
    for number in range(10_000):
        assert rarely.is_due(str(number))
    assert len(rarely._said) <= log_limits.MOST_TEXTS


def test_warnings_of_strangers_are_rare_and_all_else_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    rare = RareWarnings()
    log.addFilter(rare)
    try:
        for number in range(100):
            log.warning("Invalid HTTP request received.")
            log.warning("request %d of many", number)
        log.info("told")
        log.info("told")
        for _ in range(2):
            log.error("a fault")
            log.warning("with a traceback", exc_info=OSError(5, "why"))
    finally:
        log.removeFilter(rare)
    assert caplog.messages == [
        "Invalid HTTP request received.",
        "request 0 of many",
        *["told"] * 2,
        *["a fault", "with a traceback"] * 2,
    ]
