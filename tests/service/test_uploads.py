"""POST /v1/datasets: an array file over HTTP becomes a data set that jobs may name."""

import asyncio
import errno
import io
import json
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from benchmarks.waiting import wait_until
from ffengine import uploads
from ffengine.datasets import Datasets
from service.cli.doctor import Check, _datasets
from service.settings import Settings
from service.store import Store
from service.web.app import create_app
from service.web.auth import create_key
from tests.commands import Fflab
from tests.engine.arrays import ILLEGIBLE, member, npy
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.service.samples import train_result
from tests.serving import client_of


def test_an_upload_is_listed_and_can_be_trained_on(client: httpx.Client) -> None:
    answer = client.post(
        "/v1/datasets", params={"name": "mine", "meaning": "Three kinds."}, content=npz(x=X, y=Y)
    )
    assert answer.status_code == 201, answer.text
    facts = answer.json()
    assert (facts["shape"], facts["classes"], facts["class_counts"]) == ([1, 6, 6], 3, [16, 16, 16])
    assert (facts["train_samples"], facts["test_samples"], facts["uploaded"], facts["bundled"]) == (
        48,
        12,
        True,
        False,
    )
    assert len(facts["digest"]) == 64
    assert client.get(answer.headers["Location"]).json() == facts
    assert facts in client.get("/v1/datasets").json()["items"]
    spec = {"kind": "train", "dataset": {"name": "mine"}, "batch_size": 24}
    job = client.post("/v1/jobs", json={"spec": spec})
    assert job.status_code == 202, job.text
    assert client.get(job.headers["Location"]).json()["spec"]["dataset"]["name"] == "mine"
    refused(
        client.post("/v1/jobs", json={"spec": spec | {"dataset": {"name": "yours"}}}),
        422,
        "invalid",
    )


def test_a_form_will_do_and_a_name_is_given_once(client: httpx.Client) -> None:
    archive = npz(x=X, y=Y)
    first = client.post(
        "/v1/datasets",
        data={"name": "mine", "meaning": "Said in the form."},
        files={"file": ("data.npz", archive)},
    )
    assert first.status_code == 201, first.text
    assert first.json()["meaning"].startswith("Said in the form. ")
    again = client.post("/v1/datasets", params={"name": "mine"}, content=archive)
    assert (again.status_code, again.json()) == (200, first.json())
    refused(
        client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=2 - Y)),
        409,
        "name-taken",
    )
    refused(
        client.post("/v1/datasets", params={"name": "mnist"}, content=archive), 409, "name-taken"
    )


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("mine", b""),
        ("mine", b"PK\x03\x04 nonsense"),
        ("../up", npz(x=X, y=Y)),
        ("", npz(x=X, y=Y)),
        ("mine", npz(x=X)),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(
    client: httpx.Client, name: str, body: bytes
) -> None:
    refused(client.post("/v1/datasets", params={"name": name}, content=body), 422, "bad-upload")
    for fields, code in (({"other": ("data.npz", body)}, "invalid"), ({}, "bad-upload")):
        form = {"name": (None, "mine"), **fields}
        refused(client.post("/v1/datasets", files=form), 422, code)
    assert not [item for item in client.get("/v1/datasets").json()["items"] if item["uploaded"]]


def test_what_an_upload_lacks_is_named(client: httpx.Client) -> None:
    nothing = refused(client.post("/v1/datasets"), 422, "bad-upload")
    assert nothing.detail == (
        "no name is given: add ?name=NAME to the address, or a field `name` to the form"
    )
    form = {"name": (None, "mine"), "file": (None, "")}
    no_file = refused(client.post("/v1/datasets", files=form), 422, "bad-upload")
    assert "the form has no file in the field `file`: send one" in str(no_file.detail)


