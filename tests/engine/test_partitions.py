"""Partitions of uploads: by class, without overlap, the same for the same arrays, whatever the
order of the file.
"""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ffengine.availability import NotAvailable, check_available
from ffengine.datasets import DATASETS, Datasets
from ffengine.partitions import class_shares, draw_partitions
from ffengine.samples import Samples, load_samples
from ffengine.spec import CheckSpec, DatasetSpec, TrainSpec

CPU = torch.device("cpu")
CLASSES = 4
Y = np.repeat(np.arange(CLASSES), 100)
X = np.arange(400 * 6, dtype=np.float32).reshape(400, 6)  # every sample is another
SHUFFLED = np.random.default_rng(1).permutation(400)


def kept(where: Path, name: str, **arrays: np.ndarray) -> Datasets:
    archive = io.BytesIO()
    np.savez(archive, **arrays)  # type: ignore[arg-type]
    archive.seek(0)
    datasets = Datasets(where)
    datasets.keep(name, archive)
    return datasets


def counts(samples: Samples | None) -> list[int]:
    assert samples is not None
    return torch.bincount(samples.labels, minlength=CLASSES).tolist()


def which(samples: Samples | None) -> set[float]:
    assert samples is not None
    return set(samples.plain[:, 5].tolist())


labels = st.lists(st.integers(0, 5), min_size=2, max_size=120).map(np.array)
digests = st.integers(0, 2**256 - 1).map("{:064x}".format)


@given(labels, digests, st.data())
def test_every_partition_has_its_share_of_every_class_and_no_sample_of_another(
    labels: np.ndarray, digest: str, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(labels)))
    second = data.draw(st.integers(0, len(labels) - first))
    chosen = draw_partitions(labels, (first, second), digest)
    assert [len(part) for part in chosen] == [first, second]
    assert len(np.union1d(*chosen)) == first + second
    left = np.bincount(labels, minlength=6)
    for part in chosen:
        taken = np.bincount(labels[part], minlength=6)
        exact = left * (len(part) / max(1, left.sum()))
        assert np.all(abs(taken - exact) < 1)
        assert np.all(np.diff(part) > 0)  # in the order of the file
        left = left - taken
    for part, again in zip(chosen, draw_partitions(labels, (first, second), digest), strict=True):
        assert np.array_equal(part, again)


@given(st.permutations(range(60)), digests)
def test_the_order_of_the_file_does_not_decide_how_many_of_each_class_there_are(
    order: list[int], digest: str
) -> None:
    by_class = np.repeat(np.arange(3), (10, 20, 30))
    for part, same in zip(
        draw_partitions(by_class, (12, 6), digest),
        draw_partitions(by_class[order], (12, 6), digest),
        strict=True,
    ):
        assert np.array_equal(np.bincount(by_class[part]), np.bincount(by_class[order][same]))


def test_another_digest_draws_other_samples() -> None:
    first, second = (draw_partitions(Y, (80,), digit * 64)[0] for digit in "12")
    assert not np.array_equal(first, second)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=50).filter(any), st.floats(0, 1))
def test_shares_are_rounded_to_their_sum(counts: list[int], part: float) -> None:
    total = round(part * sum(counts))
    shares = class_shares(counts, total)
    assert shares.sum() == total
    assert np.all((shares >= 0) & (shares <= counts))


@pytest.mark.parametrize("order", [np.arange(400), SHUFFLED], ids=["sorted", "shuffled"])
@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({}, ([80] * 4, None, [20] * 4)),
        ({"train_samples": 80}, ([20] * 4, None, [20] * 4)),
        ({"validation_samples": 80}, ([60] * 4, [20] * 4, [20] * 4)),
        ({"test_samples": 20}, ([80] * 4, None, [5] * 4)),
        ({"train_samples": 40, "validation_samples": 8}, ([10] * 4, [2] * 4, [20] * 4)),
    ],
)
def test_a_file_in_any_order_gives_every_partition_all_classes(
    cut: dict[str, int],
    expected: tuple[list[int], list[int] | None, list[int]],
    order: np.ndarray,
    tmp_path: Path,
) -> None:
    datasets = kept(tmp_path, "by-class", x=X[order], y=Y[order])
    spec = DatasetSpec.model_validate({"name": "by-class", **cut})
    train, validation, test = load_samples(spec, CPU, datasets)[:3]
    assert counts(train) == expected[0]
    assert validation is None if expected[1] is None else counts(validation) == expected[1]
    assert counts(test) == expected[2]
    parts = [part for part in (train, validation, test) if part is not None]
    assert len(set.union(*map(which, parts))) == sum(map(len, parts))


def test_test_samples_that_were_brought_are_drawn_by_class_too(tmp_path: Path) -> None:
    datasets = kept(tmp_path, "mine", x=X, y=Y, x_test=X, y_test=Y)
    spec = DatasetSpec(name="mine", test_samples=40)
    assert counts(load_samples(spec, CPU, datasets).test) == [10] * 4


def test_what_is_cut_from_the_catalogue_stays_the_first_samples(tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    spec = DatasetSpec(name="digits", train_samples=30, validation_samples=20, test_samples=10)
    train, validation, test = load_samples(spec, CPU, datasets)[:3]
    arrays = datasets.load("digits")
    assert train.labels.tolist() == arrays.y_train[:30].tolist()
    assert validation is not None
    assert validation.labels.tolist() == arrays.y_train[30:50].tolist()
    assert test.labels.tolist() == arrays.y_test[:10].tolist()


@pytest.mark.parametrize("kind", [TrainSpec, CheckSpec])
@pytest.mark.parametrize(
    ("cut", "field"),
    [
        ({"train_samples": 20}, "train_samples"),
        ({"train_samples": 20, "validation_samples": 50}, "train_samples"),
        ({"validation_samples": 388}, "validation_samples"),
    ],
)
def test_training_samples_of_one_class_are_refused_with_the_number_that_would_do(
    kind: type[TrainSpec | CheckSpec], cut: dict[str, int], field: str, tmp_path: Path
) -> None:
    y = (np.arange(510) < 10).astype(np.int64)  # 1 to 50
    x = np.arange(510 * 4, dtype=np.float32).reshape(510, 4)
    datasets = kept(tmp_path, "rare", x=x, y=y)
    samples = {"samples": 2} if kind is CheckSpec else {}
    message = "all are of one class, and negatives need two: train on 26 or more"
    with pytest.raises(NotAvailable, match=re.escape(message)) as refused:
        check_available(
            kind.model_validate({"dataset": {"name": "rare", **cut}, **samples}), datasets
        )
    assert refused.value.path == ("dataset", field)
    enough = DatasetSpec(name="rare", train_samples=26)
    enough.refuse_misfit(datasets.facts_of("rare"))
    train = load_samples(enough, CPU, datasets).train
    assert counts(train)[:2] == [25, 1]


def test_every_data_set_of_the_catalogue_may_be_cut_to_two_samples() -> None:
    for name in DATASETS:
        DatasetSpec(name=name, train_samples=2)
