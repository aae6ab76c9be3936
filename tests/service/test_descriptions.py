"""A job in words: times ago, and how its figures were obtained."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from ffengine.results import AttemptProvenance, PluginUse
from service.results.descriptions import (
    PROVENANCE_LABELS,
    Fact,
    provenance_facts,
    provenance_lines,
    short_digest,
    time_ago,
)
from tests.service.samples import provenance


def attempt(number: int) -> AttemptProvenance:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    return AttemptProvenance(
        number=number,
        host="box",
        device="cpu",
        device_name="a processor",
        threads=1,
        began_at=now,
        ended_at=now,
        ended_as="succeeded",
    )


def test_every_fact_of_provenance_has_a_label_and_digests_are_whole() -> None:
    plugin = PluginUse(package="p", version="1", code_digest="0" * 64, entries=("inits.zero",))
    attempts = tuple(attempt(number) for number in (1, 2))
    every = provenance().model_copy(update={"plugins": (plugin,), "attempts": attempts})
    facts = provenance_facts(every)
    assert list(facts) == list(PROVENANCE_LABELS) == list(get_args(Fact))
    assert set(facts) - set(provenance_facts(provenance())) == {"plugins", "attempts"}
    assert facts["data_digest"] == provenance().dataset.digest
    assert facts["spec_digest"] == provenance().spec_digest
    assert [label for label, _ in provenance_lines(every)] == [*PROVENANCE_LABELS.values()]
    assert provenance_lines(None) == []
    assert short_digest("0123456789abcdef" * 4) == "sha256 0123456789abcdef…"


@pytest.mark.parametrize(
    ("past", "words"),
    [
        (timedelta(hours=-1), "just now"),
        (timedelta(seconds=30), "30 s ago"),
        (timedelta(minutes=10), "10 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=3), "3 days ago"),
    ],
)
def test_a_time_ago_is_said_in_the_largest_unit_that_fits(past: timedelta, words: str) -> None:
    assert time_ago(datetime.now(UTC) - past) == words
