"""The pages docs/findings/*.md: python -m scripts.findings [NAME ...] runs the study of each
finding in this process, keeps its results, and writes page and chart from them.

With --from DIRECTORY nothing is run: results that are there already are read, such as the
result.json of `fflab demo --preset NAME` under the name NAME.json.

--size large takes more seeds and, of MNIST, all images; --set FIELD=VALUE sets a field of every
run, as in --set network.widths=[1024]. Some findings go further with data sets that do not come
with fflab: their runs are made where the files are at hand, and the page names those left out.

--summary FILE writes one page with the answers of all, instead of a page each.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

import vl_convert
import yaml
from pydantic import JsonValue, TypeAdapter

import ffengine
from ffengine.datasets import Datasets
from ffengine.findings import FINDINGS, Finding, Run
from ffengine.presets import PRESETS
from ffengine.results import RunResult
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainSpec
from ffengine.study import Cell, GridError, expand, with_params
from service.encoding.escaping import for_drawing
from service.results.charts.finding import finding_chart
from service.results.charts.finish import document_of, finished
from service.results.finding_page import answers_page, finding_page, lines_of, runs_of

ROOT = Path(__file__).parents[1]
PAGES, KEPT = ROOT / "docs" / "findings", ROOT / "findings-output"
Size = Literal["tiny", "full", "large"]
SIZES: tuple[Size, ...] = get_args(Size)
RESULT: TypeAdapter[RunResult] = TypeAdapter(RunResult)


def main() -> None:
    """Run, read and write what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m scripts.findings", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FINDINGS)}; all")
    parser.add_argument("--from", dest="read", type=Path, help="read results here, run nothing")
    parser.add_argument("--keep", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--to", type=Path, default=PAGES, help="where pages are written")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--size", choices=SIZES, default="full", help="tiny: seconds, figures without meaning"
    )
    parser.add_argument("--tiny", dest="size", action="store_const", const="tiny")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="in every run"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="one page of the answers")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(FINDINGS):
        parser.error(
            f"no such finding: {', '.join(sorted(unknown))}; choose of {', '.join(FINDINGS)}"
        )
    fields = dict(setting_of(text, parser) for text in asked.set)
    datasets = Datasets.of_environment()
    found: list[tuple[Finding, list[Run]]] = []
    options = options_of(asked.size, asked.set)
    for name in asked.names or FINDINGS:
        finding = FINDINGS[name]
        file = (asked.read or asked.keep) / f"{name}.json"
        further = parts_at_hand(finding, datasets) if asked.read is None else parts_in(file)
        try:
            cells = cells_of(finding, asked.size, fields, further)
        except GridError as error:
            parser.error(f"{name}: {error}")
        if asked.read is None:
            keep(file, [run(cell, asked.device) for cell in cells], further)
        runs = runs_of(cells, read(file))
        found.append((finding, runs))
        if asked.summary is None:
            write(finding, runs, asked.to, further, options)
    if asked.summary is not None:
        names = [finding.name for finding, _ in found]
        command = " ".join(["python -m scripts.findings", *names, *options])
        asked.summary.write_text(answers_page(found, command, changed_by(found, asked.size)))
        print(asked.summary)


def options_of(size: Size, settings: Sequence[str]) -> list[str]:
    """Return the options of the command that change its runs, as one types them."""
    sized = [] if size == "full" else [f"--size {size}"]
    return sized + [f"--set {shlex.quote(text)}" for text in settings]


def changed_by(found: Sequence[tuple[Finding, list[Run]]], size: Size) -> dict[str, str]:
    """Return what the size changes in the runs of each finding, in words."""
    return {finding.name: larger(finding) for finding, _ in found} if size == "large" else {}


def setting_of(text: str, parser: argparse.ArgumentParser) -> tuple[str, JsonValue]:
    """Return the field and the value of FIELD=VALUE; end the program where it is neither."""
    field, equals, value = text.partition("=")
    if not equals:
        parser.error(f"--set {text}: expected FIELD=VALUE")
    return field, yaml.safe_load(value)


def parts_at_hand(finding: Finding, datasets: Datasets) -> list[str]:
    """Return the further parts of a finding whose data sets are on this machine."""
    return [
        name
        for name, part in finding.further.items()
        if datasets.is_present(datasets.facts_of(part.base.dataset.name))
    ]


def parts_in(file: Path) -> list[str]:
    """Return the further parts whose results a file has; files of `fflab demo` have none."""
    found: list[str] = json.loads(file.read_text()).get("further", [])
    return found


