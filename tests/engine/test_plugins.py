"""Entries of plug-ins: in the catalogues, refused with a reason, and read without the plug-in."""

import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import torch
from pydantic import Field, ValidationError

from ffengine.activations import ACTIVATIONS, Activation, AnyActivation, Relu
from ffengine.additions import ADDED, NotInstalled, is_missing
from ffengine.entry import Entry, brief, entries
from ffengine.inits import INITS, AnyInit, Init
from ffengine.layer_updates import take_step
from ffengine.negatives import AnyNegatives, Negatives, Noise, WrongLabel
from ffengine.objectives import AnyObjective, Goodness
from ffengine.optimizers import Adam, AnyOptimizer, Optimizer
from ffengine.plugins import PRESET_GROUP, Registry, log_plugins
from ffengine.spec import Submission, TrainSpec, as_document, digest
from ffengine.study import expand, read_preset
from ffengine.text import STORED
from tests.plugins import answer, environment, install


class Halved(Negatives):
    """The positive at half of its brightness."""

    strategy: Literal["halved"] = "halved"
    share: float = Field(0.5, gt=0, lt=1, description="what is left of it")

    def __call__(self, positives: Any) -> Any:
        return positives.x * self.share


class Cubes(Goodness):
    """Sum of the cubes of the activations."""

    name: Literal["cubes"] = "cubes"

    def value(self, h: torch.Tensor) -> torch.Tensor:
        return h.pow(3).sum(-1)

    def pull(
        self, h: torch.Tensor, value: torch.Tensor, s: torch.Tensor, saved: object = None
    ) -> torch.Tensor:
        return 3 * h.square() * s.unsqueeze(-1)


class Steep(Optimizer):
    """Twice the descent."""

    name: Literal["steep"] = "steep"

    def direction(self, weight: Any, descent: Any, state: Any) -> Any:
        return 2 * self.decayed(weight, descent)


class Cube(Activation):
    """The cube of z."""

    name: ClassVar[str] = "cube"

    def value(self, z: Any) -> Any:
        return z**3

    def slope(self, z: Any) -> Any:
        return 3 * z**2


def zeros(draw: Any, replicas: int, n: int, m: int) -> Any:
    return draw.normal((replicas, n, m)) * 0


ZERO = Init("all zero", zeros, zeros)


