"""Names of hosts, as they are compared."""

import ipaddress
import re

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def host_name(text: str) -> str:
    """A name or address in small letters, without a last dot or brackets.

    Raises ValueError where it is neither.
    """
    name = text.strip().lower()
    if name.startswith("[") and name.endswith("]"):
        return str(ipaddress.IPv6Address(name[1:-1]))
    name = name.removesuffix(".")
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{text!r} is not the name of a host, such as lab.example.org, without https:// "
                f"and port"
            ) from None
        return name


def is_loopback(name: str) -> bool:
    """Whether only this machine has the name or address.

    Browsers look `localhost`, and what ends in it, up nowhere.
    """
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