def cells_of(
    finding: Finding,
    size: Size = "full",
    fields: Mapping[str, JsonValue] = MappingProxyType({}),
    further: Sequence[str] = (),
) -> list[Cell]:
    """Return the runs of a finding's study.

    **Arguments:**

    - `finding`: the entry of the catalogue.
    - `size`: "tiny" makes each run small, "large" the study larger.
    - `fields`: values to set in every run, by dotted field.
    - `further`: parts to add, of the finding's `further`.
    """
    more = StudySpec(parts={name: finding.further[name] for name in further})
    cells = expand(PRESETS[finding.name].spec) + (expand(more) if further else [])
    of_size = {"full": lambda _: {}, "tiny": finding.tiny_of, "large": lambda _: finding.large}
    return [
        cell._replace(
            spec=with_params(
                cell.spec,
                changes_of(cell.spec, of_size[size](cell.spec) | dict(fields)),
                (f"--size {size}, --set",),
                None,
            )
        )
        for cell in cells
    ]


def changes_of(
    spec: TrainSpec | CheckSpec | ForecastSpec, changes: Mapping[str, JsonValue]
) -> dict[str, JsonValue]:
    """Return what is set in a run: a data set of MNIST's images is not put in another's place."""
    if "dataset.name" not in changes or spec.dataset.name == "mnist-mini":
        return dict(changes)
    kept = {"dataset.name", "batch_size"}
    return {field: value for field, value in changes.items() if field not in kept}


def run(cell: Cell, device: str) -> RunResult:
    """Run one cell, and say how long it took."""
    started = time.monotonic()
    result: RunResult
    if isinstance(cell.spec, TrainSpec):
        result = ffengine.train(cell.spec, device=device)
    elif isinstance(cell.spec, CheckSpec):
        result = ffengine.check(cell.spec, device=device)
    else:
        result = ffengine.forecast(cell.spec, device=device)
    print(
        f"{cell.part} {json.dumps(cell.params)}: {time.monotonic() - started:.1f} s",
        file=sys.stderr,
    )
    return result


def keep(file: Path, results: list[RunResult], further: Sequence[str] = ()) -> None:
    """Write results as `fflab demo` writes them, and which further parts they are of."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = [result.model_dump(mode="json") for result in results]
    file.write_text(json.dumps({"cells": cells, "further": list(further)}))


def read(file: Path) -> list[RunResult]:
    """Read the results of a study's runs."""
    return [RESULT.validate_python(cell) for cell in json.loads(file.read_text())["cells"]]


def notes_on(finding: Finding, further: Sequence[str], options: Sequence[str]) -> list[str]:
    """Return lines on the page: what options change, data sets not at hand, the larger command."""
    absent = {
        part.base.dataset.name: None
        for name, part in finding.further.items()
        if name not in further
    }
    notes = [
        f"Left out, since its files were not at hand: {name} (`fflab data fetch {name}`, or "
        f"[bring the files](../howto/datasets.md#files-of-a-known-data-set))."
        for name in absent
    ]
    if options:
        changed = f" ({larger(finding)})" if "--size large" in options else ""
        notes.insert(
            0,
            f"The runs are those described above with `{' '.join(options)}`{changed}; settings "
            f"keep the names of the usual runs.",
        )
    elif finding.large:
        notes.append(
            f"Larger: `{command_of(finding)} --size large` ({larger(finding)}). Any field of all "
            f"runs is set with `--set`, as in `--set seeds=[0,1,2,3,4,5,6]`; with a service, "
            f"`fflab submit {finding.name} --set base.seeds=[0,1,2,3,4,5,6]`."
        )
    return notes


def command_of(finding: Finding) -> str:
    """Return what the reader types."""
    return f"python -m scripts.findings {finding.name}"


def larger(finding: Finding) -> str:
    """Return what --size large changes, in words."""
    return ", ".join(f"`{field}: {json.dumps(value)}`" for field, value in finding.large.items())


def write(
    finding: Finding,
    runs: list[Run],
    target: Path,
    further: Sequence[str] = (),
    options: Sequence[str] = (),
) -> None:
    """Write page and chart of a finding."""
    target.mkdir(parents=True, exist_ok=True)
    lines = lines_of(runs)
    chart = finding_chart(finding.plot(runs), [f"data: {lines.data}", f"{lines.made_by}"])
    picture = target / f"{finding.name}.svg"
    picture.write_text(vl_convert.vegalite_to_svg(for_drawing(finished(document_of(chart)))))
    command = " ".join([command_of(finding), *options])
    notes = notes_on(finding, further, options)
    page = finding_page(finding, runs, command, picture.name, notes)
    (target / f"{finding.name}.md").write_text(page)
    print(target / f"{finding.name}.md")


if __name__ == "__main__":
    main()
