"""Whether a Redis answers, and whether it is fit to carry messages to workers."""

import logging
import re
from collections.abc import Iterator

import redis
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

OLDEST = (6, 2)
PROBE_SECONDS = 2.0
KEEPING_POLICY = "noeviction"

log = logging.getLogger(__name__)


def answers(url: str) -> bool:
    """Whether a Redis answers there."""
    try:
        with probe(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def complaints(url: str) -> list[str]:
    """What is wrong with a broker, each in one line that ends with what to do; as far as it lets us
    see.

    None of it is fatal: a message that is lost is a doorbell, and is rung again.
    """
    try:
        with probe(url) as client:
            return [*_of_version(client), *_of_policy(client)]
    except redis.RedisError as error:
        return [
            f"Redis does not answer ({' '.join(str(error).split())}): start it, or look at "
            f"FFLAB_REDIS_URL"
        ]


def _of_version(client: redis.Redis) -> Iterator[str]:
    try:
        version = str(
            client.info("server").get("redis_version", "")
        )  # Valkey says here which Redis it stands for
    except redis.ResponseError:  # hosted servers refuse INFO to some
        return
    if (found := re.match(r"(\d+)\.(\d+)", version)) and tuple(map(int, found.groups())) < OLDEST:
        yield (
            f"Redis is of version {version}, older than fflab is tested with: install "
            f"{'.'.join(map(str, OLDEST))} or newer"
        )


def _of_policy(client: redis.Redis) -> Iterator[str]:
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", KEEPING_POLICY)
    except redis.ResponseError:  # hosted servers refuse CONFIG
        return
    if policy != KEEPING_POLICY:
        yield (
            f"Redis drops messages when memory is short (maxmemory-policy {policy}), and jobs "
            f"start late: set {KEEPING_POLICY}"
        )


def warn_if_unfit(url: SecretStr | None) -> None:
    """Log what is wrong with a broker, one line each."""
    for complaint in complaints(url.get_secret_value()) if url else ():
        log.warning("%s", complaint)


def probe(url: str) -> redis.Redis:
    """A client that asks once and does not wait for long."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(
        url,
        socket_timeout=PROBE_SECONDS,
        socket_connect_timeout=PROBE_SECONDS,
        retry=once,
        decode_responses=True,
    )
