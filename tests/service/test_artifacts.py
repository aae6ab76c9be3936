"""Artifacts: what is read is what was written, names cannot leave the folder, and a write is seen
whole or not at all.
"""

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.artifacts import DIGEST_BYTES, ArtifactDamaged, Artifacts
from service.cli import doctor
from service.settings import Settings
from service.storage.place import BucketPlace
from tests.s3 import BUCKET_MARK, S3, s3_server

JOB = "job_" + "0" * 31 + "1"
OTHER = "job_" + "0" * 31 + "2"
NAME = "epoch-00-000001.safetensors"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifacts:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return Artifacts(s3.place(tmp_path / "cache"))


@pytest.fixture(params=["folder", pytest.param("bucket", marks=BUCKET_MARK)])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Artifacts:
    if request.param == "folder":
        return Artifacts(tmp_path / "artifacts")
    return request.getfixturevalue("bucket")


@pytest.fixture
def in_folder(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


@pytest.mark.parametrize("data", [b"", b"weights", bytes(range(256)) * 4096])
def test_what_was_put_is_what_is_got(artifacts: Artifacts, data: bytes) -> None:
    artifacts.put(JOB, NAME, b"older")
    artifacts.put(JOB, NAME, data)
    assert artifacts.get(JOB, NAME) == data
    assert artifacts.names(JOB) == [NAME]


def test_what_is_not_there_is_a_key_error(artifacts: Artifacts) -> None:
    artifacts.put(JOB, NAME, b"x")
    with pytest.raises(KeyError):
        artifacts.get(JOB, "step.safetensors")
    with pytest.raises(KeyError):
        artifacts.get(OTHER, NAME)
    assert artifacts.names(OTHER) == []


def test_what_a_killed_writer_left_is_tidied_away(in_folder: Artifacts) -> None:
    artifacts = in_folder
    artifacts.tidy(JOB)
    artifacts.put(JOB, NAME, b"whole")
    (artifacts.root / JOB / f"{NAME}.123.part").write_bytes(b"hal")
    artifacts.tidy(JOB)
    assert [path.name for path in (artifacts.root / JOB).iterdir()] == [NAME]
    assert artifacts.get(JOB, NAME) == b"whole"


@given(st.binary(min_size=1, max_size=200), st.data())
def test_every_damage_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, draw: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("artifacts")
    artifacts = Artifacts(root)
    artifacts.put(JOB, NAME, data)
    path = root / JOB / NAME
    stored = bytearray(path.read_bytes())
    if draw.draw(st.booleans(), "cut off"):
        del stored[draw.draw(st.integers(0, len(stored) - 1), "length") :]
    else:
        stored[draw.draw(st.integers(0, len(stored) - 1), "place")] ^= draw.draw(
            st.integers(1, 255), "bits"
        )
    path.write_bytes(stored)
    with pytest.raises(ArtifactDamaged):
        artifacts.get(JOB, NAME)


@given(st.text(max_size=40))
def test_no_name_leaves_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    root = tmp_path_factory.mktemp("artifacts")
    artifacts = Artifacts(root / "inside")
    with contextlib.suppress(ValueError):
        artifacts.put(JOB, name, b"x")
    assert {path.name for path in root.iterdir()} <= {"inside"}
    assert {path.parent for path in root.rglob("*") if path.is_file()} <= {root / "inside" / JOB}


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "/etc/passwd", "a/b", "a\x00b", "A", "x\n", "-x", "a" * 100]
)
def test_names_that_are_none_are_refused(artifacts: Artifacts, name: str) -> None:
    with pytest.raises(ValueError, match="not an artifact's name"):
        artifacts.put(JOB, name, b"x")
    with pytest.raises(ValueError, match="not an artifact's name"):
        artifacts.get(JOB, name)


@pytest.mark.parametrize("job", ["../job", "job_", "job_" + "g" * 32, "job_" + "0" * 32 + "\n", ""])
def test_ids_that_are_none_are_refused(artifacts: Artifacts, job: str) -> None:
    for action in (
        lambda: artifacts.get(job, NAME),
        lambda: artifacts.delete(job),
        lambda: artifacts.names(job),
    ):
        with pytest.raises(ValueError, match="not a job's id"):
            action()


