"""How many samples a check takes: the default is all where a data set has fewer."""

import io
from pathlib import Path

import numpy as np
import pytest

import ffengine
from ffengine.cost import cost_of
from ffengine.datasets import DATASETS, Datasets
from ffengine.entry import SpecFieldError
from ffengine.spec import CheckSpec, StudySpec, digest
from ffengine.study import expand
from ffengine.text import STORED

# of the default check as earlier versions stored it
KEPT = "476aae17468889d07f89b5e38548ed9954491654c7e24deaaf5597efb6f06956"


@pytest.fixture
def datasets(tmp_path: Path) -> Datasets:
    """A data set of 80 training samples."""
    target = io.BytesIO()
    x = np.random.default_rng(0).integers(0, 256, (100, 4, 4), dtype=np.uint8)
    np.savez(target, x=x, y=np.arange(100) % 4)
    target.seek(0)
    found = Datasets(tmp_path)
    found.keep("tab", target)
    return found


def of(name: str, **fields: object) -> CheckSpec:
    return CheckSpec.model_validate({"dataset": {"name": name}, **fields})


def test_a_check_of_few_samples_with_defaults_takes_all(datasets: Datasets) -> None:
    spec = of("tab", widths=[8], seeds=[0])
    result = ffengine.check(spec, datasets=datasets)
    assert {(cell.samples, cell.batch_size) for cell in result.cells} == {(80, 80)}
    asked = ffengine.check(of("tab", widths=[8], seeds=[0], samples=None), datasets=datasets)
    assert [cell.ratio for cell in result.cells] == [cell.ratio for cell in asked.cells]
    facts, eighty = datasets.facts_of("tab"), of("tab", widths=[8], seeds=[0], samples=80)
    assert cost_of(spec, facts).flops == cost_of(eighty, facts).flops


def test_the_default_follows_each_data_set_of_a_study(datasets: Datasets) -> None:
    study = StudySpec.model_validate(
        {"base": {"kind": "check"}, "grid": {"dataset.name": ["mnist", "digits", "tab"]}}
    )
    stored = StudySpec.model_validate(study.model_dump(mode="json"), context=STORED)
    counts = []
    for cell in expand(stored):
        assert isinstance(cell.spec, CheckSpec)
        counts.append(cell.spec.checked(datasets.facts_of(cell.spec.dataset.name)))
    assert counts == [2_000, 1_437, 80]


@pytest.mark.parametrize("samples", [81, 1_999, 2_001])
def test_more_than_there_are_is_refused_where_it_is_asked_for(
    samples: int, datasets: Datasets
) -> None:
    spec = of("tab", samples=samples)
    with pytest.raises(SpecFieldError, match=f"{samples} asked, but the data set gives 80; set"):
        spec.refuse_too_few(datasets.facts_of("tab"))


def test_what_identical_checks_are_recognised_by_is_what_it_was() -> None:
    assert digest(of("mnist")) == KEPT
    assert of("mnist").checked(DATASETS["mnist"]) == 2_000
