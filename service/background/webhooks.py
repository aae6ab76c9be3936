"""Webhooks: messages about changes of a job's state, signed as Standard Webhooks and retried for a
day.

Users choose the addresses. Each host name is therefore resolved once, refused if an IP address is
not public, and the connection goes to the IP address that was checked.
"""

import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from threading import Semaphore
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from ffengine.text import shortened, user_text
from service.background.periodic import PeriodicThread
from service.jobs import LONGEST_ADDRESS
from service.settings import Settings
from service.store import Deliveries, PendingDelivery
from service.store.database import DATABASE_ERRORS
from service.webhook_secret import decode_secret

TICK_SECONDS = 1.0
HOLD_SECONDS = 60.0  # for so long no other process sends a message that this one is sending
AT_ONCE = 8
TIMEOUT_SECONDS = 10.0
MINUTE, HOUR = 60.0, 3600.0
RETRY_PAUSES = (
    5.0,
    30.0,
    2 * MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    8 * HOUR,
    8 * HOUR,
)
LONGEST_RETRY_PAUSE = 8 * HOUR
GONE = 410
NAT64 = ipaddress.ip_network("64:ff9b::/96")

log = logging.getLogger(__name__)


# Addresses and secrets of users


def validate_secret(text: str) -> str:
    """Return the secret. Raises ValueError if it cannot sign."""
    decode_secret(text)
    return text


def validate_url(url: str, allow_private: bool) -> str:
    """Return the URL. Raises ValueError if it shows by itself that no message may be sent there.

    A host name is not resolved here but when a message is sent: see `resolve`.
    """
    try:
        user_text(url, LONGEST_ADDRESS)
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{shortened(url)!r} is not an address: {error}") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if (
        parts.scheme not in schemes
        or not host
        or port == 0
        or any(letter.isspace() for letter in url)
    ):
        raise ValueError(f"{shortened(url)!r} is not an absolute {' or '.join(schemes)} address")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("an address with a user, a password or a fragment is not accepted")
    literal = _literal(host)
    if not allow_private and not (is_public(literal) if literal else "." in host.strip(".")):
        raise ValueError(
            f"{host} is not a public address: the operator may allow private ones with "
            f"FFLAB_WEBHOOK_ALLOW_PRIVATE=true"
        )
    return url


def _literal(host: str) -> str | None:
    """The host if it is an IP address, else None."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    An IPv4 address within an IPv6 address (mapped, 6to4, NAT64) is judged by itself.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = (
            ip.ipv4_mapped
            or ip.sixtofour
            or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None)
        )
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None:
            return False
    return ip.is_global and not ip.is_multicast


# Sending


class AddressRefused(Exception):
    """Nothing was sent, because the address must not be connected to."""


def resolve(host: str, port: int, allow_private: bool) -> str:
    """Resolve a host name to the one IP address to connect to. Raises AddressRefused.

    The caller connects to this address and does not resolve the name again: a second answer of the
    name server could be a private address.
    """
    try:
        found = [
            str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        ]
    except (OSError, UnicodeError) as error:
        raise AddressRefused(f"{host} cannot be resolved: {error}") from error
    if not allow_private and not all(is_public(address) for address in found):
        raise AddressRefused(f"{host} resolves to {', '.join(found)}, which is not public")
    return found[0]


def with_address(body: str, settings: Settings) -> str:
    """Return a message whose link to the job begins as people see the service.

    It is stored without, since who ends a job does not know it.
    """
    root = settings.public_url or settings.root_path
    if not root:
        return body
    message = json.loads(body)
    message["data"]["href"] = f"{root}{message['data']['href']}"
    return json.dumps(message)


def signature_headers(message_id: str, body: str, secret: str, timestamp: int) -> dict[str, str]:
    """The headers that sign a message as in standardwebhooks.com: HMAC-SHA256 over id, time, body.

    `timestamp` is in seconds since 1970.
    """
    digest = hmac.new(
        decode_secret(secret), f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256
    ).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }


def send(due: PendingDelivery, secret: str, allow_private: bool) -> httpx.Response:
    """Send a message once. Raises AddressRefused and httpx's errors.

    Redirects are not followed, and of the response only status and headers are read.
    """
    parts = urlsplit(due.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    address = resolve(host, port, allow_private)
    headers = {
        "content-type": "application/json",
        "user-agent": "fflab",
        "host": _host_header(parts),
    }
    headers |= signature_headers(due.id, due.body, secret, int(time.time()))
    pinned = f"[{address.partition('%')[0]}]" if ":" in address else address
    query = f"?{parts.query}" if parts.query else ""
    url = f"{parts.scheme}://{pinned}:{port}{parts.path or '/'}{query}"
    with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, follow_redirects=False) as client:
        request = client.build_request(
            "POST", url, content=due.body, headers=headers, extensions={"sni_hostname": host}
        )
        response = client.send(request, stream=True)
        response.close()
        return response


def _host_header(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def retry_pause_seconds(tries: int, response: httpx.Response | None) -> float | None:
    """Seconds until the next try; None where there is no further try.

    **Arguments:**

    - `tries`: how many tries were made, at least 1.
    - `response`: the response of the last try; a 429 or 503 may ask for a longer pause.
    """
    if tries > len(RETRY_PAUSES) or (response is not None and response.status_code == GONE):
        return None
    pause = RETRY_PAUSES[tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the load
    asked = (
        _retry_after(response)
        if response is not None and response.status_code in (429, 503)
        else 0.0
    )
    return min(LONGEST_RETRY_PAUSE, max(pause, asked))


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the Retry-After header asks for; 0 where it is absent or unreadable."""
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0.0


