"""A web server for tests that answers range requests, counts them, and fails on request.

pyarrow's S3 client reads from it as well, with the folder's name as the bucket: reading an object is a plain GET.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class RangeServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.sent: list[tuple[str, int]] = []  # path and bytes of each GET
        self.asked = 0  # requests of any kind
        self.failing = 0  # of the next requests
        self.status = 503
        self.ranges = True
        self.delay = 0.0

    def bytes_of(self, name: str) -> list[int]:
        return [count for path, count in self.sent if name in path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer

    def do_HEAD(self) -> None:
        self._answer(with_content=False)

    def do_GET(self) -> None:
        self._answer(with_content=True)

    def _answer(self, with_content: bool) -> None:
        server, path = self.server, self.server.root / self.path.lstrip("/")
        server.asked += 1
        time.sleep(server.delay)
        if server.failing:
            server.failing -= 1
            return self._begin(server.status, 0)
        if not path.is_file():
            return self._begin(404, 0)
        size, status = path.stat().st_size, 200
        start, last = 0, size - 1
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        extra = {"Last-Modified": formatdate(path.stat().st_mtime, usegmt=True)}
        if found and server.ranges:
            start, last = int(found[1]), int(found[2])
            extra["Content-Range"] = f"bytes {start}-{last}/{size}"
            status = 206
        self._begin(status, last + 1 - start, extra)
        if with_content:
            with path.open("rb") as file:
                file.seek(start)
                content = file.read(last + 1 - start)
            server.sent.append((self.path, len(content)))
            self.wfile.write(content)
        return None

    def _begin(self, status: int, length: int, extra: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(root: Path) -> Iterator[RangeServer]:
    with RangeServer(root) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
