"""The log of a job as text: its changes of state, and what its workers noted."""

from collections.abc import Iterable, Iterator
from datetime import UTC

from service.encoding.escaping import for_terminal
from service.jobs import Event

LOGGED = ("state", "log")  # the types of events that are lines of the log
STATE_FACTS = ("attempt", "worker", "reason", "losses")


def log_lines(events: Iterable[Event]) -> Iterator[str]:
    """Yield TIME LEVEL MESSAGE for each change of state and each note of a worker."""
    for event in events:
        at = event.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if event.type == "log":
            level = event.data.get("level", "info")
            attempt = f"attempt {event.data['attempt']}: " if "attempt" in event.data else ""
            message = for_terminal(event.data["message"], keep="\n\t")
            yield f"{at} {level:7} {attempt}{message}\n"
        elif event.type == "state":
            error = event.data.get("error")
            level, why = ("error", _reason(error)) if error else ("info", "")
            facts = [f"{key} {event.data[key]}" for key in STATE_FACTS if event.data.get(key)]
            details = f" ({', '.join(facts)})" if facts else ""
            said = for_terminal(f"{event.data['state']}{details}{why}", keep="\n\t")
            yield f"{at} {level:7} {said}\n"


def _reason(error: dict[str, str]) -> str:
    return f": {error['title']}. {error['detail']}"
