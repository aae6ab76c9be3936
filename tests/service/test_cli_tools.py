"""Commands for scripts: standard input and output, JSON errors, tables, data sets of a service."""

import csv
import io
import json
from pathlib import Path

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from ffengine.presets import PRESETS
from ffengine.spec import CheckSpec
from ffengine.version import NUMERICS_VERSION, VERSION
from service.cli import jobs, output
from service.store import Store
from tests.commands import Fflab
from tests.factories import HALF, LEASE, claimed, finished, submit
from tests.service.samples import check_result, train_result, trained


def test_the_version_says_what_to_cite(fflab: Fflab) -> None:
    said = fflab("--version")
    assert said.code == 0
    assert said.lines[0] == f"fflab {VERSION}, numerics {NUMERICS_VERSION}"
    assert "cite: " in said.out
    assert "arXiv 2311.05667" in said.out


@pytest.mark.slow
def test_presets_are_listed_and_written_as_files_to_start_from(
    fflab: Fflab, tmp_path: Path, client: httpx.Client
) -> None:
    assert [line.split("\t")[0] for line in fflab("presets").lines[1:]] == list(PRESETS)
    assert {one["name"] for one in json.loads(fflab("presets", "--json").out)} == set(PRESETS)
    printed = fflab("presets", "quick").out
    assert yaml.safe_load(printed)["kind"] == "study"
    assert json.loads(fflab("presets", "quick", "--json").out)["kind"] == "study"
    (tmp_path / "mine.yaml").write_text(printed)
    cost = json.loads(fflab("estimate", str(tmp_path / "mine.yaml"), "--json").out)
    assert cost["runs"] == json.loads(fflab("estimate", "quick", "--json").out)["runs"]
    wrong = fflab("presets", "qick")
    assert (wrong.code, "did you mean 'quick'?" in wrong.err) == (4, True)


@pytest.mark.slow
def test_the_catalogue_is_listed_by_part(fflab: Fflab, client: httpx.Client) -> None:
    lines = [line.split("\t") for line in fflab("catalog").lines]
    assert lines[0] == ["part", "name", "meaning"]
    assert ["negatives", "hybrid"] in [line[:2] for line in lines]
    assert all(len(line) == 3 and line[2] for line in lines)
    (found,) = [
        line for line in fflab("catalog", "objectives").lines if line.startswith("softplus")
    ]
    assert "threshold = 2" in found
    assert json.loads(fflab("catalog", "--json").out) == client.get("/v1/catalog").json()
    of_negatives = json.loads(fflab("catalog", "negatives", "--json").out)
    assert of_negatives == client.get("/v1/catalog").json()["negatives"]
    wrong = fflab("catalog", "negative")
    assert (wrong.code, "did you mean 'negatives'?" in wrong.err) == (4, True)


@pytest.mark.slow
def test_results_and_rows_go_to_standard_output_and_to_files(
    fflab: Fflab, store: Store, tmp_path: Path
) -> None:
    job = submit(store)
    finished(store, job.id, trained())
    file = tmp_path / "x.parquet"
    assert fflab("result", job.id, "--rows", "curves", "-o", str(file)).out == f"{file}\n"
    assert pq.read_table(file).num_rows == len(trained().curves)
    fflab("result", job.id, "-o", str(tmp_path / "y.parquet"))
    assert (tmp_path / "y.parquet").read_bytes() == file.read_bytes()
    fflab("result", job.id, "--rows", "means", "-o", str(file))
    assert "mean" in pq.read_schema(file).names
    table = tmp_path / "t.csv"
    fflab("result", job.id, "--rows", "means", "-o", str(table))
    assert next(csv.reader(io.StringIO(table.read_text())))[-1] == "seeds"
    for wrong in ("x.png", "x.json"):
        refused = fflab("result", job.id, "--rows", "curves", "-o", str(tmp_path / wrong))
        assert refused.code == 2
        assert "choose a name that ends in .csv or .parquet" in refused.err


