"""A mixed load on a service that is being hurt.

Its clients submit jobs, change their minds, follow events, and keep a record of the answers.
"""

import contextlib
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

DATA = {"name": "mnist-mini", "train_samples": 2000, "test_samples": 100}
SMALL = {"kind": "train", "dataset": DATA, "monitor": {"samples": 200}}
SPECS: dict[str, dict[str, Any]] = {
    "many epochs": {**SMALL, "network": {"widths": [100]}, "epochs": 20, "batch_size": 50},
    "long epochs": {
        **SMALL,
        "network": {"widths": [100, 50]},
        "epochs": 2,
        "batch_size": 4,
        "optimizer": {"lr": 0.001},
    },
    "two seeds": {
        **SMALL,
        "network": {"widths": [60]},
        "epochs": 6,
        "batch_size": 20,
        "optimizer": {"name": "adam", "lr": 0.01},
        "seeds": [0, 1],
    },
    "theorem 1": {
        "kind": "check",
        "theorem": 1,
        "dataset": DATA,
        "widths": [32, 64, 128],
        "samples": 500,
        "seeds": [0, 1],
    },
    "theorem 2": {
        "kind": "check",
        "theorem": 2,
        "dataset": DATA,
        "widths": [32, 64],
        "samples": 500,
        "seeds": [0],
    },
    "study": {
        "kind": "study",
        "base": {**SMALL, "network": {"widths": [50]}, "batch_size": 50},
        "grid": {"epochs": [2, 4], "seeds": [[0], [1]]},
    },
}
PATIENCE_SECONDS = 120.0  # of a client that tries again
MOST_WAITING = 12  # jobs beyond which the clients rest
DONE = ("succeeded", "failed", "cancelled")


class Away(Exception):
    """The service did not answer for as long as a client has patience."""


class Client:
    """One client: every request is tried again until it is answered, submits with the same
    Idempotency-Key.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=20.0, trust_env=False)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer, once there is one that is not 503 or 409 for a request that is still in
        flight.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                answer = self._http.request(method, path, **options)
                in_flight = (
                    answer.status_code == 409 and answer.json().get("code") == "still-in-flight"
                )
                if answer.status_code not in (429, 503) and not in_flight:
                    return answer
            time.sleep(0.2)
        raise Away(f"{method} {path}")

    def follow(self, job_id: str, stop: threading.Event) -> list[str]:
        """The data of all events of a job in the order of their arrival, over as many broken
        streams as it takes.
        """
        seen: list[str] = []
        while not stop.is_set():
            headers = {"Last-Event-ID": str(len(seen))}
            with (
                contextlib.suppress(httpx.TransportError),
                self._http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response,
            ):
                for line in response.iter_lines() if response.status_code == 200 else ():
                    if line.startswith("data: "):
                        seen.append(line.removeprefix("data: "))
                    if stop.is_set():
                        return seen
            if seen and json.loads(seen[-1])["type"] == "end":
                return seen
            stop.wait(0.2)
        return seen

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class Load:
    """Clients at work.

    `accepted`: each acknowledged job by its id, with the name of its spec; `streams`: what was
    heard of some.
    """

    def __init__(self, url: str, seed: int) -> None:
        self.url, self.seed = url, seed
        self.accepted: dict[str, str] = {}
        self.streams: dict[str, list[str]] = {}
        self.faults: list[str] = []
        self.requests = 0
        self._lock = threading.Lock()
        self._stop, self._hang_up = threading.Event(), threading.Event()
        works = [lambda number=number: self._submit(number) for number in range(2)]
        self._threads = [
            threading.Thread(target=self._persist, args=(work,)) for work in (*works, self._meddle)
        ]
        self._followers: list[threading.Thread] = []

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Submit and change nothing more; the streams go on."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def hang_up(self) -> None:
        """End the streams that have not ended by themselves."""
        self._hang_up.set()
        for thread in self._followers:
            thread.join()

    def _persist(self, work: Callable[[], None]) -> None:
        """Do some work again and again; that the service was away for too long is a fault."""
        while not self._stop.is_set():
            try:
                work()
            except Away as away:
                self.faults.append(f"no answer within {PATIENCE_SECONDS:.0f} s: {away}")

    def _submit(self, number: int) -> None:
        chance, client = random.Random(f"{self.seed}/{number}/{self.requests}"), Client(self.url)  # noqa: S311 - no secret
        while not self._stop.wait(chance.uniform(0.05, 0.6)):
            if (
                len(
                    client.ask(
                        "GET", "/v1/jobs", params={"state": "queued", "limit": MOST_WAITING}
                    ).json()["items"]
                )
                >= MOST_WAITING
            ):
                continue
            name = chance.choice(list(SPECS))
            body = {
                "spec": SPECS[name],
                "name": name,
                "fresh": chance.random() < 0.8,
                "priority": chance.choice(["low", "normal", "high"]),
            }
            key = {"Idempotency-Key": uuid.UUID(int=chance.getrandbits(128)).hex}
            answer = client.ask("POST", "/v1/jobs", json=body, headers=key)
            if answer.status_code not in (200, 202):
                self.faults.append(
                    f"a submit was answered {answer.status_code}: {answer.text[:200]}"
                )
                continue
            with self._lock:
                self.accepted[answer.json()["id"]] = name
                self.requests += 1
            if chance.random() < 0.2:
                again = client.ask("POST", "/v1/jobs", json=body, headers=key)
                if again.json().get("id") != answer.json()["id"]:
                    self.faults.append(f"one Idempotency-Key made two jobs: {again.text[:200]}")
            if chance.random() < 0.3:
                self._follow(answer.json()["id"])
        client.close()

    def _follow(self, job_id: str) -> None:
        def run() -> None:
            client = Client(self.url)
            self.streams[job_id] = client.follow(job_id, self._hang_up)
            client.close()

        thread = threading.Thread(target=run)
        thread.start()
        self._followers.append(thread)

    def _meddle(self) -> None:
        """Pause, resume, cancel and change at random; whatever is refused is refused."""
        chance, client = random.Random(f"{self.seed}/meddle"), Client(self.url)  # noqa: S311 - no secret
        while not self._stop.wait(chance.uniform(0.2, 1.0)):
            with self._lock:
                some = list(self.accepted)[-8:]
            if not some:
                continue
            job_id, action = (
                chance.choice(some),
                chance.choice(["pause", "resume", "resume", "cancel", "retry", "change"]),
            )
            if action == "cancel" and chance.random() < 0.5:
                continue
            if action == "change":
                client.ask(
                    "PATCH", f"/v1/jobs/{job_id}", json={"priority": chance.choice(["low", "high"])}
                )
            else:
                client.ask("POST", f"/v1/jobs/{job_id}/{action}")
        client.close()
