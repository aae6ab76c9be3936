"""Finds the data that a job was submitted with, in this home or among the service's uploads."""

from pathlib import Path

from ffengine.datasets import DATASETS, Datasets
from ffengine.spec import CheckSpec, TrainedWeights, TrainSpec, UploadedWeights
from ffengine.uploaded_weights import WeightUploads
from service.background.shared_uploads import NotShared, SharedUploads, with_copies
from service.jobs import JobError
from service.store import Store
from service.store.uploads import Kind
from workers.protocol import Start

SHORT = 16  # characters of a digest in messages
WORDS: dict[Kind, str] = {"dataset": "data set", "weights": "uploaded network"}


class WrongData(Exception):
    """This machine lacks the data of a job and cannot fetch them; `error` says so to the user."""

    def __init__(self, error: JobError) -> None:
        super().__init__(error.detail)
        self.error = error


class JobData:
    """Finds the uploads that jobs need: those of this home, or copies of the service's."""

    def __init__(self, store: Store, shared: SharedUploads) -> None:
        self.store, self.shared, self.here = store, shared, shared.datasets

    def of(self, start: Start) -> Datasets:
        """Return the data sets of this machine, in which the names of a job stand for its data.

        Raises WrongData where one of them cannot be had, and OSError where it cannot be read.
        """
        weights = self._weights_of(start)
        wanted = self._names_beside(start) | {start.spec.dataset.name: start.dataset_digest}
        copies = [self._copy("dataset", *one) for one in wanted.items()]
        copy_of_weights = (
            self._copy("weights", weights.weights, weights.digest) if weights else None
        )
        return with_copies(self.here, [one for one in copies if one], copy_of_weights)

    def _copy(self, kind: Kind, name: str, digest: str | None) -> Path | None:
        """Return the folder of a copy; None where this machine's own has that digest."""
        here = self._digest_here(kind, name)
        if digest in (None, here):
            return None
        try:
            return self.shared.fetched(kind, name, str(digest))
        except NotShared as error:
            raise WrongData(wrong_data(kind, name, str(digest), here, str(error))) from error

    def _digest_here(self, kind: Kind, name: str) -> str | None:
        if kind == "dataset":
            return self.here.digest_of(name)
        found = WeightUploads(self.here).find(name)
        return found.digest if found else None

    @staticmethod
    def _weights_of(start: Start) -> UploadedWeights | None:
        at = start.spec.at if isinstance(start.spec, CheckSpec) else None
        return at if isinstance(at, UploadedWeights) else None

    def _names_beside(self, start: Start) -> dict[str, str | None]:
        """The data sets that the weights of a check were trained on, with what they are now.

        Only their shapes are looked at.
        """
        at, name = start.spec.at if isinstance(start.spec, CheckSpec) else None, None
        if isinstance(at, UploadedWeights):
            known = self.store.uploads.find("weights", at.weights)
            name = str(known.facts["dataset"]) if known else None
        elif isinstance(at, TrainedWeights):
            job = self.store.jobs.get(at.job)
            name = job.spec.dataset.name if job and isinstance(job.spec, TrainSpec) else None
        if name is None or name in DATASETS:
            return {}
        upload = self.store.uploads.find("dataset", name)
        return {name: upload.digest if upload else None}


def wrong_data(kind: Kind, name: str, pinned: str, here: str | None, why: str) -> JobError:
    """Say that a machine has other data than a job was submitted with, and what to do."""
    has = f"the digest {here[:SHORT]}..." if here else "none of that name"
    return JobError(
        code="dataset" if kind == "dataset" else "weights_missing",
        title=f"The {WORDS[kind]} is not the one that the job was submitted with",
        detail=f"{name}: the job was submitted with the digest {pinned[:SHORT]}..., this worker "
        f"has {has}, and the former {why}. Upload it again under the same name or another and "
        f"retry the job, or submit the job anew for what the name stands for now.",
        evidence={"name": name, "submitted": pinned, "here": here},
    )