@pytest.mark.parametrize(
    ("fields", "pointer", "words"),
    [
        ({"nonsense": "1"}, "/nonsense", "is not a known field; known are name, meaning, file"),
        ({"mening": "x"}, "/mening", "did you mean 'meaning'?"),
        ({"name": ["mine", "yours"]}, "/name", "is given more than once"),
    ],
)
def test_fields_of_a_form_that_are_unknown_or_given_twice_are_refused(
    client: httpx.Client, fields: dict[str, Any], pointer: str, words: str
) -> None:
    answer = client.post(
        "/v1/datasets",
        data={"name": "mine"} | fields,
        files={"file": ("data.npz", npz(x=X, y=Y))},
    )
    problem = refused(answer, 422, "invalid")
    assert problem.errors
    assert (problem.errors[0].pointer, words in problem.errors[0].message) == (pointer, True)
    assert client.get("/v1/datasets/mine").status_code == 404


@pytest.mark.parametrize("header", ILLEGIBLE, ids=range(len(ILLEGIBLE)))
def test_a_header_that_is_none_is_refused(hardy: httpx.Client, header: str) -> None:
    refused(
        hardy.post(
            "/v1/datasets", params={"name": "mine"}, content=member("x.npy", npy(header)).read()
        ),
        422,
        "bad-upload",
    )
    assert hardy.get("/v1/datasets/mine").status_code == 404  # on the same connection


def test_uploads_have_a_limit_of_their_own(settings: Settings) -> None:
    small: FastAPI = create_app(settings.model_copy(update={"max_upload_bytes": 5_000_000}))
    big = np.zeros((3_000, 20, 20), dtype=np.uint8)
    labels = np.arange(3_000) % 2
    with client_of(small) as client:
        assert (
            client.post(
                "/v1/datasets", params={"name": "fits"}, content=npz(x=big, y=labels)
            ).status_code
            == 201
        )
        too_big = npz(x=np.concatenate([big] * 5), y=np.concatenate([labels] * 5))
        refused(
            client.post("/v1/datasets", params={"name": "no"}, content=too_big),
            413,
            "body-too-large",
        )


@pytest.fixture
def mounted(settings: Settings) -> tuple[Path, dict[str, tuple[bytes, int]]]:
    """A folder that FFLAB_DATA names, with an upload of an earlier version, and what is in it."""
    folder = settings.root / "mounted"
    Datasets(folder).keep("old", io.BytesIO(npz(x=X, y=Y)))
    return folder, contents(folder)


@pytest.fixture
def lab(
    settings: Settings, mounted: tuple[Path, dict[str, tuple[bytes, int]]]
) -> Iterator[httpx.Client]:
    """A service that reads that folder."""
    app = create_app(settings.model_copy(update={"data": mounted[0]}))
    with client_of(app) as client:
        yield client


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with its content and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_uploads_go_to_the_home_and_those_of_earlier_versions_are_still_there(
    lab: httpx.Client,
    settings: Settings,
    mounted: tuple[Path, dict[str, tuple[bytes, int]]],
) -> None:
    folder, before = mounted
    answer = lab.post("/v1/datasets", params={"name": "new"}, content=npz(x=X, y=2 - Y))
    assert answer.status_code == 201, answer.text
    assert (settings.root / "datasets" / "new" / "arrays.npz").is_file()
    listed = [item for item in lab.get("/v1/datasets").json()["items"] if item["uploaded"]]
    assert [item["name"] for item in listed] == ["new", "old"]
    assert lab.get("/v1/datasets/old").json() in listed
    page = lab.get("/datasets", headers={"Accept": "text/html"}).text
    for name in ("new", "old"):
        assert f"/datasets/{name}.png" in page
        assert lab.get(f"/datasets/{name}.png").status_code == 200
        spec = {"kind": "train", "dataset": {"name": name}, "batch_size": 24}
        assert lab.post("/v1/jobs", json={"spec": spec}).status_code == 202
    again = lab.post("/v1/datasets", params={"name": "old"}, content=npz(x=X, y=Y))
    assert (again.status_code, again.json()["digest"]) == (200, listed[1]["digest"])
    other = lab.post("/v1/datasets", params={"name": "old"}, content=npz(x=X, y=2 - Y))
    refused(other, 409, "name-taken")
    assert contents(folder) == before


