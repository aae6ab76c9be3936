"""What `pip install fflab` gives: client and command line in a fresh environment, against the real
stack; frames and notebooks on top.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.waiting import PROGRAM_SECONDS
from tests.needs import lacking
from tests.stack import Lab

ROOT = Path(__file__).parents[2]
PACKAGES = ("fflab", "ffengine", "service", "workers")
FILES = ("pyproject.toml", "README.md", "LICENSE")
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SPEC = {
    "kind": "train",
    "dataset": {"train_samples": 200, "test_samples": 50},
    "network": {"widths": [16]},
    "epochs": 1,
    "batch_size": 100,
    "monitor": {"samples": 100},
}
OFFLINE = (
    "No matching distribution",
    "Could not find a version",
    "NewConnectionError",
    "Temporary failure in name resolution",
)


class Environment(NamedTuple):
    """A virtual environment, and the wheel that is installed into it."""

    folder: Path
    wheel: Path

    def run(
        self, program: str, *arguments: str, lab: Lab | None = None, **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """What a program of the environment does, away from the sources."""
        known = {
            "HOME": str(self.folder),
            "PATH": f"{self.folder / 'bin'}:/usr/bin:/bin",
            "FFLAB_HOME": str(self.folder / "home"),
        }
        known |= {"FFLAB_URL": lab.stack.url} if lab else {}
        command = [str(self.folder / "bin" / program), *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=known | more,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
        )

    def python(self, code: str, lab: Lab) -> str:
        """What a script prints."""
        done = self.run("python", "-c", code, lab=lab)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def install(self, *what: str) -> None:
        """Install into it, with the pip of this environment."""
        pip("--python", str(self.folder / "bin" / "python"), "install", "--no-compile", *what)


def pip(*arguments: str) -> None:
    """Run pip; the test is skipped where no package index can be reached."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", *arguments], capture_output=True, text=True
    )
    if done.returncode and any(sign in done.stderr for sign in OFFLINE):
        lacking("a package index", done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel without extras in a fresh environment."""
    sources, folder = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("environment")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, sources)
    pip("wheel", "--no-deps", "--wheel-dir", str(sources / "dist"), str(sources))
    (wheel,) = (sources / "dist").glob("fflab-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    environment = Environment(folder, wheel)
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="module")
def full(base: Environment) -> Environment:
    """The same with what notebooks need, and with polars."""
    base.install(f"{base.wheel}[notebook]", "polars")
    return base


@pytest.fixture
def job_id(lab: Lab) -> str:
    """A training job that has succeeded."""
    job_id = lab.submit(SPEC)
    lab.succeeded(job_id)
    return job_id


@pytest.mark.soak
def test_it_comes_without_the_servers_side(base: Environment, lab: Lab) -> None:
    heavy = (
        "torch",
        "fastapi",
        "starlette",
        "uvicorn",
        "sqlalchemy",
        "celery",
        "redis",
        "altair",
        "safetensors",
        "jinja2",
        "pandas",
    )
    assert (
        base.python(
            f"from importlib.util import find_spec; print([name for name in {heavy} if "
            f"find_spec(name)])",
            lab,
        )
        == "[]"
    )
    assert base.python("import fflab; print(fflab.__version__, fflab.__file__)", lab).endswith(
        "site-packages/fflab/__init__.py"
    )


@pytest.mark.soak
def test_the_command_line_works_from_there(base: Environment, lab: Lab) -> None:
    def fflab(*arguments: str) -> str:
        done = base.run("fflab", *arguments, lab=lab)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "submit" in fflab("--help")
    file = base.folder / "spec.json"
    file.write_text(json.dumps(SPEC))
    job_id = fflab("submit", str(file), "--set", "seeds=[31]", "--wait").split()[0]
    assert lab.job(job_id)["state"] == "succeeded"
    assert job_id in fflab("jobs")
    assert json.loads(fflab("show", job_id, "--json"))["id"] == job_id
    assert json.loads(fflab("result", job_id))["kind"] == "train"


READ = (
    "from fflab import Client; curves = Client().job('{job_id}').curves; "
    "print(type(curves).__module__.split('.')[0], len(curves))"
)


@pytest.mark.soak
def test_without_a_library_for_them_curves_are_rows(
    base: Environment, lab: Lab, job_id: str
) -> None:
    code = (
        f"from fflab import Client; job = Client().job('{job_id}'); print(job.curves == "
        f"job.rows, len(job.rows))"
    )
    assert base.python(code, lab) == "True 4"


FRAMES = """
from fflab import Client
from service.client import dataframes
client = Client()
job = client.job({job_id!r})
waiting = client.submit({{"kind": "train", "epochs": 1, "seeds": [77]}})
waiting.cancel()
for name in ("to_pandas", "to_polars"):
    frame = getattr(job, name)()
    rows = job.rows
    assert list(frame.columns) == list(rows[0])
    assert frame.shape == (4, len(rows[0]))
    assert frame["epoch"].to_list() == [row["epoch"] for row in rows]
    for column in ("sparsity", "gini"):
        assert "float" in str(frame[column].dtype).lower(), frame.dtypes
    assert list(getattr(waiting, name)().columns)[:4] == ["seed", "layer", "epoch", "split"]
undecided = [dict(row) for row in rows]
undecided[0]["theorem1_undecided"] = None
assert str(dataframes.to_pandas(undecided)["theorem1_undecided"].dtype) == "Int64"
assert str(dataframes.to_polars(undecided)["theorem1_undecided"].dtype) == "Int64"
"""


@pytest.mark.soak
def test_curves_are_a_frame_of_pandas_or_else_of_polars(
    full: Environment, lab: Lab, job_id: str
) -> None:
    read = READ.format(job_id=job_id)
    assert full.python(read, lab) == "pandas 4"
    assert full.python(f"import sys; sys.modules['pandas'] = None; {read}", lab) == "polars 4"
    full.python(FRAMES.format(job_id=job_id), lab)


@pytest.mark.soak
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_notebook_runs_in_every_cell(full: Environment, lab: Lab, notebook: Path) -> None:
    copy = full.folder / notebook.name
    shutil.copy(notebook, copy)
    done = full.run("jupyter-execute", "--inplace", str(copy), lab=lab, FFLAB_PRESET="quick")
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in cells(copy) for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert len(kinds_of(outputs, "image/png")) >= 4


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_the_notebook_is_kept_with_what_it_found(notebook: Path) -> None:
    code = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert len(kinds_of([output for cell in code for output in cell["outputs"]], "image/png")) >= 4
    text = notebook.read_text()
    assert len(text) < 1_000_000
    words = re.sub(r'"image/png": "[^"]*"', "", text)
    assert not [name for name in ("/home/", "/root/", str(ROOT)) if name in words]
    assert not re.search(rf"\b{re.escape(os.uname().nodename)}\b", words)


def cells(notebook: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(notebook.read_text())["cells"]
    return found


def kinds_of(outputs: list[dict[str, Any]], kind: str) -> list[str]:
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]
