"""Pictures that were downloaded from a list of addresses, found by their address or their name.

MARIO's pictures are not published with its captions; people download them with img2dataset, which writes tars, parquet
files or folders of files, under names of its own. What belongs to which sample is told by the address.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vlad_lightning.data.own_pictures import SUFFIXES
from vlad_lightning.files import (
    LIST_BYTES,
    PICTURE_BYTES,
    TEXT_BYTES,
    UnusableFileError,
    printable,
    read_bytes,
    read_utf8,
    write_file,
    write_text,
)

Match = Literal["url", "key"]
"""By what a picture is found: the ``url`` of ``info.json``, or the sample's name, whole or only its last part."""

_PLACE = np.dtype([("file", "u4"), ("start", "u8"), ("size", "u4")])  # size 0: a row of a parquet file, or a whole file
_ENTRY = np.dtype([("hash", "u8"), *((name, _PLACE[name]) for name in ("start", "size"))])
_NAMES = "names.json"
_TABLE, _TAR, _LIST = ".parquet", ".tar", ".list"


@dataclass
class DownloadedPictures:
    """The pictures in a folder of tars, parquet files or single files, by a hash of their address or name.

    The index is made once, in a folder of its own: a file for each tar or table, so that several tasks can share the
    work, and these merged. It is mapped into memory, so its ten million entries cost no process much.

    Attributes:
        root: the folder of the pictures.
        index: the folder of the index.
        match: by what they are found.
        state: what is in the index; empty before :meth:`build`.
    """

    root: Path
    index: Path
    match: Match
    state: str = ""
    _opened: dict[str, Any] = field(default_factory=dict, repr=False)

    def archives(self) -> list[str]:
        """Return the names of the tars and tables, or of lists of single files, sorted.

        Raises:
            FileNotFoundError, NotADirectoryError: if the folder is none.
        """
        names = []
        for folder, inner, files in os.walk(self.root, onerror=_raise):
            inner[:] = sorted(name for name in inner if not name.startswith("."))
            there = Path(folder).relative_to(self.root)
            tars = [name for name in files if name.endswith(_TAR)]
            # beside tars, img2dataset's parquet files hold no pictures
            names += [(there / name).as_posix() for name in tars or [name for name in files if name.endswith(_TABLE)]]
            if any(Path(name).suffix.lower() in SUFFIXES for name in files):
                names.append((there / _LIST).as_posix())
        return sorted(names)

    def build(self, first: int = 0) -> int:
        """Make the index, except for what is there, and return the number of pictures.

        Args:
            first: the archive to begin with: tasks that begin at different ones do not all read the same.

        Raises:
            ValueError: if there is no picture, or an archive cannot be read.
        """
        names = self.archives()
        for name in names[first % max(1, len(names)) :] + names[: first % max(1, len(names))]:
            if not self._part(name).exists():
                entries = np.array(list(self._entries(name)), dtype=_ENTRY)
                write_file(self._part(name), lambda beside, entries=entries: np.save(beside, entries))  # type: ignore[misc]
        parts = [np.load(self._part(name)) for name in names]
        if not sum(map(len, parts)):
            raise ValueError(f"images is {printable(self.root)!r}, which holds no picture with its {self.match}")
        listed = json.dumps([(name, self._part(name).stem) for name in names])
        self.state = hashlib.sha256(listed.encode()).hexdigest()
        write_text(self.index / _NAMES, listed)
        entries = np.concatenate(parts)
        order = np.argsort(entries["hash"], kind="stable")
        places = np.empty(len(entries), dtype=_PLACE)
        places["file"] = np.repeat(np.arange(len(names)), list(map(len, parts)))[order]
        places["start"], places["size"] = entries["start"][order], entries["size"][order]
        hashes = entries["hash"][order]
        write_file(self.index / "places.npy", lambda beside: np.save(beside, places))
        write_file(self.index / "hashes.npy", lambda beside: np.save(beside, hashes))
        return len(entries)

    def find(self, name: str) -> bytes | None:
        """Return the content of the picture with this address or name; None if there is none.

        Raises:
            OSError, ValueError: if it cannot be read.
        """
        if "hashes" not in self._opened:
            self._opened |= {what: np.load(self.index / f"{what}.npy", mmap_mode="r") for what in ("hashes", "places")}
            self._opened["names"] = json.loads(read_utf8(self.index / _NAMES, LIST_BYTES))
        hashes, wanted = self._opened["hashes"], np.uint64(_hash(name))
        at = int(np.searchsorted(hashes, wanted))
        if at == len(hashes) or hashes[at] != wanted:
            return None
        file, start, size = self._opened["places"][at].tolist()
        archive, part = self._opened["names"][file]
        return self._content(archive, part, start, size)

    def _content(self, name: str, part: str, start: int, size: int) -> bytes:
        if name.endswith(_TAR):
            with (self.root / name).open("rb") as file:
                file.seek(start)
                return file.read(size)
        if name.endswith(_TABLE):
            return bytes(self._table(name)[start].as_py())
        files = _listed(self.index / "parts" / f"{part}.json")
        return read_bytes((self.root / name).parent / files[start], PICTURE_BYTES)

    def _table(self, name: str) -> Any:
        """Return the column of pictures of a parquet file; the last one stays in memory."""
        if self._opened.get("table") != name:
            self._opened["rows"] = _columns(self.root / name, (_picture_column(self.root / name),))[0]
            self._opened["table"] = name
        return self._opened["rows"]

    def _part(self, name: str) -> Path:
        path = self.root / name
        stamp = (path.parent if name.endswith(_LIST) else path).stat()
        state = f"{name} {stamp.st_size} {stamp.st_mtime_ns} {self.match}"
        return self.index / "parts" / f"{hashlib.sha256(state.encode()).hexdigest()[:24]}.npy"

    def _entries(self, name: str) -> Iterator[tuple[int, int, int]]:
        path = self.root / name
        if name.endswith(_TAR):
            yield from self._in_tar(path)
        elif name.endswith(_TABLE):
            names = _columns(path, ("url" if self.match == "url" else "key",))[0]
            yield from ((_hash(str(known)), row, 0) for row, known in enumerate(names.to_pylist()) if known is not None)
        else:
            files = _files(path.parent)
            write_text(self._part(name).with_suffix(".json"), json.dumps(files))
            for number, file in enumerate(files):
                if (known := self._beside(path.parent / file)) is not None:
                    yield _hash(known), number, 0

    def _beside(self, path: Path) -> str | None:
        if self.match == "key":
            return path.stem
        try:
            return _url(read_bytes(path.with_suffix(".json"), TEXT_BYTES))
        except (OSError, UnusableFileError):
            return None

    def _in_tar(self, path: Path) -> Iterator[tuple[int, int, int]]:
        places: dict[str, tuple[int, int]] = {}
        urls: dict[str, str | None] = {}
        try:
            with tarfile.open(path, "r:") as tar:
                for entry in tar:
                    stem, dot = str(Path(entry.name).with_suffix("")), Path(entry.name).suffix
                    if entry.isreg() and dot.lower() in SUFFIXES and entry.size < PICTURE_BYTES:
                        places[stem] = (entry.offset_data, entry.size)
                    elif entry.isreg() and dot == ".json" and self.match == "url" and entry.size < TEXT_BYTES:
                        file = tar.extractfile(entry)
                        urls[stem] = _url(file.read()) if file else None
        except tarfile.TarError as error:
            raise ValueError(f"{printable(path)} is no tar that can be read: {error}") from error
        for stem, place in places.items():
            known = urls.get(stem) if self.match == "url" else Path(stem).name
            if known is not None:
                yield _hash(known), *place

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_opened": {}}


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


@lru_cache(maxsize=64)
def _listed(part: Path) -> list[str]:
    return list(json.loads(read_utf8(part, LIST_BYTES)))


def _url(content: bytes) -> str | None:
    try:
        url = json.loads(content)["url"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return url if isinstance(url, str) and url else None


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _picture_column(path: Path) -> str:
    from pyarrow.parquet import read_schema

    names = [name for name in ("jpg", "png", "webp", "image") if name in read_schema(path).names]
    if not names:
        raise ValueError(f"{printable(path)} has no column jpg, png, webp or image")
    return names[0]


def _columns(path: Path, names: tuple[str, ...]) -> list[Any]:
    from pyarrow.lib import ArrowInvalid
    from pyarrow.parquet import read_table

    try:
        table = read_table(path, columns=list(names))
        return [table.column(name) for name in names]
    except (ArrowInvalid, KeyError) as error:
        raise ValueError(f"{printable(path)} has no columns {', '.join(names)}: {error}") from error


def _raise(error: OSError) -> None:
    raise error
