"""Exports to other tools, read back with the real packages."""

import builtins
import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from ffengine.spec import CheckSpec, StudySpec, TrainSpec
from service.store import Store
from tests.commands import Fflab
from tests.factories import HALF, LEASE, claimed, finished, submit
from tests.service.samples import check_result, train_result, trained

# mlflow's own tables use what SQLAlchemy 2.1 calls old
OF_MLFLOW = "ignore::DeprecationWarning"


def study(store: Store) -> tuple[str, list[str]]:
    """A study of two widths that has succeeded; its id and those of its runs."""
    spec = StudySpec.model_validate(
        {"base": {"kind": "train", "epochs": 2}, "grid": {"network.widths": [[8], [16]]}}
    )
    job = submit(store, spec, name="two widths")
    runs = [run.id for run, _ in store.jobs.children(job.id)]
    for run in runs:
        finished(store, run, trained())
    return job.id, runs


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def hparams(folder: Path) -> dict[str, Any]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = EventAccumulator(str(folder))
    found.Reload()
    metadata = found.SummaryMetadata("_hparams_/session_start_info")
    content = HParamsPluginData.FromString(metadata.plugin_data.content)
    return {
        name: getattr(value, value.WhichOneof("kind"))
        for name, value in content.session_start_info.hparams.items()
    }


