"""Commands of data sets, and of the operator: keys, retention, the secret of webhooks."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from pydantic import ByteSize, Field, TypeAdapter, ValidationError

from ffengine.arrays import DatasetError
from ffengine.datasets import DATASETS
from ffengine.text import bytes_in_words
from ffengine.uploads import InUse
from service.artifacts import Artifacts
from service.cli import completion
from service.cli.imports import import_files
from service.cli.options import (
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_USAGE,
    HomeOption,
    JsonOption,
    as_typed,
    fail,
    load_settings,
    make_client,
    open_store,
    require_extra,
    show_json,
)
from service.cli.output import table
from service.cli.share import seconds_of
from service.encoding.viewer import Scope
from service.host.private import make_private_folder
from service.settings import Settings

if TYPE_CHECKING:
    from service.background.retention import ExpiredJob, UnknownArtifacts
    from service.store import ApiKey, Store

LISTED = 1_000
_SIZE = TypeAdapter(Annotated[ByteSize, Field(ge=0, lt=2**63)])
COMES_WITH_FFLAB = "comes with fflab"
KeyName = Annotated[
    str, typer.Argument(metavar="NAME", help="For whom or what it is.", callback=as_typed)
]
KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY",
        help="Its id; or its name, where one valid key has it.",
        callback=as_typed,
    ),
]
MaxQueued = Annotated[
    int | None,
    typer.Option(metavar="JOBS", min=0, help="How many jobs of the owner may wait."),
]
MaxRunning = Annotated[
    int | None,
    typer.Option(metavar="JOBS", min=1, help="How many of them run at once; the others wait."),
]
MaxGpuSeconds = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS", min=0, help="Time of GPUs within a day, after which submits are refused."
    ),
]
NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="The name that specs give it; `fflab data list` lists them.",
        autocompletion=completion.datasets,
    ),
]

MaxBytes = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Room for artifacts, as 50GB or 20GiB, beyond which submits are refused.",
    ),
]

data_app = typer.Typer(no_args_is_help=True, help="Data sets: list, fetch, import, remove.")
keys_app = typer.Typer(
    no_args_is_help=True, help="API keys of this service's database: create, list, revoke, clear."
)


@data_app.command("list")
def data_list(
    here: Annotated[
        bool, typer.Option("--here", help="Those of this machine, whatever FFLAB_URL says.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List data sets.

    Those of the service where FFLAB_URL names one, else those of this machine.
    """
    settings = load_settings()
    at_service = settings.names_service and not here
    rows = _datasets_of_service() if at_service else _datasets_here(settings)
    columns = ("name", "samples", "shape", "where")
    if as_json:
        show_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        of = f"the service at {settings.url}" if at_service else f"this machine, {settings.root}"
        table(columns, rows, title=f"data sets of {of}")


def _datasets_of_service() -> list[list[str]]:
    with make_client() as client:
        found = client.get("/v1/datasets")["items"]
    return [
        [
            str(facts["name"]),
            f"{facts['train_samples']:,} + {facts['test_samples']:,}",
            "x".join(map(str, facts["shape"])),
            _place_at_service(facts),
        ]
        for facts in found
    ]


def _place_at_service(facts: Mapping[str, Any]) -> str:
    if facts["bundled"]:
        return COMES_WITH_FFLAB
    if facts["uploaded"]:
        by = facts.get("uploaded_by")
        return f"uploaded by {by}" if by else "uploaded"
    return "fetched by the worker that needs it"


def _datasets_here(settings: Settings) -> list[list[str]]:
    datasets, rows = settings.datasets, []
    for name in datasets.names():
        facts = datasets.facts_of(name)
        if facts.uploaded:
            where = str(datasets.upload_folder(name))
        elif facts.bundled:
            where = COMES_WITH_FFLAB
        else:
            where = str(datasets.folder_of(facts) or f"not here: fflab data fetch {name}")
        rows.append(
            [
                name,
                f"{facts.train_samples:,} + {facts.test_samples:,}",
                "x".join(map(str, facts.shape)),
                where,
            ]
        )
    return rows


