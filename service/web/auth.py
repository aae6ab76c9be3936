"""API keys: who may use the service. A key is shown once and stored as a hash."""

import hashlib
import secrets
import time
from typing import NamedTuple

from ffengine.text import user_text
from service.settings import Settings
from service.store import ApiKeys
from service.web.problems import KeyNeeded

PREFIX = "fflab_"
KEY_BYTES = 32
REMEMBERED_SECONDS = 2.0  # how long a revoked key may still be accepted


class NewKey(NamedTuple):
    """A key that was just made; nothing else shows its `secret`."""

    id: str
    name: str
    secret: str


def create_key(api_keys: ApiKeys, name: str) -> NewKey:
    """Make a key and store it. Raises ValueError for a name that cannot be stored."""
    name = user_text(name)
    secret = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    key_id = f"key_{secrets.token_hex(6)}"
    api_keys.add(key_id, name, fingerprint(secret))
    return NewKey(key_id, name, secret)


def fingerprint(secret: str) -> str:
    """Return the stored form of a key; it has 256 random bits, so that a plain hash is enough."""
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


class Authenticator:
    """Decides who may use the API: anyone until a key exists, then the holders of a valid key."""

    def __init__(self, api_keys: ApiKeys, settings: Settings) -> None:
        self._api_keys, self._required = api_keys, settings.require_keys
        self._read_at = float("-inf")
        self._exists = False
        self._valid: dict[str, str] = {}  # fingerprint -> key id
        self._names: dict[str, str] = {}

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
        return self._names.get(owner)

    @property
    def needs_keys(self) -> bool:
        """Whether requests without a key are refused."""
        return self._exists or self._required

    @property
    def is_stale(self) -> bool:
        """Whether the keys must be read again."""
        return time.monotonic() - self._read_at >= REMEMBERED_SECONDS

    def refresh(self) -> None:
        """Read the keys from the database."""
        keys = self._api_keys.all()
        self._exists = bool(keys)
        self._valid = {key.digest: key.id for key in keys if not key.is_revoked}
        self._names = {key.id: key.name for key in keys}
        self._read_at = time.monotonic()
