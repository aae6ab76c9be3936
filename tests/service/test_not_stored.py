"""An upload that cannot be written is no fault of who brings it: 507, with the folder and what to
do, whatever is wrong with the disk.
"""

import io
import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ffengine import uploads
from ffengine.datasets import Datasets
from service.settings import Settings
from service.web.app import create_app
from tests.commands import Fflab
from tests.disks import mounted
from tests.over_http import refused
from tests.service.arrays import X, Y, npz
from tests.serving import client_of

LARGE = {"x": np.zeros((4_000, 50, 50), dtype=np.uint8), "y": np.arange(4_000) % 2}  # 10 MB
MB = 2**20


def packed(**arrays: np.ndarray) -> bytes:
    """An archive that is small and becomes large."""
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)  # type: ignore[arg-type]
    return target.getvalue()


@contextmanager
def files_of_at_most(count: int) -> Iterator[None]:
    """A limit of the process on the size of what it writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def a_file(folder: Path) -> AbstractContextManager[Any]:
    folder.rmdir()
    folder.write_text("in its place")
    return nullcontext()


CAUSES: dict[str, tuple[Callable[[Path], AbstractContextManager[Any]], str, str]] = {
    "a full disk": (lambda folder: mounted("size=2m", folder), "no-room", "the disk of {} is full"),
    "no more files": (
        lambda folder: mounted("nr_inodes=2", folder),
        "no-room",
        "the disk of {} is full",
    ),
    "a disk that is read-only": (
        lambda folder: mounted("ro", folder),
        "not-stored",
        "mine: cannot be kept in {} ([Errno 30] Read-only file system",
    ),
    "a file in its place": (a_file, "not-stored", "mine: cannot be kept in {} ("),
    "a limit on the size of files": (
        lambda _folder: files_of_at_most(4 * MB),
        "not-stored",
        "mine: cannot be kept in {} ([Errno 27] File too large",
    ),
}


@pytest.fixture
def without_reserve(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with which an upload is refused only where the disk itself refuses it."""
    monkeypatch.setattr("service.host.disk.free_bytes", lambda _folder: 2**40)
    return settings.model_copy(update={"disk_reserve": 0})


@pytest.mark.slow
@pytest.mark.parametrize("as_form", [False, True], ids=["a body", "a form"])
@pytest.mark.parametrize("cause", CAUSES)
def test_a_failure_to_store_an_upload_names_the_folder(
    cause: str, as_form: bool, without_reserve: Settings
) -> None:
    spoil, code, words = CAUSES[cause]
    folder = without_reserve.root / "datasets"
    folder.mkdir()
    archive = packed(**LARGE)
    with client_of(create_app(without_reserve)) as client:
        with spoil(folder):
            body: dict[str, Any] = {"files": {"file": archive}} if as_form else {"content": archive}
            problem = refused(client.post("/v1/datasets?name=mine", **body), 507, code)
            assert words.format(folder) in problem.detail
            assert "operator" in problem.detail
            assert client.get("/v1/datasets/mine").status_code == 404
            if folder.is_dir():
                assert list(folder.iterdir()) == [], "nothing of it is left"
        if folder.is_file():
            folder.unlink()
        answer = client.post("/v1/datasets?name=mine", content=archive)
        assert answer.status_code == 201, answer.text


def test_a_folder_of_temporary_files_that_is_gone_is_named(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    monkeypatch.setattr(tempfile, "tempdir", str(gone))
    archive = npz(x=np.zeros((600, 50, 50), dtype=np.uint8), y=np.arange(600) % 2)
    assert len(archive) > MB, "it goes to a file"
    form = {"files": {"file": ("data.npz", archive)}}
    problem = refused(client.post("/v1/datasets?name=mine", **form), 507, "not-stored")
    assert problem.detail.startswith(f"{gone} cannot be written (No such file or directory). ")
    assert "set TMPDIR" in problem.detail
    assert client.post("/v1/datasets?name=mine", content=archive).status_code == 201
    gone.mkdir()
    assert client.post("/v1/datasets?name=mine", **form).status_code == 200


def test_the_command_says_in_one_line_why_nothing_is_kept(
    settings: Settings, fflab: Fflab, tmp_path: Path
) -> None:
    (settings.root / "datasets").write_text("in its place")
    file = tmp_path / "mine.npz"
    file.write_bytes(npz(x=X, y=Y))
    code, _, told = fflab("data", "import", "mine", str(file))
    assert code != 0
    assert len(told.splitlines()) == 1
    assert f"mine: cannot be kept in {settings.root / 'datasets'}" in told


def test_what_cannot_be_read_back_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_arguments: object, **_named: object) -> None:
        raise OSError(19, "No such device")  # of file systems that cannot map files

    monkeypatch.setattr(np, "memmap", unreadable)
    with pytest.raises(uploads.NotStored, match="No such device"):
        Datasets(tmp_path).keep("mine", io.BytesIO(npz(x=X, y=Y)))