@data_app.command("fetch")
def data_fetch(name: NameArgument, as_json: JsonOption = False) -> None:
    """Download a data set of the catalogue, and verify it.

    It goes to FFLAB_DATA, or else into the home. Those that come with fflab are only verified.
    """
    settings = load_settings()
    _make_home_for(name, settings)
    try:
        with require_extra("worker"):
            settings.datasets.load(name)
    except DatasetError as error:
        if isinstance(error.__cause__, ModuleNotFoundError):
            fail(
                f"downloading {name} needs {error.__cause__.name}, which is not installed: pip "
                f"install 'fflab[worker]'",
                EXIT_USAGE,
            )
        fail(str(error), EXIT_NOT_FOUND)
    typer.echo(
        json.dumps({"name": name, "verified": True})
        if as_json
        else f"{name}: {COMES_WITH_FFLAB if _is_bundled(name) else 'there'}, and verified"
    )


@data_app.command("import")
def data_import(
    name: NameArgument,
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder of files, or an .npz of x and y.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Verify a data set, and copy it to where fflab finds it.

    SOURCE is the folder of a known data set's files, or an .npz of x and y under a new name.
    """
    settings = load_settings()
    _make_home_for(name, settings)
    target = import_files(name, source, settings.datasets)
    typer.echo(
        json.dumps({"name": name, "folder": str(target)})
        if as_json
        else f"{name}: {COMES_WITH_FFLAB}; nothing is to be imported"
        if _is_bundled(name)
        else f"{name}: verified, in {target}"
    )


def _is_bundled(name: str) -> bool:
    return name in DATASETS and DATASETS[name].bundled


def _make_home_for(name: str, settings: Settings) -> None:
    """Make the home for its owner alone, where the data set is going to be in it."""
    if settings.data is None or name not in DATASETS:
        with suppress(OSError):  # who writes the files says what is wrong
            make_private_folder(settings.root)


@data_app.command("remove")
def data_remove(
    name: NameArgument,
    as_json: JsonOption = False,
) -> None:
    """Remove an upload from this machine's home, unless unfinished jobs of its service need it."""
    settings = load_settings()
    try:
        with _service_here(settings) as store:
            needing = store.jobs.needing_dataset if store else lambda _name: ()
            settings.datasets.remove(name, lambda: needing(name))
            if store:
                from service.background.shared_uploads import SharedUploads

                SharedUploads(store, Artifacts(settings.artifact_place), settings).forget(
                    "dataset", name
                )
    except InUse as error:
        fail(str(error), EXIT_USAGE)
    except DatasetError as error:
        fail(str(error), EXIT_NOT_FOUND)
    typer.echo(json.dumps({"name": name, "removed": True}) if as_json else f"{name}: removed")


@contextmanager
def _service_here(settings: Settings) -> "Iterator[Store | None]":
    """Yield the store of this home's service; None where there is none.

    Fails where the database is not that of the home's artifacts.
    """
    artifacts = Artifacts(settings.artifact_place)
    served = settings.database_url or artifacts.label() is not None or artifacts.owners()
    if not served and find_spec("sqlalchemy") is None:
        yield None  # no service can have run here
    else:
        with open_store(None, make=False) as store:
            yield store


@keys_app.command("create")
def keys_create(
    name: KeyName,
    scope: Annotated[
        Scope,
        typer.Option(
            help="read: look at jobs that are not private; submit: also submit some, and change "
            "those of this name; admin: change everybody's, private ones too."
        ),
    ] = "submit",
    expires: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="How long it is valid, as 12h, 90d or 8w; else for ever."
        ),
    ] = None,
    max_queued: MaxQueued = None,
    max_running: MaxRunning = None,
    max_gpu_seconds: MaxGpuSeconds = None,
    max_bytes: MaxBytes = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an API key; it is shown only this once.

    From then on the service refuses requests without a key.
    """
    seconds = None if expires is None else seconds_of(expires)
    with open_store(home) as store:
        from service.store import KeyNameTaken
        from service.web.auth import create_key, remember_keys

        try:
            key = create_key(
                store.api_keys,
                name,
                scope=scope,
                expires_in_seconds=seconds,
                max_queued=max_queued,
                max_running=max_running,
                max_gpu_seconds=max_gpu_seconds,
                max_bytes=_size_of(max_bytes),
            )
        except ValueError as error:
            fail(f"NAME: {error}", EXIT_USAGE)
        except KeyNameTaken as error:
            fail(
                f"NAME: the valid key {error.id} is named {name!r} already, and its jobs would be "
                f"this one's: choose another name, or revoke {error.id} first to replace it",
                EXIT_USAGE,
            )
        with suppress(OSError):  # the service does it as well
            remember_keys(load_settings(home).root)
    typer.echo(
        json.dumps(key._asdict())
        if as_json
        else f"{key.secret}\n(key {key.id} of {key.name}; it is not shown again)"
    )


@keys_app.command("limit")
def keys_limit(
    key: KeyArgument,
    max_queued: MaxQueued = None,
    max_running: MaxRunning = None,
    max_gpu_seconds: MaxGpuSeconds = None,
    max_bytes: MaxBytes = None,
    clear: Annotated[
        bool, typer.Option("--clear", help="First let the settings of the service say all of them.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show or change what the owner of a key may have at once, and in a day."""
    given = {
        "max_queued": max_queued,
        "max_running": max_running,
        "max_gpu_seconds": max_gpu_seconds,
        "max_bytes": _size_of(max_bytes),
    }
    changes = {name: value for name, value in given.items() if clear or value is not None}
    with open_store(home) as store:
        from service.store import SeveralKeys

        try:
            limits = store.api_keys.limit(key, changes)
        except SeveralKeys as error:
            _fail_several(key, error.ids)
    if limits is None:
        fail(f"there is no valid key {key!r}; `fflab keys list` shows them", EXIT_NOT_FOUND)
    if as_json:
        show_json({"key": key, **limits._asdict()})
        return
    table(
        ["limit", "of this key"],
        [
            [
                name.removeprefix("max_").replace("_", " "),
                "as set" if value is None else f"{value:,}",
            ]
            for name, value in limits._asdict().items()
        ],
    )


