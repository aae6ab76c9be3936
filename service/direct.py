"""`fflab run`: a spec in this process, without a service; and the import of data files."""

import json
import shutil
from pathlib import Path

import ffengine
from ffengine import uploads
from ffengine.arrays import DatasetError
from ffengine.dataformats import present
from ffengine.datasets import DATASETS, verified
from ffengine.results import RunResult, StudyResult
from ffengine.spec import CheckSpec, StudySpec, TrainedWeights, TrainSpec
from ffengine.study import expand, study_cell
from service.charts import Source
from service.comparison import comparison
from service.export import to_csv
from service.specfile import SpecError
from service.terminal import comparison_table, out


def run_here(spec: TrainSpec | CheckSpec | StudySpec, *, device: str, output: Path | None, as_json: bool) -> None:
    """Run a spec and print its figures, or write its result. Raises SpecError where the numbers diverge or data is missing."""
    if output and output.suffix not in (".json", ".csv"):
        raise SpecError(f"{output}: choose a name that ends in .json or .csv")
    try:
        result, sources = _study(spec, device, as_json) if isinstance(spec, StudySpec) else _single(spec, device, as_json)
    except (ffengine.Diverged, DatasetError, ValueError) as error:
        raise SpecError(str(error)) from error
    if output:
        output.write_text(to_csv(result) if output.suffix == ".csv" else result.model_dump_json(indent=1))
    if as_json:
        out.file.write(result.model_dump_json() + "\n")
    else:
        comparison_table(comparison(sources), "measured beside arXiv 2311.05667")
        if output:
            out.print(str(output), soft_wrap=True)


def _single(spec: TrainSpec | CheckSpec, device: str, quiet: bool) -> tuple[RunResult, list[Source]]:
    def say(fraction: float, message: str) -> None:
        if not quiet:
            out.print(f"{fraction:4.0%}  {message}")

    if isinstance(spec, TrainSpec):
        result: RunResult = ffengine.train(spec, device=device, on_epoch=lambda report: say(report.fraction, report.message))
    elif isinstance(spec.at, TrainedWeights):
        raise SpecError("at: the weights of a job are in a service; submit this check there")
    else:
        result = ffengine.check(spec, device=device, on_cells=lambda report: say(report.fraction, report.message))
    return result, [Source("", result)]


def _study(spec: StudySpec, device: str, quiet: bool) -> tuple[StudyResult, list[Source]]:
    cells, sources = [], []
    for cell in expand(spec):
        if not quiet:
            out.print(f"{cell.part} {json.dumps(cell.params)}")
        result, _ = _single(cell.spec, device, quiet)
        cells.append(study_cell(cell, job=None, state="succeeded", result=result))
        sources.append(Source(", ".join(f"{field} {value}" for field, value in cell.params.items()), result))
    return StudyResult(cells=tuple(cells)), sources


def import_files(name: str, source: Path, root: Path) -> Path:
    """Bring a data set below the root: one of the catalogue from the folder of its files, or an .npz under a new name.

    It is verified first. Raises SpecError.
    """
    facts = DATASETS.get(name)
    try:
        if facts is None:
            with source.open("rb") as archive:
                return root / uploads.FOLDER / uploads.keep(name, archive, root).name
        if facts.files is None:
            raise SpecError(f"{name} is bundled; there is nothing to import")
        verified(facts, facts.files.read(source))
    except (DatasetError, OSError) as error:
        new = facts is None and source.suffix != ".npz"
        advice = f"; bring a new data set as an .npz, or one of {', '.join(DATASETS)} as a folder" if new else ""
        raise SpecError(f"{error}{advice}") from error
    target = root / facts.files.folder / facts.files.inside
    target.mkdir(parents=True, exist_ok=True)
    for path in (present(source, stem) for stem in facts.files.names):
        if path:
            shutil.copy2(path, target / path.name)
    return target
