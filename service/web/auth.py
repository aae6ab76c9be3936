"""API keys: who may use the service. A key is shown once and stored as a hash."""

import contextlib
import hashlib
import logging
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from ffengine.text import user_text
from service.encoding.viewer import Scope, Viewer
from service.host.private import make_private_folder
from service.settings import Settings
from service.store import ApiKey, ApiKeys
from service.store.api_keys import USE_SECONDS, OwnerLimits
from service.store.faults import DATABASE_ERRORS
from service.web.problems import KeyNeeded

PREFIX = "fflab_"
KEY_BYTES = 32
COOKIE_DIGITS = 8  # of the service's id in the name of its cookie
REMEMBERED_SECONDS = 2.0  # how long a revoked key may still be accepted
# in the home; an older database, or one whose keys were deleted, does not open the service
HAD_KEYS = "had-keys"
HAD_KEYS_TEXT = """\
This service has had API keys, so it refuses requests without one, whatever its database says.
`fflab keys clear` opens it again to everyone who reaches it.
"""
LOST_KEYS = "API keys were made for this service once, and its database has none"
LOST_KEYS_ADVICE = (
    "restore the database that has them, make one with `fflab keys create NAME`, or let everybody "
    "in with `fflab keys clear` and a restart"
)

log = logging.getLogger(__name__)


class NewKey(NamedTuple):
    """A key that was just made; nothing else shows its `secret`."""

    id: str
    name: str
    secret: str


def had_keys(home: Path) -> bool:
    """Whether the service of a home has ever had an API key."""
    return (home / HAD_KEYS).exists()


def remember_keys(home: Path) -> None:
    """Write to the home that its service has had an API key. Raises OSError."""
    if not had_keys(home):
        make_private_folder(home)
        (home / HAD_KEYS).write_text(HAD_KEYS_TEXT)


def clear_keys(api_keys: ApiKeys, home: Path) -> int:
    """Delete all keys and the memory of them; how many there were. Raises OSError."""
    count = api_keys.clear()
    (home / HAD_KEYS).unlink(missing_ok=True)
    return count


def create_key(
    api_keys: ApiKeys,
    name: str,
    *,
    scope: Scope = "submit",
    expires_in_seconds: float | None = None,
    **limits: int | None,
) -> NewKey:
    """Make a key and store it; `limits` are fields of OwnerLimits.

    Raises ValueError for a name that cannot be stored, and KeyNameTaken.
    """
    name = user_text(name)
    secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    key_id = f"key_{secrets.token_hex(6)}"
    api_keys.add(
        key_id,
        name,
        fingerprint(secret),
        scope=scope,
        expires_in_seconds=expires_in_seconds,
        limits=OwnerLimits(**limits),
    )
    return NewKey(key_id, name, secret)


def fingerprint(secret: str) -> str:
    """Return the stored form of a key; it has 256 random bits, so that a plain hash is enough."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def cookie_name(service_id: str) -> str:
    """The name of the cookie that holds the key in browsers.

    Browsers send a cookie to all ports of its host: two services on one host need two names.
    """
    return f"fflab_key_{service_id[:COOKIE_DIGITS]}"


class Authenticator:
    """Decides who may use the API: anyone until a key exists, then the holders of a valid key.

    Once there was a key, the service stays closed where the database has none any more. `cookie` is
    the name of the cookie with which browsers send a key.
    """

    def __init__(self, api_keys: ApiKeys, settings: Settings) -> None:
        self._api_keys, self._required, self._home = api_keys, settings.require_keys, settings.root
        self._read_at = float("-inf")
        self._existed = False
        self.cookie = cookie_name("")
        self._valid: dict[str, str] = {}  # fingerprint -> key id
        self._keys: dict[str, ApiKey] = {}
        self._noted: dict[str, float] = {}  # key id -> when its use was stored last

    def owner(self, authorization: str | None, api_key: str | None) -> str:
        """Return the id of the key that a request came with, or "anyone". Raises KeyNeeded."""
        if not self.needs_keys:
            return "anyone"
        scheme, _, credentials = (authorization or "").partition(" ")
        secret = api_key or (credentials.strip() if scheme.lower() == "bearer" else "")
        owner = self._valid.get(fingerprint(secret)) if secret else None
        if owner is None:
            raise KeyNeeded(headers={"WWW-Authenticate": 'Bearer realm="fflab"'})
        return owner

    def name(self, owner: str) -> str | None:
        """Return the name of an owner's key; None for "anyone"."""
        key = self._keys.get(owner)
        return key.name if key else None

    def viewer(self, owner: str, address: str | None) -> Viewer:
        """Return who asks with an owner's key, from an address."""
        key = self._keys.get(owner)
        if key is None:
            return Viewer(address=address, via="request")
        return Viewer(key.name, key.scope, address, key=key.id, via="request")

    def is_noted(self, owner: str) -> bool:
        """Whether the use of an owner's key needs no storing now."""
        if owner not in self._keys:
            return True
        return time.monotonic() - self._noted.get(owner, float("-inf")) < USE_SECONDS

    def note_use(self, owner: str) -> None:
        """Store that an owner's key was used, unless the database cannot be written."""
        self._noted[owner] = time.monotonic()  # first: others need not do it as well
        with contextlib.suppress(*DATABASE_ERRORS):
            self._api_keys.note_use(owner)

    @property
    def needs_keys(self) -> bool:
        """Whether requests without a key are refused."""
        return self._existed or self._required

    @property
    def is_stale(self) -> bool:
        """Whether the keys must be read again."""
        return time.monotonic() - self._read_at >= REMEMBERED_SECONDS

    def refresh(self) -> None:
        """Read the keys from the database."""
        keys = self._api_keys.all()
        self._note(exist=bool(keys))
        self._valid = {key.digest: key.id for key in keys if key.is_valid}
        self._keys = {key.id: key for key in keys}
        self._read_at = time.monotonic()

    def _note(self, *, exist: bool) -> None:
        """Remember that there were keys, and log where they are gone; each of these once."""
        if exist and not self._existed:
            try:
                remember_keys(self._home)
            except OSError as error:
                log.warning("it cannot be noted in %s that there are keys: %s", self._home, error)
        elif not exist and had_keys(self._home) and not self._existed:
            log.warning("%s: requests are refused; %s", LOST_KEYS, LOST_KEYS_ADVICE)
        self._existed = self._existed or exist or had_keys(self._home)