def _size_of(text: str | None) -> int | None:
    """Read a size such as 50GB; fail with what was wrong."""
    if text is None:
        return None
    try:
        return int(_SIZE.validate_python(text))
    except ValidationError:
        fail(f"--max-bytes {text}: give a number and a unit, as in 50GB or 20GiB", EXIT_USAGE)


def _fail_several(key: str, ids: Sequence[str]) -> NoReturn:
    fail(
        f"{len(ids)} valid keys are named {key!r}: {', '.join(ids)}; give the id of one", EXIT_USAGE
    )


@keys_app.command("list")
def keys_list(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List API keys: their scopes, when they expire, and when each was used last, to a minute."""
    with open_store(home) as store:
        found = store.api_keys.all()
    if as_json:
        show_json([_key_facts(key) for key in found])
        return
    rows = [
        [
            key.id,
            key.name,
            _state_of(key),
            key.scope,
            _day(key.expires_at) or "never",
            _day(key.used_at) or "never",
        ]
        for key in found
    ]
    table(["id", "name", "state", "scope", "expires", "last use"], rows)


def _key_facts(key: "ApiKey") -> dict[str, Any]:
    """A key as `--json` shows it; times in UTC."""
    times = {
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "used_at": key.used_at,
    }
    facts = {"id": key.id, "name": key.name, "state": _state_of(key), "scope": key.scope}
    return facts | {name: at and _moment(at).isoformat() for name, at in times.items()}


def _state_of(key: "ApiKey") -> str:
    return "revoked" if key.is_revoked else "expired" if key.is_expired else "valid"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _day(seconds: float | None) -> str:
    return f"{_moment(seconds):%Y-%m-%d %H:%M} UTC" if seconds is not None else ""


@keys_app.command("revoke")
def keys_revoke(key: KeyArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Revoke an API key by its id; or by its name, where one valid key has it."""
    with open_store(home) as store:
        from service.store import SeveralKeys

        try:
            is_revoked = store.api_keys.revoke(key)
        except SeveralKeys as error:
            _fail_several(key, error.ids)
        if not is_revoked:
            fail(f"there is no valid key {key!r}; `fflab keys list` shows them", EXIT_NOT_FOUND)
    typer.echo(json.dumps({"key": key, "revoked": True}) if as_json else f"{key} is revoked")


@keys_app.command("clear")
def keys_clear(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Delete all API keys: whoever reaches the service may use it, once it was restarted.

    Otherwise it stays closed from its first key on, even where the keys are revoked or lost.
    """
    root = load_settings(home).root
    with open_store(home) as store:
        from service.web.auth import clear_keys

        try:
            count = clear_keys(store.api_keys, root)
        except OSError as error:
            fail(f"{root} cannot be written ({error}), so the service stays closed", EXIT_FAILED)
    typer.echo(
        json.dumps({"deleted": count})
        if as_json
        else f"keys deleted: {count}; restart the service to let everybody in"
    )


def retention(
    apply: Annotated[
        bool, typer.Option("--apply", help="Delete them now; else they are only listed.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List or delete jobs and files that are no longer kept.

    The service deletes by itself, from time to time, the jobs that FFLAB_RETENTION lets go.
    Artifacts that belong to no job of the database are removed by --apply alone.
    """
    with require_extra("server"):
        from service.background.retention import find_expired, find_unknown, remove_unknown, sweep
        from service.background.shared_uploads import SharedUploads

    settings = load_settings(home)
    artifacts = Artifacts(settings.artifact_place)
    with open_store(home) as store:
        strays = find_unknown(store, artifacts)
        found, deleted = find_expired(store, settings.retention, LISTED), []
        while apply and (swept := sweep(store, artifacts, settings.retention)):
            deleted += swept
        removed = remove_unknown(store, artifacts) if apply else []
        uploads = SharedUploads(store, artifacts, settings)
        files = uploads.remove_left_over() if apply else uploads.left_over()
        if removed or (apply and files):
            store.audit.note("remove-files", None, jobs=len(removed), uploads=len(files))
    if as_json:
        listed = {
            "found": [job.model_dump() for job in found],
            "deleted": [job.id for job in deleted],
        }
        artifacts_of = {
            "unknown": [one.model_dump() for one in strays],
            "removed": [one.model_dump() for one in removed],
            "files_of_no_upload": files,
        }
        show_json({"policy": settings.retention.model_dump(), **listed, **artifacts_of})
    else:
        _show_jobs(
            deleted if apply else found,
            "deleted" if apply else "would be deleted; --apply deletes them now",
        )
        _show_artifacts(
            removed if apply else strays,
            "removed" if apply else "belong to no job of the database; --apply removes them",
        )
        if files:
            what = "removed" if apply else "--apply removes them"
            typer.echo(f"files that belong to no upload: {len(files)}; {what}")
    if apply and (left := len(strays) - len(removed)) > 0:
        fail(
            f"{left} folders of artifacts in {artifacts.place} could not be removed: look at who "
            f"may write there",
            EXIT_FAILED,
        )


def _show_jobs(jobs: "Sequence[ExpiredJob]", what: str) -> None:

    table(
        ["job", "kind", "name", "ended days ago", "reason"],
        [[str(value or "") for value in job.model_dump().values()] for job in jobs],
    )
    typer.echo(f"{len(jobs)} {what}")


def _show_artifacts(strays: "Sequence[UnknownArtifacts]", what: str) -> None:
    """Print the artifacts that belong to no job; nothing if there are none."""

    if strays:
        table(["artifacts", "bytes"], [[one.job, str(one.bytes)] for one in strays], right=(1,))
        typer.echo(
            f"{len(strays)} folders of artifacts, "
            f"{bytes_in_words(sum(one.bytes for one in strays))}, {what}"
        )


def webhook_secret(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show the secret that signs webhooks.

    The service uses FFLAB_WEBHOOK_SECRET, or else a secret that it made. Jobs may have one of their
    own.
    """
    given = load_settings(home).webhook_secret
    with open_store(home) as store:
        secret = given.get_secret_value() if given else store.deliveries.signing_secret()
        store.audit.note("show-secret", None)
    typer.echo(json.dumps({"secret": secret}) if as_json else secret)