@pytest.mark.slow
def test_a_dash_is_standard_output(fflab: Fflab, store: Store) -> None:
    job = submit(store)
    name, attempt = claimed(store, job)
    rows = train_result().curves
    store.queue.record(name, attempt, lease_seconds=LEASE, progress=HALF, rows=rows)
    for more in ((), ("-o", "-")):
        lines = fflab("result", job.id, "--rows", "curves", *more).lines
        assert [row["epoch"] for row in csv.DictReader(lines)] == ["0", "1"]
    assert fflab("result", job.id, "-o", "-").code == 2, "there is no result yet"
    store.queue.finish(name, attempt, train_result())
    assert json.loads(fflab("result", job.id, "-o", "-").out)["kind"] == "train"
    check = submit(store, CheckSpec())
    finished(store, check.id, check_result())
    assert fflab("result", check.id, "--rows", "potentials").lines[0].startswith("seed,")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "nobody", "--json"), 4, "no job matches"),
        (("show", "--json"), 2, "Missing argument"),
        (("jobs", "--stat", "queued", "--json"), 2, "No such option"),
        (("jobs", "--limit", "0", "--json"), 2, "--limit"),
        (("submit", "qick", "--json"), 2, "did you mean 'quick'?"),
        (("submit", "quick", "--set", "base.epochs=0", "--json"), 2, "base.epochs"),
        (("nonsense", "--json"), 2, "nonsense"),
    ],
)
def test_errors_are_json_where_json_is_asked_for(
    fflab: Fflab, arguments: tuple[str, ...], code: int, said: str
) -> None:
    ended = fflab(*arguments)
    assert (ended.code, ended.out) == (code, "")
    found = json.loads(ended.err)
    assert found["exit_code"] == code
    assert said in found["error"]
    text = fflab(*(one for one in arguments if one != "--json"))
    assert text.code == code
    assert not text.err.startswith("{")


def test_a_refusal_of_the_service_is_in_the_json(fflab: Fflab, store: Store) -> None:
    job = submit(store)
    finished(store, job.id, train_result())
    refused = json.loads(fflab("pause", job.id, "--json").err)
    assert refused["problem"]["code"] == "wrong-state"
    assert refused["problem"]["status"] == 409


@pytest.mark.slow
def test_lists_are_longer_than_a_page_and_have_tags(
    fflab: Fflab, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "PAGE", 2)
    for number in range(5):
        submit(store, tags=["a", f"n{number}"] if number else [])
    lines = [line.split("\t") for line in fflab("jobs", "--limit", "1000").lines]
    assert lines[0][-1] == "tags"
    assert [line[-1] for line in lines[1:]] == ["a, n4", "a, n3", "a, n2", "a, n1", ""]
    assert output.JOB_COLUMNS[:7] == ("id", "kind", "state", "done", "name", "by", "submitted")


def arrays(folder: Path) -> Path:
    file = folder / "small.npz"
    x = np.arange(40 * 9, dtype=np.uint8).reshape(40, 3, 3)
    np.savez(file, x=x, y=np.arange(40) % 2)
    return file


def test_a_data_set_is_uploaded_to_the_service(
    fflab: Fflab, client: httpx.Client, tmp_path: Path
) -> None:
    file = arrays(tmp_path)
    done = fflab("upload", str(file), "--name", "mine", "--meaning", "two classes")
    assert done.code == 0, done.err
    assert done.out.startswith("mine: 32 + 8 samples of 1x3x3, 2 classes, at http://")
    assert client.get("/v1/datasets/mine").json()["meaning"].startswith("two classes ")
    assert json.loads(fflab("upload", str(file), "--json").out)["name"] == "small"
    assert fflab("upload", str(tmp_path / "none.npz")).err == (
        f"fflab: {tmp_path}/none.npz: cannot be read (No such file or directory)\n"
    )
    expected = "expected x (N, ...) and y (N,), as numpy.savez('data.npz', x=x, y=y) writes them"
    files = {
        "bad.npz": (b"no archive", "text"),
        "empty.npz": (b"", "empty"),
        "one.npy": (b"\x93NUMPY\x01\x00v\x00", "an .npy, which holds one array"),
    }
    for name, (content, what) in files.items():
        (tmp_path / name).write_bytes(content)
        refused = fflab("upload", str(tmp_path / name))
        said = f"not a readable .npz archive: the file is {what}; {expected}"
        assert (refused.code, refused.err) == (2, f"fflab: {tmp_path}/{name}: {said}\n")
        answer = client.post("/v1/datasets", params={"name": "other"}, content=content)
        assert answer.json()["detail"] == said


