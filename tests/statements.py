"""What is sent to a database: the statements, and the round trips that they take."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import event

from service.store import Store


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Collect the statements that a store executes, in order, those that begin and end included.

    Each is a round trip: what is sent at once to many rows is there once. SQLite's BEGIN is not a
    statement of SQLAlchemy's, and neither is PostgreSQL's, which goes with the first statement.
    """
    found: list[str] = []
    engine = store.database.engine

    def executed(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        found.append(statement)

    def ended(_connection: object) -> None:
        found.append("COMMIT")

    event.listen(engine, "before_cursor_execute", executed)
    event.listen(engine, "commit", ended)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", executed)
        event.remove(engine, "commit", ended)


@contextmanager
def plans(store: Store) -> Iterator[list[str]]:
    """Collect how the database reads what is asked of it; at the end, one plan for each query."""
    asked: list[tuple[str, object]] = []
    found: list[str] = []
    engine = store.database.engine

    def executed(
        _connection: object, _cursor: object, statement: str, parameters: object, *_others: object
    ) -> None:
        asked.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", executed)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", executed)
    explain = "EXPLAIN QUERY PLAN" if store.database.is_sqlite else "EXPLAIN"
    with engine.connect() as connection:
        for statement, parameters in asked:
            if statement.lstrip().startswith(("SELECT", "WITH")):
                rows = connection.exec_driver_sql(f"{explain} {statement}", parameters)
                found.append("\n".join(str(row[-1]) for row in rows))
