"""How long a worker stays that is the guest of a scheduler."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.host.stay import HAND_BACK_SECONDS, LEAST_SECONDS, NoMoment, Stay, moment

NOW = 1_795_000_000.0


@given(seconds=st.integers(1, 10**9), hours=st.integers(-12, 12))
def test_a_moment_is_read_as_seconds_and_as_iso_8601(seconds: int, hours: int) -> None:
    asked = int(NOW) + seconds
    zone = timezone(timedelta(hours=hours))
    assert moment(str(asked), NOW) == asked
    assert moment(datetime.fromtimestamp(asked, zone).isoformat(), NOW) == asked
    local = datetime.fromtimestamp(asked, UTC).astimezone()
    assert moment(local.isoformat(), NOW) == asked


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e9", "²", "2026-13-01", "9" * 400, "nan"])
def test_what_is_no_moment_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(NoMoment, match="is no time: write UNIX seconds or"):
        moment(text, NOW)


def test_a_moment_that_is_over_is_refused() -> None:
    with pytest.raises(NoMoment, match="2020-01-01 is over"):
        moment("2020-01-01", NOW)


def test_a_worker_stays_by_itself() -> None:
    assert Stay().over(1e9, NOW) is None
    assert Stay().begins_none(NOW) is None


def test_it_ends_once_it_has_idled_and_never_with_a_job() -> None:
    stay = Stay(idle_seconds=300)
    assert stay.over(299.9, NOW) is None
    assert stay.over(300, NOW) == "it has had no job for 300 s"
    assert stay.over(None, NOW) is None
    assert stay.begins_none(NOW) is None


def test_it_ends_a_minute_early_and_begins_nothing_in_the_minute_before() -> None:
    stay = Stay(until=NOW)
    leaves = NOW - HAND_BACK_SECONDS
    begins_last = leaves - LEAST_SECONDS
    assert stay.begins_none(begins_last - 1) is None
    assert stay.begins_none(begins_last) == "it leaves at 2026-11-18 11:05:40 UTC"
    assert stay.over(None, leaves - 1) is None
    assert stay.over(None, leaves) == "it stays until 2026-11-18 11:06:40 UTC"
