"""`python -m workers.health`: exit code 0 if a worker of this host has sent a heartbeat lately.

It is meant for health checks of containers.
"""

import platform
import sys

from service.settings import Settings
from service.store import Store

SILENT_SECONDS = 15.0


def main() -> None:
    """Look for a recent heartbeat in the database."""
    store = Store(Settings().database)
    try:
        alive = any(seen.host == platform.node() for seen in store.workers.alive(SILENT_SECONDS))
    finally:
        store.close()
    sys.exit(0 if alive else 1)


if __name__ == "__main__":
    main()
