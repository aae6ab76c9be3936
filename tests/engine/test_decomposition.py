"""Who pushes: sums over pairs of samples against double loops, and the theory's table."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import ffengine
from ffengine.datasets import Datasets
from ffengine.decomposition import (
    RELATIONS,
    PairLabels,
    exact_pushes,
    limit_pushes,
    pair_angles,
    push_rows,
)
from ffengine.results import PushRow
from ffengine.spec import CheckSpec, DatasetSpec
from tests.engine.reference import limit_sum
from tests.examples import examples


def random_batch(seed: int, pairs: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    positive = torch.rand(pairs, 5, generator=generator, dtype=torch.float64) - 0.2
    negative = positive.clone()
    negative[:, :2] = torch.rand(pairs, 2, generator=generator, dtype=torch.float64)
    return weight, positive, negative


@given(seed=st.integers(0, 2**31), pairs=st.integers(1, 6))
def test_pushes_equal_two_loops_over_samples(seed: int, pairs: int) -> None:
    weight, positive, negative = random_batch(seed, pairs)
    exact, limit = exact_pushes(weight, positive, negative), limit_pushes(positive, negative)
    for k, x_k in enumerate([*positive, *negative]):
        h_k = torch.relu(weight @ x_k)
        for i in range(pairs):
            total = 0.0
            for sign, x_i in ((-1.0, positive[i]), (1.0, negative[i])):
                h_i = torch.relu(weight @ x_i)
                if float(h_k.sum()) > 0:
                    with_mask = float(h_i @ (h_k > 0).double() / h_k.sum())
                    with_h = float(h_i @ h_k / (h_k @ h_k))
                    total += 2 * sign * float(x_i @ x_k) * (with_mask - with_h)
            assert float(exact[k, i]) == pytest.approx(total, abs=1e-10)
            groups = [[positive[i].tolist()], [negative[i].tolist()]]
            assert float(limit[k, i]) == pytest.approx(
                2 * limit_sum(groups, [-1.0, 1.0], x_k.tolist()), abs=1e-7
            )


@given(seed=st.integers(0, 2**31), pairs=st.integers(2, 8))
def test_pushes_add_up_to_the_margins(seed: int, pairs: int) -> None:
    weight, positive, negative = random_batch(seed, pairs)
    for pushes, checks in (
        (exact_pushes(weight, positive, negative), ffengine.theorem2(weight, positive, negative)),
        (
            limit_pushes(positive, negative),
            ffengine.infinite_width_theorem2(positive, negative),
        ),
    ):
        expected = torch.cat([check.margin for check in checks])
        assert torch.allclose(pushes.sum(1), expected, rtol=1e-8, atol=1e-7)


@settings(max_examples=examples(30))
@given(seed=st.integers(0, 2**31), pairs=st.integers(1, 7))
def test_every_pair_stands_in_one_relation_by_class_and_label(seed: int, pairs: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 3, (pairs,), generator=generator)
    wrong = (image + torch.randint(1, 3, (pairs,), generator=generator)) % 3
    weight, positive, negative = random_batch(seed, pairs)
    pushes = exact_pushes(weight, positive, negative)
    rows = push_rows(
        pushes,
        PairLabels(image, wrong),
        pair_angles(positive, negative),
        seed=4,
        width=9,
        layer=1,
        epoch=2,
        method="exact",
    )
    assert [row.relation for row in rows] == [*RELATIONS, *RELATIONS]
    sums: dict[tuple[str, str], list[float]] = {}
    counts: dict[tuple[str, str], int] = {}
    margins: dict[str, list[float]] = {"positive": [], "negative": []}
    for k in range(2 * pairs):
        split, own = ("positive", k) if k < pairs else ("negative", k - pairs)
        shown = int(image[own] if split == "positive" else wrong[own])
        if not bool(pushes[k].any()):
            continue
        margins[split].append(float(pushes[k].sum()))
        parts = dict.fromkeys(RELATIONS, 0.0)
        for p in range(pairs):
            name = "same_class" if image[p] == image[own] else "other_class"
            if shown in (int(image[p]), int(wrong[p])):
                name += "_label"
            if p == own:
                name = "own_pair"
            parts[name] += float(pushes[k, p])  # type: ignore[index]
            counts[split, name] = counts.get((split, name), 0) + 1
        for name, part in parts.items():
            sums.setdefault((split, name), []).append(part)
    for row in rows:
        own_margins = margins[row.split]
        assert (row.seed, row.width, row.layer, row.epoch) == (4, 9, 1, 2)
        assert row.samples == len(own_margins)
        assert row.pairs == counts.get((row.split, row.relation), 0)
        if not own_margins:
            assert row.push is None
            assert row.margin is None
            continue
        mean = math.fsum(own_margins) / len(own_margins)
        spread = math.sqrt(math.fsum((m - mean) ** 2 for m in own_margins) / len(own_margins))
        assert row.margin == pytest.approx(mean, abs=1e-9)
        assert row.margin_deviation == pytest.approx(spread, abs=1e-9)
        parts_of = sums[row.split, row.relation]
        if row.push is not None and spread > 1e-9:
            assert row.push * spread == pytest.approx(math.fsum(parts_of) / len(parts_of), abs=1e-9)


def of_relation(rows: tuple[PushRow, ...], **wanted: object) -> PushRow:
    (found,) = [
        row for row in rows if all(getattr(row, name) == value for name, value in wanted.items())
    ]
    return found


@pytest.mark.slow
def test_a_check_decomposes_where_it_is_asked() -> None:
    spec = CheckSpec(widths=(24, 40), samples=120, batch_size=60, seeds=(0, 2), decomposition=True)
    result = ffengine.check(spec)
    assert len(result.decomposition) == 2 * 2 * 2 * 2 * 5
    assert ffengine.check(spec.model_copy(update={"decomposition": False})).decomposition == ()
    for split in ("positive", "negative"):
        rows = [
            row
            for row in result.decomposition
            if (row.seed, row.width, row.method, row.split) == (2, 40, "infinite_width", split)
        ]
        total = math.fsum(row.push for row in rows if row.push is not None)
        assert rows[0].margin is not None
        assert total == pytest.approx(rows[0].margin / rows[0].margin_deviation, rel=1e-6)
        # without the label of the sample, the two samples of a pair cancel exactly
        for row in rows:
            if row.relation in ("same_class", "other_class"):
                assert row.push == pytest.approx(0, abs=1e-9)
                assert row.agreement is None


@pytest.mark.parametrize(
    "change",
    [
        {"theorem": 1},
        {"activation": "tanh"},
        {"goodness": "l2"},
        {"negatives": {"strategy": "noise"}},
        {"negatives": {"strategy": "wrong_label", "image": "any"}},
        {"batch_size": None},
    ],
)
def test_what_cannot_be_decomposed_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="decomposition: it needs"):
        CheckSpec.model_validate({"decomposition": True, **change})


@pytest.mark.slow
def test_the_limit_on_mnist_is_that_of_the_theory() -> None:
    spec = CheckSpec(
        dataset=DatasetSpec(name="mnist", train_samples=10_000, test_samples=1),
        widths=(500,),
        samples=500,
        seeds=(0, 1, 2),
        methods=("infinite_width",),
        decomposition=True,
    )
    rows = ffengine.check(spec, datasets=Datasets.of_environment()).decomposition
    for split, relation, expected, spread in [
        ("positive", "own_pair", 0.21, 0.05),
        ("negative", "own_pair", -0.25, 0.05),
        ("positive", "same_class_label", -0.56, 0.2),
        ("negative", "same_class", 0.0, 1e-9),
        ("positive", "other_class_label", 2.32, 0.5),
        ("negative", "other_class_label", -0.28, 0.3),
        ("positive", "other_class", 0.0, 1e-9),
        ("negative", "other_class", 0.0, 1e-9),
    ]:
        pushes = [r.push for r in rows if (r.split, r.relation) == (split, relation)]
        assert math.fsum(p for p in pushes if p is not None) / 3 == pytest.approx(
            expected, abs=spread
        ), (split, relation)
