"""A file in object storage or on a web server: read by ranges, or kept whole in a local cache.

Both kinds of storage are read by libraries: S3 by pyarrow, HTTP by fsspec, which Lightning installs. Each process has
its own connections, so a path can be pickled and forked. Nothing is ever written to the storage.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vlad_lightning.files import UnusableFileError, printable, read_bytes

CACHE = "VLAD_CACHE"
"""The environment variable that names the folder for local copies; by default ``vlad_lightning`` in the user's."""

_SCHEMES = ("s3", "https", "http")
_PIECE = 2**23  # bytes of a file that is copied that are fetched at a time
_TAIL = 2**15  # bytes at the end of a shard, in which Arrow has the places of a thousand rows
_CONNECT, _SILENCE = 10, 60  # seconds until a server counts as away


class UnknownHostError(OSError):
    """A host whose name cannot be resolved."""


@dataclass(frozen=True)
class RemotePath:
    """A file or folder under a URL.

    Args:
        root: URL of a folder: ``s3://bucket/folder``, ``https://host/folder`` or with ``http``.
        name: path under it, with ``/``.
        version: what tells this content of the folder from a later one; local copies of one version are kept together.
            If empty, nothing is copied.

    Raises:
        ValueError: if it is no such URL, or if it holds a password, a query or a fragment.
    """

    root: str
    name: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.root)
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                f"root is a URL of {parts.hostname} with a user, a query or a fragment; allowed is "
                "scheme://host/folder, and credentials come from the environment (AWS_ACCESS_KEY_ID and the like)"
            )
        if parts.scheme not in _SCHEMES or not parts.netloc:
            raise ValueError(f"root is {printable(self.root)!r}; allowed are a folder, s3://, https:// and http://")

    def __truediv__(self, name: str) -> RemotePath:
        return replace(self, name=f"{self.name}/{name}" if self.name else name)

    def __str__(self) -> str:
        return f"{self.root.rstrip('/')}/{self.name}".rstrip("/")

    def of_version(self, version: str) -> RemotePath:
        """Return the same path in a version of its folder, which any text may identify."""
        return replace(self, version=hashlib.sha256(f"{self.version} {version}".encode()).hexdigest())

    def exists(self) -> bool:
        """Return whether the file can be found; False also if the storage cannot be reached."""
        try:
            _Object(str(self)).size()
        except (OSError, ValueError):
            return False
        return True

    def read_bytes(self, most_bytes: int) -> bytes:
        """Return the content of a small file, fetched anew.

        Raises:
            FileNotFoundError, PermissionError, UnknownHostError: as the storage answers, each with the URL.
            OSError: if it cannot be read for another reason.
            UnusableFileError: if it is larger than ``most_bytes``.
        """
        there = _Object(str(self))
        size = there.size()
        if size > most_bytes:
            raise UnusableFileError(str(self), f"larger than {most_bytes:,} bytes")
        return there.read(0, size)

    def open(self) -> io.RawIOBase:
        """Open a shard; only what is read is fetched, and its end, which is kept in the cache.

        Raises:
            OSError: as :meth:`read_bytes`.
        """
        there = _Object(str(self))
        if not self.version:
            size = there.size()
            return _Ranges(there, size, b"")
        kept = self._copy().with_suffix(".tail")
        with suppress(OSError):
            content = kept.read_bytes()
            return _Ranges(there, int.from_bytes(content[:8], "big"), content[8:])
        size = there.size()
        tail = there.read(max(0, size - _TAIL), size)
        with suppress(OSError):  # it only saves requests
            _write(kept, iter((size.to_bytes(8, "big"), tail)))
        return _Ranges(there, size, tail)

    def local(self) -> Path:
        """Return a copy of the whole file in the cache; of several processes, one fetches it.

        Raises:
            OSError: as :meth:`read_bytes`.
            ValueError: if the cache cannot be written.
        """
        from filelock import FileLock

        copy = self._copy()
        if copy.exists():
            return copy
        there = _Object(str(self))
        size = there.size()
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(f"{copy}.lock")
            lock.acquire()
        except OSError as error:
            raise ValueError(f"{copy.parent} cannot be written ({error}); {CACHE} names another folder") from error
        try:
            if not copy.exists():
                starts = range(0, size, _PIECE)
                _write(copy, (there.read(start, min(size, start + _PIECE)) for start in starts))
        finally:
            lock.release()
        return copy

    def _copy(self) -> Path:
        known = hashlib.sha256(f"{self.root.rstrip('/')} {self.version}".encode()).hexdigest()[:24]
        return cache_folder() / known / self.name


Place = Path | RemotePath
"""A local or a remote file or folder."""


