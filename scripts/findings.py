"""The pages docs/findings/*.md: python -m scripts.findings [NAME ...] runs the study of each
finding in this process, keeps its results, and writes page and chart from them.

With --from DIRECTORY nothing is run: results that are there already are read, such as the
result.json of `fflab demo --preset NAME` under the name NAME.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import vl_convert
from pydantic import TypeAdapter

import ffengine
from ffengine.findings import FINDINGS, Finding, Run
from ffengine.presets import PRESETS
from ffengine.results import RunResult
from ffengine.spec import CheckSpec, TrainSpec
from ffengine.study import Cell, expand, with_params
from service.encoding.escaping import for_drawing
from service.results.charts.finding import finding_chart
from service.results.finding_page import finding_page, lines_of, runs_of

ROOT = Path(__file__).parents[1]
PAGES, KEPT = ROOT / "docs" / "findings", ROOT / "findings-output"
RESULT: TypeAdapter[RunResult] = TypeAdapter(RunResult)


def main() -> None:
    """Run, read and write what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m scripts.findings", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FINDINGS)}; all")
    parser.add_argument("--from", dest="read", type=Path, help="read results here, run nothing")
    parser.add_argument("--keep", type=Path, default=KEPT, help="where results are kept")
    parser.add_argument("--to", type=Path, default=PAGES, help="where pages are written")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tiny", action="store_true", help="seconds, figures without meaning")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(FINDINGS):
        parser.error(
            f"no such finding: {', '.join(sorted(unknown))}; choose of {', '.join(FINDINGS)}"
        )
    for name in asked.names or FINDINGS:
        finding = FINDINGS[name]
        cells = cells_of(finding, tiny=asked.tiny)
        file = (asked.read or asked.keep) / f"{name}.json"
        if asked.read is None:
            keep(file, [run(cell, asked.device) for cell in cells])
        write(finding, runs_of(cells, read(file)), asked.to)


def cells_of(finding: Finding, *, tiny: bool) -> list[Cell]:
    """Return the runs of a finding's study; `tiny`: each made small."""
    cells = expand(PRESETS[finding.name].spec)
    if not tiny:
        return cells
    return [
        cell._replace(spec=with_params(cell.spec, finding.tiny_of(cell.spec), ("tiny",), None))
        for cell in cells
    ]


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


def keep(file: Path, results: list[RunResult]) -> None:
    """Write results as `fflab demo` writes them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"cells": [result.model_dump(mode="json") for result in results]}))


def read(file: Path) -> list[RunResult]:
    """Read the results of a study's runs."""
    return [RESULT.validate_python(cell) for cell in json.loads(file.read_text())["cells"]]


def write(finding: Finding, runs: list[Run], target: Path) -> None:
    """Write page and chart of a finding."""
    target.mkdir(parents=True, exist_ok=True)
    lines = lines_of(runs)
    chart = finding_chart(finding.plot(runs), [f"data: {lines.data}", f"{lines.made_by}"])
    picture = target / f"{finding.name}.svg"
    picture.write_text(vl_convert.vegalite_to_svg(for_drawing(chart.to_dict())))
    command = f"python -m scripts.findings {finding.name}"
    (target / f"{finding.name}.md").write_text(finding_page(finding, runs, command, picture.name))
    print(target / f"{finding.name}.md")


if __name__ == "__main__":
    main()
