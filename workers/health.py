"""`python -m workers.health`: exit code 0 where the worker of this host has shown a sign of life;
for container health checks.
"""

import platform
import sys

from service.settings import Settings
from service.store import Store

SILENT_SECONDS = 15.0


def main() -> None:
    """Look into the workers table."""
    store = Store(Settings().database)
    try:
        alive = any(seen.host == platform.node() for seen in store.workers.alive(SILENT_SECONDS))
    finally:
        store.close()
    sys.exit(0 if alive else 1)


if __name__ == "__main__":
    main()