def point(catalogue: str, name: str, entry: object, package: str = "acme") -> EntryPoint:
    """An entry point of a module of its own, which has the entry."""
    module = types.ModuleType(f"{package}_{re.sub('[^a-z]', '', name)}")
    module.__file__ = __file__
    module.entry = entry  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    return EntryPoint(name, f"{module.__name__}:entry", f"fflab.{catalogue}")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Loads entry points into the catalogues for the time of a test."""
    before, inits, modules = dict(ACTIVATIONS), dict(INITS), set(sys.modules)

    def loaded(*points: EntryPoint) -> Registry:
        registry = Registry()
        registry.load(points)
        monkeypatch.setattr("ffengine.spec.REGISTRY", registry)
        return registry

    yield loaded
    for added in ADDED.values():
        added.clear()
    for table, kept in ((ACTIVATIONS, before), (INITS, inits)):
        table.clear()
        table.update(kept)  # type: ignore[arg-type]
    for objective in entries(AnyObjective):
        objective.model_rebuild(force=True)
    for module in set(sys.modules) - modules:
        if module.startswith("acme"):
            del sys.modules[module]


def test_entries_of_a_plugin_are_in_unions_names_and_schemas(load: Callable[..., Registry]) -> None:
    registry = load(
        point("negatives", "halved", Halved),
        point("goodness", "cubes", Cubes),
        point("optimizers", "steep", Steep),
        point("activations", "cube", Cube),
        point("inits", "zero", ZERO),
    )
    assert registry.faults == []

    class Everything(Entry):
        negatives: AnyNegatives = WrongLabel()
        objective: AnyObjective
        optimizer: AnyOptimizer
        activation: AnyActivation = "relu"
        init: AnyInit = "gaussian"

    given = {
        "negatives": {"strategy": "halved", "share": 0.25},
        "objective": {"name": "softplus", "goodness": "cubes"},
        "optimizer": {"name": "steep"},
        "activation": "cube",
        "init": "zero",
    }
    found = Everything.model_validate(given)
    assert found.negatives == Halved(share=0.25)
    assert found.objective.goodness == Cubes()
    assert Everything.model_validate_json(found.model_dump_json()) == found
    assert brief(found)["negatives"] == {"strategy": "halved", "share": 0.25}
    assert entries(AnyNegatives)[-1] is Halved
    schema = Everything.model_json_schema()
    assert schema["properties"]["activation"]["enum"][-1] == "cube"
    assert schema["properties"]["init"]["enum"][-1] == "zero"
    assert "cubes" in str(schema["$defs"]["SoftplusLoss"]["properties"]["goodness"])
    assert schema["$defs"]["Halved"]["required"] == ["strategy"]
    with pytest.raises(ValidationError, match="less than 1"):
        Everything.model_validate({**given, "negatives": {"strategy": "halved", "share": 2}})
    with pytest.raises(ValidationError, match=r"'wrong_label', .*'halved'"):
        Everything.model_validate({**given, "negatives": {"strategy": "thirds"}})
    used = registry.used_by(found)
    owners = ["acme_cube", "acme_cubes", "acme_halved", "acme_steep", "acme_zero"]
    assert [one.package for one in used] == owners
    assert used[2].entries == ("negatives.halved",)
    assert registry.used_by(TrainSpec()) == ()


def heir(of: type, **names: object) -> type:
    return types.new_class("Heir", (of,), exec_body=lambda namespace: namespace.update(names))


REFUSED: dict[str, tuple[str, str, object, str]] = {
    "name of fflab": ("negatives", "noise", Halved, "fflab has an entry of this name"),
    "activation of fflab": ("activations", "relu", Cube, "fflab has an entry of this name"),
    "odd name": ("negatives", "Half-life", Halved, "use small letters, digits and _"),
    "another name": ("negatives", "other", Halved, 'strategy: Literal["other"] = "other"'),
    "another base": ("negatives", "cubes", Cubes, "no subclass of ffengine.negatives.Negatives"),
    "no class": ("optimizers", "steep", 3, "no subclass of ffengine.optimizers.Optimizer"),
    "abstract": ("goodness", "cubes", heir(Goodness), "Heir lacks pull, value"),
    "heir of an entry": ("negatives", "quiet", heir(Noise), "inherits from the entry Noise"),
    "heir of adam": ("optimizers", "adan", heir(Adam), "inherits from the entry Adam"),
    "heir of relu": (
        "activations",
        "rect",
        heir(Relu, name="rect"),
        "inherits from the entry Relu",
    ),
    "no init": ("inits", "zero", zeros, "no ffengine.inits.Init"),
    "no activation": ("activations", "cube", zeros, "no ffengine.activations.Activation"),
    "activation of another name": ("activations", "cubic", Cube, "its own name is 'cube'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_entry_is_refused_with_the_reason(
    load: Callable[..., Registry], case: str
) -> None:
    catalogue, name, entry, reason = REFUSED[case]
    registry = load(point(catalogue, name, entry))
    (fault,) = registry.faults
    assert reason in fault.line
    assert "\n" not in fault.line
    assert registry.why_refused(catalogue, name) == fault.line
    assert not any(ADDED.values())


class Noise2(Negatives):
    """A class with the name of another entry's."""

    strategy: Literal["noisy"] = "noisy"
    level: float

    def __call__(self, positives: Any) -> Any:
        return positives.x


def test_fields_without_defaults_and_names_of_classes_are_refused(
    load: Callable[..., Registry],
) -> None:
    (fault,) = load(point("negatives", "noisy", Noise2)).faults
    assert "Noise2.level needs a valid default" in fault.line
    twin = types.new_class("Noise", (Halved,))
    (fault,) = load(point("negatives", "halved", twin)).faults
    assert "another entry's class is called Noise" in fault.line


