"""Usage and selectivity of units, against loops over units, samples and classes."""

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

import ffengine
from ffengine.results import TrainResult
from ffengine.selectivity import Selectivity, class_selectivity
from ffengine.unit_usage import unit_usage
from tests.engine import reference
from tests.engine.specs import spec_of

SUITE = {
    "dataset": {"train_samples": 60, "validation_samples": 20, "test_samples": 30},
    "network": {"widths": [10, 8], "normalize": "l2"},
    "epochs": 1,
    "monitor": {"samples": 10, "theorems": []},
    "evaluation": {"usage": True, "selectivity": True, "measures": False},
}


def layer(samples: int, width: int, zeros: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed % 2**31)
    h = torch.randn(samples, width, generator=generator, dtype=torch.float64) ** 3
    h[torch.rand(h.shape, generator=generator) < zeros] = 0
    h[:, 0] = 0.0  # a dead unit
    return h


def slow_deciles(values: list[float]) -> list[float]:
    ordered, found = sorted(values), []
    for tenth in range(11):
        place = tenth / 10 * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        found.append(ordered[low] + (place - low) * (ordered[high] - ordered[low]))
    return found


def mean(values: list[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def near(value: float | None) -> object:
    return None if value is None else pytest.approx(value, abs=1e-9)


@given(n=st.integers(2, 6), samples=st.integers(2, 7), zeros=st.floats(0, 1), seed=st.integers(0))
def test_usage_equals_a_loop(n: int, samples: int, zeros: float, seed: int) -> None:
    h = layer(samples, n, zeros, seed)
    rows, columns = h.tolist(), h.T.tolist()
    means = [math.fsum(map(abs, column)) / samples for column in columns]
    found = unit_usage(h)
    assert found.dead_samples == sum(not any(row) for row in rows)
    assert found.dead_units == sum(not any(column) for column in columns)
    assert found.used_units == sum(one > 0.01 * max(means) for one in means)
    assert found.population_sparsity == near(mean([reference.hoyer(r) for r in rows if any(r)]))
    assert found.lifetime_sparsity == near(mean([reference.hoyer(c) for c in columns if any(c)]))
    relative = [one / max(means) for one in means] if max(means) else []
    expected = slow_deciles(relative) if relative else []
    assert found.usage_deciles == pytest.approx(tuple(expected), abs=1e-12)


@given(n=st.integers(2, 6), samples=st.integers(1, 9), zeros=st.floats(0, 1), seed=st.integers(0))
def test_selectivity_equals_a_loop(n: int, samples: int, zeros: float, seed: int) -> None:
    h, classes = layer(samples, n, zeros, seed), 4
    labels = torch.randint(0, 3, (samples,), generator=torch.Generator().manual_seed(seed % 997))
    found, of = class_selectivity(h, labels, classes), labels.tolist()
    there = sorted(set(of))
    index, driven, many, preferred = [], [], [], [0] * classes
    for column in h.T.tolist():
        if not any(column) or len(there) < 2:
            continue
        means = []
        for label in there:
            own = [abs(v) for v, known in zip(column, of, strict=True) if known == label]
            means.append(math.fsum(own) / len(own))
        first = max(means)
        preferred[there[means.index(first)]] += 1
        second = (math.fsum(means) - first) / (len(means) - 1)
        index.append((first - second) / (first + second))
        driven.append(sum(one > 0.5 * first for one in means))
        many.append(sum(means) ** 2 / sum(one * one for one in means))
    dead = sum(not any(column) for column in h.T.tolist())
    if not index:
        assert found == Selectivity(dead)
        return
    assert found.dead_units == dead
    assert found.selectivity == near(mean(index))
    assert found.deciles == pytest.approx(tuple(slow_deciles(index)), abs=1e-9)
    assert sum(found.histogram) == len(index)
    assert found.one_class == sum(one == 1 for one in driven) / len(index)
    assert found.every_class == sum(one == len(there) for one in driven) / len(index)
    assert found.one_class + found.mixed + found.every_class == pytest.approx(1)
    assert found.classes_per_unit == near(mean(many))
    assert list(found.preferred) == preferred


def test_units_of_one_class_and_of_all() -> None:
    h = torch.tensor([[1.0, 2.0, 0.0, 1.0], [0.0, 2.0, 0.0, 1.0], [0.0, 2.0, 0.0, 0.0]])
    found = class_selectivity(h, torch.tensor([0, 1, 2]), 3)
    assert found.dead_units == 1
    assert found.histogram == (1, 0, 0, 1, 0, 0, 0, 0, 0, 1)  # 0, 1/3 and 1
    assert (found.one_class, found.mixed, found.every_class) == (1 / 3, 1 / 3, 1 / 3)


@pytest.fixture(scope="module")
def together() -> TrainResult:
    return ffengine.train(spec_of(**SUITE, seeds=[3, 8]))


def test_rows_are_of_every_seed_layer_and_held_out_partition(together: TrainResult) -> None:
    for rows in (together.usage, together.selectivity):
        assert [(row.partition, row.seed, row.layer) for row in rows] == [
            (partition, seed, layer)
            for partition in ("validation", "test")
            for seed in (3, 8)
            for layer in (0, 1)
        ]
    assert {row.inputs for row in together.selectivity} == {"neutral"}
    assert together.lesions == ()


def test_a_seed_has_the_same_rows_alone(together: TrainResult) -> None:
    alone = ffengine.train(spec_of(**SUITE, seeds=[8]))
    assert alone.usage == tuple(row for row in together.usage if row.seed == 8)
    assert alone.selectivity == tuple(row for row in together.selectivity if row.seed == 8)


def test_samples_of_objectives_over_classes_are_plain() -> None:
    found = ffengine.train(spec_of(**SUITE, objective={"name": "mono_forward"}))
    assert {row.inputs for row in found.selectivity} == {"plain"}
    assert len(found.usage) == 4
