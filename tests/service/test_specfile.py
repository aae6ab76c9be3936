"""Specs from the command line: files, presets, --set, and messages that name the nearest field."""

from pathlib import Path

import pytest

from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from service.specfile import SpecError, read_spec


def test_a_file_with_settings_becomes_a_spec(tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("kind: train\nepochs: 3\n")
    spec, document = read_spec(str(file), ["network.widths=[64, 32]", "optimizer.lr=0.5"])
    assert spec == TrainSpec.model_validate({"epochs": 3, "network": {"widths": [64, 32]}, "optimizer": {"lr": 0.5}})
    assert document["network"] == {"widths": [64, 32]}
    file.write_text('{"spec": {"kind": "check", "theorem": 1}}')
    assert read_spec(str(file))[0] == CheckSpec(theorem=1)


def test_a_presets_name_is_a_study() -> None:
    assert read_spec("paper")[0] == StudySpec(preset="paper")


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("kind: train", ["epoch=3"], r"epoch: is not a known field; did you mean 'epochs'\?"),
        ("kind: train", ["network.width=[3]"], r"network.width: is not a known field; did you mean 'network.widths'\?"),
        ("kind: train", ["epochs=x"], "epochs: Input should be a valid integer"),
        ("kind: train", ["epochs"], "expected FIELD=VALUE"),
        ("kind: train", ["epochs.x=3", "epochs.x.y=4"], "'x' is not an object"),
        ("kind: train", ["epochs=[1"], "the value is not YAML"),
        ("kind: [", [], "cannot be read as YAML"),
        ("- 1", [], "expected an object"),
        ("kind: study\npreset: papre", [], "/preset: 'papre' is not a preset"),
    ],
)
def test_mistakes_say_what_and_where(tmp_path: Path, content: str, settings: list[str], message: str) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(content)
    with pytest.raises(SpecError, match=message):
        read_spec(str(file), settings)


def test_a_name_that_is_nothing_suggests_a_preset() -> None:
    with pytest.raises(SpecError, match="did you mean 'paper'"):
        read_spec("papre")
