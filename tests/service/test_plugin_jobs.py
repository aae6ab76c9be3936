"""Jobs that use plug-ins: begun by workers that have the same ones, and readable without them."""

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from ffengine.results import PluginUse
from ffengine.spec import StudySpec, Submission, TrainSpec
from ffengine.text import STORED
from service.background.waiting import why_plugins_lack
from service.cli.doctor import _other_plugins
from service.schemas import WorkerInfo, WorkerLine
from service.store import Store
from service.store.inserts import plugins_of
from service.store.queue import QUEUED_MESSAGE, Queue
from service.store.tables import JobRow
from tests.factories import LEASE, finished, read, submit
from tests.service.samples import train_result

NEEDED = "fflab-median==1.2.0@0123456789abcdef"


def plugin(version: str = "1.2.0", code: str = "0123456789abcdef") -> PluginUse:
    return PluginUse(
        package="fflab-median", version=version, code_digest=code, entries=("negatives.median",)
    )


def worker(name: str, *plugins: PluginUse, **said: Any) -> WorkerLine:
    known = {"host": "lab", "pid": 1, "device": "cpu", "device_name": None, "memory_bytes": None}
    known |= {"version": "1", "job": None, "silent_seconds": 0.0, "plugins": list(plugins)}
    return WorkerLine.model_validate({"id": name, **known, **said})


def needing(store: Store, needed: str | None = NEEDED, **changes: Any) -> str:
    """A queued job whose spec uses plug-ins of these identities."""
    job = submit(store, fresh=True)
    change(store, job.id, plugins=needed, **changes)
    return job.id


def change(store: Store, job_id: str, **values: Any) -> None:
    with store.database.writing() as session:
        session.execute(
            update(JobRow).where(JobRow.id == job_id).values(**values, version=JobRow.version + 1)
        )


def test_a_job_is_claimed_by_a_worker_with_the_same_plugins_alone(either_store: Store) -> None:
    special, plain = needing(either_store), submit(either_store, fresh=True).id
    without = Queue(either_store.database, plugins=())
    older = Queue(either_store.database, plugins=["fflab-median==1.1.0@0123456789abcdef"])
    same = Queue(either_store.database, plugins=[NEEDED, "other==1@00"])
    assert without.claim(special, "w1", LEASE) is None
    assert older.claim(special, "w2", LEASE) is None
    assert without.longest_wait_seconds(able=True) is not None  # for the plain one
    claim = without.claim_next("w1", LEASE)
    assert claim is not None
    assert claim.job_id == plain
    assert older.claim_next("w2", LEASE) is None
    assert older.longest_wait_seconds(able=True) is None  # so that it does not think it is starved
    assert older.longest_wait_seconds() is not None
    found = same.claim_next("w3", LEASE)
    assert found is not None
    assert found.job_id == special


def test_of_several_plugins_a_worker_needs_all(store: Store) -> None:
    both = needing(store, f"{NEEDED} other==1@00")
    assert Queue(store.database, plugins=[NEEDED]).claim_next("w1", LEASE) is None
    found = Queue(store.database, plugins=["other==1@00", NEEDED]).claim_next("w1", LEASE)
    assert found is not None
    assert found.job_id == both


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ([worker("gpu-3", plugin())], None),
        ([worker("gpu-3"), worker("gpu-4", plugin())], None),
        ([], None),  # nobody is there, which is said otherwise
        ([worker("gpu-3")], "needs fflab-median 1.2.0, which gpu-3 does not have"),
        ([worker("gpu-3", plugin("1.1.0"))], "which gpu-3 has as 1.1.0"),
        ([worker("gpu-3", plugin(code="fedcba98"))], "which gpu-3 has with other code (fedcba98)"),
        ([worker("dead", plugin(), can_compute=False), worker("gpu-3")], "gpu-3 does not have"),
        (
            [worker(f"w{number}") for number in range(5)],
            "w0 does not have, w1 does not have, w2 does not have and 2 others: install",
        ),
    ],
)
def test_why_a_job_waits_names_the_difference(workers: list[WorkerLine], said: str | None) -> None:
    found = why_plugins_lack(workers, [NEEDED])
    assert (found is None) == (said is None)
    if said and found:
        assert said in found
        assert found.startswith("waits: ")


