"""Checks of a Redis server: whether it answers, and whether it is fit to be the broker."""

import logging
import re
from collections.abc import Iterator

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

OLDEST_VERSION = (6, 2)
PROBE_SECONDS = 2.0
REQUIRED_POLICY = "noeviction"

log = logging.getLogger(__name__)


def is_reachable(url: str) -> bool:
    """Whether a Redis server answers at a URL, within PROBE_SECONDS."""
    try:
        with probe_client(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def find_problems(url: str) -> list[str]:
    """What is wrong with a broker: one line for each problem, which ends with what to do.

    What the server does not let us see is not reported. No problem is fatal: the reconciler sends
    lost messages again.
    """
    try:
        with probe_client(url) as client:
            return [*_of_version(client), *_of_policy(client)]
    except redis.RedisError as error:
        return [
            f"Redis does not answer ({' '.join(str(error).split())}): start it, or look at "
            f"FFLAB_REDIS_URL"
        ]


def _of_version(client: redis.Redis) -> Iterator[str]:
    try:
        # Valkey reports here the version of Redis that it is compatible with
        version = str(client.info("server").get("redis_version", ""))
    except redis.ResponseError:  # some hosted servers refuse INFO
        return
    found = re.match(r"(\d+)\.(\d+)", version)
    if found and tuple(map(int, found.groups())) < OLDEST_VERSION:
        yield (
            f"Redis is of version {version}, older than fflab is tested with: install "
            f"{'.'.join(map(str, OLDEST_VERSION))} or newer"
        )


def _of_policy(client: redis.Redis) -> Iterator[str]:
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", REQUIRED_POLICY)
    except redis.ResponseError:  # hosted servers refuse CONFIG
        return
    if policy != REQUIRED_POLICY:
        yield (
            f"Redis drops messages when memory is short (maxmemory-policy {policy}), and jobs "
            f"start late: set {REQUIRED_POLICY}"
        )


def warn_if_unfit(url: SecretStr | None) -> None:
    """Log the problems of a broker, one line each."""
    for problem in find_problems(url.get_secret_value()) if url else ():
        log.warning("%s", problem)


def probe_client(url: str) -> redis.Redis:
    """A client that tries once and waits for PROBE_SECONDS at most."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(
        url,
        socket_timeout=PROBE_SECONDS,
        socket_connect_timeout=PROBE_SECONDS,
        retry=once,
        decode_responses=True,
    )
