"""A fingerprint of a data folder's content: the same for a copy, different if a file has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from vlad_lightning.data.mario import FILES, key_of
from vlad_lightning.data.scene_file import NAME
from vlad_lightning.files import PICTURE_BYTES, TEXT_BYTES, UnusableFileError, open_file

NAMES = "samples"
"""The key of the entry for the samples' names."""

_IMAGE = FILES[0]
_END = 4096  # bytes of a picture that are read: a JPEG's end differs if its pixels differ
_BITS = 128


class Content:
    """The fingerprint of samples that are added one by one, in any order.

    For the samples' names, and for each kind of file, it is the sum of a 128-bit hash per sample. The hash covers all
    bytes of texts and scenes, but only the size and the last 4096 bytes of a picture, since reading ten million whole
    pictures would take hours. File times are ignored.
    """

    def __init__(self) -> None:
        self._sums = dict.fromkeys((NAMES, *FILES, NAME), 0)

    def add(self, marks: Mapping[str, bytes]) -> None:
        """Add a sample by its :func:`marks`."""
        for name, mark in marks.items():
            self._sums[name] = (self._sums[name] + int.from_bytes(mark, "big")) % 2**_BITS

    def digests(self) -> dict[str, str]:
        """Return the sums as hexadecimal digits, by :data:`NAMES` and by file name."""
        return {name: f"{total:0{_BITS // 4}x}" for name, total in self._sums.items()}


def marks(folder: Path) -> dict[str, bytes]:
    """Hash a sample's name, and the sample's name with the content of each of its existing files.

    Raises:
        OSError: if the system fails to read a file.
    """
    key = key_of(folder).encode()
    read = {NAMES: b""} | {name: _read(folder / name) for name in (*FILES, NAME)}
    return {
        name: hashlib.blake2b(b"%d:%s%s" % (len(key), key, part), digest_size=_BITS // 8).digest()
        for name, part in read.items()
        if part is not None
    }


def differing(then: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """Return the entries in which two fingerprints differ; only :data:`NAMES` if that differs, as the files then do."""
    found = tuple(name for name in now if then.get(name) != now[name])
    return (NAMES,) if NAMES in found else found


def _read(path: Path) -> bytes | None:
    """Return the bytes that represent a file in its hash; None if the file does not exist or is unusable."""
    try:
        with open_file(path, PICTURE_BYTES if path.name == _IMAGE else TEXT_BYTES) as file:
            if path.name != _IMAGE:
                return file.read()
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _END))
            return b"%d:%s" % (size, file.read())
    except (FileNotFoundError, IsADirectoryError, UnusableFileError):  # such as a scene.json that is treated as missing
        return None
