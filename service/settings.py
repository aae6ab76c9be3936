"""Settings from the environment: read once, typed, immutable."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from ffengine.cost import Limits
from ffengine.datasets import CACHE_OF_HOME, UPLOADS_OF_HOME, WEIGHTS_OF_HOME, Datasets
from service.encoding.root_path import root_path
from service.encoding.webhook_secret import decode_secret
from service.host.names import host_name
from service.placement import worker_tags
from service.storage.place import SCHEME, BucketPlace, Place, checked_address

LEFT_BY_ARTIFACTS = 64 * 2**20
ANY_ORIGIN = "*"
PREFIX, NESTED = "FFLAB_", "__"
NEAR = 0.8  # likeness of names, from 0 to 1
BROKER_SCHEMES = ("redis", "rediss")
DEFAULT_PORTS = {"http": 80, "https": 443}


class RetentionRule(BaseModel):
    """How long, and how many, ended jobs of a kind are kept; null: for ever, all.

    Pinned jobs are kept and not counted.
    """

    model_config = ConfigDict(extra="forbid")

    days: float | None = Field(None, gt=0)
    count: int | None = Field(None, ge=0)


class Retention(BaseModel):
    """What is kept of each kind of job. A study's runs go with it."""

    model_config = ConfigDict(extra="forbid")

    train: RetentionRule = RetentionRule()
    check: RetentionRule = RetentionRule()
    forecast: RetentionRule = RetentionRule()
    study: RetentionRule = RetentionRule()
    recorded: RetentionRule = RetentionRule()


