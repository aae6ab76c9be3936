"""Specs from the command line: files, presets, --set, and messages that name the nearest field."""

from pathlib import Path

import pytest

from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from ffengine.study import expand
from service.specs.files import SpecError, read_spec
from service.specs.schema_fields import fields_of


def test_a_file_with_settings_becomes_a_spec(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("kind: train\nepochs: 3\n")
    spec, document = read_spec(str(file), ["network.widths=[64, 32]", "optimizer.lr=0.5"])
    assert spec == TrainSpec.model_validate(
        {"epochs": 3, "network": {"widths": [64, 32]}, "optimizer": {"lr": 0.5}}
    )
    assert document["network"] == {"widths": [64, 32]}
    file.write_text('{"spec": {"kind": "check", "theorem": 1}}')
    assert read_spec(str(file))[0] == CheckSpec(theorem=1)


def test_a_presets_name_is_a_study() -> None:
    assert read_spec("paper")[0] == StudySpec(preset="paper")


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("kind: train", ["epoch=3"], r"epoch: is not a known field; did you mean 'epochs'\?"),
        (
            "kind: train",
            ["network.width=[3]"],
            r"network.width: is not a known field; did you mean 'network.widths'\?",
        ),
        (
            "kind: train\nnetwork: {layers: [{kind: conv, channels: 20, pading: 1}]}",
            [],
            r"network.layers.0.pading: is not a known field; did you mean "
            r"'network.layers.0.padding'\?",
        ),
        (
            "kind: train\nnetwork: {layers: [{kind: conv, channels: 20, units: 20}]}",
            [],
            r"did you mean 'network.layers.0.units', with network.layers.0.kind=dense\?",
        ),
        (
            "kind: train\nevaluation: {baselines: [{name: cross_entropy, epoch: 3}]}",
            [],
            r"did you mean 'evaluation.baselines.0.epochs'\?",
        ),
        (
            "kind: train",
            ["epochs=x"],
            "epochs: expected a whole number at least 1 and at most 100,000, got 'x'",
        ),
        ("kind: train", ["epochs"], "expected FIELD=VALUE"),
        ("kind: train", ["epochs.x=3", "epochs.x.y=4"], "'x' is 3, not an object"),
        ("kind: train", ["epochs=[1"], "the value is not YAML"),
        ("kind: [", [], "cannot be read as YAML"),
        ("- 1", [], "expected an object"),
        (
            "kind: study\npreset: papre",
            [],
            "^preset: 'papre' is not one of paper, .*; did you mean 'paper'",
        ),
    ],
)
def test_mistakes_say_what_and_where(
    tmp_path: Path, content: str, settings: list[str], message: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(content)
    with pytest.raises(SpecError, match=message):
        read_spec(str(file), settings)


def test_a_name_that_is_nothing_suggests_a_preset() -> None:
    with pytest.raises(SpecError, match="did you mean 'paper'"):
        read_spec("papre")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (
            "train",
            ["network.activation=rleu"],
            r"network.activation: 'rleu' is not one of relu, .*; did you mean 'relu'\?",
        ),
        (
            "train",
            ["objective.name=sofplus"],
            r"objective.name: 'sofplus' is not one of .*; did you mean 'softplus'\?",
        ),
        (
            "train",
            ["objective=softplus"],
            r"objective: is an object; did you mean 'objective.name=softplus'\?",
        ),
        (
            "train",
            ["objective.goodness=sumsquares"],
            r"objective.goodness.name: .* did you mean 'sum_squares'\?",
        ),
        ("train", ["dataset=mnist"], r"dataset: is an object; did you mean 'dataset.name=mnist'\?"),
        ("train", ["dataset.name=MNIST"], r"did you mean 'mnist'\?"),
        (
            "train",
            ["negatives.scal=1", "negatives.strategy=noise"],
            r"negatives.scal: .* did you mean 'negatives.scale'\?",
        ),
        (
            "train",
            ["negatives.scale=1"],
            r"did you mean 'negatives.scale', with negatives.strategy=noise\?",
        ),
        (
            "train",
            ["negatives.strategy=noise", "negatives.scale=-1"],
            "negatives.scale: expected a number above 0 and at most 100, got -1",
        ),
        ("train", ["epochs=1.5"], "epochs: expected a whole number .*, got 1.5"),
        ("train", ["epochs="], "epochs: expected a whole number .*, got nothing"),
        (
            "train",
            ["network.widths=64"],
            r"network.widths: expected a list, .* did you mean 'network.widths=\[64\]'\?",
        ),
        (
            "train",
            ["network.widths=[1]"],
            "^network.widths.0: expected a whole number at least 2 [^;]*$",
        ),
        ("train", ["seeds=[0,0]"], "^seeds: each value once"),
        ("train", ["lr=0.1"], r"lr: is not a known field; did you mean 'optimizer.lr'\?"),
        (
            "train",
            ["optimizer.beta1=0.9"],
            r"did you mean 'optimizer.beta1', with optimizer.name=adam or adamw\?",
        ),
        (
            "train",
            ["dataset.train_samples=100000"],
            "^dataset.train_samples: 100000 asked, but mnist-mini has 6000",
        ),
        (
            "train",
            ["monitor.measures=[gin]"],
            r"monitor.measures.0: 'gin' is not one of gini, kurtosis, spectral_norm, weights, "
            r"readings; did you mean 'gini'\?",
        ),
        ("check", ["theorem=3"], "theorem: expected one of 1, 2, got 3"),
        (
            "check",
            ["at=init"],
            r"^at: 'init' is not one of initialization; did you mean 'initialization'\?$",
        ),
        (
            "check",
            ["at.job=job_01a20a45d02a76d5929b0e4fd0515a12", "at.epoc=3"],
            r"at.epoc: .* did you mean 'at.epoch'\?",
        ),
        ("check", ["epochs=3"], "epochs: is a field of `kind: train`, and this spec is a check"),
        (
            "trian",
            [],
            r"kind: 'trian' is not one of train, check, forecast, study; did you mean 'train'\?",
        ),
        ("study", ["epochs=3"], r"epochs: .* did you mean 'base.epochs'\?"),
        (
            "study",
            ["base.network.activation=rleu"],
            r"base.network.activation: .* did you mean 'relu'\?",
        ),
        (
            "study",
            ["grid.network.width=[[64]]"],
            r"grid.network.width: .* did you mean 'network.widths'\?",
        ),
        (
            "study",
            ["grid.epochs=3"],
            r"grid.epochs: expected a list, .* did you mean 'grid.epochs=\[3\]'\?",
        ),
        (
            "study",
            ["grid.negatives.strategy=[wrong_labl]"],
            r"grid.negatives.strategy: .* did you mean 'wrong_label'\?",
        ),
        ("study", ["preset=paper", "base.seeds=[0]"], "base.kind: say which of its runs are meant"),
    ],
)
def test_a_mistake_names_what_was_meant(
    tmp_path: Path, kind: str, settings: list[str], message: str
) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(f"kind: {kind}\n")
    with pytest.raises(SpecError, match=message):
        read_spec(str(file), settings)


