"""Per-sample margins of a check: against direct calls of the theorems, against the cells that count
them, and through their file.
"""

import io
from typing import Literal

import numpy as np
import pytest
import torch

import ffengine
from ffengine.activations import ACTIVATIONS
from ffengine.checking import CellsReport
from ffengine.interrupts import Control, Interrupted
from ffengine.margin_files import FIELDS, CellMargins, cell_name, read_margins, write_margins
from ffengine.margins import TheoremCheck, observe
from ffengine.negatives import Positives
from ffengine.network import Network
from ffengine.random_streams import Draws
from ffengine.results import CheckCell
from ffengine.samples import load_samples
from ffengine.spec import CheckSpec, DatasetSpec, NetworkSpec

CPU = torch.device("cpu")
DATA = DatasetSpec(train_samples=300, test_samples=10)


def reports_of(
    spec: CheckSpec, *, resume: tuple[CheckCell, ...] = (), stop_after: int | None = None
) -> list[CellsReport]:
    reports: list[CellsReport] = []

    def keep(report: CellsReport) -> Control:
        reports.append(report)
        return "stop" if len(reports) == stop_after else "run"

    try:
        ffengine.check(spec, on_cells=keep, resume=resume)
    except Interrupted:
        assert len(reports) == stop_after
    return reports


def same(a: CellMargins, b: CellMargins) -> bool:
    return cell_name(a) == cell_name(b) and all(
        np.array_equal(getattr(a, field), getattr(b, field)) for field in FIELDS
    )


