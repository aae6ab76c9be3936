"""A home is for its owner alone, whichever command makes it."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.waiting import wait_until
from service.artifacts import Artifacts
from service.cli.doctor import _home
from service.host.private import is_open_to_others, make_private_file, make_private_folder
from service.settings import Settings
from service.store import Store
from tests.service.arrays import X, Y, npz


@pytest.fixture(autouse=True)
def _usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "FFLAB_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "service.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("keys", "create", "ada"),
        ("data", "import", "mine", "FILE"),
        *(
            pytest.param(words, marks=pytest.mark.soak)
            for words in (
                ("keys", "list"),
                ("retention",),
                ("webhook-secret",),
                ("doctor",),
                ("data", "fetch", "digits"),
            )
        ),
    ],
)
def test_commands_make_it_private(tmp_path: Path, command: tuple[str, ...]) -> None:
    home, file = tmp_path / "new" / "home", tmp_path / "mine.npz"
    file.write_bytes(npz(x=X, y=Y))
    ended = run(home, *(str(file) if word == "FILE" else word for word in command))
    assert ended.returncode in (0, 1), ended.stderr
    assert (mode(home), mode(home.parent)) == (0o700, 0o700)
    for database in home.glob("fflab.db*"):
        assert mode(database) == 0o600, database


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [["service.serve", "--port", "0"], ["service.cli", "api", "--port", "0"]]
)
def test_the_api_makes_it_private(tmp_path: Path, program: list[str]) -> None:
    home = tmp_path / "home"
    environment = {"PATH": os.environ["PATH"], "FFLAB_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-m", *program], env=environment)
    try:
        wait_until((home / "artifacts" / ".service").exists, "the home is made")
        assert mode(home) == 0o700
        assert {mode(file) for file in home.glob("fflab.db*")} == {0o600}
    finally:
        process.terminate()
        process.wait(60)


def test_store_and_artifacts_make_it_private(tmp_path: Path) -> None:
    store = Store(tmp_path / "a" / "fflab.db")
    store.migrate()
    store.close()
    Artifacts(tmp_path / "b" / "artifacts").put_label("x")
    assert mode(tmp_path / "a") == mode(tmp_path / "b") == 0o700
    assert {mode(file) for file in (tmp_path / "a").iterdir()} == {0o600}


def test_what_is_there_keeps_its_permissions(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2770)
    (shared / "fflab.db").touch()
    (shared / "fflab.db").chmod(0o660)
    store = Store(shared / "fflab.db")
    store.migrate()
    store.close()
    make_private_folder(shared)
    make_private_file(shared / "fflab.db")
    assert (mode(shared), mode(shared / "fflab.db")) == (0o2770, 0o660)
    with pytest.raises(FileExistsError):
        make_private_folder(shared / "fflab.db")


def test_two_may_make_a_folder_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "c"
    failed: list[BaseException] = []

    def make() -> None:
        try:
            make_private_folder(folder)
        except BaseException as error:  # noqa: BLE001 - told by the assertion
            failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert mode(folder) == 0o700


def test_doctor_warns_of_a_home_that_others_can_read(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    home.mkdir(mode=0o755)
    assert is_open_to_others(home)
    (warning, _) = _home(Settings(home=home))
    assert (warning.verdict, warning.what) == ("warn", "home")
    assert f"chmod o= '{home}'" in warning.advice
    home.chmod(0o750)
    assert [check.verdict for check in _home(Settings(home=home))] != ["warn", "ok"]
