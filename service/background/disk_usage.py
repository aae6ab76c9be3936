"""Measures, every few minutes, what the service takes up on the disk."""

import contextlib

from ffengine.uploaded_weights import WeightUploads
from service.artifacts import Artifacts
from service.background.periodic import PeriodicThread
from service.settings import Settings
from service.store import Store
from service.store.faults import DATABASE_ERRORS

MEASURE_SECONDS = 300.0
NOTED_AT_ONCE = 500


class DiskUsage(PeriodicThread):
    """Measures artifacts, uploads and database in the background, as there may be many files.

    `bytes`: what each of them takes up; empty until they are measured for the first time.
    """

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__("disk-usage", MEASURE_SECONDS)
        self._store, self._settings = store, settings
        self._artifacts = Artifacts(settings.artifact_place)
        self.bytes: dict[str, int] = {}

    def tick(self) -> None:
        """Measure, unless told to stop meanwhile."""
        artifacts, sizes = 0, dict[str, int]()
        for job_id, size in self._artifacts.sizes():
            if self._stopping.is_set():
                return
            artifacts += size
            sizes[job_id] = size
            if len(sizes) == NOTED_AT_ONCE:
                self._note(sizes)
        self._note(sizes)
        kept = self._settings.datasets
        self.bytes = {
            "artifacts": artifacts,
            "uploads": kept.bytes_kept() + WeightUploads(kept).bytes_kept(),
            "database": self._store.database.size_bytes(),
        }

    def _note(self, sizes: dict[str, int]) -> None:
        """Store what the artifacts of each job take up, for sums and limits, and forget it here.

        Where nothing can be written, it is done the next time.
        """
        with contextlib.suppress(*DATABASE_ERRORS):
            self._store.usage.note_sizes(sizes)
        sizes.clear()
