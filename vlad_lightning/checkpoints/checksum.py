"""Checksums that reveal damaged checkpoints: a SHA-256 in the file itself, or a list of them in a folder.

A file of ``torch.save`` is a zip archive, and the checksum is the archive's comment. Both are one file, so no kill,
copy, link or move can separate them, and every reader of the format accepts it. A folder (a sharded checkpoint) gets
``SHA256SUMS``, written last, which ``sha256sum -c`` reads as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from io import FileIO
from pathlib import Path

from vlad_lightning.files import NOTE_BYTES, UnusableFileError, read_utf8

LAST = "last.ckpt"
MANIFEST = "SHA256SUMS"
_STEP = re.compile(r"step-(\d+)\.ckpt")
_MARK = b"vlad-lightning sha256:"
_TRAILER = len(_MARK) + 64
_END = 22  # bytes of a zip archive's last record without its comment
_END_SIGNATURE = b"PK\x05\x06"
_CHUNK = 1 << 22


class DamagedError(ValueError):
    """A checkpoint that differs from what was written, or whose save did not finish."""


class ChecksumFile:
    """A binary file for ``torch.save`` to write to; a second thread hashes the data as it is written.

    Args:
        path: the file; an existing one is overwritten.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1)
        self._end = b""  # held back: the last bytes may be the last record, whose comment's length is set at the end
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write ``data``, except its last bytes, which are held back until the next call."""
        length = len(data)
        if length >= _END:
            self._put(self._end)
            self._put(memoryview(data)[: length - _END])
            self._end = bytes(data[length - _END :])
        else:
            joined = self._end + bytes(data)
            self._put(joined[:-_END])
            self._end = joined[-_END:]
        return length

    def flush(self) -> None:
        """Do nothing: :meth:`finish` flushes everything to the disk."""

    def finish(self) -> None:
        """Append the checksum and flush everything to the disk.

        Raises:
            ValueError: if the written data is not a zip archive.
        """
        if not self._end.startswith(_END_SIGNATURE):
            raise ValueError("only the zip archives of torch.save can carry a checksum")
        self._put(self._end[:-2] + _TRAILER.to_bytes(2, "little"))
        self._end = b""
        self._guard(lambda: self._file.write(_MARK + self._hash.hexdigest().encode()))
        self._guard(self._file.flush)
        self._guard(lambda: os.fsync(self._file.fileno()))

    def close(self) -> None:
        """Close the file; a buffer that no longer fits on the disk is discarded."""
        self._hasher.shutdown()
        with contextlib.suppress(OSError):
            self._file.close()

    def _put(self, data: bytes | memoryview) -> None:
        hashed = self._hasher.submit(self._hash.update, data) if len(data) > _CHUNK else None
        try:
            self._guard(lambda: self._file.write(data))
        finally:
            if hashed is None:
                self._hash.update(data)
            else:
                hashed.result()  # the memory behind `data` belongs to torch, and is valid only until this returns

    def _guard(self, act: Callable[[], object]) -> None:
        """Keep an error of ``act``: torch.save replaces it by an error about file positions."""
        try:
            act()
        except OSError as error:
            self.error = error
            raise


@contextlib.contextmanager
def checksum_file(target: Path) -> Iterator[ChecksumFile]:
    """Open a file that gets its name only when it is whole, has its checksum and is flushed to the disk.

    It is written beside the target under a fixed name, so the next save overwrites what a killed process left.

    Raises:
        OSError: if the disk is full or fails; an earlier file under the name stays unchanged.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name}.part")
    file = ChecksumFile(beside)
    try:
        yield file
        file.finish()
        file.close()
        beside.replace(target)
    except BaseException as error:
        if file.error is not None and error is not file.error:
            raise file.error from error
        raise
    finally:
        file.close()
        beside.unlink(missing_ok=True)
    sync_folder(target.parent)


