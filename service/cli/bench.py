"""`fflab bench`: train by all methods of a fixed protocol, and rank them."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

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
from ffengine.spec import TrainSpec
from ffengine.text import user_text
from service.cli import completion
from service.cli.bench_runs import Bench, KeptRuns, Say, run_all
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
from service.settings import Settings
from service.specs.files import SpecError, read_spec

LONGEST_NAME = 60  # characters of a method's name
MOST_JOBS = 64
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
            help="Where runs and checkpoints are kept; default fflab-bench-PROTOCOL.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METHOD",
            help="Of the methods these alone; those of --method always.",
            callback=as_typed,
        ),
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
        list[str],
        typer.Option(
            help="cpu or cuda:N; may be repeated: runs are shared out among GPUs.",
            autocompletion=completion.devices,
        ),
    ] = ["cpu"],  # noqa: B006 - typer copies it
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            min=1,
            max=MOST_JOBS,
            metavar="N",
            help="Runs at a time, each in a process of its own; default one on each device.",
        ),
    ] = None,
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
    learning rate and epoch. Runs that have ended are kept, and so are checkpoints of the others:
    the same command goes on where it was interrupted.
    """
    if protocol not in PROTOCOLS:
        fail(f"{protocol!r} is not a protocol; there are {', '.join(PROTOCOLS)}", EXIT_USAGE)
    chosen = PROTOCOLS[protocol]
    methods = _methods(only or [], method or [])
    devices = _devices(device, jobs)
    kept = folder or Path(f"fflab-bench-{protocol}")
    if page:
        _refuse_page(page, protocol)
    with require_extra("worker"):
        ranking = _ranked(chosen, methods, kept, load_settings(), devices)
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
    brought = {text.partition("=")[0] for text in own}
    if unknown := [name for name in only if name not in known.keys() | brought]:
        fail(f"--only {unknown[0]}: the methods are {', '.join(known)}", EXIT_USAGE)
    found = [known[name] for name in only if name in known] if only else list(METHODS)
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
    settings: Settings,
    devices: Sequence[str],
) -> Ranking:
    """Train what is not kept yet, and rank all."""
    from ffengine.arrays import DatasetError
    from ffengine.availability import check_available

    try:
        runs = list(entries(protocol, methods))
        for entry in runs:
            check_available(entry.spec, settings.datasets)
        folder.mkdir(parents=True, exist_ok=True)
        kept = KeptRuns(folder, devices[0].partition(":")[0])
        bench = Bench(kept, settings.datasets, settings.checkpoint_seconds)
        found = run_all([entry.spec for entry in runs], bench, devices, _sayer(runs))
    except (DatasetError, ValueError, OSError) as error:
        raise SpecError(str(error)) from error
    results = [one.result for one in found]
    return Ranking(
        protocol,
        methods,
        standings(list(zip(runs, results, strict=True))),
        [result for result in results if result is not None],
    )


def _sayer(runs: Sequence[Entry]) -> Say:
    """Return what prints how far a run is, with its number and how many there are."""

    def say(number: int, words: str) -> None:
        title = _title(runs[number])
        err.print(f"{number + 1} of {len(runs)}: {title}: {words}", soft_wrap=True)

    return say


def _devices(names: Sequence[str], jobs: int | None) -> list[str]:
    """Return the device of each run that is made at the same time."""
    if wrong := [name for name in names if not re.fullmatch(r"cpu|cuda:\d{1,3}", name)]:
        fail(f"--device {wrong[0]}: expected cpu or cuda:N", EXIT_USAGE)
    if len({name.partition(":")[0] for name in names}) > 1:
        fail("--device: cpu and GPUs have other figures; name one kind of device", EXIT_USAGE)
    return [names[number % len(names)] for number in range(jobs or len(names))]


def _title(entry: Entry) -> str:
    rate = [] if entry.lr is None else [f"learning rate {entry.lr:g}"]
    return ", ".join([entry.dataset, _network(entry.widths), entry.method, *rate])


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
