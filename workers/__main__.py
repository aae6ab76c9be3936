"""`python -m workers --device auto|cpu|cuda:N --tags TAGS`: a Celery worker for one device.

With `--device all` it starts one for each GPU of the machine, see workers.fleet.
"""

import argparse
import gc
import logging
import math
import os
import re
import threading

if __name__ == "__main__":
    gc.disable()  # what is loaded stays: to look through it again and again takes time

from ffengine.plugins import log_plugins
from ffengine.uploaded_weights import WeightUploads
from service.artifacts import Artifacts
from service.background.broker_check import warn_if_unfit
from service.encoding.log_format import is_json, log_to_stderr
from service.host.start_failures import ServeError, one_line_failure
from service.host.stay import NoMoment, Stay, moment
from service.settings import Settings
from service.storage.place import unreachable
from service.store import Store, identity
from service.store.database import DATABASE_ERRORS, DatabaseDamaged, DatabaseRefused
from service.store.identity import NotOurs
from workers.app import NoBroker, configuration, create_app
from workers.db_retry import retry_while_unavailable
from workers.devices import ALL, NoDevice
from workers.fleet import find_devices, serve_devices

# whose messages say all
EXPECTED = (NoBroker, NoDevice, NotOurs, DatabaseDamaged, DatabaseRefused, ServeError)


def device(text: str) -> str:
    """Check the form of a device's name (auto, all, cpu or cuda:N).

    Whether there is such a device shows in the runner: this process must not initialise CUDA.
    """
    if not re.fullmatch(r"auto|all|cpu|cuda:\d{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, all, cpu or cuda:N")
    return text


def seconds(text: str) -> float:
    """Read a number of seconds that is not negative."""
    found = float(text)
    if not 0 <= found < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds")
    return found


def to_come(text: str) -> float:
    """Read a moment that is to come, in UNIX seconds."""
    try:
        return moment(text)
    except NoMoment as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def prepare(settings: Settings) -> None:
    """Migrate the database's schema.

    Raises NotOurs if the artifacts in the home may belong to another database, and DatabaseDamaged
    if the database cannot be read, and ServeError if the place of artifacts cannot be used.
    """
    store, artifacts = Store(settings.database), Artifacts(settings.artifact_place)
    try:
        refuse_damage(store)
        retry_while_unavailable(lambda: identity.prepare(store, artifacts), threading.Event())
        retry_while_unavailable(lambda: identity.settle(store, artifacts), threading.Event())
    except OSError as error:
        raise ServeError(unreachable(settings.artifact_place, error)) from error
    finally:
        store.close()  # a connection must not be shared with the forked child
    kept = settings.datasets
    for told in (*kept.recover(), *WeightUploads(kept).recover()):  # the first job may need one
        logging.warning("%s", told)


def refuse_damage(store: Store) -> None:
    """Raise DatabaseDamaged if the database cannot be read; one that is only away is waited for."""
    try:
        store.database.service_id()
    except DatabaseDamaged:
        raise
    except DATABASE_ERRORS:
        return


def without_device(arguments: list[str] | None) -> list[str]:
    """The arguments of this program but for the device, for the workers that it starts."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device")
    return parser.parse_known_args(arguments)[1]


def main(arguments: list[str] | None = None) -> None:
    """Prepare the database, then run the Celery worker until SIGTERM."""
    parser = argparse.ArgumentParser(prog="fflab worker")
    parser.add_argument("--device", type=device, default="auto")
    parser.add_argument("--tags", default=None, help="apart by commas, as a100,80g")
    parser.add_argument("--exit-when-idle", type=seconds, metavar="SECONDS")
    parser.add_argument("--until", type=to_come, metavar="TIME")
    given = parser.parse_args(arguments)
    log_to_stderr("worker", logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with one_line_failure("fflab worker", *EXPECTED):
        settings = Settings() if given.tags is None else Settings(worker_tags=given.tags)
        stay = Stay(given.exit_when_idle, given.until)
        if given.device == ALL:
            configuration(settings)  # what each worker would refuse is refused here, once
            prepare(settings)
            serve_devices(find_devices(), without_device(arguments), settings, stay)
            return
        app = create_app(settings, given.device, stay)
        prepare(settings)
    warn_if_unfit(settings.redis_url)
    log_plugins()
    name = f"fflab-{os.getpid()}@%h"
    gc.freeze()
    gc.enable()
    banner = ["--quiet"] if is_json() else []  # it is not JSON
    app.worker_main(
        [
            *banner,
            "worker",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            "--loglevel=INFO",
            f"--hostname={name}",
        ]
    )


if __name__ == "__main__":
    main()