def write_checksums(folder: Path) -> None:
    """Flush the files of a sharded checkpoint to the disk, then write their checksums.

    One process calls it, when all have written. Reads every file once, several at a time.

    Raises:
        OSError: if a file cannot be read, or the disk is full.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        lines = list(pool.map(lambda path: f"{_synced_hash(path)}  {path.relative_to(folder).as_posix()}\n", files))
    beside = folder / f".{MANIFEST}.part"
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    for inner in {path.parent for path in files}:
        sync_folder(inner)
    beside.replace(folder / MANIFEST)
    sync_folder(folder)
    sync_folder(folder.parent)


def verify(path: Path) -> None:
    """Read a checkpoint and compare its checksum.

    A file without a checksum, as Lightning's own plugin writes it, is compared with the CRC-32 of its records. This
    process does not read a whole checkpoint again while its inode, time and size stay the same.

    Raises:
        DamagedError: if it is truncated or changed, or the save of a folder did not finish.
        FileNotFoundError: if it does not exist.
    """
    look(path)
    if path.is_dir():
        _check_folder(path)
        return
    facts = path.stat()
    _check_file(path.resolve(), facts.st_ino, facts.st_size, facts.st_mtime_ns)


def look(path: Path) -> None:
    """Check that a checkpoint is a file or a folder, without reading it: opening a pipe would wait for a writer.

    Raises:
        DamagedError: if it is neither a file nor a folder.
        FileNotFoundError: if it does not exist.
    """
    if not path.exists():
        link = f"; it is a link to {path.readlink()}" if path.is_symlink() else ""
        raise FileNotFoundError(f"checkpoint {path} does not exist{link}")
    if not (path.is_file() or path.is_dir()):
        raise DamagedError(f"{path} is neither a file nor a folder")


def newest_valid(
    folder: Path, accepts: Callable[[Path], bool] | None = None, check: Callable[[Path], None] = verify
) -> Path | None:
    """Return the newest whole checkpoint of a stage's folder: ``last.ckpt``, else the latest step's.

    Checkpoints that are damaged, or cannot be read, are named in a warning.

    Args:
        folder: where :class:`~vlad_lightning.checkpoints.Checkpoints` writes.
        accepts: decides whether a whole checkpoint may be used; None accepts all.
        check: raises a ValueError or an OSError for a checkpoint that is not whole.

    Returns:
        The path; None if the folder holds no checkpoint, or none that is accepted.

    Raises:
        DamagedError: if some are damaged and no other is accepted: training does not silently start over.
    """
    damaged: list[str] = []
    for path in candidates(folder):
        try:
            check(path)
            taken = accepts is None or accepts(path)
        except (OSError, ValueError) as error:
            damaged.append(str(error))
            continue
        if taken:
            if damaged:
                warnings.warn(f"{'; '.join(damaged)}; {path} is taken in its place", stacklevel=2)
            return path
    if damaged:
        raise DamagedError(f"no whole checkpoint in {folder}: {'; '.join(damaged)}. Remove it to start over")
    return None


def candidates(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, newest first; ``last.ckpt`` and the step it links to count as one."""
    last = folder / LAST
    found = [path for _, path in sorted(steps_of(folder).items(), reverse=True)]
    if not os.path.lexists(last):
        return found
    return [last, *(path for path in found if not _are_one(path, last))]


def _are_one(path: Path, last: Path) -> bool:
    try:
        return path.samefile(last)
    except OSError:  # a link that leads nowhere, or a disk that fails
        return False


def steps_of(folder: Path) -> dict[int, Path]:
    """Return the checkpoints named ``step-<number>.ckpt``, by their steps."""
    if not folder.is_dir():
        return {}
    return {int(match[1]): path for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))}


def step_path(folder: Path, step: int) -> Path:
    """Return the path of a step's checkpoint."""
    return folder / f"step-{step:09d}.ckpt"


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _synced_hash(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=64)
def _check_file(path: Path, inode: int, size: int, time: int) -> None:
    """Check a file; ``inode``, ``size`` and ``time`` are keys of the cache, which keeps no errors."""
    with path.open("rb", buffering=0) as file:
        file.seek(max(0, size - max(_TRAILER, _END)))
        tail = file.read()
        if tail[-_TRAILER:].startswith(_MARK):
            file.seek(0)
            _compare(path, _hash_of_first(file, size - _TRAILER), tail[-64:].decode("ascii", "replace"))
            return
    if tail[-_END:].startswith(_END_SIGNATURE) and tail.endswith(b"\0\0"):  # an archive without a comment
        _check_records(path)
        return
    raise DamagedError(f"{path} is damaged: truncated, or no checkpoint (its end is missing)")


def _hash_of(path: Path) -> str:
    facts = path.stat()
    return _hash_of_whole(path.resolve(), facts.st_ino, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=4096)
def _hash_of_whole(path: Path, inode: int, size: int, time: int) -> str:
    """Hash the whole file; ``inode`` and ``time`` are only keys of the cache."""
    with path.open("rb", buffering=0) as file:
        return _hash_of_first(file, size)


def _hash_of_first(file: FileIO, length: int) -> str:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(_CHUNK))
    while length > 0 and (count := file.readinto(buffer[: min(length, _CHUNK)])):
        digest.update(buffer[:count])
        length -= count
    return digest.hexdigest()


def _compare(path: Path, found: str, written: str) -> None:
    if found != written:
        raise DamagedError(f"{path} is damaged: its SHA-256 is {found[:12]}..., {written[:12]}... was written")


def _check_records(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if broken:
        raise DamagedError(f"{path} is damaged: the CRC-32 of its record {broken} differs from the one written")


def _check_folder(folder: Path) -> None:
    try:
        lines = read_utf8(folder / MANIFEST, NOTE_BYTES).splitlines()
    except FileNotFoundError:
        raise DamagedError(f"{folder} is damaged: it has no {MANIFEST}, its save did not come to the end") from None
    except (UnicodeDecodeError, UnusableFileError, IsADirectoryError) as error:
        raise DamagedError(f"{folder} is damaged: {MANIFEST} is no text file") from error
    listed = [line.partition("  ") for line in lines]
    if not listed or any(len(digest) != 64 or not name for digest, _, name in listed):
        raise DamagedError(f"{folder} is damaged: {MANIFEST} is not a list of checksums")
    if missing := [name for _, _, name in listed if not (folder / name).is_file()]:
        raise DamagedError(f"{folder} is damaged: {missing[0]} is missing")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(lambda name: _hash_of(folder / name), (n for *_, n in listed))
        for (written, _, name), found in zip(listed, hashes, strict=True):
            _compare(folder / name, found, written)
