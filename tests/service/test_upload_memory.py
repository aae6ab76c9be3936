"""What an upload costs the API process: the memory of a few blocks, whatever it declares."""

import io
import os
import re
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from tests.over_http import refused

DECLARED_BYTES = 2**29
MOST_BYTES = 160 * 2**20  # more than before the upload
SAMPLES = 2_000


def bomb(*, declared: int = DECLARED_BYTES) -> bytes:
    """An .npz of half a megabyte whose float16 zeros are half a gigabyte."""
    target = io.BytesIO()
    labels = np.arange(SAMPLES) % 2
    shape = (SAMPLES, declared // SAMPLES // 2)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("y.npy", "w") as member:
            np.save(member, labels)  # type: ignore[arg-type]
        with archive.open("x.npy", "w") as member:
            header = {"descr": "<f2", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for _ in range(SAMPLES):
                member.write(bytes(2 * shape[1]))
    return target.getvalue()


@contextmanager
def api(home: Path, **settings: str) -> Iterator[tuple[int, str]]:
    """The API as a process: its pid and address."""
    environment = {name: value for name, value in os.environ.items() if name[:6] != "FFLAB_"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "service.serve", "--port", str(port)],
        stderr=subprocess.DEVNULL,
        env=environment | {"FFLAB_HOME": str(home)} | settings,
    ) as process:
        try:
            wait_until(lambda: process.poll() is not None or answers(url), "the API answers")
            assert process.poll() is None
            yield process.pid, url
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").is_success
    except httpx.TransportError:
        return False


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return 1024 * int(found[1])


@pytest.mark.soak
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_an_upload_costs_the_memory_of_a_few_blocks(tmp_path: Path) -> None:
    archive = bomb()
    assert len(archive) < 10**6
    with api(tmp_path) as (pid, url), httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as http:
        tiny = http.post("/v1/datasets?name=tiny", content=bomb(declared=2**20))
        assert tiny.status_code == 201, tiny.text
        before = peak_bytes(pid)
        answer = http.post("/v1/datasets?name=zeros", content=archive)
        assert answer.status_code == 201, answer.text
        assert peak_bytes(pid) - before < MOST_BYTES
        form = http.post(
            "/v1/datasets", data={"name": "zeros"}, files={"file": ("zeros.npz", archive)}
        )
        assert form.status_code == 200, form.text
        assert http.get("/datasets").status_code == 200
        assert peak_bytes(pid) - before < MOST_BYTES
        kept = tmp_path / "datasets"
        assert {path.name for path in kept.iterdir()} == {"tiny", "zeros"}
        assert http.delete("/v1/datasets/zeros").status_code == 204
        assert {path.name for path in kept.iterdir()} == {"tiny"}


@pytest.mark.slow
def test_what_an_upload_declares_has_a_limit_of_the_operator(tmp_path: Path) -> None:
    limit = {"FFLAB_MAX_DATASET_BYTES": "100MiB"}
    with api(tmp_path, **limit) as (pid, url), httpx.Client(base_url=url) as http:
        before = peak_bytes(pid)
        answer = http.post("/v1/datasets?name=zeros", content=bomb(), timeout=PATIENCE_SECONDS)
        assert "at most 104,857,600 are taken" in refused(answer, 422, "bad-upload").detail
        assert peak_bytes(pid) - before < MOST_BYTES
        assert not (tmp_path / "datasets").exists()
