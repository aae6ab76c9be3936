"""Which proxy of the environment leads to the service, if any."""

import os
import re
from importlib.util import find_spec
from ipaddress import ip_address, ip_network
from typing import NamedTuple
from urllib.request import getproxies

import httpx

from service.client.errors import Unreachable

SOCKS = re.compile(r"socks\w*://", re.IGNORECASE)


class ProxyChoice(NamedTuple):
    """A proxy, and the variable that names it."""

    variable: str
    proxy: httpx.Proxy

    def __str__(self) -> str:
        address = self.proxy.url.copy_with(username="", password="")
        return f"the proxy {address} of {self.variable}"


def proxy_for(url: httpx.URL) -> ProxyChoice | None:
    """Return the proxy that the environment names for an address; None: none.

    **Raises** Unreachable for one that cannot be used.
    """
    found = getproxies()
    address = found.get(url.scheme) or found.get("all")
    if not address or is_excepted(url, found.get("no", "")):
        return None
    variable = _variable(url.scheme, address)
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
        if not proxy.url.host:
            raise ValueError("no host")
    except (ValueError, httpx.InvalidURL) as error:
        raise Unreachable(
            f"{variable} names no proxy that can be used ({' '.join(str(error).split())}); mend "
            f"it, or set NO_PROXY={url.host} to reach the service without it"
        ) from error
    if SOCKS.match(str(proxy.url)) and not _has_socks():
        raise Unreachable(
            f"{variable} names a SOCKS proxy, which needs a package that is not installed; pip "
            f"install 'httpx[socks]', or set NO_PROXY={url.host} to reach the service without it"
        )
    return ProxyChoice(variable, proxy)


def is_excepted(url: httpx.URL, no_proxy: str) -> bool:
    """Whether NO_PROXY excepts an address.

    Its entries are names with what is below them, addresses, networks such as 10.0.0.0/8 and
    fd00::/8, perhaps with a port, or `*`. Others are passed over.
    """
    port = url.port or {"http": 80, "https": 443}[url.scheme]
    return any(_matches(entry, url.host.lower(), port) for entry in no_proxy.lower().split(","))


def _matches(entry: str, host: str, port: int) -> bool:
    entry = entry.strip().rpartition("://")[2]
    if entry in ("", "*"):
        return entry == "*"
    if (inside := _is_in_network(host, entry.strip("[]"))) is not None:
        return inside
    name, wanted = entry, ""
    if with_port := re.fullmatch(r"(.+):(\d+)", entry):
        name, wanted = with_port.groups()
    if wanted and int(wanted) != port:
        return False
    if (inside := _is_in_network(host, name.strip("[]"))) is not None:
        return inside
    name = name.removeprefix("*").lstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _is_in_network(host: str, network: str) -> bool | None:
    """Whether a host is an address of a network; None where that is no network."""
    try:
        found = ip_network(network, strict=False)
    except ValueError:
        return None
    try:
        return ip_address(host) in found
    except ValueError:
        return False


def _variable(scheme: str, address: str) -> str:
    for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper(), "all_proxy", "ALL_PROXY"):
        if os.environ.get(name) == address:
            return name
    return "the system's settings"


def _has_socks() -> bool:
    return find_spec("socksio") is not None
