"""Shell completion of jobs, presets, files and fields of a spec.

It offers less where the service does not answer, and never prints an error.
"""

import os
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from ffengine.datasets import DATASETS
from ffengine.presets import PRESETS
from ffengine.text import visible
from service.client import Client, FflabError
from service.specs.files import SpecError, apply, read_document
from service.specs.schema_fields import fields_of

if TYPE_CHECKING:
    from pydantic import JsonValue

TIMEOUT_SECONDS = 0.5
OFFERED_JOBS = 100
SPEC_SUFFIXES = (".yaml", ".yml", ".json")
FILES = (
    "result.json",
    "result.csv",
    "curves.parquet",
    "report.html",
    "result.npz",
    "weights.safetensors",
)

Offer = tuple[str, str]  # a completion and its meaning


def jobs(incomplete: str) -> list[Offer]:
    """Offer ids and names of the newest jobs."""
    offers: list[Offer] = [("last", "the newest job")]
    with _ignoring_errors(), _client() as client:
        for job in islice(client.jobs(limit=OFFERED_JOBS), OFFERED_JOBS):
            meaning = f"{job.kind} {job.state.value} {job.name or ''}".strip()
            offers += [(job.id, meaning), *([(job.name, meaning)] if job.name else [])]
    return _with_prefix(offers, incomplete)


def workers(incomplete: str) -> list[Offer]:
    """Offer the live workers, and their hosts."""
    offers: list[Offer] = []
    with _ignoring_errors(), _client() as client:
        for one in client.get("/v1/workers")["items"]:
            offers += [(str(one["host"]), "all of its workers"), (str(one["id"]), one["device"])]
    return _with_prefix(list(dict(offers).items()), incomplete)


def specs(incomplete: str) -> list[Offer]:
    """Offer presets, and files that may hold a spec."""

    offers: list[Offer] = [(preset.name, preset.meaning) for preset in PRESETS.values()]
    folder = Path(incomplete).parent if "/" in incomplete else Path()
    with _ignoring_errors():
        inside = sorted(folder.expanduser().iterdir())
        offers += [(str(path), "file") for path in inside if path.suffix in SPEC_SUFFIXES]
        offers += [
            (f"{path}/", "folder")
            for path in inside
            if path.is_dir() and not path.name.startswith(".")
        ]
    return _with_prefix(offers, incomplete)


def settings(incomplete: str) -> list[Offer]:
    """Offer the fields of the command's spec, and the values of fields that are chosen by name."""

    document: dict[str, JsonValue] = {"kind": "train"}
    words = _words()
    with _ignoring_errors():
        document = read_document(_first_argument(words))
        for option, setting in pairwise(words[:-1]):
            if option == "--set":
                apply(document, setting)
    known = fields_of(document)
    field, equals, _ = incomplete.partition("=")
    if not equals:
        return _with_prefix(
            [(f"{name}=", entry.meaning) for name, entry in known.items()], incomplete
        )
    values = known[field].choices if field in known else ()
    return _with_prefix([(f"{field}={value}", "") for value in values], incomplete)


def outputs(incomplete: str) -> list[Offer]:
    """Offer names of output files: the charts that the job has, and the other formats."""
    offers: list[Offer] = [(name, "") for name in FILES]
    with _ignoring_errors(), _client() as client:
        asked = _first_argument(_words())
        named = {} if asked == "last" else {"name": asked}
        job = (
            client.read(asked)
            if asked.startswith("job_")
            else next(client.jobs(limit=1, **named), None)
        )
        charts = client.charts(job.id) if job else {}
        offers = [
            (f"{name}.{ending}", picture.meaning)
            for name, picture in charts.items()
            for ending in ("png", "svg", "pdf")
        ] + offers
    return _with_prefix(offers, incomplete)


def _words() -> list[str]:
    """Return the words of the command line so far; bash splits `a=b` in three."""
    text = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    try:
        return shlex.split(text.replace("\n=\n", "="))
    except ValueError:  # an open quotation mark
        return text.split()


def _first_argument(words: list[str]) -> str:
    """Return the first word after the command that is no option."""
    return next(
        (
            word
            for before, word in pairwise(words[1:])
            if not word.startswith("-") and before != "--set"
        ),
        "",
    )


def devices(incomplete: str) -> list[Offer]:
    """Offer devices."""
    return _with_prefix(
        [("auto", "the first GPU, else the processor"), ("cpu", ""), ("cuda:0", "the first GPU")],
        incomplete,
    )


def worker_devices(incomplete: str) -> list[Offer]:
    """Offer devices, and all GPUs."""
    return [*devices(incomplete), *_with_prefix([("all", "each GPU")], incomplete)]


def datasets(incomplete: str) -> list[Offer]:
    """Offer the data sets of the catalogue."""

    return _with_prefix([(facts.name, facts.meaning) for facts in DATASETS.values()], incomplete)


def presets(incomplete: str) -> list[Offer]:
    """Offer the ready-made studies."""

    return _with_prefix([(preset.name, preset.meaning) for preset in PRESETS.values()], incomplete)


def sections(incomplete: str) -> list[Offer]:
    """Offer the parts of the catalogue."""
    from service.web.catalogue import Catalog

    parts = [name for name in Catalog.model_fields if name != "spec_schema"]
    return _with_prefix([(part, "") for part in parts], incomplete)


def _with_prefix(offers: Iterable[Offer], incomplete: str) -> list[Offer]:
    """Return the offers with that beginning, without names that a terminal should not show."""

    fitting = {
        name: visible(meaning)
        for name, meaning in offers
        if name.startswith(incomplete) and name == visible(name)
    }
    return list(fitting.items())


def _client() -> Client:

    return Client(timeout_seconds=TIMEOUT_SECONDS, attempts=1)


@contextmanager
def _ignoring_errors() -> Iterator[None]:
    """Ignore faults of files, settings and service: completion must not print them."""

    try:
        yield
    except (OSError, ValueError, FflabError, SpecError):
        return
