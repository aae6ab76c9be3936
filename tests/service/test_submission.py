"""What is decided about a job that is submitted, without HTTP."""

import io
import shutil
from collections.abc import Iterator

import pytest
from pydantic import JsonValue

from ffengine.cost import Limits
from service.settings import Settings
from service.store import IdempotencyConflict, QueueFull, Store
from service.submission import (
    InvalidField,
    JobRequest,
    KeyInFlight,
    RunTooLarge,
    SubmissionError,
    Submissions,
)
from service.web.problems import (
    IdempotencyConflictProblem,
    Problem,
    QueueIsFull,
    StillInFlight,
    TooLarge,
    ValidationProblem,
    problem_of,
)
from tests.service.arrays import X, Y, npz

SPEC: dict[str, JsonValue] = {"kind": "train", "epochs": 1, "network": {"widths": [8]}}
NOBODY = "job_" + "0" * 32


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with Store(settings.database, settings.datasets) as store:
        store.migrate()
        yield store


def request(**fields: object) -> JobRequest:
    return JobRequest.model_validate({"spec": SPEC, **fields})


def submit(submissions: Submissions, asked: JobRequest, key: str | None = None) -> str:
    return submissions.submit(asked, owner="ada", submitted_by="Ada", key=key).job.id


def test_an_accepted_job_is_stored_with_who_submitted_it(store: Store, settings: Settings) -> None:
    job = store.jobs.get(
        submit(Submissions(store.jobs, settings), request(name="first", tags=["a"]))
    )
    assert job is not None
    assert (job.name, job.tags, job.submitted_by) == ("first", ["a"], "Ada")


def test_a_key_makes_one_job_and_is_not_reused(store: Store, settings: Settings) -> None:
    submissions = Submissions(store.jobs, settings)
    first = submit(submissions, request(), "k")
    assert submit(submissions, request(), "k") == first
    with pytest.raises(IdempotencyConflict):
        submit(submissions, request(name="another"), "k")
    with pytest.raises(IdempotencyConflict):
        submit(
            submissions,
            request(webhook={"url": "https://example.org/", "secret": "whsec_" + "A" * 32}),
            "k",
        )
    submissions.in_flight.add(("ada", "busy"))
    with pytest.raises(KeyInFlight):
        submit(submissions, request(), "busy")
    assert submit(submissions, request(fresh=True), None) != first
    assert submissions.in_flight == {("ada", "busy")}, "what was refused or answered is let go"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"webhook": "ftp://example.org/"}, "/webhook"),
        ({"webhook": {"url": "https://127.0.0.1/"}}, "/webhook/url"),
        ({"webhook": {"url": "https://example.org/", "secret": "x"}}, "/webhook/secret"),
        (
            {"spec": {"kind": "check", "theorem": 1, "at": {"job": NOBODY, "epoch": 1}}},
            "/spec/at/job",
        ),
    ],
)
def test_a_field_that_is_not_valid_is_named(
    store: Store, settings: Settings, fields: dict[str, object], pointer: str
) -> None:
    submissions = Submissions(store.jobs, settings)
    with pytest.raises(InvalidField) as refused:
        submit(submissions, request(**fields))
    assert refused.value.pointer == pointer
    assert str(refused.value) == f"{pointer}: {refused.value.message}"
    assert store.jobs.page(limit=1).jobs == []


def test_text_that_no_database_stores_is_refused_where_it_stands() -> None:
    with pytest.raises(InvalidField) as refused:
        request(tags=["fine", "a\x00b"])
    assert refused.value.pointer == "/tags/1"


def test_limits_and_a_full_queue_refuse(store: Store, settings: Settings) -> None:
    small = settings.model_copy(update={"limits": Limits(flops=1.0)})
    with pytest.raises(RunTooLarge) as refused:
        submit(Submissions(store.jobs, small), request())
    assert refused.value.cost.problems
    full = settings.model_copy(update={"max_queued": 1})
    submit(Submissions(store.jobs, full), request())
    with pytest.raises(QueueFull):
        submit(Submissions(store.jobs, full), request(fresh=True))