def test_what_an_upload_has_not_is_refused_where_it_is_submitted(client: httpx.Client) -> None:
    client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    mine = {"kind": "train", "dataset": {"name": "mine"}}
    few = mine | {"dataset": {"name": "mine", "train_samples": 49}}
    none = mine | {"dataset": {"name": "yours"}}
    unknown = "'yours' is not known; choose one of mnist-mini, "
    for spec, pointer, message in (
        (none, "/spec/dataset/name", unknown),
        (few, "/spec/dataset/train_samples", "49 asked, but mine has 48"),
        (
            {"kind": "check", "dataset": {"name": "mine"}, "samples": 49},
            "/spec/samples",
            "49 asked, but the data set gives 48",
        ),
        ({"kind": "study", "base": none}, "/spec/base/dataset/name", unknown),
        (
            {"kind": "study", "parts": {"a/b": {"base": none}}},
            "/spec/parts/a~1b/base/dataset/name",
            unknown,
        ),
        (
            {"kind": "study", "base": mine, "grid": {"dataset.train_samples": [24, 49]}},
            "/spec/grid/dataset.train_samples",
            "49: 49 asked, but mine has 48",
        ),
    ):
        for path in ("/v1/jobs", "/v1/estimate"):
            answer = client.post(path, json={"spec": spec})
            refused(answer, 422, "invalid")
            [wrong] = answer.json()["errors"]
            assert wrong["pointer"] == pointer
            assert wrong["message"].startswith(message)


def test_samples_without_labels_need_no_room_for_them(client: httpx.Client) -> None:
    y = np.arange(64) % 8
    x = np.eye(8, 5)[y] * 1000 + np.arange(64)[:, None]
    client.post("/v1/datasets", params={"name": "narrow"}, content=npz(x=x, y=y))
    spec = {"kind": "train", "dataset": {"name": "narrow"}, "network": {"widths": [9]}}
    labelled = client.post("/v1/jobs", json={"spec": spec})
    refused(labelled, 422, "invalid")
    assert "8 classes leave nothing of 5 inputs; use append" in labelled.text
    for without in ({"objective": {"name": "mono_forward"}}, {"negatives": {"strategy": "hybrid"}}):
        job = client.post("/v1/jobs", json={"spec": spec | without})
        assert job.status_code == 202, job.text


def test_two_apps_in_one_process_have_their_own_data(client: httpx.Client, tmp_path: Path) -> None:
    client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    other = create_app(Settings(home=tmp_path / "other"))
    with client_of(other) as second:
        assert second.get("/v1/datasets/mine").status_code == 404
    assert client.get("/v1/datasets/mine").status_code == 200


