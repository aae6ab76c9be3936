"""Uploaded arrays: what is taken, what is refused before it is allocated, and that a name means the
same arrays for ever.
"""

import contextlib
import errno
import gzip
import io
import os
import pickle
import re
import struct
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ffengine
from ffengine import archives, uploads
from ffengine.archives import opened
from ffengine.arrays import DatasetError, digest_of
from ffengine.availability import NotAvailable, check_available
from ffengine.datasets import Datasets
from ffengine.spec import DATASETS, CheckSpec, DatasetSpec, StudySpec, Submission, TrainSpec
from ffengine.study import GridError
from tests.engine.arrays import ILLEGIBLE, LABELS, member, npy
from tests.examples import examples


def npz(compressed: bool = False, **arrays: np.ndarray) -> io.BytesIO:
    target = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(target, **arrays)  # type: ignore[arg-type]
    target.seek(0)
    return target


def npy_of(array: np.ndarray) -> io.BytesIO:
    target = io.BytesIO()
    np.save(target, array)
    target.seek(0)
    return target


def images(n: int = 20, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, *(shape or (4, 4)))).astype(dtype)


def test_an_upload_becomes_a_data_set_that_a_spec_may_name(tmp_path: Path) -> None:
    x, y = images(200, 3, 3), np.arange(200) % 4
    datasets = Datasets(tmp_path)
    upload = datasets.keep("mine", npz(x=x, y=y), "My pictures.")
    assert (upload.shape, upload.classes, upload.train_samples, upload.test_samples) == (
        (1, 3, 3),
        4,
        160,
        40,
    )
    arrays = datasets.load("mine")
    assert digest_of(arrays) == upload.digest
    assert np.bincount(arrays.y_test).tolist() == [10] * 4
    together = sorted(image.tobytes() for part in (arrays.x_train, arrays.x_test) for image in part)
    assert together == sorted(image.tobytes() for image in x)
    assert (
        datasets.facts_of("mine").meaning
        == "My pictures. A fifth of every class was held out for the test partition."
    )
    spec = TrainSpec.model_validate(
        {"dataset": {"name": "mine"}, "network": {"widths": [8]}, "epochs": 1, "batch_size": 40}
    )
    assert ffengine.train(spec, datasets=datasets).provenance.dataset.digest == upload.digest


def test_given_test_samples_are_kept_apart_and_floats_stay_as_they_are(tmp_path: Path) -> None:
    x = images(20, 5, dtype=np.float64) / 7
    datasets = Datasets(tmp_path)
    upload = datasets.keep("floats", npz(True, x=x, y=LABELS, x_test=x[:6] + 1, y_test=LABELS[:6]))
    assert (upload.shape, upload.held_out, upload.train_samples, upload.test_samples) == (
        (1, 1, 5),
        False,
        20,
        6,
    )
    arrays = datasets.load("floats")
    assert arrays.x_train.dtype == np.float32
    np.testing.assert_array_equal(arrays.x_train.reshape(20, 5), x.astype(np.float32))
    np.testing.assert_array_equal(arrays.x_test.reshape(6, 5), (x[:6] + 1).astype(np.float32))


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(
        lambda sizes: int(np.prod(sizes)) > 1
    ),
    dtype=st.sampled_from(["u1", "<f4", ">f4", "<f8", ">f2"]),
    labels=st.sampled_from(["i1", "u2", "<i8", ">i4"]),
    fortran=st.booleans(),
)
def test_every_layout_of_the_same_numbers_is_read_alike(
    shape: list[int], dtype: str, labels: str, fortran: bool
) -> None:
    x = images(20, *shape)
    stored = np.asfortranarray(x.astype(dtype)) if fortran else x.astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        archive = npz(x=stored, y=LABELS.astype(labels))
        upload = uploads.keep("mine", archive, Path(folder))
        arrays = uploads.arrays_of("mine", Path(folder))
    test = uploads.held_out(LABELS)
    assert upload.held_out
    assert upload.digest == digest_of(arrays)
    np.testing.assert_array_equal(arrays.x_train.reshape(-1, *shape), x[~test])
    np.testing.assert_array_equal(arrays.x_test.reshape(-1, *shape), x[test])
    np.testing.assert_array_equal(arrays.y_train, LABELS[~test])


