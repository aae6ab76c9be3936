"""The real nginx before a service, with the very block that the documentation shows."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.waiting import PATIENCE_SECONDS, wait_until
from tests.needs import lacking
from tests.ports import free_port

PAGE = Path(__file__).parent.parent / "docs/howto/server.md"
UPSTREAM = "http://127.0.0.1:8000/"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    {temporary}
    server {{
        listen 127.0.0.1:{port}{tls};
        {block}
    }}
}}
"""
TLS = """ ssl;
        ssl_certificate {folder}/certificate.pem;
        ssl_certificate_key {folder}/key.pem"""


def documented_block() -> str:
    """The block of nginx's configuration in the documentation."""
    found = re.search(r"```text\n(location /fflab/ \{.*?\n\})\n```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


@contextmanager
def nginx(upstream: str, block: str, folder: Path, *, tls: bool = False) -> Iterator[str]:
    """The address of an nginx before a service: that of the site, without a prefix."""
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        lacking("nginx", "none is installed")
    assert UPSTREAM in block
    folder.mkdir()
    if tls:
        make_certificate(folder)
    port = free_port()
    temporary = "\n    ".join(f"{name}_temp_path {folder}/{name};" for name in TEMPORARY)
    file = folder / "nginx.conf"
    file.write_text(
        CONFIGURATION.format(
            folder=folder,
            temporary=temporary,
            port=port,
            tls=TLS.format(folder=folder) if tls else "",
            block=block.replace(UPSTREAM, f"{upstream}/"),
        )
    )
    process = subprocess.Popen([program, "-p", str(folder), "-c", str(file)])
    url = f"http{'s' if tls else ''}://localhost:{port}"
    try:
        wait_until(
            lambda: process.poll() is None and answers(url),
            "nginx answers",
            seen=lambda: (folder / "error.log").read_text() if process.poll() is None else None,
        )
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def answers(url: str) -> bool:
    """Whether a proxy answers at all."""
    try:
        httpx.get(url, trust_env=False, verify=False)  # noqa: S501 - its certificate is its own
    except httpx.TransportError:
        return False
    return True


def make_certificate(folder: Path) -> None:
    """Make a key and a certificate of localhost."""
    program = shutil.which("openssl")
    if program is None:
        lacking("openssl", "none is installed")
    files = ["-keyout", f"{folder}/key.pem", "-out", f"{folder}/certificate.pem"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([program, "req", "-x509", *kind, *name, *files], check=True, capture_output=True)