def test_an_import_leaves_the_data_root_alone(
    settings: Settings,
    mounted: tuple[Path, dict[str, tuple[bytes, int]]],
    fflab: Fflab,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, before = mounted
    monkeypatch.setenv("FFLAB_DATA", str(folder))
    file = settings.root / "new.npz"
    file.write_bytes(npz(x=X, y=2 - Y))
    kept = settings.root / "datasets" / "new"
    assert fflab("data", "import", "new", str(file)) == (0, f"new: verified, in {kept}\n", "")
    assert fflab("data", "import", "new", str(file)).code == 0
    taken = fflab("data", "import", "old", str(file))
    assert taken.code == 2
    assert "'old' is taken, with digest" in taken.err
    listed = fflab("data", "list", "--here").out
    assert str(kept) in listed
    assert str(folder / "uploads" / "old") in listed
    for name in ("new", "old"):
        spec = settings.root / f"{name}.json"
        document = {"kind": "check", "dataset": {"name": name}, "widths": [4], "seeds": [0]}
        spec.write_text(json.dumps(document | {"samples": 20, "batch_size": 10}))
        done = fflab("run", str(spec), "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["provenance"]["dataset"]["name"] == name
    assert contents(folder) == before


@pytest.mark.slow
def test_the_doctor_tells_of_uploads_that_cannot_be_used(settings: Settings) -> None:
    datasets = settings.datasets
    datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    assert [check for check in _datasets(settings) if check.verdict == "fail"] == []
    path = uploads.arrays_file("mine", datasets.kept_in)
    path.unlink()
    [failed] = [check for check in _datasets(settings) if check.verdict == "fail"]
    assert failed == Check(
        "data mine",
        "fail",
        f"mine: {path} is gone",
        "restore it from a backup, or remove the folder that is not wanted",
    )


@pytest.mark.slow
def test_the_doctor_tells_of_a_folder_that_takes_no_uploads(settings: Settings) -> None:
    folder = settings.datasets.kept_in
    assert [check for check in _datasets(settings) if check.what == "uploads"] == []
    folder.mkdir()
    assert [check for check in _datasets(settings) if check.what == "uploads"] == []
    folder.rmdir()
    folder.write_text("in its place")
    [failed] = [check for check in _datasets(settings) if check.what == "uploads"]
    assert (failed.verdict, failed.finding) == ("fail", f"{folder} cannot be written")


SPEC = {"kind": "train", "dataset": {"name": "mine"}, "batch_size": 24}


@pytest.mark.slow
def test_an_upload_is_removed_once_no_job_needs_it_and_its_name_is_free(
    client: httpx.Client, settings: Settings
) -> None:
    archive = npz(x=X, y=Y)
    client.post("/v1/datasets", params={"name": "mine"}, content=archive)
    jobs = [
        client.post("/v1/jobs", json={"spec": spec}).json()["id"]
        for spec in (
            SPEC,
            {"kind": "check", "dataset": {"name": "mine"}, "samples": 20},
            {"kind": "study", "grid": {"dataset.name": ["digits", "mine"]}},
            {"kind": "train", "dataset": {"name": "digits"}},
        )
    ]
    needing = set(jobs[:3])
    while needing:
        answer = client.delete("/v1/datasets/mine")
        refused(answer, 409, "dataset-in-use")
        assert needing <= set(answer.json()["jobs"])
        assert client.get("/v1/datasets/mine").status_code == 200
        client.post(f"/v1/jobs/{needing.pop()}/cancel")
    assert client.delete("/v1/datasets/mine").status_code == 204
    refused(client.get("/v1/datasets/mine"), 404, "no-such-dataset")
    refused(client.delete("/v1/datasets/mine"), 404, "no-such-dataset")
    refused(client.post("/v1/jobs", json={"spec": SPEC}), 422, "invalid")
    assert not list((settings.root / "datasets").iterdir())
    other = client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X + 1, y=Y))
    assert other.status_code == 201


