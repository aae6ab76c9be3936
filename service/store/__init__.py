"""The store: all state of the service and all of its SQL, in parts over one database."""

from pathlib import Path
from typing import Self

from ffengine.datasets import Datasets
from service.jobs import NewJob
from service.store.api_keys import ApiKey, ApiKeys, KeyNameTaken, OwnerLimits, SeveralKeys
from service.store.audit import Audit
from service.store.curve_rows import Row
from service.store.database import KEPT_CONNECTIONS, Database
from service.store.deliveries import Deliveries, PendingDelivery, StoredDelivery
from service.store.events import Events
from service.store.job_actions import JobActions, NotAllowed, PartOfStudy
from service.store.job_times import JobTimes
from service.store.jobs import (
    CursorGone,
    Idempotency,
    IdempotencyConflict,
    Jobs,
    Page,
    Submitted,
)
from service.store.leases import LeaseLost
from service.store.list_indexes import ANY_STUDY
from service.store.needs import StillNeeded, WeightsGone
from service.store.owner_limits import OwnerLimitReached, SubmitLimits
from service.store.queue import Claim, Queue
from service.store.queue_limit import QueueFull
from service.store.shares import Shares, StoredShare, TooManyShares
from service.store.studies import Studies
from service.store.uploads import StoredUpload, UploadDraft, Uploads, UploadTaken
from service.store.usage import Usage
from service.store.workers import DEAD_WORKER_SECONDS, Workers

__all__ = [
    "ANY_STUDY",
    "DEAD_WORKER_SECONDS",
    "ApiKey",
    "ApiKeys",
    "Audit",
    "Claim",
    "CursorGone",
    "Database",
    "Deliveries",
    "Events",
    "Idempotency",
    "IdempotencyConflict",
    "JobActions",
    "Jobs",
    "KeyNameTaken",
    "LeaseLost",
    "NewJob",
    "NotAllowed",
    "OwnerLimitReached",
    "OwnerLimits",
    "Page",
    "PartOfStudy",
    "PendingDelivery",
    "Queue",
    "QueueFull",
    "Row",
    "SeveralKeys",
    "Shares",
    "StillNeeded",
    "Store",
    "StoredDelivery",
    "StoredShare",
    "StoredUpload",
    "Studies",
    "SubmitLimits",
    "Submitted",
    "TooManyShares",
    "UploadDraft",
    "UploadTaken",
    "Uploads",
    "Usage",
    "WeightsGone",
    "Workers",
]


class Store:
    """All parts of the store. A caller that needs one part is given that part alone.

    **Arguments:**

    - `where`: a URL of SQLAlchemy, or the file of SQLite.
    - `datasets`: where the digests of data sets are looked up; None: in the catalogue alone.
    - `kept_connections`: how many connections to a server stay open.
    """

    def __init__(
        self,
        where: str | Path,
        datasets: Datasets | None = None,
        kept_connections: int = KEPT_CONNECTIONS,
    ) -> None:
        self.database = Database(where, kept_connections)
        self.jobs = Jobs(self.database, datasets)
        self.actions = JobActions(self.database)
        self.queue = Queue(self.database)
        self.times = JobTimes(self.database)
        self.studies = Studies(self.database, datasets)
        self.events = Events(self.database)
        self.deliveries = Deliveries(self.database)
        self.workers = Workers(self.database)
        self.api_keys = ApiKeys(self.database)
        self.shares = Shares(self.database)
        self.uploads = Uploads(self.database)
        self.audit = Audit(self.database)
        self.usage = Usage(self.database)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def migrate(self) -> None:
        """Bring the schema up to date; two processes may do so at once."""
        self.database.migrate()

    def close(self) -> None:
        """Close all connections."""
        self.jobs.close()
        self.database.close()
