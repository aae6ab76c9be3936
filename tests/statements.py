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
