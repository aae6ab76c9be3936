"""Class ensembles, against loops in fractions."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ffengine import ensembles
from ffengine.ensembles import (
    class_ensembles,
    class_sparsity,
    class_totals,
    ensemble_overlap,
    ensemble_sizes,
    units_in_ensembles,
)

seeds = st.integers(0, 2**31)


def drawn(seed: int, samples: int, width: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Whole activations of both signs, many of them 0, so that sums are exact and ties do occur;
    and labels.
    """
    generator = torch.Generator().manual_seed(seed)
    h = torch.randint(-4, 5, (samples, width), generator=generator) * (
        torch.rand(samples, width, generator=generator) < 0.4
    )
    return h.float(), torch.randint(0, classes, (samples,), generator=generator)


def slow_ensembles(
    h: list[list[int]], labels: list[int], classes: int, excess: Fraction
) -> list[set[int]]:
    found = []
    for label in range(classes):
        of_class = [row for row, own in zip(h, labels, strict=True) if own == label]
        mean = [
            Fraction(sum(abs(row[j]) for row in of_class), max(1, len(of_class)))
            for j in range(len(h[0]))
        ]
        others = [(sum(mean) - own) / (len(mean) - 1) for own in mean]
        found.append(
            {
                j
                for j, (own, rest) in enumerate(zip(mean, others, strict=True))
                if own > (1 + excess) * rest
            }
        )
    return found


@given(
    seeds,
    st.integers(1, 30),
    st.integers(2, 12),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.sampled_from([1.0, 2.0**-99]),
)
def test_ensembles_equal_the_rule_in_fractions_whatever_the_scale(
    seed: int, samples: int, width: int, classes: int, excess: float, scale: float
) -> None:
    h, labels = drawn(seed, samples, width, classes)
    members = class_ensembles(h * scale, labels, classes, excess=excess)
    slow = slow_ensembles(h.int().tolist(), labels.tolist(), classes, Fraction(excess))
    assert [set(row.nonzero().flatten().tolist()) for row in members] == slow
    assert all(size < (width + excess) / (1 + excess) for size in ensemble_sizes(members).tolist())


@given(seeds, st.integers(2, 12), st.integers(1, 6))
def test_sizes_overlap_and_shares_equal_those_of_sets(seed: int, width: int, classes: int) -> None:
    members = torch.rand(classes, width, generator=torch.Generator().manual_seed(seed)) < 0.3
    sets = [set(row.nonzero().flatten().tolist()) for row in members]
    assert ensemble_sizes(members).tolist() == [len(one) for one in sets]
    assert ensemble_overlap(members).tolist() == [
        [len(a & b) / len(a | b) if a | b else 0.0 for b in sets] for a in sets
    ]
    times = [sum(j in one for one in sets) for j in range(width)]
    assert units_in_ensembles(members) == (
        sum(t >= 1 for t in times) / width,
        sum(t >= 2 for t in times) / width,
    )


@given(seeds, st.integers(0, 30), st.integers(1, 5))
def test_class_sparsity_is_the_mean_over_the_live_samples_of_a_class(
    seed: int, samples: int, classes: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    sparsity = torch.rand(samples, generator=generator, dtype=torch.float64)
    dead = torch.rand(samples, generator=generator) < 0.4
    labels = torch.randint(0, classes, (samples,), generator=generator)
    found = class_sparsity(sparsity, dead, labels, classes)
    for label in range(classes):
        own = [
            s
            for s, gone, of in zip(sparsity.tolist(), dead.tolist(), labels.tolist(), strict=True)
            if of == label and not gone
        ]
        assert int(found.samples[label]) == len(own)
        assert float(found.mean[label]) == pytest.approx(
            sum(own) / len(own) if own else 0.0, abs=1e-12
        )


def test_an_undefined_sparsity_of_a_dead_sample_is_left_out() -> None:
    found = class_sparsity(
        torch.tensor([float("nan"), 0.5]), torch.tensor([True, False]), torch.tensor([0, 0]), 2
    )
    assert found.mean.tolist() == [0.5, 0.0]
    assert found.samples.tolist() == [1, 0]


def test_a_unit_that_is_active_alone_is_the_ensemble_and_dead_or_absent_classes_have_none() -> None:
    h = torch.zeros(4, 5)
    h[0, 2] = h[1, 2] = 1e-30
    members = class_ensembles(h, torch.tensor([0, 0, 1, 1]), 3)
    assert members.nonzero().tolist() == [[0, 2]]
    assert ensemble_overlap(members).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert not class_ensembles(torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), 3).any()


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    h, labels = drawn(0, 100, 7, 3)
    whole = class_totals(h, labels, 3)
    monkeypatch.setattr(ensembles, "CHUNK_ELEMENTS", 20)
    assert torch.equal(class_totals(h, labels, 3), whole)


@pytest.mark.parametrize(
    ("h", "labels", "excess", "message"),
    [
        (torch.zeros(3, 4), torch.tensor([0, 1]), 1.0, "labels: expected shape"),
        (torch.zeros(2, 4), torch.tensor([0, 2]), 1.0, "labels: expected numbers from 0 to 1"),
        (torch.zeros(2, 1), torch.tensor([0, 1]), 1.0, "n >= 2"),
        (torch.zeros(2, 4), torch.tensor([0, 1]), -0.5, "excess"),
    ],
)
def test_bad_input_is_named(
    h: torch.Tensor, labels: torch.Tensor, excess: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        class_ensembles(h, labels, 2, excess=excess)
    with pytest.raises(ValueError, match="expected sparsity and dead"):
        class_sparsity(torch.zeros(2), torch.zeros(3, dtype=torch.bool), torch.tensor([0, 1]), 2)
