"""The metrics of one app for Prometheus, in a registry of its own.

Gauges are read from the database and from this process at each scrape. Histograms count from the
start of this process; those of jobs are brought up to date at each scrape.
"""

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ffengine.version import NUMERICS_VERSION, VERSION
from service.store import DEAD_WORKER_SECONDS, Store
from service.store.job_times import Fault, JobTimes

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
JOB_BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0, 86_400.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
API_PREFIX = "/v1"
NO_ROUTE = "none"
UNKNOWN_HOST = "unknown"
OVERLAP_SECONDS = 60.0  # an event may be committed so long after one with a larger number


class Metrics:
    """The metrics of one app."""

    def __init__(
        self,
        store: Store,
        *,
        broker_up: Callable[[], bool],
        event_clients: Callable[[], int],
        disk: Callable[[], tuple[int, int]],
        disk_usage: Callable[[], Mapping[str, int]],
    ) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "fflab_http_request_seconds",
            "Time from a request to the head of its answer.",
            ("route", "method", "status"),
            buckets=REQUEST_BUCKETS,
            registry=self._registry,
        )
        self._jobs = JobMetrics(store.times, self._registry)
        self._registry.register(ServiceGauges(store, broker_up, event_clients, disk, disk_usage))
        ProcessCollector(registry=self._registry)

    def start(self) -> None:
        """Start to count jobs."""
        self._jobs.start()

    def observe_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request.

        **Arguments:**

        - `route`: the route's template; never a path, so that the number of series is bounded.
        - `method`, `status`: of the request and of its answer.
        - `seconds`: from the request to the head of the answer.
        """
        known = method if method in METHODS else "other"
        self._requests.labels(route, known, f"{status // 100}xx").observe(seconds)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format. Raises what the database raises."""
        self._jobs.update()
        return generate_latest(self._registry)


def counter(registry: CollectorRegistry, name: str, meaning: str, *labels: str) -> Counter:
    """Return a counter of a registry, whose name ends in `_total`."""
    return Counter(name, meaning, labels, registry=registry)


