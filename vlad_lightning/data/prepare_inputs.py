"""What a prepared data set is made of: folders in MARIO's format, with their pictures or beside them, or own pictures.

The samples are divided into portions, each of which becomes a shard. A portion is told by names alone, so that all
tasks of a job find the same ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vlad_lightning.data.downloaded_pictures import DownloadedPictures
from vlad_lightning.data.mario import FILES, SAMPLE, SHELF, key_of
from vlad_lightning.data.own_pictures import OwnPicture, Portion
from vlad_lightning.data.prepared_sample import FoundSample
from vlad_lightning.data.scene_file import NAME as SCENE
from vlad_lightning.files import PICTURE_BYTES, TEXT_BYTES, UnusableFileError, printable, read_bytes, read_text

KEY_LETTERS = 16
"""The most characters of a sample's key."""

PER_SHARD = 1000
"""Samples of a shard: 30 to 60 MB, which a kill costs at most."""


class InputPortion(Protocol):
    """Samples that become a shard; it can be sent to another process, which reads them."""

    @property
    def name(self) -> str:
        """The shard's name; it stays the same when other samples are added."""
        ...

    @property
    def state(self) -> str:
        """What a shard was made of; it differs if samples were added or removed."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self) -> Iterator[FoundSample]:
        """Read the samples, one after the other; no error of a sample ends this."""
        ...


@dataclass(frozen=True)
class FolderPortion:
    """Samples that are folders in MARIO's format.

    Attributes:
        root: the data folder.
        shelf: the folder in it that holds the samples; empty if it does so itself.
        first: the first sample's name.
        count: the number of samples, which follow each other in the order of their names.
        digest: hash of their names.
        pictures: finds the pictures of samples; None: they are the samples' ``image.jpg``.
    """

    root: Path
    shelf: str
    first: str
    count: int
    digest: str
    pictures: DownloadedPictures | None = None

    @property
    def name(self) -> str:
        """See :class:`InputPortion`."""
        return _digest(f"{self.shelf}/{self.first}")[:KEY_LETTERS]

    @property
    def state(self) -> str:
        """See :class:`InputPortion`."""
        return self.digest + (self.pictures.state if self.pictures else "")

    def __len__(self) -> int:
        return self.count

    def read(self) -> Iterator[FoundSample]:
        """See :meth:`InputPortion.read`."""
        names = _sample_names(self.root / self.shelf, bool(self.shelf))
        start = names.index(self.first)
        for name in names[start : start + self.count]:
            yield self._found(self.root / self.shelf / name)

    def _found(self, folder: Path) -> FoundSample:
        name, key = printable(folder.relative_to(self.root).as_posix()), short_key(key_of(folder))
        try:
            caption, ocr = (_text(folder, file) for file in FILES[1:])
            image = _read(folder, FILES[0]) if self.pictures is None else self._downloaded(folder, self.pictures)
        except UnusableFileError as error:
            return FoundSample(key, name, problem=str(error))
        return FoundSample(key, name, image, caption, ocr, _scene(folder))

    @staticmethod
    def _downloaded(folder: Path, pictures: DownloadedPictures) -> bytes:
        for known in _known_as(folder, pictures.match):
            try:
                image = pictures.find(known)
            except (OSError, ValueError) as error:
                raise _ProblemError("picture that cannot be read") from error
            if image is not None:
                return image
        raise _ProblemError("picture not downloaded")


@dataclass(frozen=True)
class PicturePortion:
    """People's own pictures, whose words are still to be read.

    Attributes:
        parts: portions of the pictures.
        names: what tells them from others.
    """

    parts: tuple[Portion, ...]
    names: str

    @property
    def name(self) -> str:
        """See :class:`InputPortion`."""
        return _digest(self.names)[:KEY_LETTERS]

    @property
    def state(self) -> str:
        """See :class:`InputPortion`."""
        return _digest(self.names)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def read(self) -> Iterator[FoundSample]:
        """See :meth:`InputPortion.read`."""
        for part in self.parts:
            yield from map(_own, part.read())


class _ProblemError(UnusableFileError):
    """A sample that cannot be used; the text is the reason alone."""

    def __init__(self, reason: str) -> None:
        super().__init__("", reason)

    def __str__(self) -> str:
        return self.reason


def folder_portions(root: Path, pictures: DownloadedPictures | None = None) -> list[FolderPortion]:
    """Find the samples of a data folder.

    Args:
        root: the folder.
        pictures: finds their pictures; None if they hold them.

    Raises:
        FileNotFoundError, ValueError: if it is no folder, or holds no sample.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{printable(root)} is no folder")
    shelves = sorted(entry.name for entry in os.scandir(root) if SHELF.fullmatch(entry.name) and entry.is_dir())
    found = [portion for shelf in ["", *shelves] for portion in _on_shelf(root, shelf, pictures)]
    if not found:
        raise ValueError(f"{printable(root)} holds no sample; expected folders like 00000/000000000 with {FILES[1]}")
    return found