def test_a_reason_is_one_short_line_whatever_an_import_raises(
    load: Callable[..., Registry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme_loud.py").write_text('raise SystemExit("\\x1b[31m" + "x" * 5000 + "\\nno")')
    monkeypatch.syspath_prepend(tmp_path)
    (fault,) = load(EntryPoint("loud", "acme_loud:Loud", "fflab.negatives")).faults
    assert fault.reason.startswith("cannot be imported: SystemExit: ")
    assert fault.reason.isprintable()
    assert len(fault.reason) <= 400


def test_of_two_plugins_with_one_name_neither_is_taken(load: Callable[..., Registry]) -> None:
    registry = load(point("negatives", "halved", Halved), point("negatives", "halved", Halved, "b"))
    assert len(registry.faults) == 2
    reason = registry.why_refused("negatives", "halved")
    assert reason is not None
    assert "acme_halved and b_halved both have an entry of this name; remove one" in reason
    assert not ADDED["negatives"]


def test_a_plugin_that_cannot_be_imported_does_not_stop_others(
    load: Callable[..., Registry],
) -> None:
    broken = EntryPoint("gone", "acme_not_there:Gone", "fflab.negatives")
    malformed = EntryPoint("odd", "acme-odd:", "fflab.negatives")
    registry = load(broken, malformed, point("negatives", "halved", Halved))
    malformed_fault, broken_fault = registry.faults
    assert "'acme-odd:' names no entry; write MODULE:NAME" in malformed_fault.line
    assert "ModuleNotFoundError: No module named 'acme_not_there'" in broken_fault.line
    assert list(ADDED["negatives"]) == ["halved"]


def test_the_log_names_plugins_and_faults_a_line_each(
    load: Callable[..., Registry], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("gone", "acme_not_there:Gone", "fflab.negatives")
    monkeypatch.setattr("ffengine.plugins.REGISTRY", load(broken, point("inits", "zero", ZERO)))
    with caplog.at_level("INFO"):
        log_plugins()
    named, fault = caplog.messages
    assert named == "plug-in acme_zero unknown: inits.zero"
    assert fault.startswith("plug-in acme_not_there unknown: negatives gone: cannot be imported")


# Without the plug-in

STORED_SPEC = {
    "kind": "train",
    "network": {"activation": "cube", "init": "zero"},
    "negatives": {"strategy": "halved", "share": 0.25, "redraw": "once"},
    "objective": {"name": "softplus", "goodness": "cubes"},
    "optimizer": {"name": "steep", "lr": 2.0, "power": 3},
}


def test_a_stored_spec_is_read_without_its_plugin_and_a_new_one_is_refused() -> None:
    spec = Submission.model_validate({"spec": STORED_SPEC}, context=STORED).spec
    assert isinstance(spec, TrainSpec)
    assert is_missing(spec.negatives)
    assert spec.negatives.redraw == "once"
    assert spec.optimizer.lr == 2.0
    written = spec.model_dump(mode="json")
    assert written["negatives"] == STORED_SPEC["negatives"]
    assert written["objective"]["goodness"] == "cubes"
    assert written["optimizer"]["power"] == 3
    assert as_document(spec)["negatives"] == {"strategy": "halved", "share": 0.25, "redraw": "once"}
    again = Submission.model_validate({"spec": written}, context=STORED).spec
    assert again == spec
    assert digest(again) == digest(spec)
    with pytest.raises(NotInstalled, match="halved is of a plug-in that is not installed here"):
        spec.negatives(None)  # type: ignore[arg-type]
    with pytest.raises(ValidationError) as refused:
        Submission.model_validate({"spec": STORED_SPEC})
    assert refused.value.error_count() == 5


def test_a_stored_spec_that_learned_classes_by_a_plugin_is_read_as_such() -> None:
    objective = {"name": "theirs", "steepness": 2}
    stored = {"kind": "train", "objective": objective, "negatives": {"strategy": "none"}}
    spec = Submission.model_validate({"spec": stored}, context=STORED).spec
    assert isinstance(spec, TrainSpec)
    assert is_missing(spec.objective)
    assert spec.learns_classes
    assert spec.model_dump(mode="json")["objective"] == objective
    pairwise = TrainSpec.model_validate({"objective": {"name": "softplus"}}).model_dump(mode="json")
    pairwise["objective"]["name"] = "ours"
    other = Submission.model_validate({"spec": pairwise}, context=STORED).spec
    assert isinstance(other, TrainSpec)
    assert is_missing(other.objective)
    assert not other.learns_classes
    with pytest.raises(ValidationError, match="theirs"):
        Submission.model_validate({"spec": stored})


def test_an_optimiser_that_is_not_fflabs_own_takes_its_own_step() -> None:
    weight, descent = torch.randn(1, 3, 2), torch.randn(1, 3, 2)
    expected = weight + 0.2 * descent
    take_step(Steep(), weight, descent.clone(), {}, 0.1)  # type: ignore[arg-type]
    assert torch.allclose(weight, expected)


IN_A_PROCESS = """
import json, sys
import fflab_example.methods
import ffengine
from ffengine.plugins import REGISTRY
from ffengine.spec import TrainSpec, digest
from service.specs.schema_fields import fields_of
from service.web.catalogue import build_catalog

spec = TrainSpec.model_validate({
    "dataset": {"train_samples": 60, "test_samples": 20}, "network": {"widths": [8]},
    "negatives": {"strategy": "speckle"}, "optimizer": {"name": "lion"}, "epochs": 1,
    "objective": {"name": "softplus", "goodness": "log_squares"}, "monitor": {"samples": 20},
})
classes = TrainSpec.model_validate({
    "dataset": {"train_samples": 60, "test_samples": 20}, "network": {"widths": [12]},
    "objective": {"name": "soft_block"}, "epochs": 1, "monitor": {"samples": 20},
})
found = {
    "faults": [fault.line for fault in REGISTRY.faults],
    "catalog": [one.name for one in build_catalog().goodness][-1],
    "choices": list(fields_of(spec.model_dump(mode="json"))["optimizer.name"].choices),
    "parameters": [name for name in fields_of(spec.model_dump(mode="json")) if "strength" in name],
    "digests": [digest(TrainSpec()), digest(spec)],
    "classes": [classes.learns_classes, classes.negatives.strategy],
    "torch": "torch" in sys.modules,
}
if %r:
    result = ffengine.train(classes)
    found["rows"] = [len(result.curves), result.provenance.plugins[0].entries]
    found["used"] = ffengine.train(spec).provenance.model_dump()["plugins"]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_an_installed_plugin_is_everywhere_and_in_keys_and_provenance(tmp_path: Path) -> None:
    one = answer(IN_A_PROCESS % True, install(tmp_path / "one"))
    assert one["faults"] == []
    assert one["catalog"] == "log_squares"
    assert "lion" in one["choices"]
    assert one["parameters"] == ["dataset.label_strength", "negatives.strength"]
    assert not one["torch"]
    assert one["classes"] == [True, "none"]
    assert one["rows"] == [2, ["objectives.soft_block"]]
    (used,) = one["used"]
    assert (used["package"], used["version"]) == ("fflab-example", "1.0.0")
    assert used["entries"] == ["goodness.log_squares", "negatives.speckle", "optimizers.lion"]

    other_version = answer(IN_A_PROCESS % False, install(tmp_path / "two", "1.1.0"))
    changed = install(tmp_path / "three")
    (changed / "fflab_example/__init__.py").write_text('"""Edited in place."""\n')
    other_code = answer(IN_A_PROCESS % False, changed)
    found = (one, other_version, other_code)
    plain, with_plugin = zip(*(each["digests"] for each in found), strict=True)
    assert set(plain) == {digest(TrainSpec())}  # runs without the plug-in keep their results
    assert len(set(with_plugin)) == 3


STUDY = {
    "meaning": "Two learning rates.",
    "spec": {"kind": "study", "base": {"kind": "train"}, "grid": {"optimizer.lr": [0.1, 0.2]}},
}


def preset_point(name: str, package: str = "acme") -> EntryPoint:
    module = types.ModuleType(f"{package}_presets")
    sys.modules[module.__name__] = module
    return EntryPoint(name, f"{module.__name__}:preset", PRESET_GROUP)


def loaded_preset(
    monkeypatch: pytest.MonkeyPatch, found: object, name: str = "two-rates"
) -> tuple[Registry, dict[str, Any]]:
    one = preset_point(name)
    monkeypatch.setattr(sys.modules["acme_presets"], "preset", found, raising=False)
    monkeypatch.setattr(sys.modules["acme_presets"], "__file__", __file__, raising=False)
    registry = Registry()
    return registry, registry.load_presets([one], {"paper"}, read_preset)


def test_a_preset_of_a_plugin_is_read_as_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, found = loaded_preset(monkeypatch, STUDY)
    assert registry.faults == []
    meaning, study = found["two-rates"]
    assert (meaning, len(expand(study))) == ("Two learning rates.", 2)
    owner = registry.owner("presets", "two-rates")
    assert owner is not None
    assert owner.entries == ("presets.two-rates",)
    made = STUDY | {"spec": study}
    assert loaded_preset(monkeypatch, made)[1]["two-rates"][1] == study
    assert registry.used_by(study.model_copy(update={"preset": "two-rates"})) == (owner,)
    assert registry.missing_in(study.model_copy(update={"preset": "gone"})) == ()


@pytest.mark.parametrize(
    ("found", "name", "reason"),
    [
        (STUDY, "paper", "fflab has an entry of this name"),
        (STUDY, "two_rates", "small letters, digits and -"),
        (STUDY["spec"], "two-rates", 'a preset is a mapping {"meaning": TEXT, "spec": STUDY}'),
        (STUDY | {"meaning": " "}, "two-rates", "meaning: say in a sentence"),
        (STUDY | {"spec": {"preset": "paper"}}, "two-rates", "spec.preset: a preset stands for"),
        (STUDY | {"spec": {"grid": {"optimizr.lr": [1]}}}, "two-rates", "optimizr"),
        (STUDY | {"spec": {"base": {"kind": "train", "epochs": 0}}}, "two-rates", "epochs"),
    ],
)
def test_a_preset_that_cannot_be_run_is_left_out_with_the_reason(
    found: object, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, presets = loaded_preset(monkeypatch, found, name)
    assert presets == {}
    (fault,) = registry.faults
    assert fault.line.startswith(f"acme_presets unknown: presets {name}: ")
    assert reason in fault.reason
    assert registry.plugins == []


def test_of_two_plugins_with_one_preset_neither_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [preset_point("two-rates", package) for package in ("acme", "other")]
    registry = Registry()
    assert registry.load_presets(points, (), read_preset) == {}
    assert len(registry.faults) == 2
    assert "acme_presets and other_presets both have" in registry.faults[0].reason


PRESETS_IN_A_PROCESS = """
import json, sys
from ffengine.plugins import REGISTRY
from ffengine.spec import StudySpec
from ffengine.study import expand, resolved
from service.web.catalogue import build_presets
line = next(line for line in build_presets() if line.name == "lion-rates")
stored = resolved(StudySpec(preset="lion-rates"))
print(json.dumps({
    "faults": [fault.line for fault in REGISTRY.faults],
    "plugin": line.plugin, "meaning": line.meaning, "own": build_presets()[0].plugin,
    "runs": len(expand(stored)), "torch": "torch" in sys.modules,
    "used": [use.package for use in REGISTRY.used_by(expand(stored)[0].spec)],
    "entries": REGISTRY.plugins[0].entries,
}))
"""


@pytest.mark.slow
def test_the_preset_of_an_installed_plugin_is_listed_with_its_version(tmp_path: Path) -> None:
    folder = install(tmp_path)
    found = answer(PRESETS_IN_A_PROCESS, folder)
    assert found["faults"] == []
    assert found["plugin"] == "fflab-example 1.0.0"
    assert found["meaning"].endswith("Of the plug-in fflab-example 1.0.0.")
    assert found["own"] is None
    assert (found["runs"], found["used"], found["torch"]) == (3, ["fflab-example"], False)
    assert "presets.lion-rates" in found["entries"]
    listed = subprocess.run(
        [sys.executable, "-m", "service.cli", "presets"],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "lion-rates\tLion at three learning rates" in listed
    assert "Of the plug-in fflab-example 1.0.0." in listed