def test_a_write_that_fails_leaves_the_old_content_and_no_draft(
    in_folder: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts = in_folder
    artifacts.put(JOB, NAME, b"old")

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.storage.folder.os.fsync", no_room)
    with pytest.raises(OSError, match="No space"):
        artifacts.put(JOB, NAME, b"new")
    monkeypatch.undo()
    assert artifacts.get(JOB, NAME) == b"old"
    assert [path.name for path in (artifacts.root / JOB).iterdir()] == [NAME]


def test_deleting_takes_one_job_only(artifacts: Artifacts) -> None:
    artifacts.put(JOB, NAME, b"x")
    artifacts.put(OTHER, NAME, b"y")
    artifacts.delete(JOB)
    artifacts.delete(JOB)
    assert artifacts.names(JOB) == []
    assert artifacts.get(OTHER, NAME) == b"y"


def test_owners_sizes_and_times(artifacts: Artifacts) -> None:
    assert artifacts.owners() == []
    assert list(artifacts.sizes()) == []
    assert artifacts.size(JOB) == 0
    artifacts.put(JOB, NAME, b"x" * 9)
    artifacts.put(JOB, "step.safetensors", b"")
    artifacts.put(OTHER, NAME, b"y")
    artifacts.put_label("an id")
    assert artifacts.owners() == [JOB, OTHER]
    assert artifacts.size(JOB) == 9 + 2 * DIGEST_BYTES
    assert sum(dict(artifacts.sizes()).values()) == 10 + 3 * DIGEST_BYTES
    assert abs(artifacts.changed_at(JOB) - time.time()) < 60
    artifacts.remove(JOB, NAME)
    artifacts.remove(JOB, NAME)
    assert artifacts.names(JOB) == ["step.safetensors"]
    artifacts.delete(OTHER)
    assert artifacts.changed_at(OTHER) == float("inf")


def test_the_first_label_stays(artifacts: Artifacts) -> None:
    assert artifacts.label() is None
    assert "has no service id" in (artifacts.fault("ours") or "")
    artifacts.put_label("ours")
    artifacts.put_label("theirs")
    assert artifacts.label() == "ours"
    assert artifacts.fault("ours") is None
    assert artifacts.fault() is None
    assert "has the service id ours, instead of theirs" in (artifacts.fault("theirs") or "")
    assert artifacts.owners() == []


def test_damage_is_named(artifacts: Artifacts) -> None:
    artifacts.put(JOB, NAME, b"weights")
    artifacts.files.write(f"{JOB}/{NAME}", artifacts.files.read(f"{JOB}/{NAME}")[:-1], b"S")
    with pytest.raises(ArtifactDamaged, match=f"{JOB}/{NAME}: its digest does not match"):
        artifacts.get(JOB, NAME)
    artifacts.files.write(f"{JOB}/{NAME}", b"")
    with pytest.raises(ArtifactDamaged):
        artifacts.get(JOB, NAME)


def test_large_files_go_in_and_out_by_path(artifacts: Artifacts, tmp_path: Path) -> None:
    files, source, target = artifacts.files, tmp_path / "source", tmp_path / "target"
    source.write_bytes(bytes(range(256)) * 999)
    assert not files.is_there("uploads/x")
    with pytest.raises(FileNotFoundError):
        files.read_into("uploads/x", target)
    files.write_from("uploads/x", source)
    files.read_into("uploads/x", target)
    assert files.is_there("uploads/x")
    assert target.read_bytes() == source.read_bytes()
    assert artifacts.owners() == []


@BUCKET_MARK
def test_what_was_read_is_kept_until_its_room_is_needed(s3: S3, bucket: Artifacts) -> None:
    cache = bucket._cache
    assert cache
    bucket.put(JOB, NAME, b"weights")
    assert [bucket.get(JOB, NAME) for _ in range(2)] == [b"weights"] * 2
    [kept] = cache.folder.iterdir()
    # what is read again comes from the copy, and a damaged copy is not used
    name, _, prefix = bucket.place.removeprefix("s3://").partition("/")
    head = s3.client.get_object(Bucket=name, Key=f"{prefix}/{JOB}/{NAME}")["Body"].read()[:32]
    s3.client.put_object(Bucket=name, Key=f"{prefix}/{JOB}/{NAME}", Body=head + b"damaged")
    assert bucket.get(JOB, NAME) == b"weights"
    kept.write_bytes(b"damaged, too")
    with pytest.raises(ArtifactDamaged):
        bucket.get(JOB, NAME)
    assert not list(cache.folder.iterdir())
    # a file that was written anew is not confused with its copy
    bucket.put(JOB, NAME, b"newer")
    assert bucket.get(JOB, NAME) == b"newer"
    for number in range(4):
        bucket.put(JOB, f"{number}", bytes([number]) * 400_000)
        bucket.get(JOB, f"{number}")
    assert len(list(cache.folder.iterdir())) == 2
    bucket.put(JOB, "large", bytes(cache.most_bytes + 1))
    bucket.get(JOB, "large")
    assert len(list(cache.folder.iterdir())) == 2


@BUCKET_MARK
def test_uploads_that_a_killed_writer_began_are_given_up(s3: S3, bucket: Artifacts) -> None:
    name, _, prefix = bucket.place.removeprefix("s3://").partition("/")
    s3.client.create_multipart_upload(Bucket=name, Key=f"{prefix}/{JOB}/{NAME}")
    s3.client.create_multipart_upload(Bucket=name, Key=f"{prefix}/{OTHER}/{NAME}")
    bucket.tidy(JOB)
    left = s3.client.list_multipart_uploads(Bucket=name)["Uploads"]
    assert [upload["Key"] for upload in left] == [f"{prefix}/{OTHER}/{NAME}"]
    assert bucket.names(JOB) == []


@BUCKET_MARK
def test_a_bucket_that_is_not_there_is_a_fault_in_one_line(
    bucket: Artifacts, tmp_path: Path
) -> None:
    gone = Artifacts(BucketPlace(address="s3://no-such-bucket", cache=tmp_path, cache_bytes=1))
    told = gone.fault() or ""
    assert told.startswith("s3://no-such-bucket cannot be used: ")
    assert len(told.splitlines()) == 1
    for action in (
        lambda: gone.put(JOB, NAME, b"x"),
        lambda: gone.get(JOB, NAME),
        lambda: gone.names(JOB),
        gone.owners,
        gone.label,
    ):
        with pytest.raises(OSError, match=r"bucket does not exist") as raised:
            action()
        assert not isinstance(raised.value, FileNotFoundError)


@BUCKET_MARK
def test_doctor_looks_at_the_bucket(
    s3: S3, bucket: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=tmp_path, artifacts=bucket.place)
    [found] = doctor._bucket(settings)
    assert (found.what, found.verdict) == ("bucket", "ok")
    assert bucket.files.folders() == [], "the probe is gone"
    for seconds, word in ((300.0, "300 s ahead of"), (-300.0, "300 s behind")):
        now = time.time() + seconds
        with monkeypatch.context() as patch:
            patch.setattr("service.artifacts.time.time", lambda now=now: now)
            [found] = doctor._bucket(settings)
        assert found.verdict == "warn"
        assert word in re.sub(r"\b(29\d|30\d) s", "300 s", found.finding)
    gone = settings.model_copy(update={"artifacts": "s3://no-such-bucket/x"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    away = settings
    for broken, word in ((away, "127.0.0.1:9"), (gone, "no-such-bucket")):
        [found] = doctor._bucket(broken)
        assert found.verdict == "fail"
        assert word in found.finding
        assert len(found.finding.splitlines()) == 1
        assert "AWS_ENDPOINT_URL" in found.advice
    assert list(doctor._bucket(Settings(home=tmp_path))) == []


@BUCKET_MARK
def test_a_server_that_is_away_is_a_fault_of_the_machine(
    bucket: Artifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    away = Artifacts(BucketPlace(address=bucket.place, cache=tmp_path, cache_bytes=1))
    assert "127.0.0.1:9" in (away.fault("ours") or "")
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        away.get(JOB, NAME)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", ""),
        ("/srv/artifacts", "/srv/artifacts"),
        ("s3://lab", "s3://lab"),
        ("s3://lab/fflab/", "s3://lab/fflab"),
        ("s3://lab/a/b.c", "s3://lab/a/b.c"),
    ],
)
def test_places_that_settings_may_name(
    text: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.storage.place.find_spec", lambda _name: object())
    settings = Settings(home=tmp_path, artifacts=text)
    assert str(settings.artifact_place) == (place or f"{tmp_path}/artifacts")
    assert str(settings.artifact_disk) == str(
        tmp_path if place.startswith("s3") else settings.artifact_place
    )


@pytest.mark.parametrize(
    "text",
    ["artifacts", "s3:/lab", "s3://", "s3://L", "s3://lab//x", "s3://lab/../x", "gs://lab/x"],
)
def test_places_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is neither a bucket, such as s3://lab/fflab, nor the"):
        Settings(artifacts=text)


def test_a_bucket_without_the_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.storage.place.find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"pip install 'fflab\[s3\]'"):
        Settings(artifacts="s3://lab/fflab")