def test_progress_of_an_upload_counts_to_its_end(client: httpx.Client, tmp_path: Path) -> None:
    from fflab import Client

    sent: list[int] = []
    content = arrays(tmp_path).read_bytes()
    with Client(str(client.base_url)) as found:
        found.upload("watched", content, on_sent=sent.append)
    assert sent[-1] == len(content)
    assert sent == sorted(sent)


def test_data_sets_are_those_of_the_service_that_is_named(
    fflab: Fflab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fflab("upload", str(arrays(tmp_path)), "--name", "mine")
    home = tmp_path / "elsewhere"
    monkeypatch.setenv("FFLAB_HOME", str(home))
    named = {line.split("\t")[0]: line.split("\t")[3] for line in fflab("data", "list").lines}
    assert named["mine"] == "uploaded"
    assert named["mnist"] == "comes with fflab"
    assert "not here" not in " ".join(named.values())
    here = fflab("data", "list", "--here")
    assert "mine" not in {line.split("\t")[0] for line in here.lines}
    assert "not here: fflab data fetch kmnist" in here.out
    monkeypatch.delenv("FFLAB_URL")
    assert fflab("data", "list").out == here.out


@pytest.mark.slow
def test_the_doctor_of_a_healthy_machine_warns_of_nothing(
    fflab: Fflab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_torch(package: str) -> bool:
        return package not in ("torch", "torchvision")  # importing it takes seconds

    monkeypatch.setattr("service.cli.doctor.installed", no_torch)
    monkeypatch.delenv("FFLAB_URL")
    monkeypatch.setenv("FFLAB_HOME", str(tmp_path / "fresh"))
    monkeypatch.setenv("no_proxy", "*")
    checked = fflab("doctor", "--json")
    found = json.loads(checked.out)
    assert {check["verdict"] for check in found} == {"ok", "note"}, found
    said = {check["what"]: check for check in found}
    assert str(tmp_path / "fresh") in said["subject"]["finding"]
    assert (said["data"]["verdict"], said["extra worker"]["verdict"]) == ("ok", "note")
    assert "come with fflab" in said["data"]["finding"], "what is fetched when wanted is no fault"


@pytest.mark.slow
def test_the_doctor_says_first_what_needs_action(
    fflab: Fflab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.doctor.installed", lambda package: package != "torch")
    monkeypatch.delenv("FFLAB_URL")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FFLAB_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setenv("FFLAB_WORKRES", "2")
    found = fflab("doctor")
    verdicts = [line.split()[0] for line in found.lines[:-1]]
    assert verdicts == sorted(verdicts, key=["fail", "warn", "note", "ok"].index)
    assert {"fail", "warn", "note", "ok"} == set(verdicts)
    urgent = sum(verdict in ("fail", "warn") for verdict in verdicts)
    assert found.lines[-1] == f"{urgent} checks need action"
    assert len(found.lines) < 20
    assert max(map(len, found.lines)) < 300


@pytest.mark.slow
def test_the_doctor_speaks_of_the_service_that_is_named(
    fflab: Fflab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fflab("upload", str(arrays(tmp_path)), "--name", "mine")
    monkeypatch.setattr("service.cli.doctor.installed", lambda _package: False)
    monkeypatch.setenv("FFLAB_HOME", str(tmp_path / "fresh"))
    said = {check["what"]: check for check in json.loads(fflab("doctor", "--json").out)}
    assert said["service"]["verdict"] == "ok"
    assert said["service"]["finding"].endswith(" answers, with the uploads mine")
    assert said["workers"]["verdict"] == "warn", "jobs would wait for ever"
    monkeypatch.setenv("FFLAB_URL", "http://127.0.0.1:9")
    said = {check["what"]: check for check in json.loads(fflab("doctor", "--json").out)}
    assert said["service"]["verdict"] == "warn"
