"""`python -m workers --device auto|cpu|cuda:N`: one Celery worker for one device."""

import argparse
import gc
import logging
import os
import re
import threading

if __name__ == "__main__":
    gc.disable()  # what is loaded stays: to look through it again and again takes time

from ffengine.plugins import log_plugins
from service.artifacts import Artifacts
from service.background.broker_check import warn_if_unfit
from service.encoding.log_format import log_to_stderr
from service.host.start_failures import one_line_failure
from service.settings import Settings
from service.store import Store, identity
from service.store.database import DATABASE_ERRORS, DatabaseDamaged, DatabaseRefused
from service.store.identity import NotOurs
from workers.app import NoBroker, create_app
from workers.db_retry import retry_while_unavailable


def device(text: str) -> str:
    """Check the form of a device's name (auto, cpu or cuda:N).

    Whether there is such a device shows in the runner: this process must not initialise CUDA.
    """
    if not re.fullmatch(r"auto|cpu|cuda:\d{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu or cuda:N")
    return text


def prepare(settings: Settings) -> None:
    """Migrate the database's schema.

    Raises NotOurs if the artifacts in the home may belong to another database, and DatabaseDamaged
    if the database cannot be read.
    """
    store, artifacts = Store(settings.database), Artifacts(settings.artifacts)
    try:
        refuse_damage(store)
        retry_while_unavailable(lambda: identity.prepare(store, artifacts), threading.Event())
        retry_while_unavailable(lambda: identity.settle(store, artifacts), threading.Event())
    finally:
        store.close()  # a connection must not be shared with the forked child
    for told in settings.datasets.recover():  # the first job may need one of them
        logging.warning("%s", told)


def refuse_damage(store: Store) -> None:
    """Raise DatabaseDamaged if the database cannot be read; one that is only away is waited for."""
    try:
        store.database.service_id()
    except DatabaseDamaged:
        raise
    except DATABASE_ERRORS:
        return


def main(arguments: list[str] | None = None) -> None:
    """Prepare the database, then run the Celery worker until SIGTERM."""
    parser = argparse.ArgumentParser(prog="fflab worker")
    parser.add_argument("--device", type=device, default="auto")
    given = parser.parse_args(arguments)
    log_to_stderr("%(asctime)s %(levelname)s worker %(process)d: %(message)s", logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with one_line_failure("fflab worker", NoBroker, NotOurs, DatabaseDamaged, DatabaseRefused):
        settings = Settings()
        app = create_app(settings, given.device)
        prepare(settings)
    warn_if_unfit(settings.redis_url)
    log_plugins()
    name = f"fflab-{os.getpid()}@%h"
    gc.freeze()
    gc.enable()
    app.worker_main(
        [
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
