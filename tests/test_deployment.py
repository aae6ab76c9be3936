"""docker-compose.yml and Dockerfile: what can be checked without Docker."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ffengine.version import VERSION
from service.settings import Settings
from service.web.forwarding import trusted_proxies

ROOT = Path(__file__).parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())[
    "services"
]
COMPOSE = (ROOT / "docker-compose.yml").read_text()


def test_all_services_are_there() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {
        "postgres": [],
        "redis": [],
        "api": [],
        "worker": [],
        "worker-gpu": ["gpu"],
        "box": ["box"],
        "box-cpu": ["box-cpu"],
    }


@pytest.mark.parametrize("name", ["box", "box-cpu"])
def test_a_box_starts_nothing_of_the_server(name: str) -> None:
    box = SERVICES[name]
    assert not box["depends_on"]
    assert box["command"][:2] == ["fflab", "worker"]
    for url in ("FFLAB_DATABASE_URL", "FFLAB_REDIS_URL"):
        assert "${LAB_HOST:-" in box["environment"][url]


def test_a_server_is_reached_by_boxes_where_it_is_asked_for() -> None:
    lab = yaml.safe_load((ROOT / "docker-compose.lab.yml").read_text())["services"]
    published = [port for service in lab.values() for port in service.pop("ports")]
    assert not any(lab.values()), "nothing else changes"
    assert set(lab) == {"postgres", "redis"}
    assert all(port.startswith("${LAB_ADDRESS:?") for port in published)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert re.search(r":\d+\.\d+(\.\d+)?(-[a-z]+)?$", SERVICES[name]["image"]), SERVICES[name][
        "image"
    ]


def test_our_image_is_called_by_the_version_that_it_holds() -> None:
    ours = {service["image"] for service in SERVICES.values() if "build" in service}
    assert {image.partition(":")[2].removesuffix("-cuda") for image in ours} == {VERSION}


def test_the_base_image_is_pinned() -> None:
    bases = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert bases
    assert all(re.search(r":\d+\.\d+\.\d+", base) for base in bases)


def test_nothing_is_published_beyond_loopback() -> None:
    published = {
        name: port for name, service in SERVICES.items() for port in service.get("ports", [])
    }
    assert set(published) == {"api"}
    assert all(port.startswith("127.0.0.1:") for port in published.values())


def test_an_api_that_listens_on_every_address_requires_keys() -> None:
    assert "0.0.0.0" in SERVICES["api"]["command"]  # noqa: S104
    assert SERVICES["api"]["environment"]["FFLAB_REQUIRE_KEYS"] == "true"


def test_a_proxy_on_the_host_is_believed() -> None:
    """It knows whether it was asked by TLS, and the cookie of the key is `Secure` then."""
    given = SERVICES["api"]["environment"]["FFLAB_TRUSTED_PROXIES"]
    default = given.removeprefix("${FFLAB_TRUSTED_PROXIES:-").removesuffix("}")
    trusted = trusted_proxies(Settings(trusted_proxies=default))
    assert all(gateway in trusted for gateway in ("172.18.0.1", "192.168.96.1", "127.0.0.1"))
    assert "203.0.113.7" not in trusted


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_container_prints_is_bounded(name: str) -> None:
    assert SERVICES[name]["logging"]["options"] == {"max-size": "10m", "max-file": "3"}


def test_no_password_has_a_default() -> None:
    used = re.findall(r"\$\{(\w*PASSWORD\w*)([^}]*)\}", COMPOSE)
    assert {name for name, _ in used} == {"POSTGRES_PASSWORD", "VALKEY_PASSWORD"}
    assert all(rest.startswith(":?") for _, rest in used), (
        "unset passwords must stop `docker compose up`"
    )
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line and line[0] != "#"
    )
    assert example == {"POSTGRES_PASSWORD": "", "VALKEY_PASSWORD": ""}


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu", "box", "box-cpu"])
def test_our_containers_have_no_privileges(name: str) -> None:
    assert SERVICES[name]["cap_drop"] == ["ALL"]
    assert SERVICES[name]["read_only"] is True
    assert "USER fflab" in (ROOT / "Dockerfile").read_text()


def test_the_image_gets_no_more_than_the_build_needs() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    assert not any(".env" in line for line in ignored)