def test_a_name_never_changes_its_meaning(tmp_path: Path) -> None:
    first = uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path)
    assert uploads.keep("mine", npz(True, x=images(), y=LABELS), tmp_path) == first
    with pytest.raises(uploads.NameTaken, match="choose another name"):
        uploads.keep("mine", npz(x=images(), y=1 - LABELS), tmp_path)
    assert uploads.find("mine", tmp_path) == first
    assert uploads.names(tmp_path) == ["mine"]


def test_of_two_that_bring_one_name_at_once_one_wins(tmp_path: Path) -> None:
    outcomes: list[object] = []

    def bring(number: int) -> None:
        try:
            outcomes.append(uploads.keep("mine", npz(x=images() ^ number, y=LABELS), tmp_path))
        except uploads.NameTaken as error:
            outcomes.append(error)

    threads = [threading.Thread(target=bring, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [outcome for outcome in outcomes if isinstance(outcome, uploads.Upload)]
    assert len(outcomes) == 6
    assert winners == [uploads.find("mine", tmp_path)]
    assert [path.name for path in (tmp_path).iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name", ["", "../x", "a/b", ".hidden", "Upper", "a" * 64, "a\x00", "ä", "mine "]
)
def test_names_that_could_be_paths_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be used"):
        uploads.keep(name, npz(x=images(), y=LABELS), tmp_path)
    assert uploads.find(name, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("unpickled",))


HOSTILE = {
    "objects": (npz(x=np.array([Evil()] * 20), y=LABELS), "x.npy has dtype object"),
    "a pickle": (io.BytesIO(pickle.dumps(Evil())), "not a readable .* is a pickle; expected x"),
    "an array": (
        npy_of(LABELS),
        r"is an \.npy, which holds one array; expected x \(N,",
    ),
    "a table": (io.BytesIO(b"a,b\r\n1,2\r\n"), "the file is text; expected x"),
    "a compressed file": (io.BytesIO(gzip.compress(b"a")), "is compressed with gzip; expected x"),
    "noise": (io.BytesIO(bytes(range(255, 0, -1))), "is of another kind; expected x"),
    "a bomb": (
        member(
            "x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (20, 1000000000000)}")
        ),
        "is not the size",
    ),
    "overflow": (
        member(
            "x.npy",
            npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296)}"),
        ),
        "is not the size",
    ),
    "negative": (
        member(
            "x.npy", npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-20, -2)}", b"x" * 40)
        ),
        "is not the size",
    ),
    "a call": (
        member(
            "x.npy",
            npy("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (2,)}"),
        ),
        "not a readable",
    ),
    "a path": (member("../x.npy", b""), "expected x, y"),
    "a stranger": (npz(x=images(), y=LABELS, z=LABELS), "expected x, y"),
    "nothing": (io.BytesIO(b""), "not a readable .npz archive: the file is empty; expected x"),
    "no labels": (npz(x=images()), "expected x and y"),
    "half a test": (npz(x=images(), y=LABELS, x_test=images()), "neither"),
    "text": (npz(x=np.array([["a", "b"]] * 20), y=LABELS), "expected uint8 or floats"),
    "complex": (npz(x=images().astype(complex), y=LABELS), "expected uint8 or floats"),
    "fractions": (npz(x=images(), y=LABELS / 2), "expected integers"),
    "lengths": (npz(x=images(), y=LABELS[:5]), r"expected \(N, ...\)"),
    "five axes": (npz(x=images(20, 2, 2, 2, 2), y=LABELS), "two to four axes"),
    "one input": (npz(x=images(20, 1), y=LABELS), "at least two"),
    "infinite": (npz(x=np.full((20, 2), np.inf), y=LABELS), "not finite"),
    "too large": (npz(x=np.full((20, 2), 1e300), y=LABELS), "not finite"),
    "a column of labels": (npz(x=images(), y=LABELS[:, None]), r"expected \(N, ...\)"),
    "one-hot labels": (npz(x=images(), y=np.eye(2, dtype=int)[LABELS]), r"expected \(N, ...\)"),
    "labels of bool": (npz(x=images(), y=LABELS == 1), "expected integers"),
    "labels of text": (npz(x=images(), y=LABELS.astype(str)), "expected integers"),
    "whole floats": (npz(x=images(), y=LABELS.astype(float)), "expected integers"),
    "negative label": (npz(x=images(), y=LABELS - 1), "labels from -1"),
    "huge label": (npz(x=images(), y=LABELS * 10**6), "labels from 0 to 1000000"),
    "a gap": (npz(x=images(), y=LABELS * 2), "none of 1"),
    "one class": (npz(x=images(), y=LABELS * 0), "labels up to 0"),
    "new label": (
        npz(x=images(), y=LABELS, x_test=images(), y_test=LABELS * 2),
        "y_test has label 2",
    ),
    "other shape": (
        npz(x=images(), y=LABELS, x_test=images(20, 5), y_test=LABELS),
        "another shape",
    ),
    "too few": (npz(x=images()[:4], y=LABELS[:4]), "too few"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_useless_archives_are_refused(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive, message = HOSTILE[case]
    archive.seek(0)
    with pytest.raises(DatasetError, match=message):
        uploads.keep("mine", archive, tmp_path)
    assert uploads.names(tmp_path) == []
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("header", ILLEGIBLE, ids=range(len(ILLEGIBLE)))
def test_a_header_that_is_none_is_said_to_be_none(header: str) -> None:
    with pytest.raises(DatasetError, match=r"not a readable \.npz archive|declares|expected uint8"):
        read(member("x.npy", npy(header)))


def read(archive: io.BytesIO) -> None:
    """Read an archive to its end."""
    with opened(archive) as found:
        for name in found.headers:
            for _ in found.blocks(name):
                pass


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Reading")  # of a header as Python 2 has written it
@settings(max_examples=examples(1_000), deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *"'{}[](),:-+\\1 \n#",
                "'" * 3,
                "b'x'",
                "'descr'",
                "'shape'",
                "'fortran_order'",
                "'|u1'",
                "True",
                "None",
            ]
        ),
        max_size=30,
    )
)
def test_no_header_escapes_as_another_error(pieces: list[str]) -> None:
    with contextlib.suppress(DatasetError):
        read(member("x.npy", npy("".join(pieces))))