def test_what_was_loaded_before_a_replacement_is_not_used_after_it(tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    for shift in (0, 1):
        datasets.keep("mine", io.BytesIO(npz(x=X + shift, y=Y)))
        assert int(datasets.load("mine").x_train.sum()) > 0
        loaded = datasets.loaded("mine")
        assert loaded.digest == datasets.digest_of("mine")
        datasets.remove("mine")


def test_a_job_that_comes_while_an_upload_is_removed_keeps_it(tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    answers: list[list[str]] = [[], ["job_1"]]
    with pytest.raises(uploads.InUse, match="mine is needed by job_1; wait until they have ended"):
        datasets.remove("mine", lambda: answers.pop(0))
    assert datasets.load("mine").x_train.shape[0] == 48
    assert [path.name for path in datasets.kept_in.iterdir()] == ["mine"]


def test_data_sets_of_the_catalogue_and_of_other_places_stay(
    client: httpx.Client, settings: Settings
) -> None:
    refused(client.delete("/v1/datasets/digits"), 409, "not-removable")
    Datasets(settings.datasets.root).keep("earlier", io.BytesIO(npz(x=X, y=Y)))
    refused(client.delete("/v1/datasets/earlier"), 409, "not-removable")
    assert client.get("/v1/datasets/earlier").status_code == 200


@pytest.mark.slow
def test_uploads_are_listed_by_the_key_that_they_came_with(
    client: httpx.Client, settings: Settings
) -> None:
    client.post("/v1/datasets", params={"name": "nobodys"}, content=npz(x=X, y=Y))
    with Store(settings.database) as store:
        keys = {name: create_key(store.api_keys, name).secret for name in ("ada", "grace")}
    wait_until(lambda: client.get("/v1/datasets").status_code == 401 or None, "the keys are known")
    for who, secret in keys.items():
        client.headers["Authorization"] = f"Bearer {secret}"
        mine = client.post("/v1/datasets", params={"name": who}, content=npz(x=X, y=Y))
        assert mine.json()["uploaded_by"] == who
    for who, names in (("ada", ["ada"]), ("grace", ["grace"]), ("nobody", [])):
        found = client.get("/v1/datasets", params={"uploaded_by": who}).json()["items"]
        assert [facts["name"] for facts in found] == names
    assert client.get("/v1/datasets/nobodys").json()["uploaded_by"] is None


def test_an_estimate_advises_on_the_data(client: httpx.Client) -> None:
    table = np.random.default_rng(0).normal(size=(60, 4)) + np.eye(3, 4)[Y] * 4
    client.post("/v1/datasets", params={"name": "table"}, content=npz(x=table, y=Y))
    spec = {"kind": "train", "dataset": {"name": "table"}, "batch_size": 30}
    [advice] = client.post("/v1/estimate", json={"spec": spec}).json()["advice"]
    assert advice["code"] == "overlay_covers_data"
    assert "overlays inputs 0 to 2" in advice["message"]
    assert (advice["field"], advice["value"]) == ("dataset.labels", "append")
    better = {**spec, "dataset": {"name": "table", "labels": "append"}}
    found = client.post("/v1/estimate", json={"spec": better}).json()
    assert [advice["code"] for advice in found["advice"]] == ["act_not_left"]
    assert found["onset"]["epochs_to_selection"] > 10
    check = {"kind": "check", "dataset": better["dataset"]}
    found = client.post("/v1/estimate", json={"spec": check}).json()
    assert (found["advice"], found["onset"]) == ([], None)
    job = client.post("/v1/jobs", json={"spec": spec})
    assert job.status_code == 202, "advice is no refusal"
    assert "overlays inputs 0 to 2" in client.get(f"/jobs/{job.json()['id']}").text


def test_the_page_of_data_sets_takes_their_names_and_says_what_defaults_do_to_them(
    client: httpx.Client,
) -> None:
    page = client.get("/datasets").text
    [pattern] = re.findall(r'pattern="([^"]+)"', page)
    for name in ("mine", "a" * 63, "a.b_c-2", "a" * 64, ".a", "A", ""):
        assert bool(re.fullmatch(pattern, name)) == bool(uploads.NAME.fullmatch(name)), name
    assert r"._\-]" in pattern, "a browser takes no bare hyphen there"
    assert "With default settings:" not in page
    kelvin = np.random.default_rng(0).normal(size=(60, 90)) + 300
    client.post("/v1/datasets", params={"name": "kelvin"}, content=npz(x=kelvin, y=Y))
    page = client.get("/datasets").text
    assert "kelvin: the inputs are large, 300 as a root mean square" in page


def test_an_array_of_objects_is_named_by_its_type(client: httpx.Client) -> None:
    x = np.array([[1, "a"], [2, None]], dtype=object)
    for arrays in ({"x": x, "y": Y[:2]}, {"x": X[:2], "y": np.array([0, "1"], dtype=object)}):
        answer = client.post("/v1/datasets", params={"name": "objects"}, content=npz(**arrays))
        refused(answer, 422, "bad-upload")
        assert "has dtype object, which holds Python objects" in answer.json()["detail"]


def test_the_command_removes_an_upload_that_no_job_needs(
    fflab: Fflab, client: httpx.Client, settings: Settings
) -> None:
    client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    job = client.post("/v1/jobs", json={"spec": SPEC}).json()["id"]
    code, _, told = fflab("data", "remove", "mine")
    assert (code, job in told) == (2, True)
    client.post(f"/v1/jobs/{job}/cancel")
    code, said, _ = fflab("data", "remove", "mine")
    assert (code, said) == (0, "mine: removed\n")
    assert fflab("data", "remove", "mine")[0] != 0


@pytest.mark.slow
def test_the_page_of_a_job_says_what_became_of_its_data(
    client: httpx.Client, settings: Settings
) -> None:
    upload = client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y)).json()
    job = client.post("/v1/jobs", json={"spec": SPEC}).json()["id"]
    with Store(settings.database) as store:
        claim = store.queue.claim(job, "w1", 30)
        assert claim
        result = train_result()
        dataset = result.provenance.dataset.model_copy(
            update={"name": "mine", "digest": upload["digest"]}
        )
        provenance = result.provenance.model_copy(update={"dataset": dataset})
        done = result.model_copy(update={"provenance": provenance})
        store.queue.finish(job, claim.attempt, done)
    page = f"/jobs/{job}"
    assert "is gone" not in client.get(page).text
    assert client.delete("/v1/datasets/mine").status_code == 204
    assert "The data set mine is gone: the figures stay" in client.get(page).text
    assert client.get(f"/v1/jobs/{job}/result").status_code == 200
    client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X + 1, y=Y))
    assert "mine names other arrays now" in client.get(page).text
    listed = client.get("/datasets").text
    assert 'data-delete="/v1/datasets/mine"' in listed
    assert 'data-delete="/v1/datasets/digits"' not in listed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"max_dataset_bytes": 2_600}, "bad-upload", "the arrays are 2,640 bytes; at most 2,600"),
        ({"upload_quota": 2_600}, "upload-quota", "(FFLAB_UPLOAD_QUOTA)"),
    ],
)
def test_what_an_upload_becomes_has_a_limit(
    settings: Settings, changes: dict[str, int], code: str, said: str
) -> None:
    with client_of(create_app(settings.model_copy(update=changes))) as client:
        status = 422 if code == "bad-upload" else 507
        answer = client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
        assert said in refused(answer, status, code).detail
    assert not (settings.root / "datasets").exists()


