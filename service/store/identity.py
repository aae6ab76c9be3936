"""Checks that a database and a folder of artifacts belong together, by one id in both.

This is checked before anything is served, claimed or deleted.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import make_url

from service.artifacts import Artifacts
from service.store import Store

SQLITE_HEAD = b"SQLite format 3\0"

log = logging.getLogger(__name__)


class NotOurs(Exception):
    """Database and artifacts do not belong together; the message says why and what to do."""


def prepare(store: Store, artifacts: Artifacts) -> None:
    """Bring the schema up to date.

    Raises NotOurs, and makes no new database file, where the folder holds artifacts of another, or
    where an earlier version kept the database elsewhere.
    """
    if not store.database.is_there and (reason := refusal(store, artifacts)):
        raise NotOurs(reason)
    store.migrate()


def settle(store: Store, artifacts: Artifacts) -> None:
    """Make sure that the database and the folder of artifacts belong together.

    Raises NotOurs where that is not certain.

    A folder without an id gets the database's id where it holds no artifacts, or where the
    database knows the job of some of them: it was kept by a version that gave no ids. A folder
    with another id is refused even where it holds no artifacts, because the service that it
    belongs to may be running, and all that it writes from then on would count as another's.
    """
    if reason := refusal(store, artifacts):
        raise NotOurs(reason)
    if artifacts.label() is None:
        adopted = artifacts.owners()
        artifacts.put_label(_id_of(store))
        level = logging.WARNING if adopted else logging.INFO
        log.log(
            level,
            "the artifacts of %d jobs in %s belong to %s from now on",
            len(adopted),
            artifacts.place,
            store.database.address,
        )
        if reason := refusal(store, artifacts):  # another database was a moment faster
            raise NotOurs(reason)


def refusal(store: Store, artifacts: Artifacts) -> str | None:
    """Why database and artifacts cannot be used together, in one line; None where they can.

    Changes nothing.
    """
    if store.database.is_replaced:
        return (
            f"the database file of {store.database.address} was deleted or replaced while it was "
            f"in use, so nothing in {artifacts.place} is "
            "touched: stop all that use it, put the right file in its place, and start again"
        )
    label = artifacts.label()
    if not store.database.is_there and (file := store.database.file):
        stray = earlier_place(file)
        if stray and _is_of(stray, label):
            return (
                f"there is no database in this home, but one of an earlier version at {stray}: "
                f"move it, and {stray.name}-wal and {stray.name}-shm beside it where they are, to "
                f"{file}"
            )
    if label is None:
        owners = artifacts.owners()
        if not owners or store.jobs.knows_some(owners):
            return None
        wrong = (
            f"{store.database.address} knows none of the {len(owners)} jobs whose artifacts "
            f"are in {artifacts.place}"
        )
    elif label == (ours := store.database.service_id()):
        return None
    else:
        ids = f"{label or 'none'} there, {ours or 'none'} in the database"
        wrong = (
            f"the artifacts in {artifacts.place} are not those of the database "
            f"{store.database.address} (service ids: {ids})"
        )
    other = (
        f"FFLAB_HOME to another folder, or move the folder {artifacts.place} away"
        if artifacts.disk
        else "FFLAB_ARTIFACTS to another bucket or prefix"
    )
    return (
        f"{wrong}: put the database of these artifacts back, from a backup where it was lost, or "
        f"set FFLAB_DATABASE_URL to it; or set {other}"
    )


def earlier_place(file: Path) -> Path | None:
    """Where earlier versions kept a database whose path holds characters of URLs.

    They pasted the path into a URL, which was decoded (`%41` is A) and cut off at a `?`. None where
    that is no database, or where it is the same file.
    """
    decoded = make_url(f"sqlite:///{file}").database
    if decoded is None or Path(decoded) == file:
        return None
    place = Path(decoded)
    try:
        with place.open("rb") as opened:
            return place if opened.read(len(SQLITE_HEAD)) == SQLITE_HEAD else None
    except (OSError, ValueError):  # ValueError: a NUL character
        return None


def _is_of(stray: Path, label: str | None) -> bool:
    """Whether a database belongs to artifacts with that label, or to none that are beside it."""
    if label is None:
        return not (stray.parent / "artifacts").exists()
    try:
        with closing(sqlite3.connect(f"{stray.absolute().as_uri()}?mode=ro", uri=True)) as opened:
            return bool(opened.execute("SELECT id FROM service").fetchone() == (label,))
    except sqlite3.Error:
        return False


def _id_of(store: Store) -> str:
    found = store.database.service_id()
    if found is None:
        raise NotOurs(
            f"the database {store.database.address} has no service id, so nothing can belong to "
            f"it: restore it from a backup"
        )
    return found
