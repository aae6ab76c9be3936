"""A server that speaks S3 over HTTP, in a thread of the tests, with an empty bucket."""

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.storage.place import BucketPlace

BUCKET_MARK = pytest.mark.slow  # to load what speaks S3 takes a second


class S3(NamedTuple):
    """The server: what the environment of a program must say, and a client of the tests' own."""

    environment: Mapping[str, str]
    client: Any

    def place(self, cache: Path, cache_bytes: int = 10**6) -> BucketPlace:
        """A place in a bucket of its own."""
        name = f"lab-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=name)
        return BucketPlace(address=f"s3://{name}/a/prefix", cache=cache, cache_bytes=cache_bytes)


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Run the server. It keeps what it has in memory."""
    pytest.importorskip("s3fs")
    server_of = pytest.importorskip("moto.server")
    import boto3

    server = server_of.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        environment = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            region_name="us-east-1",
        )
        yield S3(environment, client)
        client.close()
    finally:
        server.stop()