def test_all_uploads_have_a_quota_and_those_of_a_key_one_of_their_own(settings: Settings) -> None:
    two, four = 7_500, 15_000  # a data set of these takes up 3 to 4 kB
    quotas = {"upload_quota": four, "upload_quota_per_key": two}
    with Store(settings.database) as store:
        store.migrate()
        keys = {name: create_key(store.api_keys, name).secret for name in ("ada", "grace")}
    with client_of(create_app(settings.model_copy(update=quotas))) as client:

        def upload(who: str, name: str) -> httpx.Response:
            return client.post(
                "/v1/datasets",
                params={"name": name},
                content=npz(x=X, y=Y),
                headers={"Authorization": f"Bearer {keys[who]}"},
            )

        assert [upload("ada", name).status_code for name in ("a", "b")] == [201, 201]
        detail = refused(upload("ada", "c"), 507, "upload-quota").detail
        assert re.match(
            r"the uploads of ada take up \d+ (bytes|KiB), and this one would add \d+ (bytes|KiB):",
            detail,
        ), detail
        assert "(FFLAB_UPLOAD_QUOTA_PER_KEY)" in detail
        assert upload("ada", "a").status_code == 200  # is there already
        assert [upload("grace", name).status_code for name in ("c", "d")] == [201, 201]
        assert (
            client.delete(
                "/v1/datasets/c", headers={"Authorization": f"Bearer {keys['grace']}"}
            ).status_code
            == 204
        )
        assert upload("grace", "c").status_code == 201
        client.delete("/v1/datasets/a", headers={"Authorization": f"Bearer {keys['ada']}"})
        assert upload("ada", "e").status_code == 201


