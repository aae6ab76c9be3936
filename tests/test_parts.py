"""The parts of the tests with a mark."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parts import outside


@given(count=st.integers(0, 30), parts=st.integers(1, 6))
def test_each_item_is_in_exactly_one_part(count: int, parts: int) -> None:
    items = range(count)
    inside = [set(items) - set(outside(f"{k}/{parts}", items)) for k in range(1, parts + 1)]
    assert sorted(item for part in inside for item in part) == list(items)
    assert max(map(len, inside)) - min(map(len, inside)) <= 1


@pytest.mark.parametrize("part", ["", "0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/4/2"])
def test_what_is_no_part_is_refused(part: str) -> None:
    with pytest.raises(ValueError, match=f"^{part} is no part: write K/N"):
        outside(part, "abc")
