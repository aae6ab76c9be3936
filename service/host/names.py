"""Names of hosts in the form in which they are compared."""

import ipaddress
import re

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")


def host_name(text: str) -> str:
    """Normalise a name or address: lower case, without a final dot and brackets.

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
    """Whether a name or address means this machine alone.

    Browsers resolve `localhost`, and names that end in it, without asking a server.
    """
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback
