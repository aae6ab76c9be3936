"""Artifacts: what is read is what was written, names cannot leave the folder, and a write is seen
whole or not at all.
"""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.artifacts import ArtifactDamaged, Artifacts

JOB = "job_" + "0" * 31 + "1"
OTHER = "job_" + "0" * 31 + "2"
NAME = "epoch-00-000001.safetensors"


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
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


def test_what_a_killed_writer_left_is_tidied_away(artifacts: Artifacts) -> None:
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
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts.put(JOB, NAME, b"old")

    def no_room(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("service.artifacts.os.fsync", no_room)
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
