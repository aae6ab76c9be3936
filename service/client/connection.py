"""The address and the key of the service, and how both clients connect."""

from typing import TypedDict

import httpx

from ffengine.version import VERSION
from service.client.errors import Unreachable
from service.client.proxies import ProxyChoice, proxy_for
from service.settings import Settings

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Connection(TypedDict):
    """What both clients need for httpx; the environment's proxies are chosen here, not there."""

    base_url: str
    headers: dict[str, str]
    timeout: float
    trust_env: bool
    proxy: ProxyChoice | None


def connection(url: str | None, api_key: str | None, timeout_seconds: float) -> Connection:
    """Return the arguments for httpx.

    **Arguments:**

    - `url`: by default FFLAB_URL, else this machine.
    - `api_key`: by default FFLAB_API_KEY.
    - `timeout_seconds`: of one attempt at a request.

    **Raises** Unreachable for what is no address, and for a proxy that cannot be used.
    """
    settings = Settings()
    # some give the address as that of the API
    address = (url or settings.url).rstrip("/").removesuffix("/v1").rstrip("/")
    key = settings.api_key.get_secret_value() if api_key is None and settings.api_key else api_key
    headers = {
        "User-Agent": f"fflab/{VERSION}",
        **({"Authorization": f"Bearer {key}"} if key else {}),
    }
    target = validated_url(address)
    # a proxy cannot reach the loopback addresses of this machine
    is_elsewhere = target.host not in LOOPBACK
    return Connection(
        base_url=address,
        headers=headers,
        timeout=timeout_seconds,
        trust_env=is_elsewhere,
        proxy=proxy_for(target) if is_elsewhere else None,
    )


def validated_url(address: str) -> httpx.URL:
    """Return the address as a URL. Raises Unreachable if it is none."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise Unreachable(
            f"{address!r} is no address ({error}); FFLAB_URL or Client(url) is such as "
            f"http://lab:8000"
        ) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise Unreachable(
            f"{address!r} is no address; FFLAB_URL or Client(url) is such as http://lab:8000"
        )
    return url