@pytest.mark.parametrize("theorem", [1, 2])
@pytest.mark.parametrize("batch_size", [None, 70])
@pytest.mark.parametrize("methods", [("exact", "infinite_width"), ("infinite_width",)])
def test_a_cell_counts_its_samples(
    theorem: Literal[1, 2], batch_size: int | None, methods: tuple[str, ...]
) -> None:
    spec = CheckSpec.model_validate(
        {
            "theorem": theorem,
            "dataset": DATA,
            "widths": [2, 30],
            "samples": 200,
            "batch_size": batch_size,
            "seeds": [4],
            "methods": methods,
        }
    )
    reports = reports_of(spec)
    assert len(reports) == 2
    for report in reports:
        assert [cell_name(cell) for cell in report.cells] == [
            cell_name(margins) for margins in report.margins
        ]
        assert len(report.cells) == theorem * len(methods)
        for cell, found in zip(report.cells, report.margins, strict=True):
            assert {len(getattr(found, field)) for field in FIELDS} == {cell.samples} == {200}
            assert cell.live == (~found.dead).sum()
            assert cell.satisfied == found.satisfied.sum()
            assert cell.undecided == found.undecided.sum()
            assert cell.ratio == found.satisfied.sum() / (~found.dead).sum()
            assert not (
                found.dead & (found.satisfied | found.undecided | (found.margin != 0))
            ).any()
            assert (found.margin[found.satisfied] > 0).all()
            assert len(set(found.sample.tolist())) == 200
            assert found.sample.max() < 300
    narrow = reports[0].margins[0]
    assert methods[0] != "exact" or narrow.dead.any(), "a layer of two units leaves samples dead"


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("batch_size", [None, 90])
def test_margins_of_theorem_2_are_those_of_direct_calls(
    precision: Literal["float32", "float64"], batch_size: int | None
) -> None:
    spec = CheckSpec(
        theorem=2,
        dataset=DATA,
        widths=(40,),
        samples=250,
        batch_size=batch_size,
        seeds=(5,),
        precision=precision,
    )
    (report,) = reports_of(spec)
    dtype = getattr(torch, precision)
    train, draws = load_samples(DATA, CPU).train, Draws((5,))
    weight = Network.initial(NetworkSpec(widths=(40,)), 784, draws, CPU).weights[0][0].to(dtype)
    expected: dict[str, list[tuple[torch.Tensor, TheoremCheck, TheoremCheck]]] = {
        cell_name(found): [] for found in report.margins
    }
    for number, index in enumerate(
        draws.at("samples").permutation(300)[:, :250].split(batch_size or 250, dim=1)
    ):
        positive = train.labelled[index]
        negative = spec.negatives(
            Positives(positive, index, train, draws.at("negatives", number), None)
        )
        groups = [positive[0].to(dtype), negative[0].to(dtype)]
        stepped = [
            seen.check()
            for seen in observe(weight, groups, [-1.0, 1.0], ACTIVATIONS["relu"], step=spec.step)
        ]
        direct, limit = (
            ffengine.theorem2(weight, *groups),
            ffengine.infinite_width_theorem2(*groups),
        )
        for place, split in enumerate(("positive", "negative")):
            expected[f"{split}_exact_seed5_width40_layer0_epoch0"].append(
                (index[0], stepped[place], direct[place])
            )
            expected[f"{split}_infinite_width_seed5_width40_layer0_epoch0"].append(
                (index[0], limit[place], limit[place])
            )
    for found in report.margins:
        batches = expected[cell_name(found)]
        assert np.array_equal(found.sample, torch.cat([index for index, _, _ in batches]).numpy())
        for field in ("margin", "satisfied", "dead", "undecided"):
            assert np.array_equal(
                getattr(found, field),
                torch.cat([getattr(verdict, field) for _, verdict, _ in batches]).numpy(),
            )
        away = np.abs(found.margin - torch.cat([direct.margin for _, _, direct in batches]).numpy())
        # the trial step sums the units in float64, so a direct call may differ, within the bound
        # that it states
        assert (away <= torch.cat([direct.rounding for _, _, direct in batches]).numpy()).all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_margins_of_theorem_1_are_those_of_direct_calls(
    precision: Literal["float32", "float64"],
) -> None:
    spec = CheckSpec(
        theorem=1,
        dataset=DATA,
        widths=(24,),
        samples=None,
        batch_size=None,
        seeds=(0,),
        precision=precision,
    )
    (report,) = reports_of(spec)
    exact, limit = report.margins
    dtype = getattr(torch, precision)
    weight = (
        Network.initial(NetworkSpec(widths=(24,)), 784, Draws((0,)), CPU).weights[0][0].to(dtype)
    )
    x = load_samples(DATA, CPU).train.plain[torch.from_numpy(exact.sample)].to(dtype)
    direct = ffengine.theorem1(weight, x)
    assert (np.abs(exact.margin - direct.margin.numpy()) <= direct.rounding.numpy()).all()
    assert np.array_equal(exact.satisfied, direct.satisfied.numpy())
    assert np.array_equal(limit.margin, ffengine.infinite_width_theorem1(x).margin.numpy())
    assert sorted(exact.sample.tolist()) == list(range(300))


def test_an_interrupted_check_gives_each_cells_margins_once() -> None:
    spec = CheckSpec(
        theorem=2, dataset=DATA, widths=(8, 16), samples=100, batch_size=40, seeds=(0, 1)
    )
    first = reports_of(spec, stop_after=3)
    rest = reports_of(spec, resume=first[-1].done)
    assert len(rest) == 1
    resumed = [margins for report in (*first, *rest) for margins in report.margins]
    undisturbed = [margins for report in reports_of(spec) for margins in report.margins]
    assert all(same(a, b) for a, b in zip(resumed, undisturbed, strict=True))


def test_a_file_gives_back_what_was_written() -> None:
    spec = CheckSpec(
        theorem=2, dataset=DATA, widths=(2,), samples=50, batch_size=20, seeds=(2**63 - 1,)
    )
    (report,) = reports_of(spec)
    data = write_margins(report.margins)
    assert data == write_margins(report.margins)
    assert all(
        same(a, b) for a, b in zip(read_margins(data, report.cells), report.margins, strict=True)
    )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert archive.files == [
            f"{cell_name(cell)}/{field}" for cell in report.cells for field in FIELDS
        ]
    with pytest.raises(KeyError):
        list(read_margins(data, [report.cells[0].model_copy(update={"width": 3})]))
    with pytest.raises(ValueError, match="not those of 51 samples"):
        list(read_margins(data, [report.cells[0].model_copy(update={"samples": 51})]))