def is_url(root: str | Path) -> bool:
    """Return whether a text is a URL, also after ``Path`` has taken one of its two slashes."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+:/", str(root)) is not None


def as_place(root: str) -> Place:
    """Return a folder's path, or the remote one of a URL.

    Raises:
        ValueError: as :class:`RemotePath`.
    """
    return RemotePath(root) if is_url(root) else Path(root)


def read_small(place: Place, most_bytes: int) -> bytes:
    """Read the content of a small file, local or remote; see :meth:`RemotePath.read_bytes`."""
    return place.read_bytes(most_bytes) if isinstance(place, RemotePath) else read_bytes(place, most_bytes)


def local_file(place: Place) -> Path:
    """Return a local path of a file that is needed whole; see :meth:`RemotePath.local`."""
    return place.local() if isinstance(place, RemotePath) else place


def check_writable(name: str, root: str | Path) -> None:
    """Refuse a URL where files are written.

    Raises:
        ValueError: naming the argument.
    """
    if is_url(root):
        url = re.sub(":/+", "://", printable(root), count=1)
        raise ValueError(
            f"{name} is {url!r}, a URL; sets are written to a local folder only: name one, and copy it there afterwards"
        )


def cache_folder() -> Path:
    """Return the folder for local copies; it need not exist."""
    if named := os.environ.get(CACHE):
        return Path(named)
    user = os.environ.get("XDG_CACHE_HOME")
    return (Path(user) if user else Path.home() / ".cache") / "vlad_lightning"


def _write(path: Path, pieces: Iterator[bytes]) -> None:
    """Write a file beside the target and rename it; the name is of no other process, on no other host either."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with beside.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class _Object:
    """One object of the storage; it is connected to when it is first used."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._file: Any = None  # pyarrow's, of an object in S3

    def size(self) -> int:
        """Return its number of bytes."""
        with _named(self._url):
            if self._url.startswith("s3:"):
                return int(self._opened().size())
            size = _web(os.getpid()).info(self._url)["size"]
        if size is None:
            raise ValueError(f"the server of {self._url} does not tell its size; it cannot be read by ranges")
        return int(size)

    def read(self, start: int, stop: int) -> bytes:
        """Return a range of its bytes; one request."""
        with _named(self._url):
            if self._url.startswith("s3:"):
                content = bytes(self._opened().read_at(stop - start, start))
            else:
                content = _web(os.getpid()).cat_file(self._url, start, stop)
        if len(content) != stop - start:
            raise ValueError(
                f"{self._url} gave {len(content)} bytes for a range of {stop - start}; its server must answer range "
                "requests, or the file has changed"
            )
        return content

    def _opened(self) -> Any:
        if self._file is None:
            path = self._url.removeprefix("s3://")
            endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
            self._file = _s3(path.partition("/")[0], endpoint, os.getpid()).open_input_file(path)
        return self._file


class _Ranges(io.RawIOBase):
    """An object as a file for pyarrow: each read is one range, except of the end, which is known."""

    def __init__(self, there: _Object, size: int, tail: bytes) -> None:
        self._there, self._size, self._tail = there, size, tail
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._size, self._at + len(buffer))
        known = self._size - len(self._tail)
        if self._at >= stop:
            return 0
        here = self._at >= known
        content = self._tail[self._at - known : stop - known] if here else self._there.read(self._at, stop)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


@lru_cache(maxsize=8)
def _s3(bucket: str, endpoint: str | None, process: int) -> Any:
    """Return a process's S3 file system; pyarrow does not read the endpoint's variable by itself."""
    from pyarrow import fs

    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint, region=region, connect_timeout=_CONNECT, request_timeout=_SILENCE
    )


@lru_cache(maxsize=2)
def _web(process: int) -> Any:
    """Return a process's HTTP file system; a compressed answer would have other ranges."""
    from aiohttp import ClientTimeout
    from fsspec.implementations.http import HTTPFileSystem

    timeout = ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=_SILENCE)
    client = {"timeout": timeout, "trust_env": True}  # proxies
    return HTTPFileSystem(client_kwargs=client, headers={"Accept-Encoding": "identity"}, skip_instance_cache=True)


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Raise what the storage's libraries raise as an ``OSError`` that says what is wrong and names the URL."""
    from aiohttp import ClientError

    try:
        yield
    except (OSError, ClientError) as error:
        raise _as_os_error(error, url) from error


def _as_os_error(error: BaseException, url: str) -> OSError:
    cause: BaseException = error
    while cause.__cause__ is not None:  # fsspec says of every failure that the file is not found
        cause = cause.__cause__
    status = getattr(cause, "status", None)
    text = " ".join(f"{type(cause).__name__}: {cause}".split())
    missing = isinstance(cause, FileNotFoundError) and cause is error
    if missing or status in (404, 410) or re.search("Bucket '.*' not found", text):
        return FileNotFoundError(errno.ENOENT, "does not exist", url)
    if status in (401, 403) or re.search("ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|EXPIRED_TOKEN", text):
        return PermissionError(errno.EACCES, f"may not be read with these credentials ({text})", url)
    if isinstance(cause, socket.gaierror) or re.search(r"curlCode: 6\b", text):
        return UnknownHostError(errno.EHOSTUNREACH, f"its host is not known ({text})", url)
    return OSError(errno.EIO, f"cannot be read ({text})", url)