@pytest.mark.slow
@settings(max_examples=examples(500))
@given(st.binary(max_size=200), st.integers(0, 1200))
def test_no_damage_to_an_archive_escapes_as_another_error(noise: bytes, at: int) -> None:
    whole = npz(True, x=images(), y=LABELS).getvalue()
    damaged = whole[:at] + noise + whole[at + len(noise) :]
    with contextlib.suppress(DatasetError), tempfile.TemporaryDirectory() as folder:
        uploads.keep("mine", io.BytesIO(damaged), Path(folder))


def test_an_archive_beyond_the_limit_is_refused_by_its_headers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", 100)
    with pytest.raises(DatasetError, match="at most 100 are taken"):
        uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path)
    # what counts is what they become: 20 samples of 4 float32 and a label of int64
    x = images(20, 4, dtype=np.float16)
    for limit, taken in ((20 * 24 - 1, False), (20 * 24, True)):
        with contextlib.nullcontext() if taken else pytest.raises(DatasetError, match="480 bytes"):
            uploads.keep("mine", npz(x=x, y=LABELS), tmp_path, max_bytes=limit)


def test_nothing_is_written_that_is_not_admitted(tmp_path: Path) -> None:
    asked: list[int] = []

    def refuse(size: int) -> None:
        asked.append(size)
        raise DatasetError("no more room")

    with pytest.raises(DatasetError, match="no more room"):
        uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path, admit=refuse)
    assert asked == [20 * (16 + 8)]
    assert list(tmp_path.iterdir()) == []
    uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path)
    # what is there already takes up no more
    uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path, admit=refuse)
    with pytest.raises(uploads.NameTaken):
        uploads.keep("mine", npz(x=images(), y=1 - LABELS), tmp_path, admit=refuse)


