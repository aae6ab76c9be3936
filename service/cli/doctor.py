"""`fflab doctor`: checks what is installed, reachable and writable, and says what to do.

It runs without the extras, too: a check that needs one imports it itself.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple

from ffengine.arrays import DatasetError
from ffengine.bundled import read_bundled
from ffengine.datasets import DATASETS, verified
from ffengine.plugins import REGISTRY
from ffengine.text import bytes_in_words
from ffengine.version import VERSION
from service.client import Client, FflabError, Unreachable
from service.encoding.escaping import for_log
from service.host.disk import lack_of_room
from service.host.private import is_open_to_others, make_private_folder
from service.host.start_failures import reason_of
from service.settings import Settings, unknown_variables
from service.storage.place import BucketPlace

LEAST_FREE_BYTES = 2**30
CLOCK_SECONDS = 60.0  # S3 refuses requests whose time is more than 15 minutes wrong
LONGEST_REASON = 300
EXTRAS = {
    "server": (
        "fastapi",
        "uvicorn",
        "sqlalchemy",
        "alembic",
        "celery",
        "redis",
        "altair",
        "vl_convert",
        "jinja2",
        "prometheus_client",
        "PIL",
        "psutil",
        "pyarrow",
        "safetensors",
    ),
    "worker": ("torch", "torchvision"),
}
PURPOSE = {"server": "the service", "worker": "workers, or specs here"}

# note: nothing is wrong, but something that one may want is not here
Outcome = Literal["ok", "note", "warn", "fail"]


# what needs action is said first
URGENCY: tuple[Outcome, ...] = ("fail", "warn", "note", "ok")


class Check(NamedTuple):
    """The outcome of one check: its subject, a verdict, what was found, and what to do."""

    what: str
    verdict: Outcome
    finding: str
    advice: str = ""


def run_checks(settings: Settings) -> Iterator[Check]:
    """Yield all checks, each group in the order in which one would mend what it finds."""
    installation: tuple[Callable[[Settings], Iterator[Check]], ...] = (
        _python,
        _subject,
        _variables,
        _extras,
        _torch,
        _plugins,
        _datasets,
    )
    for check in (*installation, _home, _redis, _database, _bucket, _artifacts, _keys, _service):
        yield from check(settings)


def _python(_settings: Settings) -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}, fflab {VERSION}")


def _subject(settings: Settings) -> Iterator[Check]:
    """Say which home and which service the other checks are about."""
    chosen = "FFLAB_URL" if settings.names_service else "FFLAB_URL is not set"
    found = f"the home {settings.root}, and the service at {settings.url} ({chosen})"
    yield Check("subject", "ok", found)


def _variables(_settings: Settings) -> Iterator[Check]:
    """Name variables that look like settings: whoever sets one believes that it is in force."""
    if names := unknown_variables():
        yield Check(
            "environment",
            "warn",
            f"not settings, and ignored: {', '.join(names)}",
            "the settings are in docs/reference/settings.md",
        )


def _extras(_settings: Settings) -> Iterator[Check]:
    """Check the extras. A machine that only submits needs neither."""
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if not installed(package)]
        if missing:
            advice = f"to run {PURPOSE[extra]}: pip install 'fflab[{extra}]'"
            verdict: Outcome = "note" if packages[0] in missing else "warn"
            yield Check(f"extra {extra}", verdict, f"{', '.join(missing)} not installed", advice)
        else:
            yield Check(f"extra {extra}", "ok", f"installed, to run {PURPOSE[extra]}")


def installed(package: str) -> bool:
    """Whether a package is installed; it is not imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False


def _torch(_settings: Settings) -> Iterator[Check]:
    if not installed("torch"):
        return
    code = (
        "import torch; print(torch.__version__, 'cuda: ' + torch.cuda.get_device_name(0) if "
        "torch.cuda.is_available() else 'cpu')"
    )
    command = [sys.executable, "-c", code]  # in a process of its own: importing torch takes seconds
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        reason = (found.stderr.strip().splitlines() or ["cannot be imported"])[-1]
        yield Check("torch", "fail", reason, "pip install --force-reinstall 'fflab[worker]'")
    else:
        yield Check("torch", "ok", found.stdout.strip())


def _plugins(_settings: Settings) -> Iterator[Check]:
    """Name the plug-ins of this installation, and what is wrong with their entries."""
    for plugin in REGISTRY.plugins:
        found = f"{plugin.version}: {', '.join(plugin.entries)}"
        yield Check(f"plug-in {plugin.package}", "ok", found)
    for fault in REGISTRY.faults:
        advice = f"mend it or uninstall it; `fflab plugin test {fault.package}` says more"
        yield Check(f"plug-in {fault.package}", "warn", fault.line, advice)