@pytest.mark.slow
def test_tensorboard_reads_a_folder_for_each_seed_and_a_second_export_replaces_it(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    job = submit(store, TrainSpec(epochs=2, seeds=(0, 1)), name="näive/../run")
    finished(store, job.id, trained((0, 1)))
    target = tmp_path / "runs"
    for _ in range(2):
        exported = fflab("export", job.id, "--tensorboard", str(target))
        assert (exported.code, exported.err) == (0, "")
        assert exported.out == (
            f"{target}: 2 runs; look at them with: tensorboard --logdir {target}\n"
        )
    folder = target / f"näive-run-{job.id[-8:]}"
    assert sorted(path.name for path in target.rglob("*") if path.is_dir()) == [
        folder.name,
        "seed-0",
        "seed-1",
    ]
    found = scalars(folder / "seed-1")
    assert found["theorem2_ratio/layer_0/negative"] == [
        (epoch, pytest.approx((epoch + 0.1) / 10)) for epoch in range(3)
    ]
    assert found["accuracy/test/goodness/all_layers"] == [(2, pytest.approx(0.9))]
    assert "gini/layer_0/positive" not in found, "what was not measured is no curve"
    assert hparams(folder / "seed-1")["seed"] == 1
    assert hparams(folder / "seed-1")["network.widths"] == "500"
    assert hparams(folder / "seed-1")["optimizer.scale_lr_by_width"] is True


@pytest.mark.slow
def test_tensorboard_has_the_runs_of_a_study_by_what_varies_and_of_what_runs(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    of_study, runs = study(store)
    assert fflab("export", of_study, "--tensorboard", str(tmp_path / "runs")).code == 0
    found = {path.name[-8:]: path for path in (tmp_path / "runs").iterdir()}
    assert set(found) == {run[-8:] for run in runs}
    assert hparams(found[runs[1][-8:]]) == {"network.widths": "16", "seed": 0}
    check = submit(store, CheckSpec())
    job, attempt = claimed(store, check)
    cells = check_result().cells
    store.queue.record(job, attempt, lease_seconds=LEASE, progress=HALF, rows=cells)
    told = json.loads(fflab("export", job, "--tensorboard", str(tmp_path / "c"), "--json").out)
    assert told["id"] == job
    (folder,) = (tmp_path / "c").iterdir()
    assert scalars(folder / "seed-2")["theorem1_ratio/width_64/layer_0/positive/exact"] == [
        (0, 0.75)
    ]


@pytest.mark.slow
def test_the_table_of_weights_and_biases_has_a_line_for_each_epoch(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    of_study, runs = study(store)
    job = submit(store, TrainSpec(epochs=2, seeds=(0, 1)), name="=formula", tags=["a", "b"])
    file = tmp_path / "runs.csv"
    assert fflab("export", of_study, "--wandb", str(file)).out == (
        f"{file}: 2 runs as CSV, a line for each epoch\n"
    )
    lines = list(csv.DictReader(file.read_text().splitlines()))
    assert [line["_step"] for line in lines] == ["0", "1", "2"] * 2
    assert {line["ID"]: line["config.network.widths"] for line in lines} == dict(
        zip(runs, ("8", "16"), strict=True)
    )
    assert {(line["Group"], line["State"]) for line in lines} == {(of_study, "finished")}
    assert [line["theorem2_ratio/layer_0/positive"] for line in lines[:3]] == ["0.0", "0.1", "0.2"]
    assert {line["summary.theorem2_ratio/layer_0/positive"] for line in lines} == {"0.2"}
    assert {line["summary.accuracy/test/goodness/all_layers"] for line in lines} == {"0.8"}

    fflab("export", job.id, "--wandb", str(file))  # nothing is measured yet
    (line,) = csv.DictReader(file.read_text().splitlines())
    assert (line["Name"], line["State"], line["Tags"], line["_step"]) == (
        "'=formula",
        "pending",
        "a, b",
        "",
    )
    finished(store, job.id, trained((0, 1)))
    fflab("export", job.id, "--wandb", str(file))
    lines = list(csv.DictReader(file.read_text().splitlines()))
    assert float(lines[1]["theorem2_ratio/layer_0/positive"]) == pytest.approx(0.105)
    assert float(lines[0]["summary.accuracy/test/goodness/all_layers"]) == pytest.approx(0.85)


def _without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let MLflow keep runs in files, and draw nothing: both save most of the time."""
    from service.cli.exports import to_mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(to_mlflow, "_drawn", lambda _client, _job: ["curves.csv"])


@pytest.mark.slow
@pytest.mark.filterwarnings(OF_MLFLOW)
@pytest.mark.parametrize("kept_in", ["files", pytest.param("sqlite", marks=pytest.mark.soak)])
def test_mlflow_has_nested_runs_and_a_second_export_doubles_nothing(
    fflab: Fflab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: str
) -> None:
    from mlflow import MlflowClient

    is_whole = kept_in == "sqlite"
    if not is_whole:
        _without_pictures(monkeypatch)
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/m.db" if is_whole else f"file://{tmp_path}/ml"
    of_study, runs = study(store)
    for _ in range(2):
        exported = fflab("export", of_study, "--mlflow", uri, "--experiment", "sparsity")
        assert (exported.code, exported.out) == (
            0,
            f"{uri}: 3 runs in the experiment sparsity\n",
        ), exported.err
    there = MlflowClient(tracking_uri=uri)
    experiment = there.get_experiment_by_name("sparsity")
    assert experiment is not None
    found = {
        run.data.tags["fflab.job"]: run for run in there.search_runs([experiment.experiment_id])
    }
    assert set(found) == {of_study, *runs}
    parent, first = found[of_study], found[runs[0]]
    assert first.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert (parent.info.run_name, first.info.run_name) == ("two widths", "widths 8")
    assert (first.info.status, first.data.params["network.widths"]) == ("FINISHED", "8")
    assert first.data.params["optimizer.lr"] == "1.0"
    history = there.get_metric_history(first.info.run_id, "theorem2_ratio/layer_0/negative")
    assert [(point.step, point.value) for point in sorted(history, key=lambda one: one.step)] == [
        (0, 0.0),
        (1, 0.1),
        (2, 0.2),
    ]
    assert first.data.metrics["accuracy/test/goodness/all_layers"] == 0.8
    assert first.data.tags["fflab.spec_digest"] == train_result().provenance.spec_digest
    names = {one.path for one in there.list_artifacts(first.info.run_id)}
    assert names == {"spec.yaml", "provenance.json", "curves.csv"}
    names = {one.path for one in there.list_artifacts(parent.info.run_id)}
    assert {"spec.yaml", "curves.csv"} <= names
    if not is_whole:
        return
    assert {"report.html", "chart"} <= names
    charts = {one.path for one in there.list_artifacts(parent.info.run_id, "chart")}
    assert {"chart/sparsity.png", "chart/sparsity.svg"} <= charts


@pytest.mark.slow
@pytest.mark.filterwarnings(OF_MLFLOW)
def test_mlflow_is_given_what_was_missing_and_says_where_it_cannot_write(
    fflab: Fflab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    _without_pictures(monkeypatch)
    uri = f"file://{tmp_path}/ml"
    job, attempt = claimed(store, submit(store, TrainSpec(epochs=1)))
    states = []
    for rows in (trained(epochs=0).curves, trained(epochs=1).curves[2:]):
        store.queue.record(job, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
        assert fflab("export", job, "--mlflow", uri).code == 0
        there = MlflowClient(tracking_uri=uri)
        experiment = there.get_experiment_by_name("fflab")
        assert experiment is not None
        (run,) = there.search_runs([experiment.experiment_id])
        history = there.get_metric_history(run.info.run_id, "sparsity/layer_0/positive")
        states.append((run.info.status, sorted(point.step for point in history)))
    assert states == [("RUNNING", [0]), ("RUNNING", [0, 1])]
    refused = fflab("export", job, "--mlflow", "nonsense://here")
    assert refused.code == 3
    assert refused.err.startswith("fflab: --mlflow nonsense://here: ")
    assert len(refused.err.splitlines()) == 1


@pytest.fixture
def _without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither TensorBoard nor MLflow is installed."""
    for name in [name for name in sys.modules if name.startswith("service.cli.exports.to_")]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if (top := name.partition(".")[0]) in ("tensorboard", "mlflow"):
            raise ModuleNotFoundError(f"No module named {top!r}", name=top)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)


@pytest.mark.slow
@pytest.mark.usefixtures("_without_packages")
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    job = submit(store)
    for target, where in (("tensorboard", str(tmp_path / "x")), ("mlflow", "sqlite:///x.db")):
        refused = fflab("export", job.id, f"--{target}", where)
        assert refused.code == 2
        assert refused.err == (
            f"fflab: this command needs {target}, which is not installed: pip install "
            f"'fflab[{target}]'\n"
        )


def test_an_export_without_a_target_and_one_that_cannot_be_written_say_so(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    job = submit(store)
    finished(store, job.id, trained())
    refused = fflab("export", job.id)
    assert refused.code == 2
    assert refused.err == (
        "fflab: say what to write: --paper DIR, --tensorboard DIR, --mlflow URI or "
        "--wandb FILE.csv\n"
    )
    (tmp_path / "file").write_text("")
    for option, name in (("--tensorboard", "x"), ("--wandb", "x.csv")):
        refused = fflab("export", job.id, option, str(tmp_path / "file" / name))
        assert refused.code == 2
        assert f"file/{name}: cannot be written" in refused.err


@pytest.mark.parametrize(
    ("option", "name", "said"),
    [
        ("--wandb", "w.txt", "the table is CSV; choose a name that ends in .csv"),
        ("--wandb", "w", "the table is CSV; choose a name that ends in .csv"),
        ("--wandb", "w.json", "the table is CSV; choose a name that ends in .csv"),
        ("--tensorboard", "run.csv", "expected a folder, and this is the name of a file"),
        ("--tensorboard", "taken", "expected a folder, and this is the name of a file"),
        ("--paper", "paper.pdf", "expected a folder, and this is the name of a file"),
        ("--mlflow", "runs.db", "expected http://HOST:PORT or sqlite:///FILE"),
    ],
)
def test_a_name_that_contradicts_what_is_written_is_refused(
    fflab: Fflab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, name: str, said: str
) -> None:
    """Before anything is asked of a service, or written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("")
    refused = fflab("export", "last", option, name)
    assert (refused.code, refused.err) == (2, f"fflab: {option} {name}: {said}\n")
    assert not (tmp_path / name).exists() or name == "taken"


def test_a_folder_may_have_a_point_in_its_name(
    fflab: Fflab, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(store)
    finished(store, job.id, trained())
    (tmp_path / "old.csv").mkdir()
    for name in ("runs-0.1", "old.csv"):
        found = fflab("export", job.id, "--tensorboard", str(tmp_path / name))
        assert found.code == 0, found.err
