"""The store: all state of the service, and all of its SQL, behind one class."""

from service.leases import Claim, LeaseLost, Row, WorkerInfo
from service.outbox import Outbox
from service.requests import Idempotency, KeyReused, Page, QueueFull, Submitted
from service.submissions import Order
from service.upkeep import Upkeep
from service.wishes import NotAllowed, PartOfStudy

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