def _datasets(settings: Settings) -> Iterator[Check]:
    """Check the data sets of this machine. Those that are not here are no fault."""
    bundled, there, absent = [], [], []
    for name, facts in DATASETS.items():
        try:
            if facts.files is None:
                verified(facts, read_bundled(name))
                bundled.append(name)
            elif settings.datasets.folder_of(facts):
                there.append(name)
            else:
                absent.append(name)
        except (DatasetError, OSError) as error:
            yield Check(f"data {name}", "fail", str(error), "install fflab again")
    parts = (
        f"{', '.join(bundled)} come with fflab, digests verified" if bundled else "",
        f"below {settings.data_root}: {', '.join(there)}" if there else "",
        f"{len(absent)} others when they are wanted: fflab data list" if absent else "",
    )
    yield Check("data", "ok", "; ".join(filter(None, parts)))
    for name in settings.datasets.uploaded():
        try:
            settings.datasets.refuse_missing(name)
        except DatasetError as error:
            advice = "restore it from a backup, or remove the folder that is not wanted"
            yield Check(f"data {name}", "fail", str(error), advice)
    for folder in (settings.datasets.kept_in, settings.datasets.weights_kept_in):
        if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            advice = "let the service write there, or move away what stands in its place"
            yield Check("uploads", "fail", f"{folder} cannot be written", advice)


def _home(settings: Settings) -> Iterator[Check]:
    home = settings.root
    try:
        make_private_folder(home)
        probe = home / f".doctor-{os.getpid()}"
        probe.write_text("probe")
        probe.unlink()
    except OSError as error:
        yield Check(
            "home",
            "fail",
            f"{home}: {error.strerror}",
            "set FFLAB_HOME to a folder that you can write to",
        )
        return
    free = shutil.disk_usage(home).free
    if lack := lack_of_room(settings.artifact_disk, settings.disk_reserve):
        advice = "make room, or delete jobs: until then workers begin no job"
        yield Check("home", "fail", lack, advice)
        return
    if is_open_to_others(home):
        yield Check(
            "home",
            "warn",
            f"all users of this machine can use {home}, with results and secrets of webhooks",
            f"chmod o= {shlex.quote(str(home))}, or have only trusted users on the machine",
        )
    yield Check(
        "home",
        "ok" if free >= LEAST_FREE_BYTES else "warn",
        f"{home}, {bytes_in_words(free)} free",
        "" if free >= LEAST_FREE_BYTES else "make room",
    )


def _redis(settings: Settings) -> Iterator[Check]:
    if not _has_server():
        return
    from service.background.broker_check import find_problems, is_reachable
    from service.stack.redis_server import BrokerError, find_server, version_of

    if settings.redis_url:
        url = settings.redis_url.get_secret_value()
        if not is_reachable(url):
            yield Check(
                "redis",
                "fail",
                "FFLAB_REDIS_URL does not answer",
                "start it, or look at FFLAB_REDIS_URL",
            )
            return
        yield Check("redis", "ok", "FFLAB_REDIS_URL answers")
        for problem in find_problems(url):
            wrong, _, advice = problem.rpartition(": ")
            yield Check("redis", "warn", wrong, advice)
        return
    try:
        server = find_server()
    except BrokerError as error:
        yield Check("redis", "fail", str(error))
    else:
        yield Check("redis", "ok", f"{server}, version {'.'.join(map(str, version_of(server)))}")


def _database(settings: Settings) -> Iterator[Check]:
    if not _has_server():
        return
    from sqlalchemy.exc import SQLAlchemyError

    from service.store.database import Database, DatabaseDamaged, DatabaseRefused
    from service.store.faults import fault_of

    try:
        database = Database(settings.database)
        is_there, found = database.is_there, ""
        try:
            if is_there:
                checked = database.check()
                found = f", {checked}" if database.file else ""
                if database.service_id():  # of an older schema there is none to write to
                    database.ping()
        finally:
            database.close()
    except (DatabaseRefused, DatabaseDamaged) as error:
        wrong, _, advice = str(error).rpartition(": ")
        yield Check("database", "fail", wrong, advice)
    except (SQLAlchemyError, OSError, ModuleNotFoundError) as error:
        said = fault_of(error) or reason_of(error)
        advice = "look at FFLAB_DATABASE_URL, and at FFLAB_HOME for SQLite"
        yield Check("database", "fail", said[:160], advice)
    else:
        made = found if is_there else ", made at the first start"
        yield Check("database", "ok", database.address + made)


def _bucket(settings: Settings) -> Iterator[Check]:
    """Write an object to the bucket of artifacts, read it back and remove it; compare clocks."""
    place = settings.artifact_place
    if not isinstance(place, BucketPlace):
        return
    from service.artifacts import Artifacts

    try:
        ahead = Artifacts(place).clock_ahead()
    except OSError as error:
        said = for_log(str(error.strerror or error), LONGEST_REASON)
        advice = (
            "look at FFLAB_ARTIFACTS, AWS_ENDPOINT_URL, the credentials and what they allow (list "
            "the bucket; get, put and delete below the prefix), and at the clock of this machine"
        )
        yield Check("bucket", "fail", f"{place} cannot be used: {said}", advice)
        return
    if abs(ahead) > CLOCK_SECONDS:
        which = "behind" if ahead > 0 else "ahead of"
        found = f"the clock of this machine is {abs(ahead):,.0f} s {which} that of {place}"
        yield Check("bucket", "warn", found, "set the clock: requests are signed with the time")
        return
    found = f"{place}: an object was written, read and removed, and the clocks agree"
    yield Check("bucket", "ok", found)


