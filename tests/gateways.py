"""A gateway before the service, as people have them: it gives up early, cuts streams that say
nothing, or serves below a prefix.
"""

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from benchmarks.waiting import PATIENCE_SECONDS

HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host"})


class Gateway(ThreadingHTTPServer):
    """Passes requests on; counts what it answered or cut in place of the service."""

    daemon_threads = True

    def __init__(self, upstream: str, patience: float, prefix: str, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname or "", parts.port or 80)
        self.patience, self.prefix, self.status = patience, prefix, status
        self.given_up: list[str] = []
        self.passed: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{self.prefix}"


class Handler(BaseHTTPRequestHandler):
    """One request of a client."""

    protocol_version = "HTTP/1.1"
    server: Gateway

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def pass_on(self) -> None:
        if not self.path.startswith(f"{self.server.prefix}/"):
            self.answer(404, "<html>no such site</html>")
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.removeprefix(self.server.prefix)
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=self.server.patience)
        with closing(connection):
            try:
                connection.request(self.command, path, body or None, self.forwarded())
                response = connection.getresponse()
            except TimeoutError:
                self.server.given_up.append(path)
                self.answer(self.server.status, "<html>Gateway Time-out</html>")
                return
            except OSError:
                self.answer(502, "<html>Bad Gateway</html>")
                return
            self.server.passed.append(path)
            try:
                with response:
                    self.copy(response)
            except OSError:
                self.server.given_up.append(path)
                self.close_connection = True

    def forwarded(self) -> dict[str, str]:
        kept = {
            name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP
        }
        kept |= {"Host": self.headers["Host"], "X-Forwarded-For": "192.0.2.7"}
        return kept | ({"X-Forwarded-Prefix": self.server.prefix} if self.server.prefix else {})

    def copy(self, response: http.client.HTTPResponse) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        whole = self.command == "HEAD" or response.status in (204, 304)
        chunked = not whole and response.getheader("Content-Length") is None
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while not whole and (piece := response.read1(65536)):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


for method in ("GET", "HEAD", "POST", "PATCH", "PUT", "DELETE"):
    setattr(Handler, f"do_{method}", Handler.pass_on)


@contextmanager
def gateway(
    upstream: str, *, patience: float = PATIENCE_SECONDS, prefix: str = "", status: int = 504
) -> Iterator[Gateway]:
    """A gateway before a service, on a free port."""
    server = Gateway(upstream, patience, prefix, status)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="gateway")
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
