"""`fflab bench`: train by all methods of a fixed protocol, and rank them."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from pydantic import BaseModel, ValidationError

from ffengine.leaderboard import (
    METHODS,
    PROTOCOLS,
    RATE_FACTORS,
    Entry,
    Method,
    Protocol,
    Standing,
    entries,
    standings,
)
from ffengine.percents import percent
from ffengine.results import Interval, TrainResult
from ffengine.spec import TrainSpec, digest
from ffengine.text import user_text
from ffengine.version import NUMERICS_VERSION
from service.cli import completion
from service.cli.options import (
    EXIT_USAGE,
    JsonOption,
    as_typed,
    fail,
    load_settings,
    require_extra,
    show_json,
    write_file,
)
from service.cli.output import err, line, table
from service.results.markdown import table_lines
from service.specs.files import SpecError, read_spec

if TYPE_CHECKING:
    from ffengine.datasets import Datasets

LONGEST_NAME = 60  # characters of a method's name
COLUMNS = (
    "data",
    "network",
    "method",
    "test accuracy, %",
    "learning rate",
    "epoch",
    "S by layer",
    "dead units by layer, %",
)


class KeptRun(BaseModel):
    """A run of a protocol that has ended, in a file of its own.

    **Attributes:**

    - `spec_digest`, `engine_version`: what ran; another spec or other numerics run anew.
    - `result`: its result; null where the numbers diverged.
    - `diverged`: where they did.
    """

    spec_digest: str
    engine_version: str
    result: TrainResult | None = None
    diverged: str | None = None


class Ranking(NamedTuple):
    """The rows of a protocol's table, and what they were computed from."""

    protocol: Protocol
    methods: tuple[Method, ...]
    rows: list[Standing]
    results: list[TrainResult]


def bench(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL",
            help=" ".join(f"{one.name}: {one.meaning}" for one in PROTOCOLS.values()),
        ),
    ] = "small",
    folder: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where each run is kept once it has ended; default fflab-bench-PROTOCOL.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="METHOD", help="Of the methods these alone.", callback=as_typed),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=SPEC",
            help="A method of yours beside them: a training run's YAML or JSON file.",
            callback=as_typed,
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu or cuda:N.", autocompletion=completion.devices)
    ] = "cpu",
    page: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A Markdown page whose table of this protocol is written anew."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train by all methods under one protocol, and rank them.

    Data, widths, seeds and budget are the protocol's; validation samples choose each method's
    learning rate and epoch. A run that has ended is kept, so that the command goes on where it was
    interrupted.
    """
    if protocol not in PROTOCOLS:
        fail(f"{protocol!r} is not a protocol; there are {', '.join(PROTOCOLS)}", EXIT_USAGE)
    chosen = PROTOCOLS[protocol]
    methods = _methods(only or [], method or [])
    kept = folder or Path(f"fflab-bench-{protocol}")
    if page:
        _refuse_page(page, protocol)
    with require_extra("worker"):
        ranking = _ranked(chosen, methods, kept, load_settings().datasets, device)
    if page:
        text = _replaced(page.read_text(encoding="utf-8"), protocol, _lines(ranking))
        write_file(page, text.encode())
    if as_json:
        show_json([_document(row) for row in ranking.rows])
        return
    table(COLUMNS, [_cells(row) for row in ranking.rows])
    line(_obtained(ranking))


def _methods(only: Sequence[str], own: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods that were asked for, with the user's own."""
    known = {one.name: one for one in METHODS}
    if unknown := [name for name in only if name not in known]:
        fail(f"--only {unknown[0]}: the methods are {', '.join(known)}", EXIT_USAGE)
    found = [known[name] for name in only] if only else list(METHODS)
    for text in own:
        name, equals, source = text.partition("=")
        if not (name and equals and source):
            fail(f"--method {text}: write NAME=SPEC, as in --method mine=mine.yaml", EXIT_USAGE)
        if name in {one.name for one in found}:
            fail(f"--method {name}: there is a method of that name; choose another", EXIT_USAGE)
        try:
            name = user_text(name, LONGEST_NAME)
        except ValueError as error:
            fail(f"--method: the name {error}", EXIT_USAGE)
        spec, _ = read_spec(source)
        if not isinstance(spec, TrainSpec):
            fail(f"{source}: kind is {spec.kind!r}; a method is a training run", EXIT_USAGE)
        found.append(Method(name, f"The run of {Path(source).name}.", spec))
    return tuple(found)


def _ranked(
    protocol: Protocol,
    methods: tuple[Method, ...],
    folder: Path,
    datasets: "Datasets",
    device: str,
) -> Ranking:
    """Train what is not kept yet, and rank all."""
    import ffengine
    from ffengine.arrays import DatasetError
    from ffengine.availability import check_available

    train = partial(ffengine.train, device=device, datasets=datasets)
    try:
        runs = list(entries(protocol, methods))
        for entry in runs:
            check_available(entry.spec, datasets)
        folder.mkdir(parents=True, exist_ok=True)
        found = list(_results(runs, folder, train))
    except (DatasetError, ValueError, OSError) as error:
        raise SpecError(str(error)) from error
    results = [result for _, result in found if result is not None]
    return Ranking(protocol, methods, standings(found), results)


