"""The address and the key of the service, and how both clients connect."""

import os
import ssl
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
    verify: ssl.SSLContext


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
    if key and not (key.isascii() and key.isprintable()):
        raise Unreachable(
            "FFLAB_API_KEY or Client(api_key=...) has characters that no key has; copy it again, "
            "as `fflab keys create` printed it"
        )
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
        verify=certificates(target),
    )


def certificates(url: httpx.URL) -> ssl.SSLContext:
    """Return what the service's certificate is checked with. Raises Unreachable if it is missing.

    Plain http needs none, and to read all that this machine trusts takes a while.
    """
    if url.scheme != "https":
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # ssl.SSLError is one
        named = (name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name))
        raise Unreachable(
            f"{next(named, 'this machine')} gives no certificates that can be read "
            f"({error.strerror or error}): mend that, or unset it"
        ) from error


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
