"""The embedded Redis: found, configured, private, and able to start whatever lies in its folder."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from service.background import broker_check
from service.background.broker_check import find_problems, is_reachable, probe_client
from service.cli.doctor import Check, _redis
from service.settings import Settings
from service.stack import redis_server
from service.stack.redis_server import (
    BrokerError,
    EmbeddedRedis,
    bundled_server,
    find_server,
    version_of,
)


@pytest.fixture(params=["found", "bundled"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> EmbeddedRedis:
    if request.param == "bundled":
        monkeypatch.setattr(redis_server, "SERVERS", ())
    made = EmbeddedRedis(tmp_path / "redis with a blank")
    made.prepare()
    return made


@contextmanager
def running(server: EmbeddedRedis) -> Iterator[None]:
    process = subprocess.Popen(server.command, cwd=server.folder, stdout=subprocess.DEVNULL)
    try:
        wait_until(
            lambda: is_reachable(server.url) or process.poll() is not None, "the server answers"
        )
        assert process.poll() is None, "the server ended"
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def test_it_serves_with_its_password_alone_and_evicts_nothing(server: EmbeddedRedis) -> None:
    with running(server):
        assert find_problems(server.url) == []
        with (
            probe_client(f"redis://127.0.0.1:{server.port}/0") as not_fflab,
            pytest.raises(redis.AuthenticationError),
        ):
            not_fflab.ping()
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.config_get("appendonly", "bind") == {
                "appendonly": "yes",
                "bind": "127.0.0.1",
            }
            client.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in find_problems(server.url)[0]
    assert not is_reachable(server.url)
    assert "does not answer" in find_problems(server.url)[0]


@pytest.fixture
def evicting(server: EmbeddedRedis) -> Iterator[str]:
    """The URL of a running server that drops what it holds when memory is short."""
    with running(server):
        with probe_client(server.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        yield server.url


EVICTS = (
    "Redis drops messages when memory is short (maxmemory-policy allkeys-lru), and jobs start "
    "late: set noeviction"
)


def test_the_doctor_warns_of_a_broker_that_drops_messages(evicting: str, tmp_path: Path) -> None:
    found = list(_redis(Settings(home=tmp_path, redis_url=SecretStr(evicting))))
    wrong, _, advice = EVICTS.rpartition(": ")
    assert found == [
        Check("redis", "ok", "FFLAB_REDIS_URL answers"),
        Check("redis", "warn", wrong, advice),
    ]
    away = list(_redis(Settings(home=tmp_path, redis_url=SecretStr("redis://127.0.0.1:1/0"))))
    assert [(check.verdict, check.finding) for check in away] == [
        ("fail", "FFLAB_REDIS_URL does not answer")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("program", ["api", "worker"])
def test_api_and_worker_say_so_when_they_start(evicting: str, program: str, tmp_path: Path) -> None:
    command = {"api": ["service.serve", "--port", "0"], "worker": ["workers", "--device", "cpu"]}[
        program
    ]
    environment = os.environ | {
        "FFLAB_HOME": str(tmp_path / "home"),
        "FFLAB_REDIS_URL": evicting,
        "PYTHONUNBUFFERED": "1",
    }
    with started([sys.executable, "-m", *command], environment) as lines:
        assert next(line for line in lines if "Redis" in line).rstrip().endswith(EVICTS)


@pytest.mark.slow
def test_up_says_so_where_it_was_typed(evicting: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "FFLAB_HOME": str(tmp_path / "home"),
        "FFLAB_REDIS_URL": evicting,
        "PYTHONUNBUFFERED": "1",
    }
    with started(
        [sys.executable, "-m", "service.cli", "up", "--port", "0", "--device", "cpu"], environment
    ) as lines:
        assert next(lines).rstrip() == EVICTS
        assert "fflab is up" in next(lines)


@contextmanager
def started(command: list[str], environment: dict[str, str]) -> Iterator[Iterator[str]]:
    """The lines that a program writes, until it is told to end."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout
    try:
        yield iter(process.stdout)
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)


def test_an_old_server_is_reported(evicting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_check, "OLDEST_VERSION", (99, 1))
    old, _ = find_problems(evicting)
    assert re.fullmatch(
        r"Redis is of version \d+\.\d+\.\d+, older than fflab is tested with: install 99\.1 or "
        r"newer",
        old,
    )


def test_a_server_that_lets_us_see_nothing_has_no_problems(evicting: str) -> None:
    with redis.Redis.from_url(evicting) as client:
        client.execute_command(
            "ACL",
            "SETUSER",
            "guest",
            "on",
            ">secret",
            "+ping",
            "+client",
            "+hello",
            "+select",
            "~*",
        )
    guest = re.sub("//.*@", "//guest:secret@", evicting)
    assert is_reachable(guest)
    assert find_problems(guest) == []


def test_its_password_is_for_the_owner_only(server: EmbeddedRedis) -> None:
    assert server.password in server.config.read_text()
    assert stat.S_IMODE(server.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    assert server.password not in " ".join(server.command)


def test_what_it_has_written_can_be_deleted(server: EmbeddedRedis) -> None:
    with running(server):
        pass
    server.delete_data()
    assert [path.name for path in server.folder.iterdir()] == [server.config.name]


def test_a_folder_that_is_anothers_is_neither_read_nor_emptied(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(BrokerError, match=f"{tmp_path} holds files that fflab did not make"):
        EmbeddedRedis(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["appendonlydir"]


def test_servers_of_path_come_first_then_the_bundled_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    old = tmp_path / "redis-server"
    assert version_of(old) == ()
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    old.chmod(0o755)
    assert version_of(old) == (6, 0)
    assert find_server() == bundled_server()
    old.write_text("#!/bin/sh\necho 'Redis server v=7.2.1 sha=0'\n")
    assert find_server() == old


def test_no_server_at_all_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "SERVERS", ())
    monkeypatch.setattr(redis_server, "bundled_server", lambda: None)
    with pytest.raises(BrokerError, match="install redis-server or valkey-server"):
        find_server()
