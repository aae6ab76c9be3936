"""A PostgreSQL server of the tests' own, which may be stopped and started."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.needs import lacking

PATIENTLY = ("-w", "-t", "600")  # wait for the server, ten times as long as pg_ctl would


def need_postgres() -> None:
    """Skip the test where PostgreSQL cannot be started."""
    if reason := _missing():
        lacking("PostgreSQL", reason)


def _missing() -> str | None:
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed: pip install -e '.[postgres]'"
    if _program("initdb") is None:
        return "PostgreSQL's initdb and pg_ctl are not installed"
    if os.geteuid() == 0 and not _unprivileged():
        return "PostgreSQL refuses to run as root, and there is no user to run it as"
    return None


def _program(name: str) -> str | None:
    """A program of PostgreSQL, on PATH or where Debian hides it."""
    hidden = [
        str(path.parent) for path in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    ]
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *hidden]))


def _unprivileged() -> str | None:
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


class PostgresServer:
    """A server on a Unix socket only, with its data in a folder that lasts as long as it."""

    def __init__(self) -> None:
        self.folder = Path(
            tempfile.mkdtemp(prefix="fflab-pg-")
        )  # short: the path of a socket has 107 bytes at most
        self.url = f"postgresql+psycopg://fflab@/postgres?host={self.folder}"
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = _unprivileged() or ""
            shutil.chown(self.folder, user)
            self._as_user = ["runuser", "-u", user, "--"]

    def __enter__(self) -> "PostgresServer":
        self._run("initdb", "-U", "fflab", "-A", "trust", "-E", "UTF8", "--locale=C")
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def start(self) -> None:
        """Start, and wait until it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", *PATIENTLY, "-l", log, "-o", options, "start")

    def stop(self) -> None:
        """Stop as in a crash: every connection breaks."""
        self._run("pg_ctl", *PATIENTLY, "-m", "immediate", "stop")

    def _run(self, name: str, *arguments: str) -> None:
        command = [
            *self._as_user,
            _program(name) or name,
            "-D",
            str(self.folder / "data"),
            *arguments,
        ]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL)