def test_a_study_is_changed_in_its_base_and_its_grid(tmp_path: Path) -> None:
    spec, document = read_spec("paper", ["base.epochs=3"])
    assert document["base"] == {
        "epochs": 3,
        "kind": "train",
    }  # of its runs only one kind has epochs
    file = tmp_path / "spec.yaml"
    file.write_text("kind: study\n")
    spec, _ = read_spec(str(file), ["grid.network.widths=[[64], [128]]", "base.epochs=2"])
    assert isinstance(spec, StudySpec)
    assert spec.grid == {"network.widths": [[64], [128]]}


def test_every_field_of_the_models_is_known_with_words_for_what_it_takes() -> None:
    for kind in ("train", "check", "study"):
        for name, field in fields_of({"kind": kind}).items():
            assert field.expected, name
    known = fields_of({"kind": "train", "negatives": {"strategy": "noise"}})
    assert known["negatives.scale"].expected == "a number above 0 and at most 100"
    assert "noise" in known["negatives.strategy"].choices


def test_a_field_of_a_space_is_set_and_a_wrong_one_is_corrected(tmp_path: Path) -> None:
    spec, _ = read_spec("search", ["search.space.optimizer.lr=[0.1, 0.2]", "search.trials=3"])
    assert isinstance(spec, StudySpec)
    assert spec.search is not None
    assert spec.search.space == {"optimizer.lr": [0.1, 0.2]}
    with pytest.raises(SpecError, match=r"optimizer.ir: is not a known field; known are lr"):
        read_spec("search", ["search.space.optimizer.ir=[0.1, 0.2]"])
    with pytest.raises(SpecError, match=r"network.widths.3: '3' is no place in a list of 1"):
        read_spec("search", ["search.space.network.widths.3=[8, 16]"])


def test_a_part_of_a_preset_is_changed_and_the_others_stay() -> None:
    plain, _ = read_spec("quick", [])
    changed, _ = read_spec("quick", ["parts.training.base.epochs=3"])
    assert isinstance(plain, StudySpec)
    assert isinstance(changed, StudySpec)
    of_preset, of_changed = expand(plain), expand(changed)
    assert [cell.part for cell in of_changed] == [cell.part for cell in of_preset]
    differing = [
        (one.spec, other.spec)
        for one, other in zip(of_preset, of_changed, strict=True)
        if one.spec != other.spec
    ]
    assert differing
    for before, after in differing:
        assert isinstance(before, TrainSpec)
        assert after == before.model_copy(update={"epochs": 3})
