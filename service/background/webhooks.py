"""Webhooks: a job's end is told to an address, signed as Standard Webhooks, tried again for a day.

Addresses come from users, so what they resolve to is looked at once, refused where it is not
public, and connected to as it is.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import logging
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx

from ffengine.text import refuse_unseen
from service.settings import Settings
from service.store import Deliveries, PendingDelivery
from service.store.database import DATABASE_ERRORS

TICK_SECONDS = 1.0
HOLD_SECONDS = 60.0  # a message that is being sent is no one else's for so long
AT_ONCE = 8
TIMEOUT_SECONDS = 10.0
MINUTE, HOUR = 60.0, 3600.0
PAUSES = (
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
LONGEST_PAUSE = 8 * HOUR
GONE = 410
SECRET_PREFIX = "whsec_"  # noqa: S105 - a prefix
NAT64 = ipaddress.ip_network("64:ff9b::/96")

log = logging.getLogger(__name__)


# What may be asked for


def checked_secret(text: str) -> str:
    """The secret, if it can sign. Raises ValueError."""
    key_of(text)
    return text


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises ValueError."""
    try:
        key = (
            base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
            if secret.startswith(SECRET_PREFIX)
            else b""
        )
    except binascii.Error:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 random bytes")
    return key


def checked_url(url: str, allow_private: bool) -> str:
    """The address, if messages may be sent there as far as it shows by itself.

    Raises ValueError.
    """
    try:
        refuse_unseen(url)
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address: {error}") from error
    schemes = ("https", "http") if allow_private else ("https",)
    if (
        parts.scheme not in schemes
        or not host
        or port == 0
        or any(letter.isspace() for letter in url)
    ):
        raise ValueError(f"{url!r} is not an absolute {' or '.join(schemes)} address")
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
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, whatever it is wrapped in."""
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


class Refused(Exception):
    """Nothing was sent: the address may not be reached."""


def resolved(host: str, port: int, allow_private: bool) -> str:
    """The IP address to connect to; the name is not looked up again. Raises Refused."""
    try:
        found = [
            str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        ]
    except (OSError, UnicodeError) as error:
        raise Refused(f"{host} cannot be resolved: {error}") from error
    if not allow_private and not all(is_public(address) for address in found):
        raise Refused(f"{host} resolves to {', '.join(found)}, which is not public")
    return found[0]


def signed(message_id: str, body: str, secret: str, timestamp: int) -> dict[str, str]:
    """The headers of a message (standardwebhooks.com): HMAC-SHA256 over id, time and body."""
    digest = hmac.new(
        key_of(secret), f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256
    ).digest()
    signature = f"v1,{base64.b64encode(digest).decode()}"
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature,
    }


def send(due: PendingDelivery, secret: str, allow_private: bool) -> httpx.Response:
    """Send a message once; no redirect is followed, and nothing is read but the head of the answer.

    Raises Refused and httpx's errors.
    """
    parts = urlsplit(due.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = parts.hostname or ""
    address = resolved(host, port, allow_private)
    headers = {
        "content-type": "application/json",
        "user-agent": "fflab",
        "host": _host_header(parts),
    }
    headers |= signed(due.id, due.body, secret, int(time.time()))
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


def pause_before(tries: int, response: httpx.Response | None) -> float | None:
    """Seconds until the next try after so many; None: it is given up.

    An answer may ask for more time.
    """
    if tries > len(PAUSES) or (response is not None and response.status_code == GONE):
        return None
    pause = PAUSES[tries - 1] * random.uniform(0.9, 1.1)  # noqa: S311 - spreads the tries of many jobs
    asked = (
        _retry_after(response)
        if response is not None and response.status_code in (429, 503)
        else 0.0
    )
    return min(LONGEST_PAUSE, max(pause, asked))


def _retry_after(response: httpx.Response) -> float:
    text = response.headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0.0


class WebhookSender(threading.Thread):
    """Sends what is due, several at once.

    One in each API process: a message is taken before it is sent.
    """

    def __init__(self, deliveries: Deliveries, settings: Settings) -> None:
        super().__init__(name="messenger", daemon=True)
        self.deliveries, self.settings = deliveries, settings
        self._wake, self._stopping = threading.Event(), threading.Event()
        self._senders = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")
        self._free = threading.Semaphore(AT_ONCE)

    def wake(self) -> None:
        """Something may be due: look now."""
        self._wake.set()

    def stop(self) -> None:
        """End when what is being sent has been sent."""
        self._stopping.set()
        self._wake.set()
        self.join()
        self._senders.shutdown()

    def run(self) -> None:
        """Send until stopped; what fails is tried again later."""
        while not self._stopping.is_set():
            try:
                self.tick()
            except DATABASE_ERRORS as error:
                log.warning("the database is away: %s", str(error).splitlines()[0])
            except Exception:
                log.exception("a tick of the messenger failed")  # the thread must live
            self._wake.wait(TICK_SECONDS)
            self._wake.clear()

    def tick(self) -> None:
        """Hand what is due to the senders that are free."""
        free = sum(self._free.acquire(blocking=False) for _ in range(AT_ONCE))
        due = self._due(free) if free else []
        if free > len(due):
            self._free.release(free - len(due))
        for message in due:
            self._senders.submit(self._send, message)

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
            response = send(due, due.secret or self.secret(), self.settings.webhook_allow_private)
        except (Refused, httpx.HTTPError, httpx.InvalidURL) as failure:
            error = str(failure) or type(failure).__name__
        finally:
            self._free.release()
        status = response.status_code if response is not None else None
        found: dict[str, Any] = {
            "status": status,
            "seconds": round(time.monotonic() - began, 3),
            "error": error,
        }
        delivered = status is not None and 200 <= status < 300
        again = None if delivered else pause_before(due.tries + 1, response)
        try:
            self.deliveries.record_attempt(due.id, found, delivered=delivered, again_seconds=again)
        except DATABASE_ERRORS as failure:  # it is sent again when the hold is over
            log.warning(
                "%s: its try could not be written down: %s", due.id, str(failure).splitlines()[0]
            )

    def secret(self) -> str:
        """What signs where a job has no secret of its own."""
        given = self.settings.webhook_secret
        return given.get_secret_value() if given else self.deliveries.signing_secret()