def _artifacts(settings: Settings) -> Iterator[Check]:
    """Check that the artifacts in the home belong to the database."""
    if not _has_server():
        return
    from sqlalchemy.exc import SQLAlchemyError

    from service.artifacts import Artifacts
    from service.store import Store
    from service.store.database import DatabaseRefused
    from service.store.identity import refusal

    try:
        store = Store(settings.database)
        try:
            reason = refusal(store, Artifacts(settings.artifact_place))
        finally:
            store.close()
    except (SQLAlchemyError, DatabaseRefused, OSError, ModuleNotFoundError):
        return  # other checks report it
    if reason:
        wrong, _, advice = reason.rpartition(": ")
        yield Check("artifacts", "fail", wrong, advice)
    else:
        yield Check("artifacts", "ok", f"{settings.artifact_place} belongs to the database")


def _keys(settings: Settings) -> Iterator[Check]:
    """Check that the database still has the keys that were made once."""
    if not _has_server():
        return
    from sqlalchemy.exc import SQLAlchemyError

    from service.store import Store
    from service.store.database import DatabaseRefused
    from service.web.auth import LOST_KEYS, LOST_KEYS_ADVICE, had_keys

    if not had_keys(settings.root):
        return
    try:
        with Store(settings.database) as store:
            keys = store.database.is_there and store.api_keys.all()
    except (SQLAlchemyError, DatabaseRefused, OSError, ModuleNotFoundError):
        return  # other checks report it
    if not keys:
        yield Check("keys", "fail", f"{LOST_KEYS}: requests are refused", LOST_KEYS_ADVICE)


def _has_server() -> bool:
    return all(installed(package) for package in EXTRAS["server"])


def _service(settings: Settings) -> Iterator[Check]:
    key = settings.api_key.get_secret_value() if settings.api_key else None
    try:
        with Client(settings.url, key, attempts=1) as client:
            workers = client.get("/v1/workers")["items"]
            plugins = client.get("/v1/catalog").get("plugins", [])  # an older service has none
            items = client.get("/v1/datasets")["items"]
            uploads = [facts["name"] for facts in items if facts["uploaded"]]
    except Unreachable as error:
        wrong, _, advice = str(error).partition("; ")
        yield Check("service", "warn" if settings.names_service else "note", wrong, advice)
    except FflabError as error:  # the service answers, but refuses the key or has another version
        yield Check("service", "fail", str(error))
    else:
        with_uploads = f", with the uploads {', '.join(uploads)}" if uploads else ""
        yield Check("service", "ok", f"{settings.url} answers{with_uploads}")
        yield from _workers(workers)
        yield from _other_plugins(plugins, workers)


def _other_plugins(plugins: list[dict[str, Any]], workers: list[dict[str, Any]]) -> Iterator[Check]:
    """Name the workers whose plug-ins are not those of the API."""
    asked = {one["name"]: (one["version"], one["code_digest"]) for one in plugins}
    for worker in workers:
        there = {
            one["package"]: (one["version"], one["code_digest"])
            for one in worker.get("plugins", [])
        }
        for package in sorted({*asked, *there}):
            ours, theirs = asked.get(package), there.get(package)
            if ours != theirs:
                yield Check(
                    f"worker {worker['id']}",
                    "warn",
                    f"{package}: the API has {_state(ours)}, this worker {_state(theirs)}",
                    "install the same one for the API and its workers, and restart them",
                )


def _state(found: tuple[str, str | None] | None) -> str:
    return f"{found[0]} with code {(found[1] or 'none')[:8]}" if found else "none"


def _workers(workers: list[dict[str, Any]]) -> Iterator[Check]:
    """Check the live workers: whether one is there that can compute."""
    able = [worker for worker in workers if worker.get("can_compute", True)]
    for worker in workers:
        if worker not in able:
            advice = "repair PyTorch on its machine, and restart it: until then it begins no job"
            yield Check(f"worker {worker['id']}", "fail", str(worker["paused"]), advice)
        if differs := worker.get("differs"):  # an older service does not say it
            advice = "see `Upgrade several machines` in the documentation"
            yield Check(f"worker {worker['id']}", "note", str(differs), advice)
        if worker not in able:
            continue
        if worker.get("draining"):
            advice = f"let it take jobs again with `fflab worker undrain {worker['id']}`"
            yield Check(f"worker {worker['id']}", "note", str(worker["paused"]), advice)
        elif why := worker.get("paused"):
            advice = "make room, or delete jobs: until then it begins no job"
            yield Check(f"worker {worker['id']}", "warn", f"paused: {why}", advice)
    names = ", ".join(f"{worker['id']} ({worker['device']})" for worker in able)
    none = "none can compute" if workers else "none is alive"
    yield Check(
        "workers",
        "ok" if able else "warn",
        names or none,
        "" if able else "start one with `fflab worker`",
    )
