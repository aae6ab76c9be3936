"""Networks that were uploaded: what is kept, and that a check of one has the bits of its run."""

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from safetensors.numpy import save

from ffengine import Checkpoint, Weights, check, export_weights, train, uploads
from ffengine.arrays import DatasetError
from ffengine.datasets import Datasets
from ffengine.entry import SpecFieldError
from ffengine.spec import (
    CheckSpec,
    DatasetSpec,
    MonitorSpec,
    NetworkSpec,
    TrainedWeights,
    TrainSpec,
    UploadedWeights,
)
from ffengine.training import EpochReport
from ffengine.uploaded_weights import (
    BadWeights,
    Description,
    WeightsMissing,
    WeightsNameTaken,
    WeightUploads,
)

DIGITS = Description(data="digits", normalize="l2")
INPUTS = 64
CHECK = CheckSpec(
    dataset=DatasetSpec(name="digits"), samples=50, batch_size=50, seeds=(0,), methods=("exact",)
)


@pytest.fixture
def kept(tmp_path: Path) -> WeightUploads:
    return WeightUploads(Datasets(tmp_path))


def tensors(**more: Any) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(3)
    there = {
        "0.weight": draw.standard_normal((12, INPUTS), dtype=np.float32),
        "2.weight": draw.standard_normal((7, 12), dtype=np.float32),
    }
    return {**there, **more}


def saved(found: Mapping[str, np.ndarray[Any, Any]]) -> io.BytesIO:
    return io.BytesIO(save(dict(found)))


def npz(found: Mapping[str, Any]) -> io.BytesIO:
    file = io.BytesIO()
    np.savez_compressed(file, **found)
    return file


def header_of(document: object, data: bytes = b"\0" * 64) -> io.BytesIO:
    header = document if isinstance(document, bytes) else json.dumps(document).encode()
    return io.BytesIO(struct.pack("<Q", len(header)) + header + data)


@pytest.fixture(scope="module")
def run() -> tuple[TrainSpec, Checkpoint, Weights]:
    """A small run, its last checkpoint, and that one's weights."""
    spec = TrainSpec(
        dataset=DatasetSpec(name="digits", train_samples=100, test_samples=20),
        network=NetworkSpec(widths=(9, 8), normalize="l2"),
        epochs=2,
        seeds=(0,),
        monitor=MonitorSpec(samples=20),
    )
    reports: list[EpochReport] = []

    def keep(report: EpochReport) -> Literal["run"]:
        reports.append(report)
        return "run"

    train(spec, on_epoch=keep)
    last = reports[-1]
    return spec, last.checkpoint, last.checkpoint.weights_of(spec, last.epoch)


@pytest.mark.parametrize("form", ["safetensors", "npz", "inputs first", "of fflab"])
def test_a_check_of_an_upload_has_the_bits_of_that_of_its_run(
    kept: WeightUploads, run: tuple[TrainSpec, Checkpoint, Weights], form: str
) -> None:
    spec, checkpoint, weights = run
    plain = {f"layers.{n}.weight": layer[0] for n, layer in enumerate(weights.layers)}
    turned = {name: np.ascontiguousarray(one.T) for name, one in plain.items()}
    source, told = {
        "safetensors": (saved(plain), DIGITS),
        "npz": (npz(plain), DIGITS),
        "inputs first": (saved(turned), DIGITS._replace(layout="in_out")),
        "of fflab": (io.BytesIO(export_weights(weights)), Description()),
    }[form]
    facts = kept.keep("mine", source, told)
    assert (facts.by_fflab, facts.widths) == (form == "of fflab", (9, 8))
    for layer in (0, 1):
        job = TrainedWeights(job="job_" + "0" * 32, epoch=2, layer=layer)
        expected = check(
            CHECK.model_copy(update={"at": job}), trained=checkpoint, trained_spec=spec
        )
        at = UploadedWeights(weights="mine", layer=layer)
        found = check(CHECK.model_copy(update={"at": at}), datasets=kept.datasets)

        def figures(cells: Any) -> list[dict[str, Any]]:
            return [cell.model_dump(exclude={"epoch"}) for cell in cells]

        assert figures(found.cells) == figures(expected.cells)
        assert figures(found.geometry) == figures(expected.geometry)
        assert {cell.epoch for cell in found.cells} == {2 if form == "of fflab" else 1}
        assert found.provenance.weights
        assert found.provenance.weights.digest == facts.digest
        assert found.provenance.weights.file_digest == facts.file_digest


