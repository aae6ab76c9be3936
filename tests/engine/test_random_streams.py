"""Addressed randomness: same address same numbers, other address independent ones."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ffengine.random_streams import Draws

addresses = st.tuples(st.sampled_from(["order", "negatives"]), st.integers(0, 9), st.integers(0, 9))


@given(st.integers(0, 2**63 - 1), addresses, addresses)
def test_an_address_gives_the_same_numbers_whatever_was_drawn_before(
    seed: int, one: tuple[str, int, int], other: tuple[str, int, int]
) -> None:
    draws = Draws((seed,))
    first = draws.at(*one).uniform((1, 5))
    draws.at(*other).normal((1, 100))
    assert torch.equal(draws.at(*one).uniform((1, 5)), first)
    assert one == other or not torch.equal(draws.at(*other).uniform((1, 5)), first)


def test_each_replica_draws_as_its_seed_alone() -> None:
    both = Draws((7, 8)).at("order", 1)
    permutations = both.permutation(50)
    assert torch.equal(permutations[1], Draws((8,)).at("order", 1).permutation(50)[0])
    assert permutations.sort(1).values.tolist() == [list(range(50))] * 2


def test_distributions_have_their_moments() -> None:
    draw = Draws((0,)).at("moments")
    uniform, normal, integers = (
        draw.uniform((1, 100_000)),
        draw.normal((1, 100_000)),
        draw.integers(2, 5, (1, 90_000)),
    )
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(normal.var()) == pytest.approx(1.0, abs=0.03)
    assert torch.bincount(integers[0]).tolist()[2:] == pytest.approx([30_000] * 3, rel=0.03)
    assert uniform.dtype == normal.dtype == torch.float32


def test_a_shape_must_lead_with_the_replicas() -> None:
    with pytest.raises(ValueError, match="there are 2 replicas"):
        Draws((0, 1)).at("x").uniform((3, 2))
