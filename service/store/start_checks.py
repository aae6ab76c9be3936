"""What is looked at before the API starts: whether the database and the artifacts can be used."""

import logging

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from service.artifacts import Artifacts
from service.host.disk import free_bytes
from service.host.start_failures import ServeError, reason_of
from service.settings import Settings
from service.storage.place import BucketPlace, unreachable
from service.store import Store
from service.store.database import Database, DatabaseDamaged, DatabaseRefused
from service.store.identity import NotOurs, prepare, settle

LEAST_BYTES = 2**20  # with less free on its disk, a database cannot be opened

log = logging.getLogger(__name__)


def refuse_others_state(settings: Settings) -> None:
    """Raise ServeError if the database cannot be used, or the artifacts belong to another one."""
    try:
        store = Store(settings.database)
        try:
            artifacts = Artifacts(settings.artifact_place)
            prepare(store, artifacts)
            settle(store, artifacts)
        finally:
            store.close()
    except (NotOurs, DatabaseRefused, DatabaseDamaged) as error:
        raise ServeError(str(error)) from error
    except (SQLAlchemyError, CommandError, ModuleNotFoundError) as error:
        if free_bytes(settings.root) < LEAST_BYTES:
            raise ServeError(
                f"the home {settings.root} cannot be used: its disk is full ({reason_of(error)}); "
                f"make room, or choose another with FFLAB_HOME"
            ) from error
        raise ServeError(
            f"the database cannot be used: {reason_of(error)}; look at FFLAB_DATABASE_URL, and at "
            f"FFLAB_HOME for SQLite"
        ) from error
    except OSError as error:
        if isinstance(settings.artifact_place, BucketPlace):
            raise ServeError(unreachable(settings.artifact_place, error)) from error
        raise ServeError(
            f"the home {settings.root} cannot be used: {error}; choose another with FFLAB_HOME"
        ) from error


def refuse_damage(settings: Settings) -> None:
    """Raise ServeError if the file of SQLite is damaged, as far as that shows within seconds."""
    database = Database(settings.database)
    try:
        log.info("the database %s: %s", database.address, database.check())
    except DatabaseDamaged as error:
        raise ServeError(str(error)) from error
    finally:
        database.close()
