"""How fflab connects to PostgreSQL: its name, its patience, and the connections that it keeps."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier

import pytest
from sqlalchemy import make_url, text

from benchmarks.waiting import wait_until
from service.store.database import Database
from service.store.postgres import connection_arguments

NAME = text("SELECT current_setting('application_name')")


def test_what_the_url_says_holds() -> None:
    told = connection_arguments(
        make_url(
            "postgresql+psycopg://u@h/d?connect_timeout=9&options=-c%20statement_timeout%3D5"
            "&keepalives_idle=7"
        )
    )
    assert "fallback_application_name" in told
    assert not {"connect_timeout", "options", "keepalives_idle"} & set(told)


def test_another_driver_is_told_no_words_of_libpq() -> None:
    assert set(connection_arguments(make_url("postgresql+pg8000://u@h/d"))) == {"connect_timeout"}


@pytest.mark.slow
def test_the_server_knows_who_asks_and_for_how_long(postgres_url: str) -> None:
    code = (
        "import sys; from sqlalchemy import text; from service.store.database import Database\n"
        "with Database(sys.argv[1]).engine.connect() as connection:\n"
        "    for name in ('application_name', 'statement_timeout',\n"
        "                 'idle_in_transaction_session_timeout'):\n"
        "        print(connection.scalar(text(f'SHOW {name}')))\n"
    )
    command = [sys.executable, "-c", code, postgres_url]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split("\n") == ["fflab", "15min", "1min", ""]
    named = make_url(postgres_url).update_query_dict({"application_name": "mine"})
    with (
        closing(Database(named.render_as_string(hide_password=False))) as database,
        database.engine.connect() as connection,
    ):
        assert connection.scalar(NAME) == "mine"


@pytest.mark.slow
def test_more_connections_are_opened_where_they_are_needed_and_not_kept(postgres_url: str) -> None:
    at_once = Barrier(4)

    def ask(_number: int) -> int:
        with database.engine.connect() as connection:
            connection.execute(NAME)
            at_once.wait(timeout=60)
            return 1

    def count() -> int:
        with database.engine.connect() as connection:
            mine = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
            return int(connection.scalar(mine) or 0)

    with closing(Database(postgres_url, kept_connections=1)) as database:
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(ask, range(4))) == 4
        wait_until(lambda: count() == 1, "the server has closed the others", seen=count)
