"""Decides about a submitted job: limits, the data sets and weights that it needs, webhook,
idempotency.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import ConfigDict, Field, model_validator

from ffengine.arrays import DatasetError
from ffengine.availability import NotAvailable, check_available
from ffengine.cost import Estimate, Limits, estimate
from ffengine.datasets import Datasets
from ffengine.entry import SpecFieldError
from ffengine.results import RecordedBy, RecordedResult
from ffengine.search import example_cells
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec, UploadedWeights
from ffengine.study import Cell, GridError, search_of
from ffengine.text import visible
from ffengine.uploaded_weights import WeightUploads
from service.background.webhooks import validate_secret, validate_url
from service.jobs import JobOptions, NewJob, RecordedRun, WebAddress, Webhook
from service.settings import Settings
from service.specs.files import explain_grid
from service.specs.json_pointers import unstorable
from service.store import Idempotency, Jobs, OwnerLimits, SubmitLimits, Submitted, WeightsGone
from service.store.trained_weights import WeightsNotFound, find_weights


class SubmissionError(Exception):
    """A job is not accepted. The store adds IdempotencyConflict and QueueFull."""


class InvalidField(SubmissionError):
    """A field of the request is not valid: the JSON pointer of the field, and why."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(visible(f"{pointer}: {message}"))
        self.pointer, self.message = pointer, message


class RunTooLarge(SubmissionError):
    """The run exceeds limits of the service."""

    def __init__(self, cost: Estimate, limits: Limits) -> None:
        super().__init__("; ".join(cost.problems))
        self.cost, self.limits = cost, limits


class KeyInFlight(SubmissionError):
    """The first request with the same Idempotency-Key is still being processed."""


class JobRequest(JobOptions):
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

    webhook: WebAddress | Webhook | None = Field(
        None,
        description="an address that gets a message when the job ends; an object has more options",
    )

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, document: object) -> object:
        pointer = unstorable(document)
        if pointer is not None:
            raise InvalidField(pointer, "holds a NUL character or half of a surrogate pair")
        return document


def refuse_unavailable(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec,
    datasets: Datasets,
    cells: Sequence[Cell] | None = None,
) -> None:
    """Refuse a spec that cannot be run on the data sets of the service.

    **Arguments:**

    - `spec`: a run or a study.
    - `datasets`: the data sets of the service.
    - `cells`: the runs of a study, where they are known already.

    **Raises** InvalidField where a data set is not there, or is smaller than the spec asks.
    """
    try:
        check_available(spec, datasets, cells)
    except NotAvailable as error:
        raise InvalidField(f"/spec{error.pointer}", error.message) from error
    except GridError as error:
        raise _invalid_grid(error, spec) from error


def _invalid_grid(
    error: GridError, spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec
) -> InvalidField:
    """The error of a study's grid, with what may stand there."""
    document = spec.model_dump(mode="json")
    first = explain_grid(error, document)[0]
    is_named = first.field == ".".join(error.path)
    return InvalidField(first.pointer, first.message if is_named else first.line)


def limits_of_owners(settings: Settings) -> SubmitLimits:
    """Return what an owner may have whose keys have no limits of their own."""
    of_key = OwnerLimits(
        settings.max_queued_per_key,
        settings.max_running_per_key,
        settings.max_gpu_seconds_per_key,
        settings.max_bytes_per_key,
    )
    return SubmitLimits(of_key, settings.max_high_per_key)


