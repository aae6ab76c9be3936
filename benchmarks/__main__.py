"""`python -m benchmarks [--device cpu|cuda] [--only NAME ...] [--table FILE]`: one JSON line a row,
and the table as Markdown.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import torch

from benchmarks.measurements import MEASUREMENTS
from benchmarks.timing import Row
from ffengine.provenance import device_name, git_revision
from ffengine.version import VERSION

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured -->", "<!-- end -->"


def main() -> None:
    """Measure, print, and write the table where one is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--only", nargs="*", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    parser.add_argument(
        "--table",
        type=Path,
        help="write the rows as a Markdown table here; without, docs/benchmarks.md where all "
        "are measured",
    )
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    try:
        device = torch.device(asked.device)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        parser.error(
            f"--device {asked.device}: torch cannot use it here ({str(error).splitlines()[0]})"
        )
    rows = []
    for name in asked.only:
        for row in MEASUREMENTS[name](device):
            print(
                json.dumps(
                    {
                        **row._asdict(),
                        "met": row.met,
                        "device": str(device),
                        "threads": torch.get_num_threads(),
                    }
                ),
                flush=True,
            )
            rows.append(row)
    whole = set(asked.only) == set(MEASUREMENTS) and device.type == "cpu"
    if asked.table:
        asked.table.write_text(table(rows, device))
    elif whole:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table(rows, device)}{END}{rest.split(END)[1]}")


def table(rows: list[Row], device: torch.device) -> str:
    """The rows as Markdown, with what they were measured on."""
    lines = [
        f"fflab {VERSION} ({git_revision() or 'no revision'}), torch {torch.__version__}, Python "
        f"{platform.python_version()}, "
        f"{device_name(device)}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"float32.",
        "",
        "| measurement | shapes | ours, ms | beside, ms | ratio | at most | |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for row in rows:
        seconds = (f"{1e3 * value:.4g}" for value in (row.ours_seconds, row.other_seconds))
        bar = "" if row.bar is None else f"{row.bar:.2f}"
        lines.append(
            f"| {row.meaning} | {row.shapes} | {' | '.join(seconds)} | {row.ratio:.2f} | {bar} | "
            f"{'' if row.met else 'over'} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