def test_one_upload_is_checked_at_a_time(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, most = threading.Lock(), []
    keep = Datasets.keep

    def kept_alone(*arguments: Any, **named: Any) -> uploads.Upload:
        most.append(lock.acquire(blocking=False))
        try:
            return keep(*arguments, **named)
        finally:
            if most[-1]:
                lock.release()

    monkeypatch.setattr(Datasets, "keep", kept_alone)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda number: client.post(
                    "/v1/datasets", params={"name": f"d{number}"}, content=npz(x=X, y=Y)
                ),
                range(8),
            )
        )
    assert [answer.status_code for answer in answers] == [201] * 8
    assert most == [True] * 8


def test_an_upload_that_waits_too_long_is_told_when_to_come_again(
    client: httpx.Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.web.uploading.TURN_SECONDS", 0.1)
    monkeypatch.setattr(app.state.resources, "upload_turn", asyncio.Semaphore(0))
    for body in ({"content": npz(x=X, y=Y)}, {"files": {"file": npz(x=X, y=Y)}}):
        answer = client.post("/v1/datasets", params={"name": "mine"}, **body)
        refused(answer, 503, "uploads-busy")
        assert answer.headers["Retry-After"] == "0.1"
    monkeypatch.setattr(app.state.resources, "upload_turn", asyncio.Semaphore(1))
    answer = client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    assert answer.status_code == 201


def test_a_body_that_would_take_up_the_reserve_is_refused_before_it_is_received(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = settings.disk_reserve + 1_000
    monkeypatch.setattr("service.host.disk.free_bytes", lambda _folder: free)
    archive = npz(x=X, y=Y)
    detail = refused(
        client.post("/v1/datasets", params={"name": "mine"}, content=archive), 507, "no-room"
    ).detail
    assert re.search(r" free, too little for \d+ KiB and the reserve of 512 MiB", detail), detail
    # without a length it is received, and what it would become is refused
    refused(
        client.post("/v1/datasets", params={"name": "mine"}, content=iter([archive])),
        507,
        "no-room",
    )
    monkeypatch.setattr("service.web.uploading.ROOM_STEP", 1)
    monkeypatch.setattr("service.host.disk.free_bytes", lambda _folder: free - 2_000)
    refused(
        client.post("/v1/datasets", params={"name": "mine"}, content=iter([archive])),
        507,
        "no-room",
    )
    assert not (settings.root / "datasets").exists()


def test_a_folder_that_cannot_be_written_is_no_fault_of_the_upload(
    client: httpx.Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings.root / "datasets"
    folder.write_text("in its place")
    answer = client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    detail = refused(answer, 507, "not-stored").detail
    assert f"mine: cannot be kept in {folder}" in detail
    assert "Have the operator let the service write" in detail

    def full(*_arguments: object, **_named: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    folder.unlink()
    monkeypatch.setattr(uploads, "_written", full)
    answer = client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X, y=Y))
    assert f"the disk of {folder} is full" in refused(answer, 507, "no-room").detail
    assert list(folder.iterdir()) == []


def test_a_picture_of_an_upload_reads_a_few_samples(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Datasets, "read", None)
    client.post("/v1/datasets", params={"name": "mine"}, content=npz(x=X / 7, y=Y))
    assert client.get("/datasets/mine.png").status_code == 200


def test_a_data_set_without_any_light_is_shown_and_explained(client: httpx.Client) -> None:
    dark = client.post(
        "/v1/datasets", params={"name": "dark"}, content=npz(x=np.zeros_like(X), y=Y)
    )
    assert dark.status_code == 201
    assert client.get("/datasets").status_code == 200
    spec = {"kind": "train", "dataset": {"name": "dark"}}
    estimate = client.post("/v1/estimate", json={"spec": spec})
    assert estimate.status_code == 200
    assert "all inputs but those of the label are zero" in estimate.text
