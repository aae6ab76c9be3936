"""Uploads that machines share: facts in the database, files among the artifacts, copies of them."""

import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ffengine.arrays import DatasetError
from ffengine.spec import TrainSpec
from service.artifacts import Artifacts
from service.background import shared_uploads
from service.background.shared_uploads import (
    FOLDER,
    NotShared,
    SharedUploads,
    UploadKeeper,
    key_of,
    with_copies,
)
from service.settings import Settings
from service.store import Store, UploadTaken
from tests.factories import claimed, submit
from tests.s3 import BUCKET_MARK, S3, s3_server
from tests.service.arrays import X, Y, npz

ON_MINE = TrainSpec.model_validate({"dataset": {"name": "mine"}})
Open = Callable[[str], SharedUploads]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", pytest.param("bucket", marks=BUCKET_MARK)])
def artifacts(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Artifacts:
    if request.param == "folder":
        return Artifacts(tmp_path / "artifacts")
    server: S3 = request.getfixturevalue("s3")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return Artifacts(server.place(tmp_path / "cache"))


@pytest.fixture
def at_home(either_store: Store, artifacts: Artifacts, tmp_path: Path) -> Open:
    """Opens the uploads as they are seen from the home of a name."""

    def opened(name: str) -> SharedUploads:
        settings = Settings(home=tmp_path / name, artifact_cache=10**6)
        return SharedUploads(either_store, artifacts, settings)

    return opened


def keep(shared: SharedUploads, name: str = "mine", shift: int = 0) -> str:
    """Bring arrays into a home by hand, as `fflab data import` does; their digest."""
    return shared.datasets.keep(name, io.BytesIO(npz(x=X + shift, y=Y))).digest


def files_of(shared: SharedUploads) -> list[str]:
    return shared.artifacts.files.names(FOLDER)


def replace(shared: SharedUploads, shift: int) -> str:
    """Let the name stand for other arrays, as a hand in the home does."""
    shared.datasets.remove("mine")
    return keep(shared, shift=shift)


def test_what_is_in_a_home_is_taken_up_once(at_home: Open) -> None:
    api = at_home("api")
    digest = keep(api)
    keep(api, "same")
    keep(api, "other", shift=1)
    api.take_up()
    found = {one.name: one for one in api.store.uploads.all("dataset")}
    assert set(found) == {"mine", "same", "other"}
    assert found["mine"].digest == digest
    assert found["mine"].facts["train_samples"] + found["mine"].facts["test_samples"] == len(X)
    assert len(files_of(api)) == 2, "equal arrays are there once"
    api.take_up()
    assert {one.name: one for one in api.store.uploads.all()} == found
    api.datasets.remove("mine")
    api.forget("dataset", "mine")
    assert len(files_of(api)) == 2
    api.datasets.remove("same")
    api.forget("dataset", "same")
    assert files_of(api) == [found["other"].file_digest]


def test_another_machine_has_the_same_arrays(at_home: Open) -> None:
    api, worker = at_home("api"), at_home("worker")
    digest = keep(api)
    api.take_up()
    wrong = keep(worker, shift=7)
    assert wrong != digest
    folder = worker.fetched("dataset", "mine", digest)
    there = with_copies(worker.datasets, [folder], None)
    assert there.digest_of("mine") == digest
    loaded = there.loaded("mine")
    assert loaded.digest == digest
    assert (loaded.arrays.x_train == api.datasets.loaded("mine").arrays.x_train).all()
    assert worker.datasets.digest_of("mine") == wrong, "its own are left alone"
    with pytest.raises(NotShared, match="is not among the uploads"):
        worker.fetched("dataset", "mine", wrong)


def test_a_damaged_copy_is_fetched_anew_and_a_damaged_file_refused(at_home: Open) -> None:
    api, worker = at_home("api"), at_home("worker")
    digest = keep(api)
    api.take_up()
    copy = worker.fetched("dataset", "mine", digest) / "mine" / "arrays.npz"
    good = copy.read_bytes()
    copy.write_bytes(good[:-9])
    assert (worker.fetched("dataset", "mine", digest) / "mine/arrays.npz").read_bytes() == good
    [file] = files_of(api)
    worker.artifacts.files.write(key_of(file), good[:-9])
    copy.unlink()
    with pytest.raises(NotShared, match="is damaged in"):
        worker.fetched("dataset", "mine", digest)
    worker.artifacts.files.remove(key_of(file))
    with pytest.raises(NotShared, match="though the database names it"):
        worker.fetched("dataset", "mine", digest)
    api.take_up()
    assert files_of(api) == [file], "the home of the API has it still"
    assert worker.fetched("dataset", "mine", digest)


def test_a_lost_home_is_filled_again(at_home: Open) -> None:
    api = at_home("api")
    digest = keep(api)
    api.take_up()
    shutil.rmtree(api.datasets.kept_in)
    api.take_up()
    assert api.datasets.find("mine") is None
    keeper = UploadKeeper(api)
    keeper.tick()
    assert api.datasets.loaded("mine").digest == digest


def test_the_keeper_takes_up_what_is_imported_while_it_runs(at_home: Open) -> None:
    api = at_home("api")
    keeper = UploadKeeper(api)
    keeper.tick()
    keep(api)
    keeper.tick()
    assert api.store.uploads.find("dataset", "mine")


def test_other_arrays_of_a_name_are_taken_up_when_no_job_needs_the_first(at_home: Open) -> None:
    api = at_home("api")
    first = keep(api)
    api.take_up()
    job = submit(api.store, ON_MINE)
    second = replace(api, 1)
    api.take_up()
    known = api.store.uploads.find("dataset", "mine")
    assert known is not None
    assert known.digest == first, "a queued job needs it"
    assert api.fetched("dataset", "mine", first)
    with pytest.raises(UploadTaken):
        api.publish("dataset", "mine")
    api.store.actions.cancel(job.id)
    api.take_up()
    known = api.store.uploads.find("dataset", "mine")
    assert known is not None
    assert known.digest == second
    assert files_of(api) == [known.file_digest], "the file of the first is gone"


def test_a_retry_is_claimed_with_what_the_name_stands_for_now(at_home: Open) -> None:
    api = at_home("api")
    first = keep(api)
    api.take_up()
    job_id, attempt = claimed(api.store, submit(api.store, ON_MINE))
    api.store.actions.cancel(job_id)
    api.store.queue.finish_stopped(job_id, attempt)
    second = replace(api, 1)
    api.take_up()
    api.store.actions.retry(job_id)
    claim = api.store.queue.claim(job_id, "w", 30.0)
    assert claim is not None
    assert claim.dataset_digest in (None, second)
    assert claim.dataset_digest != first


def test_copies_that_were_not_used_for_longest_go(at_home: Open) -> None:
    api, worker = at_home("api"), at_home("worker")
    digests = [keep(api, f"mine-{shift}", shift) for shift in range(3)]
    api.take_up()
    folders = [worker.fetched("dataset", "mine", digest) for digest in digests]
    assert all(folder.is_dir() for folder in folders)
    worker._cache_bytes = 1
    assert worker.fetched("dataset", "mine", digests[0]) == folders[0]
    assert [folder.is_dir() for folder in folders] == [True, False, False]


def test_files_that_nothing_names_are_listed_and_left(at_home: Open, tmp_path: Path) -> None:
    api = at_home("api")
    (tmp_path / "left").write_bytes(b"left over")
    api.artifacts.files.write_from(key_of("f" * 64), tmp_path / "left")
    keep(api)
    api.take_up()
    assert api.left_over() == ["f" * 64]
    assert len(files_of(api)) == 2
    assert api.artifacts.owners() == []


def test_what_is_no_upload_is_not_published(at_home: Open) -> None:
    api = at_home("api")
    for kind, name in (("dataset", "mnist-mini"), ("dataset", "gone"), ("weights", "gone")):
        with pytest.raises(DatasetError):
            api.publish(kind, name)  # type: ignore[arg-type]


def test_a_place_that_is_away_is_said_once_and_that_it_is_back(
    at_home: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    api = at_home("api")
    keeper, is_away = UploadKeeper(api), [True, True, False]

    def take_up(*, bring: bool) -> None:
        if is_away.pop(0):
            raise OSError("no route to the bucket")

    monkeypatch.setattr(api, "take_up", take_up)
    monkeypatch.setattr(shared_uploads, "RETRY_SECONDS", 0.0)
    said = []
    for _ in range(3):
        keeper._survive(keeper.tick)
        said.append([record.getMessage() for record in caplog.records])
        caplog.clear()
    away = "uploads are not taken up: the place of artifacts is away: no route to the bucket"
    assert said[:2] == [[away], []]
    (back,) = said[2]
    assert "is back, after" in back
