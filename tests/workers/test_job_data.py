"""Where the data of a job come from: the home of the machine, or copies of what was uploaded."""

import io
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from safetensors.numpy import save

from ffengine.spec import CheckSpec, RunSpec, UploadedWeights
from ffengine.uploaded_weights import Description, WeightUploads
from service.artifacts import Artifacts
from service.background.shared_uploads import FOLDER, SharedUploads, key_of
from service.settings import Settings
from service.store import Store
from tests.service.arrays import X, Y, npz
from workers.job_data import JobData, WrongData
from workers.protocol import Start

AT_WEIGHTS = {
    "kind": "check",
    "dataset": {"name": "mine"},
    "at": {"weights": "network"},
    "samples": 20,
}
SPEC: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)
INPUTS = int(np.prod(X.shape[1:]))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(f"sqlite:///{tmp_path / 'fflab.db'}")) as store:
        store.migrate()
        yield store


def seen_from(store: Store, home: Path) -> SharedUploads:
    artifacts = Artifacts(home.parent / "artifacts")
    return SharedUploads(store, artifacts, Settings(home=home))


def network(shift: float) -> io.BytesIO:
    return io.BytesIO(save({"0.weight": np.full((4, INPUTS), shift, dtype=np.float32)}))


def test_weights_and_what_they_were_trained_on_come_from_the_service(
    store: Store, tmp_path: Path
) -> None:
    api, worker = seen_from(store, tmp_path / "api"), seen_from(store, tmp_path / "worker")
    api.datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    facts = WeightUploads(api.datasets).keep(
        "network", network(0.5), Description(data="mine", labels="none")
    )
    api.take_up()
    spec = WeightUploads(api.datasets).pinned(CheckSpec.model_validate(AT_WEIGHTS))
    assert isinstance(spec.at, UploadedWeights)
    start = Start(
        job_id="job_" + "0" * 32,
        attempt=1,
        spec=spec,
        dataset_digest=api.datasets.digest_of("mine"),
    )
    assert JobData(store, api).of(start) == api.datasets, "its own are the right ones"
    there = JobData(store, worker).of(start)
    assert WeightUploads(there).load(spec.at).facts == facts
    assert there.loaded("mine").digest == start.dataset_digest

    worker.datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    WeightUploads(worker.datasets).keep(
        "network", network(0.25), Description(data="mine", labels="none")
    )
    there = JobData(store, worker).of(start)
    assert WeightUploads(there).load(spec.at).facts.digest == facts.digest
    known = store.uploads.find("weights", "network")
    assert known is not None
    worker.artifacts.files.write(key_of(known.file_digest), b"damaged")
    copies = worker._cache / facts.digest / "network" / "network.safetensors"
    copies.unlink()
    with pytest.raises(WrongData, match=r"network: the job was submitted with") as wrong:
        JobData(store, worker).of(start)
    assert wrong.value.error.code == "weights_missing"
    assert f"is damaged in {worker.artifacts.place}" in wrong.value.error.detail
    assert wrong.value.error.evidence["submitted"] == facts.digest
    assert len(worker.artifacts.files.names(FOLDER)) == 2


def test_a_job_of_an_earlier_version_says_no_digest(store: Store, tmp_path: Path) -> None:
    worker = seen_from(store, tmp_path / "worker")
    start = Start(job_id="job_" + "0" * 32, attempt=1, spec=SPEC.validate_python({"kind": "train"}))
    assert JobData(store, worker).of(start) == worker.datasets