def test_the_same_network_is_kept_once_and_another_one_is_refused(kept: WeightUploads) -> None:
    first = kept.keep("mine", saved(tensors()), DIGITS, meaning="Mine.")
    for again in (saved(tensors()), npz(tensors())):
        assert kept.keep("mine", again, DIGITS, meaning="Another sentence.") == first
    for source, told in (
        (saved(tensors(**{"2.weight": np.ones((7, 12), np.float32)})), DIGITS),
        (saved(tensors()), DIGITS._replace(normalize=None)),
        (saved(tensors()), DIGITS._replace(activation="tanh")),
    ):
        with pytest.raises(WeightsNameTaken, match="'mine' is taken, with digest"):
            kept.keep("mine", source, told)
    assert kept.names() == ["mine"]
    assert (first.inputs, first.parameters) == (INPUTS, 64 * 12 + 12 * 7)


@pytest.mark.parametrize(
    ("source", "told", "words"),
    [
        (io.BytesIO(b""), DIGITS, "empty or cut short"),
        (io.BytesIO(b"GGUF" + b"\0" * 60), DIGITS, "not a safetensors file or .npz"),
        (io.BytesIO(struct.pack("<Q", 2**62) + b"{}"), DIGITS, "a header of 4,611"),
        (header_of(b"[" * 100_000), DIGITS, "header is no JSON"),
        (header_of([1]), DIGITS, "header is no object"),
        (header_of({"a": {"dtype": "F32"}}), DIGITS, "a: the header does not describe it"),
        (
            header_of({"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 60]}}),
            DIGITS,
            r"a: F32 \(4, 4\) is not the size of its data",
        ),
        (
            header_of({"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [32, 96]}}),
            DIGITS,
            "is not the size of its data",
        ),
        (
            header_of({"a": {"dtype": "F32", "shape": [-4, -4], "data_offsets": [0, 64]}}),
            DIGITS,
            "no numbers within the file",
        ),
        (saved({"\x1b[2J": np.ones((2, 2), np.float32)}), DIGITS, "characters that can be seen"),
        (saved(tensors(**{"0.weight": np.ones((12, 64), np.int32)})), DIGITS, "expected floats"),
        (
            saved(tensors(**{"0.weight": np.full((12, 64), np.inf, np.float32)})),
            DIGITS,
            "0.weight has numbers that are not finite",
        ),
        (npz({"w": np.array([{}, 1], dtype=object)}), DIGITS, "never unpickled"),
        (saved(tensors(conv=np.ones((2, 2, 3, 3), np.float32))), DIGITS, "layers in a chain"),
        (
            saved(tensors()),
            DIGITS._replace(layers=("0.weight", "none.weight")),
            "there is no tensor 'none.weight'; there are 0.weight F32 12x64",
        ),
        (
            saved(tensors()),
            DIGITS._replace(layers=("2.weight",)),
            "2.weight has 12 inputs, but a sample of digits has 64",
        ),
        (saved(tensors()), Description(), "data: say on which data set"),
        (saved(tensors()), DIGITS._replace(data="yours"), "'yours' is not known; choose one of"),
        (saved(tensors()), DIGITS._replace(data="../up"), "data: String should match"),
        (saved(tensors()), DIGITS._replace(activation="wavelet"), "network: activation"),
        (saved(tensors()), DIGITS._replace(preprocess="twice"), "preprocess: "),
        (saved(tensors()), DIGITS._replace(layout="sideways"), "layout 'sideways' is not known"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(
    kept: WeightUploads, source: io.BytesIO, told: Description, words: str
) -> None:
    with pytest.raises(BadWeights, match=words):
        kept.keep("mine", source, told)
    assert not kept.folder.exists()


def test_an_archive_that_lies_about_its_lists_is_refused_before_they_are_read(
    kept: WeightUploads,
) -> None:
    archive = bytearray(npz(tensors()).getvalue())
    archive[-10:-6] = struct.pack("<L", 2**30)  # the length of the list of members
    with pytest.raises(BadWeights, match="too many members; expected at most 1,000 arrays"):
        kept.keep("mine", io.BytesIO(archive), DIGITS)
    long = io.BytesIO()
    with zipfile.ZipFile(long, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("w.npy", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 50_000)
    with pytest.raises(BadWeights, match=r"w\.npy: its header is none"):
        kept.keep("mine", long, DIGITS)
    strange = npz({"w": np.zeros(3, dtype=[(f"field{n}" * 9, "f4") for n in range(60)])})
    with pytest.raises(BadWeights) as refusal:
        kept.keep("mine", strange, DIGITS)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize("name", ["", "../up", "Mine", ".aside", "a" * 64, "a/b", "a\0"])
def test_names_that_are_no_names_are_refused(kept: WeightUploads, name: str) -> None:
    with pytest.raises(BadWeights, match="cannot be used: lower-case letters"):
        kept.keep(name, saved(tensors()), DIGITS)
    assert kept.find(name) is None


def test_what_would_take_too_much_memory_is_refused_before_it_is_read(kept: WeightUploads) -> None:
    zeros = npz({"a": np.zeros((2_000, 2_000), np.float16)})
    assert len(zeros.getvalue()) < 20_000
    with pytest.raises(BadWeights, match=r"have 16,000,000 bytes as float32; at most 4,000 are"):
        kept.keep("mine", zeros, DIGITS, max_bytes=4_000)
    asked: list[int] = []
    kept.keep("mine", saved(tensors()), DIGITS, admit=asked.append)
    assert asked == [4 * (64 * 12 + 12 * 7)]


def changed(weights: Weights, **metadata: Any) -> io.BytesIO:
    """A file of fflab with other metadata."""
    file = export_weights(weights)
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] |= metadata
    return header_of(header, file[8 + length :])


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"epoch": "-1"}, "epoch -1 is none of its run, which has 2"),
        ({"epoch": "nine"}, "invalid literal"),
        ({"spec": "{}"}, "which is not what its spec says"),
        ({"spec": "nothing"}, "damaged, or not a file that fflab exported"),
        ({"exponents": "[[99999999999], [0]]"}, "exponents are at most"),
        ({"exponents": "[[1e999], [0]]"}, "cannot convert float infinity"),
        ({"exponents": "[" * 100_000}, "recursion|too large|damaged|depth"),
    ],
)
def test_a_file_of_fflab_that_lies_is_refused(
    kept: WeightUploads,
    run: tuple[TrainSpec, Checkpoint, Weights],
    metadata: dict[str, str],
    words: str,
) -> None:
    with pytest.raises(BadWeights, match=words):
        kept.keep("mine", changed(run[2], **metadata), Description())


def test_a_file_of_fflab_says_itself_what_it_is(
    kept: WeightUploads, run: tuple[TrainSpec, Checkpoint, Weights]
) -> None:
    file = io.BytesIO(export_weights(run[2]))
    with pytest.raises(BadWeights, match="leave out data, normalize"):
        kept.keep("mine", file, DIGITS)
    elsewhere = run[0].model_dump(mode="json") | {"dataset": {"name": "mnist-mini"}}
    with pytest.raises(BadWeights, match="has 64 inputs, but a sample of mnist-mini has 784"):
        kept.keep("mine", changed(run[2], spec=json.dumps(elsewhere)), Description())


def test_a_check_names_what_is_there_and_fits(kept: WeightUploads) -> None:
    facts = kept.keep("mine", saved(tensors()), DIGITS)

    def refusal(at: dict[str, Any], **fields: Any) -> SpecFieldError:
        spec = CheckSpec.model_validate({**CHECK.model_dump(), "at": at, **fields})
        with pytest.raises(SpecFieldError) as caught:
            kept.refuse_missing(spec)
        return caught.value

    there = {"weights": "mine"}
    assert refusal({"weights": "yours"}).message.endswith("called 'yours'; there are mine")
    assert refusal({**there, "digest": "0" * 64}).path == ("at", "digest")
    assert refusal({**there, "layer": 2}).message.endswith("has layers 0 to 1")
    assert "it has [0], so name" in refusal(there, seeds=[0, 1]).message
    assert refusal(there, dataset={"name": "mnist-mini"}).path == ("dataset", "name")
    kept.refuse_missing(CHECK)
    pinned = kept.pinned(CHECK.model_copy(update={"at": UploadedWeights(weights="mine")}))
    assert isinstance(pinned.at, UploadedWeights)
    assert pinned.at.digest == facts.digest
    kept.refuse_missing(pinned)


def test_files_that_changed_are_not_checked(kept: WeightUploads) -> None:
    kept.keep("mine", saved(tensors()), DIGITS)
    kept.keep("yours", saved(tensors()), DIGITS._replace(activation="tanh"))
    (kept.folder / "mine" / "network.safetensors").write_bytes(
        (kept.folder / "yours" / "network.safetensors").read_bytes()
    )
    with pytest.raises(WeightsMissing, match="is not what was uploaded"):
        kept.load(UploadedWeights(weights="mine"))
    (kept.folder / "yours" / "network.safetensors").write_bytes(b"short")
    with pytest.raises(WeightsMissing, match="cannot be read"):
        kept.load(UploadedWeights(weights="yours"))


def test_an_upload_is_removed_unless_it_is_needed(kept: WeightUploads) -> None:
    kept.keep("mine", saved(tensors()), DIGITS, uploaded_by="ada")
    assert kept.bytes_kept() == kept.bytes_kept("ada") > 0 == kept.bytes_kept("bob")
    with pytest.raises(uploads.InUse, match="mine is needed by job_1"):
        kept.remove("mine", lambda: ["job_1"])
    aside = kept.folder / f"{uploads.ASIDE}x"
    aside.mkdir()
    (kept.folder / "mine").rename(aside / "mine")
    assert kept.recover() == [f"mine is put back into {kept.folder}: its removal was not finished"]
    kept.remove("mine")
    assert kept.names() == []
    with pytest.raises(DatasetError, match="no uploaded weights are called 'mine'"):
        kept.remove("mine")