class JobMetrics:
    """Waits, run times and faults of the jobs that start or end in the life of this process."""

    def __init__(self, times: JobTimes, registry: CollectorRegistry) -> None:
        self._times = times
        self._waits = Histogram(
            "fflab_job_wait_seconds",
            "Time from a job's submission to its first start.",
            ("kind",),
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self._runs = Histogram(
            "fflab_job_run_seconds",
            "Time that jobs which have ended had run, all attempts together.",
            ("kind", "state"),
            buckets=JOB_BUCKETS,
            registry=registry,
        )
        self._failures = counter(
            registry, "fflab_job_failures", "Jobs that failed.", "kind", "code", "host"
        )
        attempts = "Attempts that ended without a result, as "
        self._faults = {
            "lost": counter(
                registry,
                "fflab_attempts_lost",
                f"{attempts}their worker died or did not answer.",
                "kind",
                "host",
            ),
            "returned": counter(
                registry,
                "fflab_attempts_returned",
                f"{attempts}their machine was not fit.",
                "kind",
                "host",
            ),
        }
        self._resumed = counter(
            registry, "fflab_attempts_resumed", "Attempts after a job's first.", "kind"
        )
        self._lock = threading.Lock()
        self._looks: list[tuple[float, int]] = []  # when, and the newest event at that time
        self._counted: set[int] = set()  # the events after the first look that were counted

    def start(self) -> None:
        """Count what starts or ends from now on."""
        self._looks = [(time.monotonic(), self._times.newest())]

    def update(self) -> None:
        """Count what has started or ended since the last update.

        Each look goes back to the newest one that is old enough, since events are not committed in
        the order of their numbers.
        """
        with self._lock:
            found = self._times.after(self._looks[0][1])
            for job in found.started:
                if job.event not in self._counted:
                    self._waits.labels(job.kind).observe(job.waited_seconds)
            for run in found.ended:
                if run.event not in self._counted:
                    self._runs.labels(run.kind, run.state.value).observe(run.ran_seconds)
            for fault in found.faults:
                if fault.event not in self._counted:
                    self._count(fault)
            for some in (found.started, found.ended, found.faults):
                self._counted |= {one.event for one in some}
            self._remember(found.newest)

    def _count(self, fault: Fault) -> None:
        host = fault.host or UNKNOWN_HOST
        if fault.what == "failed":
            self._failures.labels(fault.kind, fault.code, host).inc()
        elif fault.what == "resumed":
            self._resumed.labels(fault.kind).inc()
        else:
            self._faults[fault.what].labels(fault.kind, host).inc()

    def _remember(self, newest: int) -> None:
        now = time.monotonic()
        self._looks.append((now, newest))
        while len(self._looks) > 1 and self._looks[1][0] <= now - OVERLAP_SECONDS:
            self._looks.pop(0)
        self._counted = {event for event in self._counted if event > self._looks[0][1]}


class ServiceGauges(Collector):
    """The present state of queue, workers, broker and clients."""

    def __init__(
        self,
        store: Store,
        broker_up: Callable[[], bool],
        event_clients: Callable[[], int],
        disk: Callable[[], tuple[int, int]],
        disk_usage: Callable[[], Mapping[str, int]],
    ) -> None:
        self._store, self._broker_up, self._event_clients = store, broker_up, event_clients
        self._disk, self._disk_usage = disk, disk_usage

    def describe(self) -> list[Metric]:
        """Return nothing: a registration must not read the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Read the gauges. Raises what the database raises."""
        built = GaugeMetricFamily(
            "fflab_build_info", "The versions of this process: 1.", labels=("version", "numerics")
        )
        built.add_metric((VERSION, NUMERICS_VERSION), 1)
        yield built
        jobs = GaugeMetricFamily(
            "fflab_jobs", "Jobs by state, studies left out.", labels=("state",)
        )
        for state, count in self._store.jobs.counts().items():
            jobs.add_metric((state,), count)
        yield jobs
        waited = self._store.queue.longest_wait_seconds() or 0.0
        workers = self._store.workers.alive(DEAD_WORKER_SECONDS)
        busy = sum(worker.job is not None for worker in workers)
        paused = sum(worker.paused is not None and not worker.draining for worker in workers)
        draining = sum(worker.draining for worker in workers)
        unfit = sum(worker.can_compute is False for worker in workers)
        free, reserve = self._disk()
        for name, meaning, value in (
            ("fflab_disk_free_bytes", "Free on the disk of the artifacts.", free),
            (
                "fflab_disk_reserve_bytes",
                "While less is free, workers begin no job and uploads are refused.",
                reserve,
            ),
            (
                "fflab_longest_wait_seconds",
                "Time that the job that waits longest has been queued.",
                waited,
            ),
            ("fflab_workers", "Live workers.", len(workers)),
            ("fflab_busy_workers", "Live workers that run a job.", busy),
            (
                "fflab_paused_workers",
                "Live workers that begin no job, as where the disk has no room.",
                paused,
            ),
            (
                "fflab_draining_workers",
                "Live workers that finish the job that they have, and begin no other.",
                draining,
            ),
            (
                "fflab_unfit_workers",
                "Live workers that begin no job, as their machine is not fit to compute.",
                unfit,
            ),
            ("fflab_broker_up", "1 where the broker answered last.", int(self._broker_up())),
            (
                "fflab_event_clients",
                "Clients that wait for events or for the end of a job at this process.",
                self._event_clients(),
            ),
        ):
            yield GaugeMetricFamily(name, meaning, value=value)
        by_device = GaugeMetricFamily(
            "fflab_device_workers", "Live workers by kind of device.", labels=("device",)
        )
        kinds = Tally(worker.device.partition(":")[0] for worker in workers)
        for kind, count in sorted(kinds.items()):
            by_device.add_metric((kind,), count)
        yield by_device
        for part, size in self._disk_usage().items():
            meaning = f"What the {part} of the service took up when it was last measured."
            yield GaugeMetricFamily(f"fflab_{part}_bytes", meaning, value=size)


def route_template(scope: Scope) -> str:
    """Return the template of the route that took a request, as /v1/jobs/{job_id}, or "none".

    A route of an included router knows its path without the prefix.
    """
    route = scope.get("route")
    if not isinstance(route, Route):
        return NO_ROUTE
    is_whole = route.path_regex.match(scope["path"]) is not None
    return route.path if is_whole else API_PREFIX + route.path


class MetricsMiddleware:
    """Measures each request up to the head of its answer, so that streams are not held."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and measure when its answer begins."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics: Metrics = scope["app"].state.resources.metrics
                seconds = time.perf_counter() - began
                metrics.observe_request(
                    route_template(scope), scope["method"], message["status"], seconds
                )
            await send(message)

        await self.app(scope, receive, measured)
