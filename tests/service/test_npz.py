"""The archive of a result: read back by numpy without pickle, the same bytes each time, never in
memory as a whole.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from ffengine.margin_files import CellMargins, MarginFileWriter, cell_name, write_margins
from ffengine.results import CheckCell, CheckResult, Split, StudyResult, TrainResult
from service.artifacts import ArtifactDamaged, Artifacts, margins_name
from service.jobs import Job
from service.results.npz_export import CHUNK_BYTES, stream_npz
from tests.service import samples

OWNER = "job_" + "0" * 31 + "1"
CACHED = "job_" + "0" * 31 + "2"
SPLITS: tuple[Split, Split] = ("positive", "negative")


def margins_of(cell: CheckCell) -> CellMargins:
    """Margins with the counts of the cell."""
    generator = np.random.Generator(np.random.Philox(cell.seed % 1000 + cell.width))
    sheet = MarginFileWriter(cell.samples)
    satisfied = np.arange(cell.samples) < cell.satisfied
    margin = np.where(satisfied, 1.0, -1.0) * generator.random(cell.samples)
    none = np.zeros(cell.samples, dtype=bool)
    sheet.add(
        sample=generator.permutation(cell.samples),
        margin=margin,
        satisfied=satisfied,
        dead=none,
        undecided=none,
    )
    return sheet.of(cell)


class Kept(NamedTuple):
    """A check of two seeds and widths whose margins are kept."""

    result: CheckResult
    margins: list[CellMargins]
    artifacts: Artifacts


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    return Artifacts(tmp_path / "artifacts")


def keep(artifacts: Artifacts, *, samples_each: int = 4) -> Kept:
    cells, margins = [], []
    for seed in (2**63 - 1, 3):
        for width in (512, 64):
            both = [
                samples.check_cell(width, split, seed=seed).model_copy(
                    update={"samples": samples_each}
                )
                for split in SPLITS
            ]
            found = [margins_of(cell) for cell in both]
            artifacts.put(OWNER, margins_name(seed, width), write_margins(found))
            cells += both
            margins += found
    result = samples.check_result().model_copy(update={"cells": tuple(cells)})
    return Kept(result, margins, artifacts)


@pytest.fixture
def kept(artifacts: Artifacts) -> Kept:
    return keep(artifacts)


def job(kind: str, job_id: str = OWNER) -> Job:
    return Job.model_construct(id=job_id, kind=kind)


def arrays_of(data: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header, and the other arrays."""
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        assert archive.files[0] == "header"
        return json.loads(archive["header"].item()), {
            name: archive[name] for name in archive.files[1:]
        }


def test_all_margins_of_a_check_are_read_back(kept: Kept) -> None:
    header, arrays = arrays_of(
        b"".join(stream_npz(job("check", CACHED), kept.result, kept.artifacts, OWNER))
    )
    expected = {name: array for margins in kept.margins for name, array in margins.members.items()}
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
    assert arrays["positive_exact_seed3_width64_layer0_epoch0/margin"].dtype == np.float64
    provenance = kept.result.provenance
    assert (
        header["digest"]
        == hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    )
    assert (header["job"], header["computed_by"], header["kind"], header["theorem"]) == (
        CACHED,
        OWNER,
        "check",
        1,
    )
    assert (header["spec_digest"], header["engine_version"]) == (
        provenance.spec_digest,
        provenance.engine_version,
    )
    assert header["dataset"] == {
        "name": provenance.dataset.name,
        "digest": provenance.dataset.digest,
    }
    assert header["seeds"] == list(provenance.seeds)
    assert "factor 2 of D" in header["units"]["margin"]
    assert "note" not in header
    assert [cell["name"] for cell in header["cells"]] == [
        cell_name(cell) for cell in kept.result.cells
    ]
    for cell in header["cells"]:
        assert arrays[f"{cell['name']}/satisfied"].sum() == cell["satisfied"]


def test_the_same_job_gives_the_same_bytes(kept: Kept) -> None:
    asked = (job("check"), kept.result, kept.artifacts, OWNER)
    data = b"".join(stream_npz(*asked))
    assert data == b"".join(stream_npz(*asked))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        assert {(entry.date_time, entry.compress_type) for entry in archive.infolist()} == {
            ((1980, 1, 1, 0, 0, 0), zipfile.ZIP_STORED)
        }
    digest = arrays_of(data)[0]["digest"]
    last = kept.margins[-1]
    other = last._replace(margin=-last.margin)
    kept.artifacts.put(
        OWNER, margins_name(last.seed, last.width), write_margins([kept.margins[-2], other])
    )
    assert arrays_of(b"".join(stream_npz(*asked)))[0]["digest"] != digest