class Submissions:
    """Accepts or refuses jobs, and stores those that it accepts."""

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        self._jobs, self._settings, self._datasets = jobs, settings, settings.datasets
        self._limits = limits_of_owners(settings)
        # owner and Idempotency-Key of first requests that are being processed
        self.in_flight: set[tuple[str, str]] = set()

    def submit(
        self, request: JobRequest, *, owner: str, submitted_by: str | None, key: str | None
    ) -> Submitted:
        """Store a job.

        **Arguments:**

        - `request`: the body of the request.
        - `owner`: whose Idempotency-Keys these are.
        - `submitted_by`: the name of the API key; None where none was needed.
        - `key`: the Idempotency-Key, if one came.

        **Raises:**

        - `SubmissionError`: the job is refused.
        - `IdempotencyConflict`: the key came with another body before.
        - `QueueFull`: too many jobs wait already.
        - `OwnerLimitReached`: the owner has too much already.
        """
        spec = request.spec
        cells = self._cells(spec)
        if isinstance(spec, StudySpec) and search_of(spec):
            cells = []  # its trials are chosen one after the other
        options = {name: getattr(request, name) for name in JobOptions.model_fields}
        if options["timeout_seconds"] is None:
            options["timeout_seconds"] = self._settings.default_timeout_seconds
        new = NewJob(**options, webhook=self._webhook(request.webhook), submitted_by=submitted_by)
        with self._once(owner, key):
            idempotency = self._idempotency(owner, key, request)
            try:
                return self._jobs.submit(
                    new,
                    cells,
                    idempotency=idempotency,
                    max_queued=self._settings.max_queued,
                    limits=self._limits,
                )
            except WeightsGone as error:  # deleted since it was looked for
                if isinstance(request.spec, CheckSpec):
                    raise InvalidField("/spec/at/job", str(error)) from error
                raise InvalidField("/spec", f"one of its checks cannot be run: {error}") from error

    def record(
        self, run: RecordedRun, *, owner: str, submitted_by: str | None, key: str | None
    ) -> Submitted:
        """Store a run that another program computed.

        **Arguments:** those of `submit`; `run` is the body of the request.

        **Raises** IdempotencyConflict, and KeyInFlight.
        """
        kept = ("name", "tags", "project", "pinned")
        options = {name: getattr(run, name) for name in kept} | {
            "note": run.note or None,
            "submitted_by": submitted_by,
        }
        result = RecordedResult(
            curves=tuple(run.rows),
            recorded=RecordedBy(
                recorded_by=submitted_by, versions=dict(run.versions), device=run.device
            ),
        )
        with self._once(owner, key):
            idempotency = self._idempotency(owner, key, run)
            return self._jobs.record(options, run.spec, result, idempotency=idempotency)

    def estimate(self, request: JobRequest) -> Estimate:
        """Estimate the cost of a job, and the limits that it exceeds. Raises InvalidField."""
        self._webhook(request.webhook)
        return self._estimate(request.spec, self._expanded(request.spec))

    def _cells(self, spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec) -> list[Cell]:
        """The runs of a study, as `_expanded` has them.

        Raises RunTooLarge, and InvalidField for grids that cannot be expanded, and for data sets
        and weights that do not exist.
        """
        cells = self._expanded(spec)
        found = self._estimate(spec, cells)
        if found.problems:
            raise RunTooLarge(found, self._settings.limits)
        if isinstance(spec, CheckSpec):
            self._refuse_missing_weights(spec)
        checks = (
            cell.spec
            for cell in cells
            if isinstance(cell.spec, CheckSpec) and cell.spec.at != "initialization"
        )
        for check in dict.fromkeys(checks):
            try:
                self._refuse_missing_weights(check)
            except InvalidField as refusal:
                raise InvalidField(
                    "/spec", f"one of its checks cannot be run: {refusal}"
                ) from refusal
        return cells

    def _expanded(self, spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec) -> list[Cell]:
        """The runs of a study, and examples of those of a search; none for another job.

        Raises InvalidField.
        """
        try:
            return example_cells(spec) if isinstance(spec, StudySpec) else []
        except GridError as error:
            raise _invalid_grid(error, spec) from error

    def _estimate(
        self, spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec, cells: Sequence[Cell]
    ) -> Estimate:
        """Estimate the cost of a spec. Raises InvalidField where a data set is not there."""
        refuse_unavailable(spec, self._datasets, cells)
        return estimate(spec, self._settings.limits, self._datasets, cells)

    def _refuse_missing_weights(self, spec: CheckSpec) -> None:
        if isinstance(spec.at, UploadedWeights):
            try:
                WeightUploads(self._datasets).refuse_missing(spec)
            except SpecFieldError as error:
                raise InvalidField(f"/spec{error.pointer}", error.message) from error
            return
        try:
            source = find_weights(self._jobs, spec, self._datasets)
        except WeightsNotFound as error:
            raise InvalidField(f"/spec{error.pointer}", error.message) from error
        except DatasetError as error:  # the check's own data set was looked for before
            raise InvalidField("/spec/at/job", f"the job learnt from data: {error}") from error
        if source is None:
            return
        job, at = source.job, source.at
        measured = any(
            row["layer"] == source.last_layer and row["epoch"] == at.epoch
            for row in self._jobs.each_row(job.id)
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
        """Hold an Idempotency-Key while its request is processed. Raises KeyInFlight."""
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

    def _idempotency(
        self, owner: str, key: str | None, request: JobRequest | RecordedRun
    ) -> Idempotency | None:
        if key is None:
            return None
        # the document shows the secret as asterisks
        webhook = request.webhook if isinstance(request, JobRequest) else None
        secret = webhook.secret if isinstance(webhook, Webhook) else None
        document = request.model_dump_json(exclude_unset=True) + (
            secret.get_secret_value() if secret else ""
        )
        fingerprint = hashlib.sha256(document.encode()).hexdigest()
        return Idempotency(owner, key, fingerprint, self._settings.idempotency_hours)
