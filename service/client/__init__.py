"""The Python client: submit a spec, wait, read typed results.

It needs neither torch nor anything of the server's side.
"""

from service.client.async_client import AsyncClient, AsyncJobHandle
from service.client.errors import (
    FflabError,
    JobFailed,
    KeyRefused,
    NotFflab,
    NotFound,
    Refused,
    StillRunning,
    Unreachable,
    VersionSkew,
)
from service.client.notebook_display import Charts, Picture
from service.client.sync_client import Client, JobHandle
from service.schemas import Result

__all__ = [
    "AsyncClient",
    "AsyncJobHandle",
    "Charts",
    "Client",
    "FflabError",
    "JobFailed",
    "JobHandle",
    "KeyRefused",
    "NotFflab",
    "NotFound",
    "Picture",
    "Refused",
    "Result",
    "StillRunning",
    "Unreachable",
    "VersionSkew",
]
