"""What is said of a spec and its data before it runs, from figures that are measured once."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine import input_figures
from ffengine.advice import MOST, Advice, advice_on
from ffengine.arrays import Arrays
from ffengine.cost import estimate
from ffengine.datasets import DATASETS, Datasets
from ffengine.input_figures import InputFigures, measured
from ffengine.optimizers import Sgd
from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from tests.examples import examples

RANDOM = np.random.default_rng(2)
Y = np.arange(500) % 5
SIX = (RANDOM.normal(size=(500, 6)) * 0.5 + np.eye(5, 6)[Y] * 4).astype(np.float32)
RARE = np.repeat(np.arange(3), (100, 100, 2))
OF_BEGINNINGS = {"act_not_left", "scale_alternates"}
UPLOADS: dict[str, dict[str, Any]] = {
    "six-five": {"x": SIX, "y": Y},
    "kelvin": {"x": SIX + 300, "y": Y},
    "table": {"x": SIX * [1, 1, 1, 1, 1, 1000], "y": Y},
    "unequal": {"x": RANDOM.random((200, 40)), "y": (np.arange(200) % 20 == 0).astype(int)},
    "copied": {"x": np.tile(RANDOM.random((50, 40)), (8, 1)), "y": np.arange(400) % 2},
    "rare": {"x": RANDOM.random((202, 90)), "y": RARE},
    "bytes": {
        "x": RANDOM.integers(0, 255, (200, 16, 16)).astype(np.uint8),
        "y": np.arange(200) % 2,
    },
}


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    made = Datasets(tmp_path_factory.mktemp("data"))
    for name, arrays in UPLOADS.items():
        archive = io.BytesIO()
        np.savez(archive, **arrays)
        archive.seek(0)
        made.keep(name, archive)
    return made


def train(name: str, **dataset: object) -> TrainSpec:
    return TrainSpec.model_validate({"dataset": {"name": name, **dataset}, "batch_size": 40})


def said(datasets: Datasets, *specs: TrainSpec | CheckSpec) -> dict[str, Advice]:
    """Advice by code, but for that on how training begins: tests/engine/test_onset.py has it."""
    found = {advice.code: advice for advice in advice_on(specs, datasets)}
    return {code: advice for code, advice in found.items() if code not in OF_BEGINNINGS}


def arrays_of(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> Arrays:
    def images(flat: np.ndarray) -> np.ndarray:
        return flat.reshape(len(flat), 1, 1, -1)

    return Arrays(images(x), y, images(x_test), y_test)


@settings(max_examples=examples(30), deadline=None)
@given(
    samples=st.integers(2, 40),
    inputs=st.integers(2, 9),
    shift=st.sampled_from([0.0, -3.0, 300.0, 1e5]),
    at_once=st.integers(1, 60),
    as_bytes=st.booleans(),
)
def test_figures_are_those_of_the_definition(
    samples: int, inputs: int, shift: float, at_once: int, as_bytes: bool
) -> None:
    random = np.random.default_rng(samples * 100 + inputs)
    x: np.ndarray = (random.normal(size=(samples, inputs)) + shift).astype(np.float32)
    if as_bytes:
        x = random.integers(0, 256, (samples, inputs)).astype(np.uint8)
    y = np.arange(samples) % 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_figures, "NUMBERS_AT_ONCE", at_once)
        found = measured(arrays_of(x, y, x[:1], y[:1]))
    numbers = x.astype(np.float64) / (255 if as_bytes else 1)
    variance = numbers.var(0)
    assert found.size == pytest.approx(np.sqrt(np.square(numbers).mean()))
    assert found.spread == pytest.approx(np.sqrt(variance.mean()), rel=1e-6)
    assert found.overlay_share == pytest.approx(variance[:2].sum() / variance.sum(), rel=1e-6)
    assert found.largest_share == pytest.approx(variance.max() / variance.sum(), rel=1e-6)
    assert found.test_class_counts == (1, 0)
    assert found.copies == 1


def test_constant_inputs_have_figures_too() -> None:
    x, y = np.full((4, 3), 7, dtype=np.float32), np.arange(4) % 2
    found = measured(arrays_of(x, y, x[:2] + 1, y[:2]))
    assert (found.size, found.spread, found.overlay_share) == (7.0, 0.0, 0.0)
    assert (found.largest_share, found.copies) == (0.0, 0)


def test_an_overlay_of_what_the_data_are_made_of_is_advised_against(datasets: Datasets) -> None:
    for preprocess in ("unit", "standardize", "center"):
        advice = said(datasets, train("six-five", preprocess=preprocess))["overlay_covers_data"]
        assert "overlays inputs 0 to 4, which hold 9" in advice.message
        assert (advice.field, advice.value) == ("dataset.labels", "append")
    assert said(datasets, train("six-five", labels="append")) == {}
    unlabelled = {"negatives": {"strategy": "self_contrastive"}}
    spec = TrainSpec.model_validate({"dataset": {"name": "six-five"}, **unlabelled})
    assert said(datasets, spec) == {}


def test_a_check_is_advised_on_what_concerns_it(datasets: Datasets) -> None:
    for theorem, expected in ((1, set[str]()), (2, {"overlay_covers_data"})):
        for name in ("six-five", "kelvin"):
            spec = CheckSpec.model_validate({"theorem": theorem, "dataset": {"name": name}})
            assert set(said(datasets, spec)) == expected


def test_each_kind_of_data_has_its_advice(datasets: Datasets) -> None:
    whole = {name: set(said(datasets, train(name, labels="append"))) for name in UPLOADS}
    assert whole == {
        "six-five": set(),
        "kelvin": {"inputs_large"},
        "table": {"inputs_large", "one_input_dominates"},
        "unequal": {"classes_unequal"},
        "copied": {"test_copies_training"},
        "rare": {"partition_lacks_class"},
        "bytes": set(),
    }
    large = said(datasets, train("kelvin"))["inputs_large"]
    assert (large.field, large.value) == ("dataset.preprocess", "standardize")
    for preprocess in ("standardize", "center", "unit_norm"):
        better = train("kelvin", labels="append", preprocess=preprocess)
        assert said(datasets, better) == {}
    assert "95 % of the test samples are of class 0" in (
        said(datasets, train("unequal"))["classes_unequal"].message
    )


@pytest.mark.parametrize("preprocess", ["unit", "standardize", "center", "unit_norm"])
def test_a_label_that_is_given_too_weak_is_named_as_the_run_would(
    datasets: Datasets, preprocess: str
) -> None:
    for strength, weak in ((1e-3, True), (10.0, False)):
        spec = {"labels": "append", "label_strength": strength, "preprocess": preprocess}
        asked = train("kelvin", **spec).model_copy(update={"epochs": 1, "batch_size": 400})
        found = said(datasets, asked).get("label_weak")
        assert (found is not None) == weak
        ran = ffengine.train(
            asked.model_copy(update={"optimizer": Sgd(lr=1e-6)}), datasets=datasets
        ).diagnostics
        measured_by_run = [one for one in ran if one.code == "label_weak"]
        assert bool(measured_by_run) == (found is not None)
        if found:
            share = measured_by_run[0].evidence["label_share"]
            assert found.evidence["label_share"] == pytest.approx(share, rel=0.05)
            assert (found.field, found.value) == ("dataset.label_strength", None)


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"train_samples": 4}, "4 train samples have none of 1 of the 5"),
        ({"train_samples": 100, "validation_samples": 3}, "3 validation samples have none of 2"),
        ({"test_samples": 1}, "1 test samples have none of 4"),
        ({"train_samples": 5, "validation_samples": 5, "test_samples": 5}, None),
    ],
)
def test_a_partition_without_a_class_is_named_before_it_is_drawn(
    datasets: Datasets, asked: dict[str, int], named: str | None
) -> None:
    found = said(datasets, train("six-five", labels="append", **asked))
    assert set(found) == ({"partition_lacks_class"} if named else set())
    if named:
        assert named in found["partition_lacks_class"].message


def test_a_study_has_each_advice_once(datasets: Datasets) -> None:
    study = StudySpec.model_validate(
        {
            "base": {"kind": "train"},
            "grid": {"dataset.name": list(UPLOADS), "epochs": [1, 2], "optimizer.lr": [0.1, 1]},
        }
    )
    found = estimate(study, datasets=datasets).advice
    assert 5 < len({advice.message for advice in found}) == len(found) <= MOST


def test_what_is_advised_of_an_upload_is_found_in_what_ran_too(datasets: Datasets) -> None:
    spec = train("copied", labels="append").model_copy(update={"epochs": 1})
    [copied] = [
        one
        for one in ffengine.train(spec, datasets=datasets).diagnostics
        if one.code == "test_copies_training"
    ]
    assert "80 of 80 test samples equal a training sample" in copied.message
    check = CheckSpec.model_validate(
        {"theorem": 1, "dataset": {"name": "table"}, "widths": [8], "samples": 50, "seeds": [0]}
    )
    codes = [one.code for one in ffengine.check(check, datasets=datasets).diagnostics]
    assert "one_input_dominates" in codes


def test_figures_are_measured_once_and_kept(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_arrays: Arrays) -> InputFigures:
        raise AssertionError("measured again")

    monkeypatch.setattr("ffengine.datasets.measured", forbidden)
    assert "inputs_large" in said(datasets, train("kelvin"))


def test_an_upload_of_an_earlier_version_is_measured_when_it_is_asked_about(
    datasets: Datasets, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    elsewhere = Datasets(tmp_path)
    archive = io.BytesIO()
    np.savez(archive, **UPLOADS["kelvin"])
    archive.seek(0)
    elsewhere.keep("kelvin", archive)
    path = elsewhere.kept_in / "kelvin" / "facts.json"
    facts = json.loads(path.read_text())
    assert facts.pop("figures")
    path.write_text(json.dumps(facts))
    assert elsewhere.input_figures("kelvin") == datasets.input_figures("kelvin")
    monkeypatch.setattr("ffengine.datasets.MEASURED_BYTES", 10)
    assert elsewhere.input_figures("kelvin") is None
    assert said(elsewhere, train("kelvin")) == {}


@pytest.mark.slow
def test_data_sets_of_the_catalogue_are_measured_where_they_are_bundled(tmp_path: Path) -> None:
    there = Datasets(tmp_path)
    for name, facts in DATASETS.items():
        assert (there.input_figures(name) is not None) == (facts.files is None)
    assert said(there, TrainSpec(), CheckSpec()) == {}
    assert set(said(there, train("digits"))) == {"overlay_covers_data"}
    assert there.input_figures("nobodys") is None