@pytest.mark.parametrize("block_bytes", [1, 48, 10**6])
@pytest.mark.parametrize("fortran", [False, True])
def test_blocks_of_any_size_give_the_same_arrays(
    block_bytes: int, fortran: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = images(40, 4, 4, dtype=np.float32)
    labels = np.arange(40) % 3
    whole = uploads.keep("whole", npz(x=x, y=labels), tmp_path)
    monkeypatch.setattr(archives, "BLOCK_BYTES", block_bytes)
    stored = np.asfortranarray(x) if fortran else x
    blocks = uploads.keep("blocks", npz(True, x=stored, y=labels), tmp_path)
    assert blocks.digest == whole.digest == digest_of(uploads.arrays_of("blocks", tmp_path))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mapped_arrays_are_those_that_are_kept(tmp_path: Path, dtype: type) -> None:
    datasets = Datasets(tmp_path)
    datasets.keep("mine", npz(x=images(dtype=dtype), y=LABELS))
    for found, kept in zip(datasets.mapped("mine"), datasets.load("mine"), strict=True):
        np.testing.assert_array_equal(found, kept)
        assert not found.flags.writeable
    path = uploads.arrays_file("mine", datasets.kept_in)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DatasetError, match="cannot be read"):
        datasets.mapped("mine")
    assert len(datasets.mapped("digits").y_train) > 0


def test_an_archive_of_millions_of_members_is_refused_before_they_are_listed() -> None:
    target = npz(x=images(), y=LABELS)
    with zipfile.ZipFile(target, "a") as archive:
        for number in range(3_000):
            archive.writestr(f"{number}.npy", b"")
    with pytest.raises(DatasetError, match="too many members"):
        read(target)
    raw = bytearray(npz(x=images(), y=LABELS).getvalue())
    end = raw.rindex(b"PK\5\6")
    locator = b"PK\6\7" + struct.pack("<LQL", 0, 0, 1)
    with pytest.raises(DatasetError, match="too many members"):
        read(io.BytesIO(raw[:end] + locator + raw[end:]))


def test_a_header_that_says_to_be_of_gigabytes_is_not_read() -> None:
    prefix = b"\x93NUMPY\x02\x00" + struct.pack("<L", 2**32 - 1)
    with pytest.raises(DatasetError, match=r"the header of x\.npy is none"):
        read(member("x.npy", prefix + b" " * 100_000))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MOST_SAMPLES", 19, "at most 19 samples"),
        ("MOST_INPUTS", 15, "of at most 15 inputs"),
        ("MOST_FORTRAN_BYTES", 19, "write it with numpy.ascontiguousarray"),
    ],
)
def test_what_cannot_be_read_in_blocks_is_bounded(
    name: str, value: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, name, value)
    with pytest.raises(DatasetError, match=message):
        read(npz(x=np.asfortranarray(images()), y=LABELS))


def test_drafts_of_killed_writers_are_removed_and_others_are_not(tmp_path: Path) -> None:
    uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path)
    for name, age in (("old", 100.0), ("new", 0.0)):
        draft = tmp_path / f"{uploads.DRAFT}{name}"
        draft.mkdir()
        (draft / "arrays.npz").write_bytes(b"half")
        for path in (draft / "arrays.npz", draft):
            os.utime(path, (1000 - age, 1000 - age))
    assert uploads.remove_drafts(tmp_path, older_than=950.0) == [".draft-old"]
    assert {path.name for path in tmp_path.iterdir()} == {"mine", ".draft-new"}
    assert uploads.names(tmp_path) == ["mine"]