class WebhookSender(PeriodicThread):
    """Sends due messages, several at once.

    Each API process has one. A sender reserves a message in the database before sending it.
    """

    def __init__(self, deliveries: Deliveries, settings: Settings) -> None:
        super().__init__("webhooks", TICK_SECONDS)
        self.deliveries, self.settings = deliveries, settings
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")
        self._free = Semaphore(AT_ONCE)

    def stop(self) -> None:
        """Stop; returns when the messages that are being sent have been sent."""
        super().stop()
        self._pool.shutdown()

    def tick(self) -> None:
        """Hand due messages to the free threads of the pool."""
        free = sum(self._free.acquire(blocking=False) for _ in range(AT_ONCE))
        due = self._due(free) if free else []
        if free > len(due):
            self._free.release(free - len(due))
        for message in due:
            self._pool.submit(self._send, message)

    def _due(self, free: int) -> list[PendingDelivery]:
        try:
            return self.deliveries.due(free, HOLD_SECONDS)
        except DATABASE_ERRORS:
            self._free.release(free)
            raise

    def _send(self, due: PendingDelivery) -> None:
        began = time.monotonic()
        response, error = None, None
        try:
            message = due._replace(body=with_address(due.body, self.settings))
            response = send(
                message, due.secret or self.signing_secret(), self.settings.webhook_allow_private
            )
        except (AddressRefused, httpx.HTTPError, httpx.InvalidURL) as failure:
            error = str(failure) or type(failure).__name__
        except Exception as failure:  # nobody looks at what a thread of the pool raises
            log.exception("%s: it could not be sent", due.id)
            error = f"{type(failure).__name__}: {failure}"
        finally:
            self._free.release()
        status = response.status_code if response is not None else None
        found: dict[str, Any] = {
            "status": status,
            "seconds": round(time.monotonic() - began, 3),
            "error": error,
        }
        delivered = status is not None and 200 <= status < 300
        again = None if delivered else retry_pause_seconds(due.tries + 1, response)
        try:
            self.deliveries.record_attempt(due.id, found, delivered=delivered, again_seconds=again)
        except DATABASE_ERRORS as failure:  # it is sent again after HOLD_SECONDS
            log.warning("%s: its try was not recorded: %s", due.id, str(failure).splitlines()[0])

    def signing_secret(self) -> str:
        """The service's secret, which signs for jobs that have no secret of their own."""
        given = self.settings.webhook_secret
        return given.get_secret_value() if given else self.deliveries.signing_secret()
