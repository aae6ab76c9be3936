"""`fflab bench`: what it keeps, goes on from, prints and writes into a page."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import ffengine
from benchmarks.waiting import wait_until
from ffengine.leaderboard import BASELINES, METHODS, RATE_FACTORS, Protocol
from ffengine.spec import DatasetSpec, NetworkSpec, TrainSpec
from service import cli
from service.cli import bench
from service.cli.bench_runs import KeptRuns

TINY = Protocol(
    "tiny",
    "For tests.",
    (DatasetSpec(name="digits", train_samples=40, validation_samples=20, test_samples=30),),
    ((6,),),
    (0, 1),
    1,
)
RUNS = len(RATE_FACTORS) + 1
PROGRAM = """
from ffengine.leaderboard import Protocol
from ffengine.spec import DatasetSpec
from service import cli
from service.cli import bench

dataset = DatasetSpec(name="digits", train_samples=1000, validation_samples=100, test_samples=100)
bench.PROTOCOLS = {"long": Protocol("long", "For tests.", (dataset,), ((40,),), (0,), 30)}
if __name__ == "__main__":
    cli.app()
"""
MARKED = "# Mine\n\n<!-- bench tiny -->\nold\n<!-- end of bench tiny -->\n\nThe end.\n"
Bench = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The command with a tiny protocol and one method."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "PROTOCOLS", {"tiny": TINY})
    monkeypatch.setenv("FFLAB_HOME", str(tmp_path / "home"))

    def called(*arguments: str) -> Result:
        return CliRunner().invoke(cli.app, ["bench", "tiny", *arguments])

    return called


@pytest.mark.slow
def test_a_run_that_has_ended_is_kept_and_the_others_run(
    run: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[float] = []
    train = ffengine.train

    def interrupted(spec: Any, **options: Any) -> Any:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(spec.optimizer.lr)
        return train(spec, **options)

    def counted(spec: Any, **options: Any) -> Any:
        trained.append(spec.optimizer.lr)
        return train(spec, **options)

    monkeypatch.setattr(ffengine, "train", interrupted)
    assert run("--only", "difference").exit_code != 0
    assert len(list((tmp_path / "fflab-bench-tiny").glob("*.json"))) == 2
    monkeypatch.setattr(ffengine, "train", counted)
    done = run("--only", "difference", "--json")
    assert done.exit_code == 0, done.output
    assert len(trained) == RUNS
    assert done.stderr.count(": kept\n") == 2
    whole = json.loads(done.stdout)
    assert {row["method"] for row in whole} == {"difference", *BASELINES}
    for row in whole:
        assert 0 <= row["accuracy"]["low"] <= row["accuracy"]["mean"] <= row["accuracy"]["high"]
        assert len(row["rates"]) == len(row["epochs"]) == 2
        assert len(row["sparsity"]) == len(row["dead_units"]) == 1
    again = run("--only", "difference", "--json")
    assert len(trained) == RUNS
    assert json.loads(again.stdout) == whole
    # what is damaged, and what ran otherwise, runs anew
    files = sorted((tmp_path / "fflab-bench-tiny").iterdir())
    files[0].write_text("{")
    other = json.loads(files[1].read_text(encoding="utf-8"))
    files[1].write_text(json.dumps(other | {"engine_version": "0.0.1"}), encoding="utf-8")
    assert json.loads(run("--only", "difference", "--json").stdout) == whole
    assert len(trained) == RUNS + 2


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_killed_command_goes_on_from_checkpoints_with_the_same_figures(
    jobs: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    environment = os.environ | {
        "FFLAB_HOME": str(tmp_path / "home"),
        "FFLAB_CHECKPOINT_SECONDS": "0.01",
        "PYTHONPATH": str(Path(cli.__file__).parents[2]),
    }

    def command(folder: str, *more: str) -> list[str]:
        named = ("bench", "long", "--folder", folder, "--only", "hinton", "--json", *more)
        return [sys.executable, str(program), *named]

    kept = tmp_path / "kept"
    with subprocess.Popen(
        command("kept", "--jobs", jobs), cwd=tmp_path, env=environment, stderr=subprocess.PIPE
    ) as killed:
        wait_until(
            lambda: len(list(kept.glob("*.json"))) >= 1 and list(kept.glob("*.checkpoint")),
            "a run that has ended, and one with a checkpoint",
        )
        killed.kill()
    before = {file.name for file in kept.glob("*.json")}
    assert len(before) < RUNS

    def ran(folder: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(folder),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )

    resumed, whole = ran("kept"), ran("whole")
    assert json.loads(resumed.stdout) == json.loads(whole.stdout)
    assert resumed.stderr.count(": kept\n") == len(before)
    assert ": goes on from its checkpoint\n" in resumed.stderr
    assert "checkpoint" not in whole.stderr
    assert not list(kept.glob("*.checkpoint"))


@pytest.mark.slow
def test_a_damaged_checkpoint_and_that_of_another_run_are_not_used(tmp_path: Path) -> None:
    first, second = (
        TrainSpec(dataset=TINY.datasets[0], network=NetworkSpec(widths=(6,)), seeds=(seed,))
        for seed in (0, 1)
    )
    kept = KeptRuns(tmp_path, "cpu")
    saved: list[Any] = []
    ffengine.train(first, on_epoch=lambda report: saved.append(report.checkpoint) or "run")
    kept.save(first, saved[0])
    found = kept.begun(first)
    assert found is not None
    assert found.position == saved[0].position
    kept.path(first, "checkpoint").rename(kept.path(second, "checkpoint"))
    assert kept.begun(first) is kept.begun(second) is None
    kept.path(first, "checkpoint").write_bytes(b"cut short")
    assert kept.begun(first) is None


def test_a_run_of_another_device_is_another_run(tmp_path: Path) -> None:
    spec = TrainSpec(dataset=TINY.datasets[0])
    KeptRuns(tmp_path, "cpu").end(spec, diverged="at once")
    assert KeptRuns(tmp_path, "cpu").ended(spec)
    assert KeptRuns(tmp_path, "cuda").ended(spec) is None


@pytest.mark.slow
def test_a_fault_in_a_process_of_a_run_is_one_line(run: Bench) -> None:
    done = run("--only", "difference", "--device", "cuda:0", "--device", "cuda:99")
    assert done.exit_code != 0
    assert "cuda:" in str(done.exception) or "cuda:" in done.stderr


@pytest.mark.slow
def test_the_table_goes_into_a_page_with_how_it_was_obtained(run: Bench, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(MARKED, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(
        "kind: train\nobjective: {name: swish}\noptimizer: {name: adam, lr: 0.01}\n",
        encoding="utf-8",
    )
    done = run("--only", "difference", "--method", "mine|<b>=mine.yaml", "--page", "page.md")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert page.startswith("# Mine\n\n<!-- bench tiny -->\n| data | network | method |")
    assert page.endswith("<!-- end of bench tiny -->\n\nThe end.\n")
    assert "old" not in page
    rows = [line for line in page.splitlines() if line.startswith("| digits |")]
    assert len(rows) == 4
    assert sum("| mine\\|<b> |" in row for row in rows) == 1
    for words in (
        "digits (digest ",
        "40 samples to train",
        "seeds 0, 1",
        "95 % interval",
        "numerics",
    ):
        assert words in page
        assert words in done.stdout
    shown = [line for line in done.stdout.splitlines() if line.startswith("digits\t")]
    assert len(shown) == 4


@pytest.mark.slow
def test_rates_that_diverge_are_kept_as_such_and_lose(run: Bench, tmp_path: Path) -> None:
    (tmp_path / "wild.yaml").write_text(
        "kind: train\nnetwork: {activation: squared_relu}\noptimizer: {name: sgd, lr: 1.0e+8}\n",
        encoding="utf-8",
    )
    shown = run("--only", "wild", "--method", "wild=wild.yaml").stdout.splitlines()
    (row,) = (line for line in shown if "wild" in line)
    assert row.split("\t")[3:] == ["diverged", "", "", "", ""]
    kept = [json.loads(file.read_text()) for file in (tmp_path / "fflab-bench-tiny").iterdir()]
    lost = [one for one in kept if one["result"] is None]
    assert len(lost) == len(RATE_FACTORS)
    assert all("not finite" in one["diverged"] for one in lost)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--only", "hintn"), f"the methods are {METHODS[0].name}, "),
        (("--method", "mine"), "write NAME=SPEC"),
        (("--method", "swish=mine.yaml"), "there is a method of that name"),
        (("--method", "mine=check.yaml"), "kind is 'check'; a method is a training run"),
        (("--method", "mine=none.yaml"), "none.yaml"),
        (("--method", "no\x1blabels=hybrid.yaml"), "the name"),
        (("--method", f"{'n' * 900_000}=hybrid.yaml"), "at most 60 characters"),
        (
            ("--only", "difference", "--method", "../x=hybrid.yaml"),
            "../x predicts no labels: its samples carry none",
        ),
        (
            ("--only", "difference", "--method", "blocks=blocks.yaml"),
            "blocks does not fit the protocol: network.widths: class_block gives each of the 10",
        ),
        (("--page", "none.md"), "cannot be read"),
        (("--device", "gpu"), "--device gpu: expected cpu or cuda:N"),
        (("--device", "cpu", "--device", "cuda:0"), "cpu and GPUs have other figures"),
        (("--page", "bare.md"), "between the lines <!-- bench tiny --> and"),
    ],
)
def test_mistakes_are_one_line_before_anything_runs(
    arguments: tuple[str, ...], words: str, run: Bench, tmp_path: Path
) -> None:
    (tmp_path / "check.yaml").write_text("kind: check\ntheorem: 1\n", encoding="utf-8")
    (tmp_path / "blocks.yaml").write_text(
        "kind: train\nnetwork: {widths: [64]}\nobjective: {name: class_block}\n"
    )
    (tmp_path / "hybrid.yaml").write_text("kind: train\nnegatives: {strategy: hybrid}\n")
    (tmp_path / "bare.md").write_text("<!-- end of bench tiny --> <!-- bench tiny -->")
    done = run(*arguments)
    assert done.exit_code != 0
    assert words in done.stderr or words in str(done.exception)
    assert not (tmp_path / "fflab-bench-tiny").exists()


def test_an_unknown_protocol_is_refused_with_those_there_are() -> None:
    done = CliRunner().invoke(cli.app, ["bench", "smal"])
    assert done.exit_code == 2
    assert "'smal' is not a protocol; there are small, full" in done.stderr