def _results(
    runs: Sequence[Entry], folder: Path, train: Callable[[TrainSpec], TrainResult]
) -> Iterator[tuple[Entry, TrainResult | None]]:
    """Return the result of each run: that which is kept, or a new one, which is kept then."""
    for number, entry in enumerate(runs, 1):
        path = folder / f"{digest(entry.spec)}.json"  # not by names, which may be any text
        kept = _kept(path, entry)
        err.print(
            f"{number} of {len(runs)}: {_title(entry)}{' (kept)' if kept else ''}",
            soft_wrap=True,
        )
        if kept is None:
            kept = _trained(entry.spec, train)
            draft = path.with_suffix(".part")
            draft.write_text(kept.model_dump_json(), encoding="utf-8")
            draft.replace(path)  # a run that is interrupted leaves none that looks whole
        yield entry, kept.result


def _title(entry: Entry) -> str:
    rate = [] if entry.lr is None else [f"learning rate {entry.lr:g}"]
    return ", ".join([entry.dataset, _network(entry.widths), entry.method, *rate])


def _kept(path: Path, entry: Entry) -> KeptRun | None:
    """Return what is kept of a run, if it was the same run."""
    try:
        kept = KeptRun.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
    same = (kept.spec_digest, kept.engine_version) == (digest(entry.spec), NUMERICS_VERSION)
    return kept if same else None


def _trained(spec: TrainSpec, train: Callable[[TrainSpec], TrainResult]) -> KeptRun:
    import ffengine

    about = {"spec_digest": digest(spec), "engine_version": NUMERICS_VERSION}
    try:
        return KeptRun(**about, result=train(spec))
    except ffengine.Diverged as error:
        return KeptRun(**about, diverged=str(error))


def _network(widths: Sequence[int]) -> str:
    """Return a network in short: layers times width, or all widths."""
    if len(set(widths)) == 1:
        return f"{len(widths)}×{widths[0]}"
    return "-".join(map(str, widths))


def _cells(row: Standing) -> list[str]:
    """Return the cells of a row."""
    if row.accuracy is None:
        return [row.dataset, _network(row.widths), row.method, "diverged", "", "", "", ""]
    rates = ", ".join(f"{lr:g}" for lr in dict.fromkeys(sorted(row.rates)))
    edge = "*" if row.at_edge else ""
    low, high = min(row.epochs), max(row.epochs)
    return [
        row.dataset,
        _network(row.widths),
        row.method,
        _with_bounds(row.accuracy),
        rates + edge,
        str(low) if low == high else f"{low} to {high}",
        " / ".join("–" if one is None else f"{one.mean:.2f}" for one in row.sparsity),
        " / ".join(percent(one.mean, 0) for one in row.dead_units),
    ]


def _with_bounds(share: Interval) -> str:
    if share.low is None or share.high is None:
        return percent(share.mean, 1)
    return f"{percent(share.mean, 1)} [{percent(share.low, 1)}, {percent(share.high, 1)}]"


def _document(row: Standing) -> dict[str, object]:
    """Return a row as JSON has it."""
    document = row._asdict()
    for name in ("accuracy", "sparsity", "dead_units"):
        value = document[name]
        if isinstance(value, tuple):
            document[name] = [one and one.model_dump(mode="json") for one in value]
        elif value is not None:
            document[name] = value.model_dump(mode="json")
    return document


def _obtained(ranking: Ranking) -> str:
    """Say how the figures were obtained."""
    protocol = ranking.protocol
    if not ranking.results:
        return f"Protocol {protocol.name}: the numbers of every run diverged."
    first = ranking.results[0].provenance
    used = {result.provenance.dataset.name: result.provenance.dataset for result in ranking.results}
    data = "; ".join(
        f"{one.name} (digest {one.digest[:12]}), {one.train_samples:,} samples to train, "
        f"{one.validation_samples:,} to choose, {one.test_samples:,} to test"
        for one in used.values()
    )
    devices = dict.fromkeys(result.provenance.device_name for result in ranking.results)
    *factors, last = (f"{factor:g}" for factor in RATE_FACTORS)
    sentences = (
        f"Protocol {protocol.name}: {data}; seeds {', '.join(map(str, protocol.seeds))}; "
        f"{protocol.epochs} epochs.",
        "Validation samples choose the epoch, and the learning rate among "
        f"{', '.join(factors)} and {last} times the method's own.",
        "A rate with * is the smallest or the largest of those for some seed: one beyond may be "
        "better.",
        "The accuracy is that of all layers together on the test samples, the mean over seeds with "
        "its 95 % interval; higher is better.",
        "S and dead units are means over seeds on the test samples.",
        f"fflab {first.fflab_version}, numerics {first.engine_version}, PyTorch "
        f"{first.torch_version}, {', '.join(devices)}.",
    )
    return " ".join(sentences)


def _marks(protocol: str) -> tuple[str, str]:
    return f"<!-- bench {protocol} -->", f"<!-- end of bench {protocol} -->"


def _refuse_page(page: Path, protocol: str) -> None:
    """Fail before anything is computed where a page cannot take the table."""
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{page}: cannot be read ({error})", EXIT_USAGE)
    begin, end = _marks(protocol)
    if begin not in text or end not in text.partition(begin)[2]:
        fail(f"{page}: the table goes between the lines {begin} and {end}; add both", EXIT_USAGE)


def _replaced(text: str, protocol: str, lines: Sequence[str]) -> str:
    """Return a page with other lines between its marks."""
    begin, end = _marks(protocol)
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n" + "\n".join(lines) + f"\n{end}{after}"


def _lines(ranking: Ranking) -> list[str]:
    """Return the table of a page, and how it was obtained."""
    names = {row.method for row in ranking.rows}
    meanings = [
        f"- `{method.name}`: {method.meaning}" for method in ranking.methods if method.name in names
    ]
    return [
        *table_lines(COLUMNS, map(_cells, ranking.rows)),
        "",
        _obtained(ranking),
        "",
        *meanings,
    ]