class Settings(BaseSettings):
    """Everything that the environment may say; each field is FFLAB_<NAME>.

    A variable that is nearly the name of a field is refused: a setting that is silently not in
    force, such as FFLAB_REQUIRE_KEY, may open a service.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter=NESTED, frozen=True, extra="ignore"
    )

    home: Path = Field(
        Path("~/.local/share/fflab"),
        description="state of the service: database, artifacts, uploads, logs",
    )
    artifacts: str = Field(
        "",
        description="where checkpoints and other large results are kept: an absolute folder, or a "
        "bucket by S3, such as s3://lab/fflab, with the credentials and the endpoint of AWS's "
        "variables; unset: HOME/artifacts",
    )
    artifact_cache: ByteSize = Field(
        ByteSize(4 * 2**30),
        description="the most that a home keeps of what was read from a bucket; in bytes, or with "
        "a unit",
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL; default: SQLite in the home"
    )
    redis_url: SecretStr | None = Field(
        None, description="the broker; default: the embedded server, where one is started"
    )
    data: Path | None = Field(
        None,
        description="where known data sets are looked for and downloaded to; default: HOME/data",
    )
    url: str = Field("http://127.0.0.1:8000", description="the service, for clients")
    api_key: SecretStr | None = Field(None, description="the key that clients send")

    lease_seconds: float = Field(
        10.0, gt=0, description="a worker that is silent for so long has lost its job"
    )
    max_losses: int = Field(3, ge=1, description="a job that loses its worker so often fails")
    checkpoint_seconds: float = Field(20.0, gt=0, description="longest time between checkpoints")
    stop_seconds: float = Field(
        10.0, gt=0, description="time a runner is given to checkpoint before it is killed"
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="largest JSON body accepted")
    max_upload_bytes: int = Field(
        1_000_000_000,
        ge=1_000,
        description="largest file accepted by POST /v1/datasets and POST /v1/weights",
    )
    max_dataset_bytes: ByteSize = Field(
        ByteSize(4 * 2**30),
        description="largest data set that an upload may become, unpacked, with pixels of one byte "
        "or of float32; in bytes, or with a unit",
    )
    max_weight_bytes: ByteSize = Field(
        ByteSize(256 * 2**20),
        description="largest network accepted by POST /v1/weights, its numbers as float32; in "
        "bytes, or with a unit",
    )
    upload_quota: ByteSize = Field(
        ByteSize(64 * 2**30),
        description="uploads are refused that would make all uploads larger than this together",
    )
    upload_quota_per_key: ByteSize = Field(
        ByteSize(16 * 2**30),
        description="the same for the uploads that came with one API key",
    )
    disk_reserve: ByteSize = Field(
        ByteSize(512 * 2**20),
        description="while less is free on the disk of the artifacts (of the home, beside a "
        "bucket), workers begin no job; while less is free on that of the home, uploads are "
        "refused; in bytes, or with a unit (2GB, 512MiB); 0: no reserve",
    )
    renderer_memory: ByteSize = Field(
        ByteSize(2**30),
        ge=256 * 2**20,
        description="the most memory of a process that draws charts and reports; in bytes, or with "
        "a unit (2GB, 512MiB)",
    )
    require_keys: bool = Field(
        False,
        description="refuse requests without an API key even while none was made; needed beyond "
        "loopback",
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="the form of lines of logs: for people, or a JSON object each"
    )
    open_metrics: bool = Field(
        False, description="let /metrics be read without a key where keys are needed"
    )
    allowed_hosts: str | None = Field(
        None,
        description="names, apart by commas, under which the service answers beside those of "
        "loopback; "
        "unset: any name where keys are needed, else none",
    )
    allowed_origins: str | None = Field(
        None,
        description="origins, apart by commas, whose pages may use the API from a browser, as "
        "https://notebook.example.org; *: any may read, and change something with a key",
    )
    max_streams: int = Field(
        500,
        ge=1,
        description="event streams and long polls that one API process holds open; beyond it "
        "streams get 503 and clients poll, and long polls are answered at once",
    )
    root_path: str = Field(
        "",
        description="the path below which a proxy serves fflab, such as /fflab; unset: what "
        "trusted proxies say in X-Forwarded-Prefix",
    )
    public_url: str = Field(
        "",
        description="the address under which people see the service, such as "
        "https://lab.example.org/fflab; messages to webhooks and the snippets of pages have it",
    )
    docs_url: str = Field(
        "",
        description="the address of the built documentation, such as "
        "https://docs.example.org/fflab; pages link to it, and findings to the page of each",
    )
    trusted_proxies: str | None = Field(
        None,
        description="addresses and networks, apart by commas, of proxies whose X-Forwarded-For, "
        "-Proto and -Prefix are believed; unset: FORWARDED_ALLOW_IPS, else loopback",
    )
    max_queued: int = Field(
        20_000, ge=1, description="submits are refused (429) while so many jobs wait"
    )
    max_queued_per_key: int | None = Field(
        None,
        ge=0,
        description="jobs of one key's name that may wait; unset: as many as of all; a key may "
        "have a limit of its own",
    )
    max_running_per_key: int | None = Field(
        None,
        ge=1,
        description="jobs of one key's name that run at once, the others wait; set it for workers",
    )
    max_gpu_seconds_per_key: int | None = Field(
        None,
        ge=0,
        description="submits of a key's name are refused (429) whose jobs that ended within a day "
        "have taken so much time of GPUs",
    )
    max_bytes_per_key: ByteSize | None = Field(
        None,
        description="submits of a key's name are refused (429) while the artifacts of its jobs "
        "take up so much; in bytes, or with a unit (50GB, 20GiB)",
    )
    max_high_per_key: int | None = Field(
        100, ge=0, description="unfinished jobs of one key's name that may have the priority high"
    )
    worker_tags: str = Field(
        "",
        description="tags of the workers of this machine, apart by commas, as a100,80g; jobs ask "
        "for them",
    )
    default_timeout_seconds: float | None = Field(
        None, gt=0, description="time limit of jobs that name none; unset: they have none"
    )
    idempotency_hours: float = Field(
        48.0, gt=0, description="how long an Idempotency-Key is remembered"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="signs webhooks; default: one that the service makes and keeps"
    )
    webhook_allow_private: bool = Field(
        False, description="let webhooks reach private and loopback addresses, also without TLS"
    )
    retention: Retention = Field(
        Retention(),
        description='what is kept, e.g. {"check": {"days": 90, "count": 10000}}; '
        "what is not pinned and beyond it is deleted",
    )
    audit_days: float = Field(
        365.0,
        ge=0,
        description="how long the audit log keeps who did what, in days, which is a day at least; "
        "0: for ever",
    )
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _without_misspelt(self) -> Self:
        for name in unknown_variables():
            if near := nearest_setting(name):
                raise ValueError(f"{name} is no setting; did you mean {near}?")
        return self

    @field_validator("artifacts")
    @classmethod
    def _of_artifacts(cls, address: str) -> str:
        return checked_address(address)

    @field_validator("redis_url")
    @classmethod
    def _of_broker(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None and not _is_broker_url(url.get_secret_value()):
            raise ValueError("it is not the address of a Redis, such as redis://lab:6379/0")
        return url

    @field_validator("webhook_secret")
    @classmethod
    def _of_webhooks(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None:
            decode_secret(secret.get_secret_value())
        return secret

    @field_validator("worker_tags")
    @classmethod
    def _of_workers(cls, tags: str) -> str:
        return ",".join(worker_tags(tags))

    @property
    def tags_of_workers(self) -> list[str]:
        """The tags of the workers of this machine."""
        return worker_tags(self.worker_tags)

    @field_validator("allowed_hosts")
    @classmethod
    def _of_hosts(cls, names: str | None) -> str | None:
        return (
            None
            if names is None
            else ",".join(host_name(name) for name in names.split(",") if name.strip())
        )

    @field_validator("allowed_origins")
    @classmethod
    def _of_origins(cls, origins: str | None) -> str | None:
        return (
            None
            if origins is None
            else ",".join(_origin(text.strip()) for text in origins.split(",") if text.strip())
        )

    @property
    def names_service(self) -> bool:
        """Whether FFLAB_URL is set: who sets it means that service, and not this machine."""
        return "url" in self.model_fields_set

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose pages may use the API."""
        return frozenset(filter(None, (self.allowed_origins or "").split(",")))

    @field_validator("root_path")
    @classmethod
    def _of_root(cls, path: str) -> str:
        return root_path(path)

    @field_validator("public_url", "docs_url")
    @classmethod
    def _of_public_url(cls, url: str) -> str:
        return _address(url) if url else ""

    @property
    def hosts(self) -> frozenset[str]:
        """The names under which the service answers beside those of loopback."""
        return frozenset(filter(None, (self.allowed_hosts or "").split(",")))

    @property
    def root(self) -> Path:
        """The home folder, absolute."""
        return self.home.expanduser().absolute()

    @property
    def database(self) -> str | Path:
        """The SQLAlchemy URL in force, or the file of SQLite in the home.

        A path is no part of a URL: `%41` and `?` in it would be read as something else.
        """
        return self.database_url or self.root / "fflab.db"

    @property
    def artifact_place(self) -> Place:
        """The folder or the bucket of checkpoints and other large results."""
        if self.artifacts.startswith(SCHEME):
            cache = self.root / CACHE_OF_HOME / "artifacts"
            return BucketPlace(address=self.artifacts, cache=cache, cache_bytes=self.artifact_cache)
        return Path(self.artifacts) if self.artifacts else self.root / "artifacts"

    @property
    def artifact_disk(self) -> Path:
        """The folder whose disk must have room: that of artifacts, or the home beside a bucket."""
        place = self.artifact_place
        return place if isinstance(place, Path) else self.root

    @property
    def artifacts_reserve(self) -> int:
        """How much artifacts leave free, so that the database and what else starts can write."""
        return min(self.disk_reserve // 4, LEFT_BY_ARTIFACTS)

    @property
    def data_root(self) -> Path:
        """The folder where known data sets are looked for and downloaded to."""
        return self.data.expanduser().absolute() if self.data else self.root / "data"

    @property
    def datasets(self) -> Datasets:
        """The data sets of this home: those below the data root, and what was uploaded."""
        home = self.root
        return Datasets(
            self.data_root, home / UPLOADS_OF_HOME, home / CACHE_OF_HOME, home / WEIGHTS_OF_HOME
        )


def unknown_variables(names: Iterable[str] | None = None) -> list[str]:
    """The variables that look like settings and are none.

    `names`: of variables; None: those of the environment.
    """
    return sorted(
        name
        for name in (os.environ if names is None else names)
        if name.upper().startswith(PREFIX) and _field_of(name) not in Settings.model_fields
    )


def nearest_setting(name: str) -> str | None:
    """The setting that a variable is nearly the name of, if there is one."""
    found = difflib.get_close_matches(_field_of(name), Settings.model_fields, 1, NEAR)
    return f"{PREFIX}{found[0].upper()}" if found else None


def _field_of(variable: str) -> str:
    return variable.upper().removeprefix(PREFIX).partition(NESTED)[0].lower()


def _is_broker_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in BROKER_SCHEMES and bool(parts.hostname)


def _address(text: str) -> str:
    """Return the address of a service without a slash at its end. Raises ValueError."""
    refusal = f"{text!r} is not an address, such as https://lab.example.org/fflab"
    try:
        parts = urlsplit(text.strip())
        origin = _origin(f"{parts.scheme}://{parts.netloc}")
        path = root_path(parts.path)
    except ValueError:
        raise ValueError(refusal) from None
    if parts.query or parts.fragment:
        raise ValueError(refusal)
    return f"{origin}{path}"


def _origin(text: str) -> str:
    """Return an origin as browsers write it: in lower case, without the port of its scheme.

    Raises ValueError for what is none.
    """
    if text == ANY_ORIGIN:
        return text
    refusal = f"{text!r} is not an origin, such as https://lab.example.org or http://lab:3000"
    try:
        parts = urlsplit(text)
        port = parts.port
        name = host_name(parts.hostname or "")
    except ValueError:
        raise ValueError(refusal) from None
    if parts.scheme not in DEFAULT_PORTS or parts.netloc.count("@") or text.count("/") > 2:
        raise ValueError(refusal)
    host = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{host}" + (
        f":{port}" if port not in (None, DEFAULT_PORTS[parts.scheme]) else ""
    )
