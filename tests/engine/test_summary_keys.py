"""The keys of a summary: text and fields are one and the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ffengine.summary_keys import ALL_LAYERS, SummaryKey, figure_of

NUMBERS = st.none() | st.integers(0, 10_000)
KEYS = st.builds(
    SummaryKey,
    figure=st.sampled_from(["ratio", "accuracy", "theorem2_ratio"]),
    layer=NUMBERS | st.just(ALL_LAYERS),
    layers=st.none() | st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple),
    epoch=NUMBERS,
    width=NUMBERS,
    split=st.sampled_from([None, "positive", "negative"]),
    partition=st.sampled_from([None, "train", "validation", "test"]),
    method=st.sampled_from([None, "exact", "infinite_width", "softmax"]),
)


@given(KEYS)
def test_a_key_is_read_as_it_was_written(key: SummaryKey) -> None:
    assert SummaryKey.parse(str(key)) == key
    assert figure_of(str(key)) == key.figure


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (
            "ratio[width=64 split=negative method=exact]",
            SummaryKey("ratio", width=64, split="negative", method="exact"),
        ),
        (
            "theorem2_ratio[layer=0 epoch=10 split=positive]",
            SummaryKey("theorem2_ratio", layer=0, epoch=10, split="positive"),
        ),
        (
            "accuracy[layer=all partition=test]",
            SummaryKey("accuracy", layer=ALL_LAYERS, partition="test"),
        ),
        (
            "accuracy[layers=1+2 partition=test method=linear]",
            SummaryKey("accuracy", layers=(1, 2), partition="test", method="linear"),
        ),
        ("loss", SummaryKey("loss")),
    ],
)
def test_the_text_of_a_key_is_that_of_stored_results(text: str, key: SummaryKey) -> None:
    assert str(key) == text
    assert SummaryKey.parse(text) == key


def test_fields_of_a_later_version_are_left_out() -> None:
    assert SummaryKey.parse("ratio[width=8 colour=red later]") == SummaryKey("ratio", width=8)
