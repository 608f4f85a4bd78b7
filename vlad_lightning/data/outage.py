"""A data folder that cannot be read for a while, told from a sample that is broken."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from vlad_lightning.data.mario import FILES, root_of
from vlad_lightning.data.source import DataOutageError
from vlad_lightning.files import printable

T = TypeVar("T")

_log = logging.getLogger(__name__)
_OF_ONE_NAME = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}  # the disk itself answers
_OTHERS = 8  # samples that are tried beside the one that failed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0  # seconds between two looks


class OutageGuard:
    """Reads samples, and waits where it is not the sample but the whole data folder that cannot be read.

    Where the system refuses to read a sample, the folder of the data set is looked at: it is out where it is not there,
    cannot be listed or is empty, as a mount point without its disk is. Where it can be listed but the system fails to
    read the sample's file (rather than saying that there is none), a few other samples are tried: the disk is out where
    none of them can be read either. What failed in an outage is read again after it, and what failed beside samples
    that can be read once more, since the outage may just have ended.

    Args:
        folders: the samples.
        limit: seconds to wait for the end of an outage.
    """

    def __init__(self, folders: Sequence[Path], limit: float) -> None:
        self.folders = folders
        self.limit = limit
        self._turn = 0

    def __call__(self, read: Callable[[Path], T], folder: Path) -> T:
        """What ``read`` returns for a sample's folder, or raises where the fault is the sample's.

        Raises:
            DataOutageError: where an outage lasts for longer than the limit.
        """
        again = False
        while True:
            try:
                return read(folder)
            except Exception as error:
                trouble = _refusal(error)
                if trouble is None or (again and not self._is_out(folder, trouble)):
                    raise
                self._wait(folder, trouble)
                again = True

    def _wait(self, folder: Path, trouble: OSError) -> None:
        start, pause, root = time.monotonic(), _FIRST_PAUSE, printable(root_of(folder))
        while self._is_out(folder, trouble):
            left = start + self.limit - time.monotonic()
            if left <= 0:
                raise DataOutageError(
                    f"the data folder {root} could not be read for {self.limit:g} s (data.max_outage): {trouble}"
                )
            if pause == _FIRST_PAUSE:
                _log.warning("the data folder %s cannot be read; waiting for up to %g s: %s", root, self.limit, trouble)
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
        if pause > _FIRST_PAUSE:
            _log.warning("the data folder %s can be read again", root)

    def _is_out(self, folder: Path, trouble: OSError) -> bool:
        if not _can_be_listed(root_of(folder)):
            return True
        return trouble.errno not in _OF_ONE_NAME and self._others_fail(folder)

    def _others_fail(self, folder: Path) -> bool:
        """Whether the system fails to read other samples as well; others each time, since it may remember some."""
        step = max(1, len(self.folders) // _OTHERS)
        self._turn += 1
        indices = ((self._turn + number * step) % len(self.folders) for number in range(len(self.folders)))
        others = (self.folders[index] for index in indices)
        found = [_fails(other) for other in islice((o for o in others if o != folder), _OTHERS)]
        return True in found and False not in found


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's error that lies behind an exception; a decoder's, which is an ``OSError`` too, has no number."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error
        error = error.__cause__
    return None


def _can_be_listed(root: Path) -> bool:
    """Whether a data folder holds a folder, and that can be listed as well."""
    try:
        with os.scandir(root) as entries:
            return any(_is_listed(entry.path) for entry in entries)
    except OSError:
        return False


def _is_listed(folder: str) -> bool:
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
    except OSError:
        return False
    return True


def _fails(folder: Path) -> bool | None:
    """Whether the system fails to read a sample's file; None where it has none that could tell."""
    try:
        with (folder / FILES[1]).open("rb") as file:
            file.read(1)
    except OSError as error:
        return None if error.errno in _OF_ONE_NAME else True
    return False
