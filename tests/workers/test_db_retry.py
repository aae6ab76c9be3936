"""Waiting for a database that is away."""

import sqlite3
import threading
from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from service.store import Store
from workers import db_retry
from workers.db_retry import DatabaseStillAway, retry_while_unavailable


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def action() -> str:
        if left:
            raise left.pop()
        return "done"

    return action


AWAY = OperationalError("SELECT 1", {}, sqlite3.OperationalError("unable to open database file"))


def test_an_action_is_tried_until_the_database_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(db_retry, "RETRY_SECONDS", 0.001)
    assert retry_while_unavailable(failing(3, AWAY), threading.Event()) == "done"
    [away, back] = caplog.messages
    assert away.startswith("the database is away: (sqlite3.OperationalError) unable to open")
    assert back == "the database is back, after 0 s"


def test_who_must_stop_gives_up() -> None:
    stop = threading.Event()
    stop.set()
    assert retry_while_unavailable(failing(0, AWAY), stop) == "done"
    with pytest.raises(DatabaseStillAway):
        retry_while_unavailable(failing(1, AWAY), stop)


def test_a_statement_that_is_wrong_is_not_waited_for(store: Store) -> None:
    def wrong() -> None:
        with store.database.engine.connect() as connection:
            connection.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(OperationalError):
        retry_while_unavailable(wrong, threading.Event())
