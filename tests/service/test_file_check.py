"""`fflab check`: files that the database counts on and that are gone, damaged or left over."""

import io
import json
import os
from pathlib import Path

import pytest

from service.artifacts import Artifacts, epoch_name
from service.background.file_check import FileCheck
from service.background.retention import UNKNOWN_SECONDS
from service.background.shared_uploads import SharedUploads, key_of
from service.settings import Settings
from service.store import Store
from tests.commands import Fflab
from tests.factories import HALF, LEASE, claimed
from tests.service.arrays import X, Y, npz
from tests.service.samples import epoch_row

UNKNOWN = "job_" + "0" * 32


@pytest.fixture
def of_home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def artifacts(of_home: Settings) -> Artifacts:
    return Artifacts(of_home.artifact_place)


def half_done(store: Store, artifacts: Artifacts) -> str:
    """A job that has measured two epochs, and waits to go on from its checkpoint."""
    job_id, attempt = claimed(store)
    for name in (epoch_name(0, 0), epoch_name(0, 1), "step.safetensors"):
        artifacts.put(job_id, name, b"weights")
    rows = [epoch_row(epoch) for epoch in (0, 1)]
    store.queue.record(
        job_id,
        attempt,
        lease_seconds=LEASE,
        progress=HALF,
        rows=rows,
        checkpoint="step.safetensors",
    )
    store.queue.finish_stopped(job_id, attempt)
    return job_id


def found(store: Store, settings: Settings, *, deep: bool = False) -> set[tuple[str, str]]:
    return {(one.wrong, one.file) for one in FileCheck(store, settings, deep=deep).findings()}


def test_what_is_gone_damaged_or_left_over_is_named(
    either_store: Store, of_home: Settings, artifacts: Artifacts
) -> None:
    uploads = SharedUploads(either_store, artifacts, of_home)
    for shift in range(3):
        uploads.datasets.keep(f"mine-{shift}", io.BytesIO(npz(x=X + shift, y=Y)))
    uploads.take_up()
    job_id = half_done(either_store, artifacts)
    assert found(either_store, of_home, deep=True) == set()

    first, second, third = (one.file_digest for one in either_store.uploads.all())
    for name in (epoch_name(0, 1), "step.safetensors"):
        artifacts.remove(job_id, name)
    artifacts.files.write(f"{job_id}/{epoch_name(0, 0)}", b"cut off")
    artifacts.files.remove(key_of(first))
    artifacts.files.write(key_of(second), b"damaged")
    either_store.uploads.remove("dataset", "mine-2")
    artifacts.put(UNKNOWN, "step.safetensors", b"left")
    old = artifacts.changed_at(UNKNOWN) - 2 * UNKNOWN_SECONDS
    os.utime(artifacts.root / UNKNOWN, (old, old))
    missing = {
        ("missing", f"{job_id}/{epoch_name(0, 1)}"),
        ("missing", f"{job_id}/step.safetensors"),
        ("missing", key_of(first)),
        ("left over", UNKNOWN),
        ("left over", key_of(third)),
    }
    damaged = {("damaged", f"{job_id}/{epoch_name(0, 0)}"), ("damaged", key_of(second))}
    assert found(either_store, of_home) == missing
    assert found(either_store, of_home, deep=True) == missing | damaged


def test_the_command_ends_with_1_where_something_is_lost(
    fflab: Fflab, store: Store, settings: Settings
) -> None:
    artifacts = Artifacts(settings.artifact_place)
    job_id = half_done(store, artifacts)
    code, said, _ = fflab("check", "--deep")
    assert (code, said.strip()) == (
        0,
        f"3 files read in {artifacts.place}: 0 missing or damaged, 0 left over",
    )
    artifacts.files.write(key_of("f" * 64), b"of no upload")
    code, said, _ = fflab("check", "--json")
    told = json.loads(said)
    assert (code, told["ok"], told["findings"][0]["wrong"]) == (0, True, "left over")
    assert "files that belong to no upload: 1; --apply removes them" in fflab("retention")[1]
    told = json.loads(fflab("retention", "--apply", "--json")[1])
    assert told["files_of_no_upload"] == ["f" * 64]
    assert json.loads(fflab("check", "--json")[1])["findings"] == []
    artifacts.remove(job_id, epoch_name(0, 1))
    code, said, _ = fflab("check")
    assert code == 1
    assert "missing" in said
    assert job_id in said.replace("\n", "")
    code, said, _ = fflab("check", "--json")
    assert (code, json.loads(said)["ok"]) == (1, False)
