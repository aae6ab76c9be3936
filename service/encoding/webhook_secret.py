"""The secrets that sign webhooks, in the form of the Standard Webhooks specification."""

import base64
import binascii
import secrets

PREFIX = "whsec_"
LEAST_BYTES, MOST_BYTES, MADE_BYTES = 24, 64, 32


def decode_secret(secret: str) -> bytes:
    """Decode a secret to the bytes of the signing key. Raises ValueError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not LEAST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError("a secret is whsec_ and the base64 of 24 to 64 random bytes")
    return key


def make_secret() -> str:
    """Return a new random secret."""
    return PREFIX + base64.b64encode(secrets.token_bytes(MADE_BYTES)).decode()
