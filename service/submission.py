"""Submitting a job: checks of limits, trained weights and webhook, and the Idempotency-Key."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ffengine.cost import Estimate, Limits, estimate
from ffengine.spec import AnySpec, CheckSpec, StudySpec, TrainedWeights, TrainSpec
from ffengine.study import Cell, GridError, expand
from ffengine.text import UserText, visible
from service.background.webhooks import validate_secret, validate_url
from service.jobs import Webhook
from service.settings import Settings
from service.specs.json_pointers import unstorable
from service.store import Idempotency, Jobs, NewJob, Submitted
from service.store.trained_weights import WeightsNotFound, find_weights

LONGEST_TIMEOUT_SECONDS = 366 * 86_400.0


class SubmissionError(Exception):
    """A job that is not accepted. The store has two more: KeyReused and QueueFull."""


class InvalidField(SubmissionError):
    """A field of the request is not valid; `pointer` says which, `message` why."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(visible(f"{pointer}: {message}"))
        self.pointer, self.message = pointer, message


class RunTooLarge(SubmissionError):
    """The run passes limits of the service."""

    def __init__(self, cost: Estimate, limits: Limits) -> None:
        super().__init__("; ".join(cost.problems))
        self.cost, self.limits = cost, limits


class KeyInFlight(SubmissionError):
    """The first request with the same Idempotency-Key is still being worked on."""


class JobRequest(BaseModel):
    """A job to be run."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "spec": {"kind": "train", "epochs": 3, "network": {"widths": [256]}},
                    "name": "a first run",
                    "tags": ["demo"],
                },
                {"spec": {"kind": "check", "theorem": 1, "widths": [64, 256]}},
                {"spec": {"kind": "study", "preset": "paper"}},
            ]
        },
    )

    spec: AnySpec
    name: UserText | None = Field(None, description="for people; need not be unique")
    tags: list[UserText] = Field(default=[], max_length=20, description="for filtering")
    priority: Literal["low", "normal", "high"] = "normal"
    fresh: bool = Field(False, description="run it even where an identical spec has succeeded")
    timeout_seconds: float | None = Field(
        None,
        gt=0,
        le=LONGEST_TIMEOUT_SECONDS,
        description="longest time that it may run, all attempts together; of a study, each of "
        "its runs",
    )
    pinned: bool = Field(False, description="keep it, whatever the retention says")
    webhook: str | Webhook | None = Field(
        None,
        description="an address that is told when the job ends, with more to choose as an object",
    )

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, document: object) -> object:
        pointer = unstorable(document)
        if pointer is not None:
            raise InvalidField(pointer, "holds a NUL character or half of a surrogate pair")
        return document


class Submissions:
    """Decides which jobs are accepted, and stores them."""

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        self._jobs, self._settings = jobs, settings
        # owner and Idempotency-Key of first requests that are being worked on
        self.in_flight: set[tuple[str, str]] = set()

    def submit(
        self, request: JobRequest, *, owner: str, submitted_by: str | None, key: str | None
    ) -> Submitted:
        """Store a job. Raises SubmissionError, IdempotencyConflict and QueueFull."""
        cells = self._cells(request.spec)
        facts = {
            name: getattr(request, name)
            for name in ("spec", "name", "tags", "priority", "fresh", "timeout_seconds", "pinned")
        }
        new = NewJob.model_construct(
            **facts, webhook=self._webhook(request.webhook), submitted_by=submitted_by
        )
        with self._once(owner, key):
            idempotency = self._idempotency(owner, key, request)
            return self._jobs.submit(
                new, cells, idempotency=idempotency, max_queued=self._settings.max_queued
            )

    def estimate(self, request: JobRequest) -> Estimate:
        """What a job would cost; limits that it passes are in `problems`. Raises InvalidField."""
        self._webhook(request.webhook)
        return self._estimate(request.spec)

    def _cells(self, spec: TrainSpec | CheckSpec | StudySpec) -> list[Cell]:
        """The cells of a study, none for other jobs.

        Raises RunTooLarge, and InvalidField for grids that cannot be expanded and weights that do
        not exist.
        """
        found = self._estimate(spec)
        if found.problems:
            raise RunTooLarge(found, self._settings.limits)
        if isinstance(spec, CheckSpec):
            self._refuse_missing_weights(spec)
        if not isinstance(spec, StudySpec):
            return []
        cells = expand(spec)
        checks = (
            cell.spec
            for cell in cells
            if isinstance(cell.spec, CheckSpec) and isinstance(cell.spec.at, TrainedWeights)
        )
        for check in dict.fromkeys(checks):
            try:
                self._refuse_missing_weights(check)
            except InvalidField as refusal:
                raise InvalidField(
                    "/spec", f"one of its checks cannot be run: {refusal}"
                ) from refusal
        return cells

    def _estimate(self, spec: TrainSpec | CheckSpec | StudySpec) -> Estimate:
        try:
            return estimate(spec, self._settings.limits)
        except GridError as error:
            raise InvalidField(f"/spec{error.pointer}", str(error)) from error

    def _refuse_missing_weights(self, spec: CheckSpec) -> None:
        try:
            source = find_weights(self._jobs, spec)
        except WeightsNotFound as error:
            pointer = f"/spec/{error.field.replace('.', '/')}"
            raise InvalidField(pointer, error.message) from error
        if source is None:
            return
        job, at = source.job, source.at
        measured = any(
            row["layer"] == source.last_layer and row["epoch"] == at.epoch
            for row in self._jobs.rows(job.id)
        )
        if not measured:
            missing = (
                f"{job.id} ({job.state.value}) has not come to epoch {at.epoch} of layer {at.layer}"
            )
            raise InvalidField("/spec/at/epoch", missing)

    def _webhook(self, given: str | Webhook | None) -> Webhook | None:
        """The webhook of a job. Raises InvalidField for addresses and secrets that are refused."""
        if given is None:
            return None
        webhook = Webhook(url=given) if isinstance(given, str) else given
        pointer = "/webhook" if isinstance(given, str) else "/webhook/url"
        try:
            validate_url(webhook.url, self._settings.webhook_allow_private)
            pointer = "/webhook/secret"
            if webhook.secret:
                validate_secret(webhook.secret.get_secret_value())
        except ValueError as error:
            raise InvalidField(pointer, str(error)) from error
        return webhook

    @contextmanager
    def _once(self, owner: str, key: str | None) -> Iterator[None]:
        """Let only one request with an Idempotency-Key in at a time."""
        held = (owner, key) if key else None
        if held and held in self.in_flight:
            raise KeyInFlight
        if held:
            self.in_flight.add(held)
        try:
            yield
        finally:
            if held:
                self.in_flight.discard(held)

    def _idempotency(self, owner: str, key: str | None, request: JobRequest) -> Idempotency | None:
        if key is None:
            return None
        # the document shows the secret as asterisks
        secret = request.webhook.secret if isinstance(request.webhook, Webhook) else None
        document = request.model_dump_json(exclude_unset=True) + (
            secret.get_secret_value() if secret else ""
        )
        fingerprint = hashlib.sha256(document.encode()).hexdigest()
        return Idempotency(owner, key, fingerprint, self._settings.idempotency_hours)