def picture_portions(parts: Sequence[Portion]) -> list[PicturePortion]:
    """Join portions of own pictures until each has about as many as a shard has.

    Args:
        parts: as :func:`~vlad_lightning.data.annotation_run.find_portions` returns them.
    """
    found: list[PicturePortion] = []
    joined: list[Portion] = []
    for part in parts:
        joined.append(part)
        if sum(map(len, joined)) >= PER_SHARD:
            found.append(PicturePortion(tuple(joined), repr(joined)))
            joined = []
    return [*found, PicturePortion(tuple(joined), repr(joined))] if joined else found


def short_key(name: str) -> str:
    """Return a sample's key: its name if that is short and in ASCII, as MARIO's are, else a hash of it.

    Example:
        >>> short_key("06269_062690093"), short_key("summer/an old sign.png")
        ('06269_062690093', '2d0c1a6a4b2f3f4e')
    """
    return name if name.isascii() and name.isprintable() and len(name) <= KEY_LETTERS else _digest(name)[:KEY_LETTERS]


def _on_shelf(root: Path, shelf: str, pictures: DownloadedPictures | None) -> Iterator[FolderPortion]:
    names = _sample_names(root / shelf, bool(shelf))
    for start in range(0, len(names), PER_SHARD):
        part = names[start : start + PER_SHARD]
        yield FolderPortion(root, shelf, part[0], len(part), _digest("\n".join(part)), pictures)


def _sample_names(folder: Path, is_shelf: bool) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if _is_sample(entry, is_shelf))


def _is_sample(entry: os.DirEntry[str], is_shelf: bool) -> bool:
    """Return whether it is a sample: any folder on a shelf, elsewhere one that is named or filled like one."""
    try:
        if not entry.is_dir() or entry.name.startswith("."):
            return False
    except OSError:  # a link to itself
        return False
    if is_shelf or SHELF.fullmatch(entry.name):
        return is_shelf
    return bool(SAMPLE.fullmatch(entry.name)) or any(Path(entry, name).exists() for name in FILES)


def _known_as(folder: Path, match: str) -> Iterator[str]:
    if match == "key":
        yield from (key_of(folder), folder.name)
        return
    try:
        url = json.loads(read_bytes(folder / "info.json", TEXT_BYTES))["url"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _ProblemError("no url in info.json") from error
    yield str(url)


def _text(folder: Path, name: str) -> str:
    try:
        return read_text(folder / name)[0]
    except FileNotFoundError as error:
        raise _ProblemError(f"no {name}") from error
    except UnusableFileError as error:
        raise _ProblemError(f"{name}: {error.reason}") from error
    except OSError as error:
        raise _ProblemError(f"unreadable {name}") from error


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_bytes(folder / name, PICTURE_BYTES)
    except FileNotFoundError as error:
        raise _ProblemError(f"no {name}") from error
    except UnusableFileError as error:
        raise _ProblemError(f"{name}: {error.reason}") from error
    except OSError as error:
        raise _ProblemError(f"unreadable {name}") from error


def _scene(folder: Path) -> str:
    try:
        return read_bytes(folder / SCENE, TEXT_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return "damaged"  # no scene.json either, and counted as such


def _own(picture: OwnPicture) -> FoundSample:
    return FoundSample(short_key(picture.name), picture.name, picture.content, picture.caption, problem=picture.problem)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