def test_a_waiting_job_says_which_plugin_it_waits_for_until_a_worker_has_it(store: Store) -> None:
    special, plain = needing(store, queued_at=0.0), submit(store, fresh=True).id
    queue = Queue(store.database, plugins=())
    version = read(store, special)
    queue.explain_waiting(None, 0.0, lambda needed: f"waits: needs {needed}")
    assert read(store, special).progress.message == f"waits: needs ['{NEEDED}']"
    assert read(store, plain).progress.message == QUEUED_MESSAGE
    assert version.state == "queued"
    queue.explain_waiting("waits: no worker is running", 0.0, lambda _: "waits: needs")
    assert read(store, special).progress.message == "waits: no worker is running"
    queue.explain_waiting(None, 0.0, lambda _: None)
    assert read(store, special).progress.message == QUEUED_MESSAGE


def test_workers_report_their_plugins(store: Store, client: httpx.Client) -> None:
    info = worker("gpu-3", plugin()).model_dump(exclude={"silent_seconds", "can_compute"})
    store.workers.heartbeat(WorkerInfo.model_validate(info))
    (line,) = client.get("/v1/workers").json()["items"]
    assert line["plugins"] == [plugin().model_dump(mode="json")]
    assert "fflab-median 1.2.0" in client.get("/workers").text


def test_doctor_names_workers_with_other_plugins() -> None:
    api = [{"name": "fflab-median", "version": "1.2.0", "code_digest": "0123456789abcdef"}]
    workers = [
        worker("gpu-3", plugin("1.1.0")).model_dump(mode="json"),
        worker("gpu-4").model_dump(mode="json"),
        worker("gpu-5", plugin()).model_dump(mode="json"),
        {"id": "old"},  # of a version that reports none
    ]
    found = [check.finding for check in _other_plugins(api, workers)]
    assert found == [
        "fflab-median: the API has 1.2.0 with code 01234567, this worker 1.1.0 with code 01234567",
        "fflab-median: the API has 1.2.0 with code 01234567, this worker none",
        "fflab-median: the API has 1.2.0 with code 01234567, this worker none",
    ]


def test_a_run_that_is_made_without_its_plugin_is_begun_by_nobody(either_store: Store) -> None:
    stored = {"kind": "train", "negatives": {"strategy": "median"}, "network": {"init": "zero"}}
    spec = Submission.model_validate({"spec": stored}, context=STORED).spec
    assert plugins_of(spec) == "?inits.zero ?negatives.median"
    assert plugins_of(TrainSpec()) is None
    needing(either_store, plugins_of(spec))
    assert Queue(either_store.database, plugins=[NEEDED]).claim_next("w1", LEASE) is None
    said = why_plugins_lack([worker("gpu-3", plugin())], str(plugins_of(spec)).split())
    assert said is not None
    assert said.startswith("waits: the plug-in of inits.zero, negatives.median is not installed")


# A plug-in that is no longer installed

GONE = {
    "negatives": {"strategy": "median", "share": 0.3, "redraw": "every_epoch"},
    "objective": {"name": "hinge", "margin": 2, "goodness": "log_median"},
    "optimizer": {"name": "sharp", "lr": 0.5, "radius": 0.1},
}
PAGES = (
    "/",
    "/jobs/{job}",
    "/new?like={job}",
    "/compare?id={job}&id={job}",
    "/v1/jobs",
    pytest.param("/v1/jobs/{job}/charts", marks=pytest.mark.slow),
    "/v1/jobs?where=negatives.strategy%3Dmedian",
    *(
        f"/v1/jobs/{{job}}{part}"
        for part in (
            "",
            "/curves",
            "/curves.csv",
            "/curves.parquet",
            "/log",
            "/methods.txt",
            "/methods.tex",
            "/references.bib",
            "/result",
            "/result.csv",
            "/result.npz",
            "/result.tex",
        )
    ),
)


