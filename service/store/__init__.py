"""The store: all state of the service, and all of its SQL, behind one class."""

from service.store.deliveries import Outbox
from service.store.inserts import Order
from service.store.job_actions import NotAllowed, PartOfStudy
from service.store.jobs import Idempotency, KeyReused, Page, QueueFull, Submitted
from service.store.queue import Claim, LeaseLost, Row, WorkerInfo
from service.store.studies import Upkeep

__all__ = [
    "Claim",
    "Idempotency",
    "KeyReused",
    "LeaseLost",
    "NotAllowed",
    "Order",
    "Page",
    "PartOfStudy",
    "QueueFull",
    "Row",
    "Store",
    "Submitted",
    "WorkerInfo",
]


class Store(Upkeep, Outbox):
    """Leases for workers, Requests, Wishes and Registry for the API, Upkeep for the reconciler, Outbox for webhooks, over one Database."""
