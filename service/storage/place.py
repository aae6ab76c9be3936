"""Which place files are in, as settings say it."""

import re
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict

SCHEME = "s3://"
BUCKET = re.compile(
    r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?P<prefix>(/[\w.=@+-]+)*)/?"
)


class BucketPlace(BaseModel):
    """A bucket, the prefix of its keys, and where this machine keeps copies of what it read."""

    model_config = ConfigDict(frozen=True)

    address: str
    cache: Path
    cache_bytes: int

    def __str__(self) -> str:
        return self.address


Place = Path | BucketPlace


def unreachable(place: Place, error: OSError) -> str:
    """Say that a place cannot be used, why, and where to look, in one line."""
    where = (
        "FFLAB_ARTIFACTS, and at AWS_ENDPOINT_URL and the credentials in the environment"
        if isinstance(place, BucketPlace)
        else "FFLAB_HOME and FFLAB_ARTIFACTS"
    )
    return f"{place} cannot be used ({error.strerror or error}): look at {where}"


def checked_address(text: str) -> str:
    """Check the address of a place: an absolute folder, or a bucket with a prefix.

    Returns it without a slash at its end. Raises ValueError, also for a bucket where nothing that
    is installed speaks S3.
    """
    if not text:
        return text
    if text.startswith(SCHEME) and (match := BUCKET.fullmatch(text)):
        if find_spec("s3fs") is None:
            raise ValueError("a bucket needs s3fs, so run: pip install 'fflab[s3]'")
        if not {".", ".."} & set(match["prefix"].split("/")):
            return f"{SCHEME}{match['bucket']}{match['prefix']}"
    elif "://" not in text and Path(text).expanduser().is_absolute():
        return str(Path(text).expanduser())
    raise ValueError(
        f"{text!r} is neither a bucket, such as s3://lab/fflab, nor the absolute path of a folder"
    )
