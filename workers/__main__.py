"""`python -m workers --device auto|cpu|cuda:N`: one Celery worker for one device."""

import argparse
import logging
import os
import re
import sys
import threading

from service.artifacts import Artifacts
from service.background.broker_check import warn_if_unfit
from service.settings import Settings
from service.store import Store, identity
from service.store.identity import NotOurs
from workers.app import NoBroker, create_app
from workers.db_retry import patiently

EXIT_REFUSED = 3


def device(text: str) -> str:
    """auto, cpu or cuda:N, checked in form only: this process must not touch CUDA."""
    if not re.fullmatch(r"auto|cpu|cuda:\d{1,3}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not auto, cpu or cuda:N")
    return text


def prepare(settings: Settings) -> None:
    """Bring the schema up to date.

    Raises NotOurs where the artifacts in the home are not known to be this database's.
    """
    store, artifacts = Store(settings.database), Artifacts(settings.artifacts)
    try:
        patiently(lambda: identity.prepare(store, artifacts), threading.Event())
        patiently(lambda: identity.settle(store, artifacts), threading.Event())
    finally:
        store.close()  # no connection may cross the fork


def main(arguments: list[str] | None = None) -> None:
    """Prepare the database, then work until SIGTERM."""
    parser = argparse.ArgumentParser(prog="fflab worker")
    parser.add_argument("--device", type=device, default="auto")
    given = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s worker %(process)d: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    settings = Settings()
    try:
        app = create_app(settings, given.device)
    except NoBroker as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_REFUSED)
    try:
        prepare(settings)
    except NotOurs as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_REFUSED)
    warn_if_unfit(settings.redis_url)
    name = f"fflab-{os.getpid()}@%h"
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