def test_one_artifact_at_a_time_in_small_chunks(
    artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = keep(artifacts, samples_each=30_000)
    chunks = stream_npz(job("check"), kept.result, artifacts, OWNER)
    read: list[str] = []
    get = artifacts.get

    def reading(owner: str, name: str) -> bytes:
        read.append(name)
        return get(owner, name)

    monkeypatch.setattr(artifacts, "get", reading)
    sizes, read_by = [], []
    for chunk in chunks:
        sizes.append(len(chunk))
        read_by.append(len(read))
    assert max(sizes) == CHUNK_BYTES
    assert sum(sizes) > 4 * 2 * 30_000 * 19
    assert len(read) == 4
    for artifact in range(
        1, 5
    ):  # an artifact is read when what came before is sent, but for what is in the outlet
        sent = sum(size for size, by in zip(sizes, read_by, strict=True) if by < artifact)
        assert sent >= (artifact - 1) * 2 * 30_000 * 19 - 2 * CHUNK_BYTES


@pytest.mark.slow
def test_many_cells_keep_the_chunks_small(artifacts: Artifacts) -> None:
    cells = tuple(
        samples.check_cell(width, seed=seed) for seed in range(20) for width in range(2, 32)
    )
    for cell in cells:
        artifacts.put(OWNER, margins_name(cell.seed, cell.width), write_margins([margins_of(cell)]))
    result = samples.check_result().model_copy(update={"cells": cells})
    chunks = list(stream_npz(job("check"), result, artifacts, OWNER))
    assert max(map(len, chunks)) <= CHUNK_BYTES
    header, arrays = arrays_of(b"".join(chunks))
    assert (len(header["cells"]), len(arrays)) == (600, 3000)


def test_what_is_too_large_for_a_plain_zip_is_said_in_zip64(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 200)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    data = b"".join(stream_npz(job("check"), kept.result, kept.artifacts, OWNER))
    monkeypatch.undo()
    assert b"PK\x06\x06" in data  # the end of a zip64 archive
    assert len(arrays_of(data)[1]) == 40


def test_a_job_from_before_has_only_a_header(artifacts: Artifacts) -> None:
    result = samples.check_result()
    header, arrays = arrays_of(b"".join(stream_npz(job("check"), result, artifacts, OWNER)))
    assert (header["cells"], arrays) == ([], {})
    assert "3 of 3 cells" in header["note"]


def test_a_job_that_was_resumed_by_a_later_version_has_what_was_kept(artifacts: Artifacts) -> None:
    result = samples.check_result()
    artifacts.put(OWNER, margins_name(1, 64), write_margins([margins_of(result.cells[1])]))
    header, arrays = arrays_of(b"".join(stream_npz(job("check"), result, artifacts, OWNER)))
    assert [cell["seed"] for cell in header["cells"]] == [1]
    assert len(arrays) == 5
    assert "2 of 3 cells" in header["note"]


def test_damage_is_noticed_before_the_first_chunk(kept: Kept) -> None:
    path = kept.artifacts.root / OWNER / margins_name(3, 64)
    path.write_bytes(path.read_bytes()[:-7] + b"damaged")
    with pytest.raises(ArtifactDamaged):
        stream_npz(job("check"), kept.result, kept.artifacts, OWNER)


@pytest.mark.parametrize("epochs", [-1, 2])
def test_a_training_run_gives_its_curves_by_column(artifacts: Artifacts, epochs: int) -> None:
    result: TrainResult = samples.train_result((0, 7), epochs=epochs)
    header, arrays = arrays_of(b"".join(stream_npz(job("train"), result, artifacts, OWNER)))
    assert header["columns"] == [name.removeprefix("curves/") for name in arrays]
    assert header["rows"] == len(result.curves) == 2 * (epochs + 1)
    assert arrays["curves/seed"].tolist() == [row.seed for row in result.curves]
    assert arrays["curves/split"].tolist() == [row.split for row in result.curves]
    assert arrays["curves/theorem2_ratio"].tolist() == [row.theorem2_ratio for row in result.curves]
    assert np.isnan(arrays["curves/gini"]).all(), "null"
    assert {
        arrays[f"curves/{name}"].dtype for name in ("seed", "layer", "epoch", "dead_units")
    } == {np.dtype(np.int64)}
    assert (
        header["digest"]
        == hashlib.sha256(b"".join(array.tobytes() for array in arrays.values())).hexdigest()
    )


def test_a_study_has_no_archive(artifacts: Artifacts) -> None:
    with pytest.raises(LookupError, match="is a study"):
        stream_npz(job("study"), StudyResult(cells=()), artifacts, OWNER)
