"""People's own pictures with their captions, as files: captions beside them, or in a ``metadata.jsonl``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vlad_lightning.files import (
    LIST_BYTES,
    PICTURE_BYTES,
    UnusableFileError,
    printable,
    read_bytes,
    read_text,
    whole_characters,
)

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif"))
CAPTION_SUFFIXES = (".txt", ".caption")
"""The files beside a picture that may hold its caption; the first that exists counts."""

METADATA = "metadata.jsonl"
TEXT_COLUMNS = ("text", "caption", "prompt")
"""Where a caption is looked for if its column is not named."""

_PER_PORTION = 16  # pictures: enough for little communication, few enough for a smooth progress bar


@dataclass(frozen=True)
class OwnPicture:
    """A picture and its caption as they were found.

    Attributes:
        name: its path in the folder, or its file and row; unique and printable.
        content: its file's content; empty if it could not be read.
        caption: its caption, of any number of lines; None if it has none.
        problem: why it cannot be used, in short; empty if it can.
    """

    name: str
    content: bytes = b""
    caption: str | None = None
    problem: str = ""


class Portion(Protocol):
    """Some of the pictures; it can be sent to another process, which reads them."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        ...

    def read(self) -> Iterator[OwnPicture]:
        """Read the pictures, one after the other; no error ends this."""
        ...


@dataclass(frozen=True)
class FilePortion:
    """Pictures that are files.

    Attributes:
        root: the folder that their names start at.
        files: for each its path, and its caption if a list of captions holds one; otherwise it is beside the picture.
    """

    root: Path
    files: tuple[tuple[Path, str | None], ...]

    def __len__(self) -> int:
        return len(self.files)

    def read(self) -> Iterator[OwnPicture]:
        """See :meth:`Portion.read`."""
        for path, caption in self.files:
            yield self._read(path, caption)

    def _read(self, path: Path, caption: str | None) -> OwnPicture:
        name = printable(path.relative_to(self.root).as_posix())
        try:
            return OwnPicture(name, read_bytes(path, PICTURE_BYTES), _beside(path) if caption is None else caption)
        except FileNotFoundError:
            return OwnPicture(name, problem="no such file")
        except UnusableFileError as error:
            return OwnPicture(name, problem=error.reason)
        except OSError as error:
            return OwnPicture(name, problem=f"unreadable: {error.strerror}")


def file_portions(root: Path, text_column: str | None = None) -> list[FilePortion]:
    """Find the pictures in a folder and the folders in it; hidden ones and links to folders are passed over.

    Args:
        root: the folder.
        text_column: the key of the captions in each ``metadata.jsonl``; None looks for :data:`TEXT_COLUMNS`.

    Raises:
        ValueError: if a line of a ``metadata.jsonl`` is malformed, or names a file outside of its folder.
        OSError: if a folder cannot be read.
    """
    found: dict[Path, str | None] = {}
    for folder, inner, names in os.walk(root, onerror=_raise):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in names:
            path = Path(folder, name)
            if path.suffix.lower() in SUFFIXES and not name.startswith("."):
                found.setdefault(path, None)
        if METADATA in names:
            found |= _listed(Path(folder, METADATA), text_column)
    files = sorted(found.items())
    return [FilePortion(root, tuple(files[i : i + _PER_PORTION])) for i in range(0, len(files), _PER_PORTION)]


def _raise(error: OSError) -> None:
    raise error


def _listed(metadata: Path, text_column: str | None) -> Mapping[Path, str | None]:
    """Return the files of a ``metadata.jsonl`` and their captions, None where it holds none."""
    found: dict[Path, str | None] = {}
    text = read_text(metadata, LIST_BYTES)[0]
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{printable(metadata)}, line {number}"
        entry = _entry(line, where)
        name = entry["file_name"]
        path = Path(os.path.normpath(metadata.parent / name))
        if not path.is_relative_to(metadata.parent):
            raise ValueError(f"{where}: file_name is {name!r}; it must be in the folder of {METADATA}")
        found[path] = _caption(entry, text_column)
    return found


def _entry(line: str, where: str) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "\0" in entry["file_name"]:
        raise ValueError(f'{where} must be an object with "file_name" and a caption, such as "text"')
    return entry


def _caption(entry: Mapping[str, Any], text_column: str | None) -> str | None:
    columns: Sequence[str] = TEXT_COLUMNS if text_column is None else (text_column,)
    return next((whole_characters(entry[name]) for name in columns if isinstance(entry.get(name), str)), None)


def _beside(path: Path) -> str | None:
    """Return the caption in the file beside a picture; None if there is none.

    Raises:
        UnusableFileError: if it is not a text.
    """
    for suffix in CAPTION_SUFFIXES:
        try:
            return read_text(path.with_suffix(suffix))[0]
        except FileNotFoundError:
            continue
        except UnusableFileError as error:
            raise UnusableFileError(path, f"caption: {error.reason}") from error
    return None
