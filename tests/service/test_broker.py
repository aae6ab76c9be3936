"""The embedded Redis: found, configured, private, and able to start whatever lies in its folder."""

import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from service.stack import redis_server
from service.stack.redis_server import BrokerError, EmbeddedRedis, answers, bundled_server, complaints, find_server, probe, version_of


@pytest.fixture(params=["found", "bundled"])
def server(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddedRedis:
    if request.param == "bundled":
        monkeypatch.setattr(redis_server, "SERVERS", ())
    made = EmbeddedRedis(tmp_path / "redis with a blank")
    made.prepare()
    return made


@contextmanager
def running(server: EmbeddedRedis) -> Iterator[None]:
    process = subprocess.Popen(server.command, cwd=server.folder, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not answers(server.url):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(10)


def test_it_serves_with_its_password_alone_and_evicts_nothing(server: EmbeddedRedis) -> None:
    with running(server):
        assert complaints(server.url) == []
        with probe(f"redis://127.0.0.1:{server.port}/0") as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        with redis.Redis.from_url(server.url, decode_responses=True) as client:
            assert client.config_get("appendonly", "bind") == {"appendonly": "yes", "bind": "127.0.0.1"}
            client.config_set("maxmemory-policy", "allkeys-lru")
        assert "noeviction" in complaints(server.url)[0]
    assert not answers(server.url)
    assert "does not answer" in complaints(server.url)[0]


def test_its_password_is_for_the_owner_only(server: EmbeddedRedis) -> None:
    assert server.password in server.config.read_text()
    assert stat.S_IMODE(server.config.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
    assert server.password not in " ".join(server.command)


def test_what_it_has_written_can_be_forgotten(server: EmbeddedRedis) -> None:
    with running(server):
        pass
    server.forget()
    assert [path.name for path in server.folder.iterdir()] == [server.config.name]


def test_a_folder_that_is_anothers_is_neither_read_nor_emptied(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(BrokerError, match=f"{tmp_path} holds files that fflab did not make"):
        EmbeddedRedis(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["appendonlydir"]


def test_servers_of_path_come_first_then_the_bundled_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
