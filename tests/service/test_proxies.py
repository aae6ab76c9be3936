"""Proxies of the environment: used, passed by as NO_PROXY says, and named where they fail."""

import httpx
import pytest

import fflab as package
from service.client import proxies
from service.client.connection import connection
from service.client.proxies import is_excepted
from tests.commands import Fflab
from tests.gateways import gateway

ELSEWHERE = "http://lab.example:8000"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
DEAD = "http://127.0.0.1:9"
COMMANDS = (
    ("workers",),
    ("jobs",),
    ("show", "last"),
    ("watch", "last"),
    ("result", "last"),
    ("log", "last"),
    ("submit", "quick", "--wait"),
    ("estimate", "quick"),
    ("cancel", "last"),
    ("open", "last"),
    ("diff", "last", "last"),
)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ALL_PROXY": "socks5://127.0.0.1:9"}, ("ALL_PROXY", "pip install 'httpx[socks]'")),
        ({"all_proxy": "socks5h://127.0.0.1:9"}, ("all_proxy", "NO_PROXY=lab.example")),
        ({"HTTP_PROXY": "http://lab:port"}, ("HTTP_PROXY names no proxy", "Invalid port")),
        ({"http_proxy": "gopher://lab"}, ("http_proxy names no proxy", "Unknown scheme")),
        ({"HTTP_PROXY": "http://"}, ("HTTP_PROXY names no proxy",)),
        (
            {"HTTP_PROXY": DEAD, "NO_PROXY": "10.0.0.0/8,fd00::/8,[::1]"},
            ("the proxy http://127.0.0.1:9 of HTTP_PROXY", "NO_PROXY=lab.example"),
        ),
        ({"http_proxy": "http://me:secret@127.0.0.1:9"}, ("http_proxy does not let us through",)),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line_that_names_the_variable(
    fflab: Fflab,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: tuple[str, ...],
    command: tuple[str, ...],
) -> None:
    monkeypatch.setenv("FFLAB_URL", ELSEWHERE)
    monkeypatch.setattr("service.client.retries.FIRST_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("service.cli.job_watcher.AWAY_SECONDS", 0.0)
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = fflab(*command)
    assert ended.code == 3
    assert len(ended.err.splitlines()) == 1
    assert all(word in ended.err for word in words), ended.err
    assert "secret" not in ended.err
    assert "Traceback" not in ended.err


@pytest.mark.slow
def test_doctor_names_it_too(fflab: Fflab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFLAB_URL", ELSEWHERE)
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    (line,) = [line for line in fflab("doctor").lines if line.split()[1] == "service"]
    assert "the proxy http://127.0.0.1:9 of HTTP_PROXY does not let us through" in line
    assert "NO_PROXY=lab.example" in line.partition("  ->  ")[2]


@pytest.mark.parametrize(
    ("host", "no_proxy", "excepted"),
    [
        ("http://10.1.2.3:8000", "10.0.0.0/8", True),
        ("http://11.1.2.3:8000", "10.0.0.0/8", False),
        ("http://[fd00::5]:8000", "localhost, fd00::/8", True),
        ("http://[fe80::5]:8000", "fd00::/8", False),
        ("http://[::1]:8000", "[::1]", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://[::1]:8000", "[::1]:8001", False),
        ("http://lab.example:8000", "fd00::/8,[::1],example", True),
        ("http://lab.example:8000", ".lab.example", True),
        ("http://lab.example:8000", "*.example", True),
        ("http://lab.example:8000", "lab.example:8000", True),
        ("http://lab.example:8000", "lab.example:9000", False),
        ("http://lab.example", "lab.example:80", True),
        ("http://lab.example", "http://lab.example", True),
        ("http://lab.example:8000", "b.example", False),
        ("http://lab.example:8000", "LAB.example", True),
        ("http://lab.example:8000", "other,*", True),
        ("http://lab.example:8000", ",,[,:, ::/x,*.,", False),
        ("http://lab.example:8000", "", False),
    ],
)
def test_no_proxy_has_names_addresses_and_networks(
    host: str, no_proxy: str, *, excepted: bool
) -> None:
    assert is_excepted(httpx.URL(host), no_proxy) is excepted


def test_a_good_proxy_is_used(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    found = connection(ELSEWHERE, None, 1.0)["proxy"]
    assert found is not None
    assert str(found) == "the proxy http://127.0.0.1:9 of HTTP_PROXY"
    assert connection("http://127.0.0.1:8000", None, 1.0)["proxy"] is None
    monkeypatch.setenv("NO_PROXY", "lab.example")
    assert connection(ELSEWHERE, None, 1.0)["proxy"] is None


@pytest.mark.parametrize("end", ["/v1", "/v1/", "/"])
@pytest.mark.parametrize("prefix", ["", "/fflab"])
def test_an_address_with_v1_is_understood(client: httpx.Client, prefix: str, end: str) -> None:
    with (
        gateway(str(client.base_url), prefix=prefix) as before,
        package.Client(before.url + end) as own,
    ):
        assert own.get("/v1/workers")["items"] == []
        assert own.url == before.url


@pytest.mark.parametrize("proxy", [DEAD, "socks5://127.0.0.1:9"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_no_proxy_is_asked_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, host: str, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
        monkeypatch.setenv(name.lower(), proxy)
    chosen = connection(f"http://{host}:8000", None, 1.0)
    assert chosen["proxy"] is None
    assert chosen["trust_env"] is False, "else httpx asks the environment itself"
