"""Waiting out a data folder that cannot be read for a while, as opposed to skipping a broken sample."""

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
_OF_ONE_NAME = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}  # the disk itself works
_OTHERS = 8  # samples that are tried besides the one that failed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0  # seconds between two checks


class OutageGuard:
    """A reader of samples that waits while the whole data folder, and not just one sample, cannot be read.

    If the system fails to read a sample, the data folder is checked: there is an outage if it does not exist, cannot
    be listed or is empty, as a mount point without its disk is. If it can be listed but the system fails to read the
    sample's file (other than by reporting that it does not exist), a few other samples are tried: there is an outage
    if none of them can be read either. A sample that failed in an outage is read again after it; a sample that failed
    while others can be read is tried once more, since an outage may just have ended.

    Args:
        folders: the folders of the samples.
        limit: seconds to wait for the end of an outage.
    """

    def __init__(self, folders: Sequence[Path], limit: float) -> None:
        self.folders = folders
        self.limit = limit
        self._turn = 0

    def __call__(self, read: Callable[[Path], T], folder: Path) -> T:
        """Return the result of ``read`` for a sample's folder, or raise its error if only the sample is broken.

        Raises:
            DataOutageError: if an outage lasts longer than the limit.
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
        """Return whether reading other samples fails as well; different ones each time, as some may be cached."""
        step = max(1, len(self.folders) // _OTHERS)
        self._turn += 1
        indices = ((self._turn + number * step) % len(self.folders) for number in range(len(self.folders)))
        others = (self.folders[index] for index in indices)
        found = [_fails(other) for other in islice((o for o in others if o != folder), _OTHERS)]
        return True in found and False not in found


def _refusal(error: BaseException | None) -> OSError | None:
    """Return the system error that caused an exception; a decoder's ``OSError`` has no errno and does not count."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error
        error = error.__cause__
    return None


def _can_be_listed(root: Path) -> bool:
    """Return whether a data folder holds at least one folder that can be listed as well."""
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
    """Return whether the system fails to read a sample's caption file; None if that file does not exist."""
    try:
        with (folder / FILES[1]).open("rb") as file:
            file.read(1)
    except OSError as error:
        return None if error.errno in _OF_ONE_NAME else True
    return False
