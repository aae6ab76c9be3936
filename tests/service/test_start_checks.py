"""What is looked at before the API starts, and what is said where it cannot."""

from pathlib import Path

import pytest

from service.artifacts import Artifacts
from service.host.start_failures import ServeError
from service.jobs import new_job_id
from service.settings import Settings
from service.store import Store, start_checks


def refusal(settings: Settings) -> str:
    with pytest.raises(ServeError) as refused:
        start_checks.refuse_others_state(settings)
    return str(refused.value)


@pytest.fixture
def unusable(settings: Settings) -> Settings:
    """A home in which the database cannot be opened: there is a folder in the place of its file."""
    assert isinstance(settings.database, Path)
    settings.database.unlink()
    settings.database.mkdir()
    return settings


def test_a_home_of_ones_own_is_prepared(settings: Settings) -> None:
    start_checks.refuse_others_state(settings)
    start_checks.refuse_damage(settings)
    with Store(settings.database) as store:
        assert store.database.service_id()


def test_a_database_that_cannot_be_used(unusable: Settings) -> None:
    said = refusal(unusable)
    assert said.startswith("the database cannot be used: ")
    assert "FFLAB_DATABASE_URL" in said


def test_a_full_disk_is_named(unusable: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_checks, "free_bytes", lambda _path: 0)
    said = refusal(unusable)
    assert str(unusable.root) in said
    assert "its disk is full" in said


def test_artifacts_of_another_database(settings: Settings) -> None:
    Artifacts(settings.artifact_place).put(new_job_id(), "step.safetensors", b"x")
    assert "knows none of the 1 jobs whose artifacts" in refusal(settings)


@pytest.mark.parametrize(
    ("artifacts", "said"),
    [("", "choose another with FFLAB_HOME"), ("s3://bucket/lab", "s3://bucket/lab")],
)
def test_a_place_of_artifacts_that_cannot_be_used(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, artifacts: str, said: str
) -> None:
    def away(_place: object) -> None:
        raise OSError("no such place")

    monkeypatch.setattr(start_checks, "Artifacts", away)
    found = refusal(settings.model_copy(update={"artifacts": artifacts}))
    assert said in found
    assert "no such place" in found
