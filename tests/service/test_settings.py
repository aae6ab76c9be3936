"""Settings that are wrong are refused in one line that names them; none is ignored in silence."""

import ssl
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.client import Client, Unreachable
from service.host.start_failures import reason_of, wrong_setting
from service.settings import Settings, nearest_setting, unknown_variables
from tests.commands import Fflab

CASES = [
    ("FFLAB_REDIS_URL", "nonsense", "FFLAB_REDIS_URL: it is not the address of a Redis"),
    ("FFLAB_REDIS_URL", "localhost:6379", "FFLAB_REDIS_URL: it is not the address of a Redis"),
    ("FFLAB_REDIS_URL", "redis://:hidden@", "FFLAB_REDIS_URL: it is not the address of a Redis"),
    ("FFLAB_REDIS_URL", "redis://lab:hidden", "FFLAB_REDIS_URL: it is not the address of a Redis"),
    ("FFLAB_WEBHOOK_SECRET", "hidden", "FFLAB_WEBHOOK_SECRET: a secret is whsec_ and the base64"),
    ("FFLAB_REQUIRE_KEY", "true", "FFLAB_REQUIRE_KEY is no setting; did you mean FFLAB_REQUIRE_KE"),
    ("FFLAB_DISK_RESERV", "1", "FFLAB_DISK_RESERV is no setting; did you mean FFLAB_DISK_RESERVE?"),
    ("FFLAB_RETENTIONS__CHECK__DAYS", "1", "did you mean FFLAB_RETENTION?"),
    ("FFLAB_RETENTION", '{"trian": {"days": 30}}', "FFLAB_RETENTION__TRIAN: Extra inputs are not"),
    ("FFLAB_RETENTION", '{"train": {"day": 30}}', "FFLAB_RETENTION__TRAIN__DAY: Extra inputs are"),
    ("FFLAB_LIMITS", '{"memory_byte": 1}', "FFLAB_LIMITS__MEMORY_BYTE: Extra inputs are not"),
    ("FFLAB_WORKER_TAGS", "a100,8 gb", "FFLAB_WORKER_TAGS: '8 gb' is not a tag of a worker"),
    ("FFLAB_MAX_QUEUED", "0", "FFLAB_MAX_QUEUED: Input should be greater than or equal to 1, got"),
]


@pytest.mark.parametrize(("name", "value", "words"), CASES)
def test_a_wrong_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, fflab: Fflab, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as wrong:
        Settings()
    assert words in wrong_setting(wrong.value) == reason_of(wrong.value)
    for command in (["doctor"], ["workers"], ["keys", "list"], ["up"], ["api"]):
        ended = fflab(*command)
        assert (ended.code, len(ended.err.splitlines())) == (2, 1), command
        assert words in ended.err
        assert "hidden" not in ended.err


@pytest.mark.parametrize("url", ["redis://lab", "redis://:secret@lab:6379/0", "rediss://[::1]:6/2"])
def test_addresses_of_a_broker(url: str) -> None:
    found = Settings(redis_url=url).redis_url  # type: ignore[arg-type]
    assert found is not None
    assert found.get_secret_value() == url


@pytest.mark.slow
def test_what_resembles_no_setting_is_told_by_doctor(
    monkeypatch: pytest.MonkeyPatch, fflab: Fflab
) -> None:
    monkeypatch.setenv("FFLAB_COLOUR", "blue")
    assert nearest_setting("FFLAB_COLOUR") is None
    assert "FFLAB_COLOUR" in unknown_variables()
    assert unknown_variables(["FFLAB_HOME", "fflab_limits__flops", "PATH"]) == []
    (line,) = [line for line in fflab("doctor").lines if line.split()[1] == "environment"]
    assert line.startswith("warn")
    assert "FFLAB_COLOUR" in line


@pytest.mark.parametrize("key", ["schlüssel", "two\nlines", "tab\t"])
def test_a_key_that_no_header_can_hold_is_named(
    monkeypatch: pytest.MonkeyPatch, fflab: Fflab, key: str
) -> None:
    with pytest.raises(Unreachable, match="FFLAB_API_KEY or Client"):
        Client("http://lab.example", key)
    monkeypatch.setenv("FFLAB_API_KEY", key)
    ended = fflab("jobs")
    assert (ended.code, len(ended.err.splitlines())) == (3, 1)
    assert "FFLAB_API_KEY" in ended.err
    assert key not in ended.err


def test_certificates_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, fflab: Fflab, tmp_path: Path
) -> None:
    monkeypatch.setenv("FFLAB_URL", "https://lab.example")
    (tmp_path / "broken.pem").write_text("no certificate")
    for name in ("missing.pem", "broken.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
        ended = fflab("workers")
        assert (ended.code, len(ended.err.splitlines())) == (3, 1)
        assert "SSL_CERT_FILE gives no certificates that can be read" in ended.err


def test_plain_http_reads_no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object, **_names: object) -> None:
        raise AssertionError("certificates were read")

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", refuse)
    Client("http://127.0.0.1:9").close()


@pytest.mark.parametrize("command", ["up", "worker", "demo"])
def test_a_device_that_is_none_is_refused_before_anything_starts(
    fflab: Fflab, command: str
) -> None:
    ended = fflab(command, "--device", "gpu")
    assert ended.code == 2
    known = "auto, all, cpu" if command == "worker" else "auto, cpu"
    assert f"'gpu' is not {known} or cuda:N" in ended.err
