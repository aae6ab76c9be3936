"""The app as a whole: what it imports, what it starts and stops, and that its settings reach it."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service.settings import Settings
from service.web.app import create_app
from tests.serving import client_of


@pytest.mark.slow
def test_neither_api_nor_command_line_import_torch() -> None:
    rooms = ("cli", "client", "results.charts", "results.report", "web.app")
    code = (
        f"import sys, {', '.join(f'service.{room}' for room in rooms)}; "
        "print(sorted({'torch', 'torchvision', 'workers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_making_an_app_touches_nothing(tmp_path: Path) -> None:
    create_app(Settings(home=tmp_path / "home"))
    assert not (tmp_path / "home").exists()


@pytest.mark.slow
def test_an_app_leaves_no_thread_behind_and_can_be_started_again(settings: Settings) -> None:
    before = set(threading.enumerate())
    for _ in range(2):
        app = create_app(settings)
        with client_of(app) as client:
            assert client.get("/healthz").status_code == 200
        assert not [
            thread
            for thread in set(threading.enumerate()) - before
            if thread.name in ("reconciler", "server")
        ]


@pytest.mark.slow
def test_settings_limit_the_size_of_bodies(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"max_body_bytes": 1_000}))
    with client_of(app) as client:
        body = {"spec": {"kind": "train"}, "name": "x" * 2_000}
        assert client.post("/v1/jobs", json=body).status_code == 413
        assert client.post("/v1/jobs", json={"spec": {"kind": "train"}}).status_code == 202