@pytest.fixture
def orphan(store: Store) -> str:
    """A finished job whose plug-in is no longer there."""
    job_id = submit(store, fresh=True).id
    finished(store, job_id, train_result())
    document = read(store, job_id).spec.model_dump(mode="json")
    network = document["network"] | {"activation": "cube", "init": "zero"}
    change(store, job_id, spec=document | GONE | {"network": network}, plugins=NEEDED)
    return job_id


@pytest.mark.parametrize("page", PAGES)
def test_a_result_is_readable_without_its_plugin(
    client: httpx.Client, orphan: str, page: str
) -> None:
    answer = client.get(page.format(job=orphan))
    assert answer.status_code == 200, answer.text[:300]


@pytest.fixture
def orphans(store: Store) -> tuple[str, str]:
    """A study that has ended, and one of its runs; its plug-in is no longer there."""
    study = submit(
        store,
        StudySpec.model_validate(
            {
                "base": {"kind": "train", "epochs": 1},
                "grid": {"negatives": [{"strategy": "noise"}, {"strategy": "mix"}], "seeds": [[0]]},
            }
        ),
        fresh=True,
    )
    first, second = (child.id for child, _ in store.jobs.children(study.id))
    for run in (first, second):
        finished(store, run, train_result())
    document = read(store, study.id).spec.model_dump(mode="json")
    document["base"] |= {"optimizer": GONE["optimizer"]}
    document["grid"]["negatives"] = [GONE["negatives"], {"strategy": "mix"}]
    change(store, study.id, spec=document)
    for run in (first, second):
        spec = read(store, run).spec.model_dump(mode="json")
        change(store, run, spec=spec | GONE, plugins=NEEDED)
    return study.id, first


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        "/jobs/{study}",
        "/jobs/{study}/runs",
        "/jobs/{run}",
        "/new?like={study}",
        "/v1/jobs/{study}",
        "/v1/jobs/{study}/result",
        "/v1/jobs/{study}/result.csv",
        "/v1/jobs/{study}/result.tex",
        "/v1/jobs/{study}/methods.txt",
        "/v1/jobs/{study}/references.bib",
        "/v1/jobs/{study}/curves.csv",
        "/v1/jobs?parent={study}",
    ],
)
def test_a_study_is_readable_without_its_plugin(
    client: httpx.Client, store: Store, orphans: tuple[str, str], page: str
) -> None:
    study, run = orphans
    while store.studies.advance(study):
        pass
    answer = client.get(page.format(study=study, run=run))
    assert answer.status_code == 200, answer.text[:300]


def test_the_page_says_that_the_plugin_is_gone(
    client: httpx.Client, store: Store, orphan: str
) -> None:
    provenance = train_result().provenance.model_copy(update={"plugins": (plugin(),)})
    change(store, orphan, provenance=provenance.model_dump(mode="json"))
    said = "fflab-median 1.2.0 (negatives.median), which is not installed here"
    assert said in client.get(f"/jobs/{orphan}").text
    methods = client.get(f"/v1/jobs/{orphan}/methods.txt").text
    assert "Of fflab-median 1.2.0 (code 01234567) are negatives.median." in methods


def test_its_spec_is_shown_and_refused_with_what_is_there(
    client: httpx.Client, orphan: str
) -> None:
    spec = client.get(f"/v1/jobs/{orphan}").json()["spec"]
    assert spec["negatives"] == GONE["negatives"]
    assert spec["optimizer"]["radius"] == 0.1
    assert "median" in client.get(f"/jobs/{orphan}").text
    refused = client.post("/v1/jobs", json={"spec": spec})
    assert refused.status_code == 422
    said = {error["pointer"]: error["message"] for error in refused.json()["errors"]}
    assert said["/spec/negatives/strategy"].startswith("'median' is not one of adversarial, ")
    assert json.dumps(said).count("is not one of") == 5
