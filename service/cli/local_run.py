"""`fflab run`: runs a spec in this process, without a service."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import ffengine
from ffengine.arrays import DatasetError
from ffengine.availability import check_available
from ffengine.datasets import Datasets
from ffengine.proposals import propose, pruned_at
from ffengine.results import (
    ForecastResult,
    RunResult,
    SelectedRow,
    StudyCell,
    StudyResult,
)
from ffengine.search import Searched, Trial, curve_of, searched, trials_of
from ffengine.spec import CheckSpec, ForecastSpec, StudySpec, TrainedWeights, TrainSpec
from ffengine.study import Cell, expand, study_cell
from service.cli.output import finding_lines, out, result_tables
from service.results.csv_export import to_csv
from service.results.run_labels import labels_of, run_keys
from service.results.sources import Source
from service.specs.files import SpecError

if TYPE_CHECKING:
    from ffengine.checkpoint import Checkpoint
    from ffengine.training import BatchReport, EpochReport


def run_here(
    spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec,
    *,
    datasets: Datasets,
    device: str,
    output: Path | None,
    weights: Path | None = None,
    as_json: bool,
) -> None:
    """Run a spec, and print its figures or write its result.

    **Arguments:**

    - `spec`: what to run.
    - `device`: as "cpu" or "cuda:0".
    - `output`: a .json or .csv file; of a training run also .safetensors, for its weights.
    - `weights`: exported weights to check.
    - `as_json`: print the result as JSON, and no progress.

    **Raises** SpecError if the numbers diverge, data is missing, or the files do not fit.
    """
    kinds = (".json", ".csv", *((".safetensors",) if isinstance(spec, TrainSpec) else ()))
    if output and output.suffix not in kinds:
        raise SpecError(f"{output}: choose a name that ends in {' or '.join(kinds)}")
    run = LocalRun(datasets, device, as_json)
    result: RunResult | StudyResult
    try:
        check_available(spec, datasets)
        if weights:
            result, sources = run.check_imported(spec, weights)
        else:
            result, sources = run.any(spec)
    except (ffengine.Diverged, DatasetError, ValueError, OSError) as error:
        raise SpecError(str(error)) from error
    if output and output.suffix == ".safetensors" and run.weights:
        output.write_bytes(ffengine.export_weights(run.weights))
    elif output:
        output.write_text(
            to_csv(result) if output.suffix == ".csv" else result.model_dump_json(indent=1),
            encoding="utf-8",
        )
    if as_json:
        out.file.write(result.model_dump_json() + "\n")
        return
    result_tables(sources, "measured beside arXiv 2311.05667", explained=out.is_terminal)
    if isinstance(result, ForecastResult):
        finding_lines(result.diagnostics)
    if output:
        out.print(str(output), soft_wrap=True)


class LocalRun:
    """Runs specs in this process; it prints progress, and keeps the last training run's weights."""

    def __init__(self, datasets: Datasets, device: str, quiet: bool) -> None:
        self.datasets, self.device, self.quiet = datasets, device, quiet
        self.weights: ffengine.Weights | None = None
        self._said = ""

    def any(
        self, spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec
    ) -> tuple[RunResult | StudyResult, list[Source]]:
        """Run a spec of any kind."""
        if isinstance(spec, StudySpec):
            return self.study(spec)
        return self.single(spec)

    def forecast(self, spec: ForecastSpec) -> tuple[ForecastResult, list[Source]]:
        """Run a forecast."""
        result = ffengine.forecast(
            spec,
            device=self.device,
            on_points=lambda report: self._print_progress(report.fraction, report.message),
            datasets=self.datasets,
        )
        return result, [Source("", result, spec)]

    def single(self, spec: TrainSpec | CheckSpec | ForecastSpec) -> tuple[RunResult, list[Source]]:
        """Run a spec that is no study."""
        if isinstance(spec, ForecastSpec):
            return self.forecast(spec)
        if isinstance(spec, TrainSpec):
            result: RunResult = ffengine.train(
                spec,
                device=self.device,
                on_epoch=lambda report: self._keep_weights(spec, report),
                on_batch=self._print_baseline,
                datasets=self.datasets,
                on_selected=lambda chosen, rows: self._keep_selected(spec, chosen, rows),
            )
        elif isinstance(spec.at, TrainedWeights):
            raise SpecError(
                "at: the weights of a job are in a service; submit this check there, or give its "
                "exported file as --weights"
            )
        else:
            result = ffengine.check(
                spec,
                device=self.device,
                on_cells=lambda report: self._print_progress(report.fraction, report.message),
                datasets=self.datasets,
            )
        return result, [Source("", result, spec)]

    def study(self, spec: StudySpec) -> tuple[StudyResult, list[Source]]:
        """Run all cells of a study, one after the other."""
        if found := searched(spec):
            return self.search(spec, found)
        cells, sources = [], []
        expanded = expand(spec)
        labels = labels_of(expanded, spec)
        for cell, key, label in zip(expanded, run_keys(expanded), labels, strict=True):
            if not self.quiet:
                out.print(f"{cell.part} {json.dumps(cell.params)}")
            result, _ = self.single(cell.spec)
            cells.append(study_cell(cell, job=None, state="succeeded", result=result))
            sources.append(Source(label, result, cell.spec, run=key))
        return StudyResult(cells=tuple(cells)), sources

    def search(self, spec: StudySpec, found: Searched) -> tuple[StudyResult, list[Source]]:
        """Run the trials of a search, one after the other: those that a service would run.

        A trial that would be pruned there runs to its end here, and counts as pruned.
        """
        trials: list[Trial] = []
        cells: list[StudyCell] = []
        made: list[tuple[Cell, RunResult | None]] = []
        for number in range(found.search.trials):
            cell = propose(found, trials, number)
            if not self.quiet:
                out.print(f"trial {number} {json.dumps(cell.params)}")
            result = self._result_of_trial(cell)
            state = "succeeded" if result else "failed"
            summary = study_cell(cell, job=None, state=state, result=result)
            curve = curve_of(result, found.objective)
            epoch = pruned_at(found, trials, number, curve)
            cells.append(summary.model_copy(update={"pruned_at": epoch}))
            (trial,) = trials_of(cells[-1:], found.objective)
            trials.append(trial._replace(number=number, curve=curve))
            made.append((cell, result))
        ran = [cell for cell, _ in made]
        sources = [
            Source(label, result, cell.spec, run=key)
            for (cell, result), key, label in zip(
                made, run_keys(ran), labels_of(ran, spec), strict=True
            )
            if result is not None
        ]
        self._print_best(found, trials)
        return StudyResult(cells=tuple(cells)), sources

    def _result_of_trial(self, cell: Cell) -> RunResult | None:
        """Run a trial; None where its numbers diverge: the search goes on."""
        try:
            result, _ = self.single(cell.spec)
        except ffengine.Diverged as error:
            if not self.quiet:
                out.print(str(error))
            return None
        return result

    def _print_best(self, found: Searched, trials: Sequence[Trial]) -> None:
        best = found.objective.best(trials)
        if best is not None and not self.quiet:
            out.print(
                f"best: trial {best.number}, {found.objective.key} {best.value:.4g} "
                f"{json.dumps(best.params)}"
            )

    def check_imported(
        self, spec: TrainSpec | CheckSpec | ForecastSpec | StudySpec, file: Path
    ) -> tuple[RunResult, list[Source]]:
        """Check exported weights: the first layer, unless the spec's `at` names another."""
        if not isinstance(spec, CheckSpec):
            raise SpecError("--weights: the weights of a file are for a check")
        data = file.read_bytes()
        weights = ffengine.import_weights(data)
        layer = 0 if spec.at == "initialization" else spec.at.layer
        # the digest of the file stands in the place of a job's id
        stands_for = "job_" + hashlib.sha256(data).hexdigest()[:32]
        here = spec.model_copy(
            update={"at": TrainedWeights(job=stands_for, epoch=weights.epoch, layer=layer)}
        )
        trained = ffengine.Checkpoint.of_weights(weights)
        result = ffengine.check(
            here,
            device=self.device,
            trained=trained,
            trained_spec=weights.spec,
            datasets=self.datasets,
        )
        return result, [Source("", result, here, trained=weights.spec)]

    def _keep_weights(self, spec: TrainSpec, report: "EpochReport") -> None:
        self.weights = report.checkpoint.weights_of(spec, report.epoch)
        self._print_progress(report.fraction, report.message)

    def _keep_selected(
        self, spec: TrainSpec, chosen: "Checkpoint", rows: Sequence[SelectedRow]
    ) -> None:
        self.weights = chosen.weights_of(spec, max(row.epoch for row in rows))

    def _print_baseline(self, report: "BatchReport") -> None:
        """Print where the baselines stand, once for each epoch."""
        if report.message and report.message != self._said:
            self._said = report.message
            self._print_progress(report.fraction, report.message)

    def _print_progress(self, fraction: float, message: str) -> None:
        if not self.quiet:
            out.print(f"{fraction:4.0%}  {message}")
