"""Measures, every few minutes, what the service takes up on the disk."""

from ffengine.uploaded_weights import WeightUploads
from service.artifacts import Artifacts
from service.background.periodic import PeriodicThread
from service.settings import Settings
from service.store import Store

MEASURE_SECONDS = 300.0


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
        artifacts = 0
        for size in self._artifacts.sizes():
            if self._stopping.is_set():
                return
            artifacts += size
        kept = self._settings.datasets
        self.bytes = {
            "artifacts": artifacts,
            "uploads": kept.bytes_kept() + WeightUploads(kept).bytes_kept(),
            "database": self._store.database.size_bytes(),
        }