def test_a_job_without_a_time_limit_gets_the_operators(store: Store, settings: Settings) -> None:
    day = settings.model_copy(update={"default_timeout_seconds": 86_400.0})

    def limit(used: Settings, given: float | None) -> float | None:
        asked = request(timeout_seconds=given, fresh=True)
        job = store.jobs.get(submit(Submissions(store.jobs, used), asked))
        assert job is not None
        return job.timeout_seconds

    assert [limit(day, None), limit(day, 60.0), limit(settings, None)] == [86_400.0, 60.0, None]


def test_a_job_that_would_fill_the_disk_is_refused(store: Store, settings: Settings) -> None:
    huge = {"kind": "train", "epochs": 100_000, "network": {"widths": [4096]}}
    small = {**huge, "epochs": 100}
    generous = settings.model_copy(update={"limits": Limits(flops=1e30)})
    submissions = Submissions(store.jobs, generous)
    with pytest.raises(RunTooLarge, match=r"TiB of disk, .*monitor\.every_epochs"):
        submit(submissions, request(spec=huge))
    assert submit(submissions, request(spec=small)).startswith("job_")


def test_an_estimate_says_what_passes_limits(store: Store, settings: Settings) -> None:
    small = settings.model_copy(update={"limits": Limits(flops=1.0)})
    assert Submissions(store.jobs, small).estimate(request()).problems
    assert not Submissions(store.jobs, settings).estimate(request()).problems


def test_every_refusal_is_a_problem_of_its_own(store: Store, settings: Settings) -> None:
    cost = Submissions(store.jobs, settings).estimate(request())
    refusals: dict[type[Problem], Exception] = {
        ValidationProblem: InvalidField("/spec", "wrong"),
        TooLarge: RunTooLarge(cost, settings.limits),
        StillInFlight: KeyInFlight(),
        IdempotencyConflictProblem: IdempotencyConflict(),
        QueueIsFull: QueueFull(),
    }
    assert {type(problem_of(refusal)) for refusal in refusals.values()} == set(refusals)
    assert set(SubmissionError.__subclasses__()) <= {type(refusal) for refusal in refusals.values()}


def test_only_a_job_on_the_same_arrays_is_waited_for(store: Store, settings: Settings) -> None:
    submissions, datasets = Submissions(store.jobs, settings), settings.datasets
    one = {**SPEC, "dataset": {"name": "mine"}}
    study = {"kind": "study", "base": one, "grid": {"epochs": [1, 2]}}

    def messages() -> list[str]:
        """What is told of a run, and of the two of a study."""
        submit(submissions, request(spec=one))
        submit(submissions, request(spec=study))
        found = store.jobs.page(limit=4, children=True).jobs
        return sorted(job.progress.message.split()[0] for job in found if job.kind != "study")

    datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    assert messages() == ["queued", "queued", "waits"]
    shutil.rmtree(datasets.kept_in / "mine")
    datasets.keep("mine", io.BytesIO(npz(x=X, y=2 - Y)))
    assert messages() == ["queued", "queued", "waits"]
    assert messages() == ["waits", "waits", "waits"]


def test_a_check_of_a_job_whose_data_are_gone_is_refused(store: Store, settings: Settings) -> None:
    submissions, datasets = Submissions(store.jobs, settings), settings.datasets
    datasets.keep("mine", io.BytesIO(npz(x=X, y=Y)))
    job = submit(submissions, request(spec={**SPEC, "dataset": {"name": "mine"}}))
    shutil.rmtree(datasets.kept_in / "mine")
    check = {"kind": "check", "at": {"job": job, "epoch": 1}, "seeds": [0]}
    with pytest.raises(InvalidField, match="learnt from data: 'mine' is not known") as refused:
        submit(submissions, request(spec=check))
    assert refused.value.pointer == "/spec/at/job"