def test_a_writer_that_fails_leaves_no_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "_written", full)
    with pytest.raises(uploads.NotStored, match="mine: cannot be kept in") as refused:
        uploads.keep("mine", npz(x=images(), y=LABELS), tmp_path)
    assert refused.value.error.errno == errno.ENOSPC
    monkeypatch.undo()
    with pytest.raises(DatasetError, match="not finite"):
        uploads.keep("mine", npz(x=np.full((20, 2), np.inf), y=LABELS), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_spec_may_name_what_is_not_here_and_is_not_run_here(tmp_path: Path) -> None:
    spec = TrainSpec.model_validate({"dataset": {"name": "theirs", "train_samples": 10**9}})
    for run in (
        lambda: check_available(spec, Datasets(tmp_path)),
        lambda: ffengine.train(spec, datasets=Datasets(tmp_path)),
        lambda: ffengine.check(CheckSpec(dataset=spec.dataset), datasets=Datasets(tmp_path)),
    ):
        with pytest.raises(DatasetError, match="'theirs' is not known; choose one of mnist-mini"):
            run()
    schema = DatasetSpec.model_json_schema()["properties"]["name"]
    assert schema["anyOf"][0]["enum"] == list(DATASETS)


# Where uploads are, and whether a spec can be run on them


def places(tmp_path: Path) -> tuple[Datasets, Datasets]:
    """A data root as an earlier version used it, and a service that only reads it."""
    root = tmp_path / "data"
    return Datasets(root), Datasets(root, tmp_path / "home" / "datasets")


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, with its content and the time of its last change."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_uploads_go_to_the_state_and_those_below_the_data_root_are_found(tmp_path: Path) -> None:
    before, now = places(tmp_path)
    old = before.keep("old", npz(x=images(), y=LABELS))
    held = contents(before.root)
    new = now.keep("new", npz(x=images(), y=1 - LABELS))
    assert now.upload_folder("new") == tmp_path / "home" / "datasets" / "new"
    assert now.upload_folder("old") == before.root / "uploads" / "old"
    assert now.uploaded() == ["new", "old"]
    assert (now.loaded("new").digest, now.loaded("old").digest) == (new.digest, old.digest)
    assert before.find("new") is None
    assert contents(before.root) == held


def test_a_name_below_the_data_root_is_given_once(tmp_path: Path) -> None:
    before, now = places(tmp_path)
    old = before.keep("mine", npz(x=images(), y=LABELS))
    assert now.keep("mine", npz(x=images(), y=LABELS), "Again.") == old
    with pytest.raises(uploads.NameTaken, match="'mine' is taken, with digest"):
        now.keep("mine", npz(x=images(), y=1 - LABELS))
    with pytest.raises(uploads.NameTaken, match="of the catalogue"):
        now.keep("mnist", npz(x=images(), y=LABELS))
    assert not (tmp_path / "home").exists()


def test_a_name_that_stands_for_two_data_sets_is_refused(tmp_path: Path) -> None:
    before, now = places(tmp_path)
    now.keep("mine", npz(x=images(), y=LABELS))
    before.keep("mine", npz(x=images(), y=1 - LABELS))
    spec = TrainSpec.model_validate({"dataset": {"name": "mine"}})
    for use in (
        lambda: check_available(spec, now),
        lambda: now.load("mine"),
        lambda: ffengine.train(spec, datasets=now),
    ):
        with pytest.raises(DatasetError, match=r"'mine' names two data sets, .*move one of them"):
            use()
    assert now.uploaded() == ["mine"]


@pytest.mark.parametrize("what", ["arrays", "folder"])
def test_a_damaged_upload_is_refused(what: str, tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    datasets.keep("mine", npz(x=images(), y=LABELS))
    if what == "arrays":
        uploads.arrays_file("mine", datasets.kept_in).unlink()
    else:
        (datasets.kept_in / "mine" / "facts.json").write_text("{}")
    with pytest.raises(NotAvailable, match="is gone" if what == "arrays" else "is not known"):
        check_available(TrainSpec.model_validate({"dataset": {"name": "mine"}}), datasets)


def test_arrays_that_were_changed_are_not_loaded(tmp_path: Path) -> None:
    datasets = Datasets(tmp_path)
    datasets.keep("mine", npz(x=images(), y=LABELS))
    datasets.keep("other", npz(x=images(), y=1 - LABELS))
    folder = datasets.kept_in
    uploads.arrays_file("other", folder).replace(uploads.arrays_file("mine", folder))
    with pytest.raises(DatasetError, match="mine: the files are not the published data"):
        datasets.load("mine")


@pytest.mark.parametrize("use", ["a file in its place", "a file above it"])
def test_a_folder_that_cannot_be_written_is_told(use: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / ("." if use == "a file in its place" else "datasets")
    with pytest.raises(DatasetError, match="mine: cannot be kept in "):
        Datasets(tmp_path, folder).keep("mine", npz(x=images(), y=LABELS))


MINE = {"name": "mine"}
REFUSED: list[tuple[dict[str, object], tuple[str, ...], str]] = [
    (
        {"kind": "train", "dataset": {"name": "yours"}},
        ("dataset", "name"),
        "'yours' is not known; choose one of ",
    ),
    (
        {"kind": "train", "dataset": MINE | {"train_samples": 17}},
        ("dataset", "train_samples"),
        "17 asked, but mine has 16",
    ),
    (
        {"kind": "train", "dataset": MINE | {"test_samples": 5}},
        ("dataset", "test_samples"),
        "5 asked, but mine has 4",
    ),
    (
        {"kind": "train", "dataset": MINE | {"validation_samples": 15}},
        ("dataset", "validation_samples"),
        "15 leaves no samples to train on",
    ),
    (
        {"kind": "check", "dataset": MINE, "samples": 17},
        ("samples",),
        "17 asked, but the data set gives 16",
    ),
    (
        {"kind": "study", "base": {"kind": "train", "dataset": {"name": "yours"}}},
        ("base", "dataset", "name"),
        "'yours' is not known",
    ),
    (
        {
            "kind": "study",
            "parts": {"a/b": {"base": {"kind": "check", "dataset": {"name": "yours"}}}},
        },
        ("parts", "a/b", "base", "dataset", "name"),
        "'yours' is not known",
    ),
    (
        {
            "kind": "study",
            "preset": "mpezeshki",
            "base": {"kind": "train", "dataset": MINE},
        },
        ("base", "dataset", "train_samples"),
        "asked, but mine has",
    ),
]


@pytest.fixture(scope="module")
def with_mine(tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    datasets = Datasets(tmp_path_factory.mktemp("data"))
    datasets.keep("mine", npz(x=images(), y=LABELS))
    return datasets


@pytest.mark.parametrize(("document", "path", "message"), REFUSED)
def test_what_an_upload_has_not_is_refused_with_its_place(
    document: dict[str, object], path: tuple[str, ...], message: str, with_mine: Datasets
) -> None:
    spec = Submission.model_validate({"spec": document}).spec
    with pytest.raises(NotAvailable, match=re.escape(message)) as refused:
        check_available(spec, with_mine)
    assert refused.value.path == path


def test_a_grid_names_the_value_that_cannot_be_run(with_mine: Datasets) -> None:
    check_available(StudySpec(grid={"dataset.name": ["digits"]}), with_mine)
    study = StudySpec(grid={"seeds": [[0], [1]], "dataset.name": ["digits", "yours"]})
    with pytest.raises(GridError, match="'yours' is not known") as refused:
        check_available(study, with_mine)
    assert refused.value.message.startswith("'yours': 'yours' is not known; choose one of ")
    assert refused.value.pointer == "/grid/dataset.name"


def test_the_environment_says_where_data_sets_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("FFLAB_DATA", raising=False)
    monkeypatch.delenv("FFLAB_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    usual = tmp_path / ".local" / "share" / "fflab"
    assert Datasets.of_environment() == Datasets(
        usual / "data", usual / "datasets", usual / "cache", usual / "weights"
    )
    lab = tmp_path / "lab"
    monkeypatch.setenv("FFLAB_HOME", str(lab))
    assert Datasets.of_environment() == Datasets(
        lab / "data", lab / "datasets", lab / "cache", lab / "weights"
    )
    monkeypatch.setenv("FFLAB_DATA", "~/mounted")
    assert Datasets.of_environment() == Datasets(
        tmp_path / "mounted", lab / "datasets", lab / "cache", lab / "weights"
    )
    Datasets.of_environment().keep("mine", npz(x=images(200, 3, 3), y=np.arange(200) % 4))
    spec = {"dataset": MINE, "widths": [4], "samples": 20, "batch_size": 10, "seeds": [0]}
    found = ffengine.check(CheckSpec.model_validate(spec))
    assert found.provenance.dataset.name == "mine"
    assert not (tmp_path / "mounted").exists()
