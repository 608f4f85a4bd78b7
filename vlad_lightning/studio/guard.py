"""What a browser may ask of the studio's server: the routes that the page uses, small requests, its own files.

gradio's server can do more than this page needs: fetch an address for a client, edit its own code, record the screen.
Everything that is not listed here is refused before gradio sees it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vlad_lightning.studio.uploads import UPLOAD_BYTES

_API = "/gradio_api"
_PAGE = ("/", "/config", "/theme.css", "/manifest.json", "/favicon.ico", "/robots.txt")
_READ = (*_PAGE, f"{_API}/startup-events", f"{_API}/queue/data", f"{_API}/upload_progress", f"{_API}/app_id")
_READ_BELOW = ("/assets/", "/static/", f"{_API}/heartbeat/")
_FILE = f"{_API}/file="
_EVENTS = (f"{_API}/queue/join", f"{_API}/run/predict")  # gradio refuses the latter for events that are queued
_WRITE = (*_EVENTS, f"{_API}/upload")
_JSON_BYTES = 4_000_000
_HEADERS = {
    # gradio's page has scripts in its text, and compiles others; none comes from another host
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'self'; form-action 'self'; base-uri 'self'; object-src 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """An ASGI application in front of gradio's.

    Args:
        app: gradio's application.
        folder: the folder whose files may be read, gradio's temporary one.
        hosts: the names that the server answers to, so that another site's name that leads to this machine does not
            open it (DNS rebinding); None answers to every name.
    """

    def __init__(self, app: ASGIApp, folder: Path, hosts: Iterable[str] | None = None) -> None:
        self.app = app
        self._folder = folder.resolve()
        self._hosts = None if hosts is None else frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return  # the page opens no web sockets
        if refusal := self._refusal(scope):
            return await PlainTextResponse(*refusal)(scope, receive, send)
        if scope["path"] in _EVENTS:
            body = await _body(receive)
            if body is None or not self._only_own_files(body):
                return await PlainTextResponse("too large, or names files that were not uploaded", 400)(
                    scope, receive, send
                )
            receive = _replayed(body)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self.app(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> tuple[str, int] | None:
        headers = Headers(scope=scope)
        if self._hosts is not None and _host(headers.get("host", "")) not in self._hosts:
            return "this name is not answered to", 421
        method, path = scope["method"], scope["path"]
        reading = method in ("GET", "HEAD") and (path in _READ or path.startswith(_READ_BELOW))
        if method in ("GET", "HEAD") and path.startswith(_FILE):
            return None if self._is_own(path.removeprefix(_FILE)) else ("no such file", 403)
        if not (reading or (method == "POST" and path in _WRITE)):
            return "no such page", 404
        if method == "POST" and not _same_origin(headers):
            return "asked by another site", 403
        length = headers.get("content-length", "")
        if method == "POST" and not (length.isdecimal() and int(length) <= UPLOAD_BYTES + 10_000):
            return f"at most {UPLOAD_BYTES:,} bytes can be sent", 413
        return None

    def _is_own(self, name: str) -> bool:
        """Return whether a name is that of a regular file in the folder, whatever links and dots are in it."""
        try:
            path = Path(unquote(name)).resolve()
            return path.is_relative_to(self._folder) and path.is_file()
        except (OSError, ValueError):
            return False

    def _only_own_files(self, body: bytes) -> bool:
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return False
        return all(isinstance(path, str) and self._is_own(path) for path in _paths(content))


def _paths(content: Any) -> Iterator[object]:
    """Yield what gradio would take as a file's path."""
    waiting = [content]
    while waiting:
        entry = waiting.pop()
        if isinstance(entry, dict):
            if entry.get("path") is not None:
                yield entry["path"]
            waiting.extend(entry.values())
        elif isinstance(entry, list):
            waiting.extend(entry)


def _host(header: str) -> str:
    """Return the name in a ``Host`` header, without its port."""
    name = header.rpartition(":")[0] if header.rpartition(":")[2].isdecimal() else header
    return name.strip("[]").lower()


def _same_origin(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request; None if it is too large or the browser has gone."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > _JSON_BYTES:
            return None
        if not message.get("more_body"):
            return body


def _replayed(body: bytes) -> Receive:
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive
