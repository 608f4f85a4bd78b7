"""Checkpoints that can be told from damaged ones: a SHA-256 in the file itself, or a list of them in a folder.

A file of ``torch.save`` is a zip archive, and the checksum is the archive's comment: file and checksum are one file, so
no kill, copy, link or move can part them, and every reader of the format takes it as it is. A folder (a sharded
checkpoint) gets ``SHA256SUMS``, written last, which ``sha256sum -c`` reads as well.
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

LAST = "last.ckpt"
MANIFEST = "SHA256SUMS"
_STEP = re.compile(r"step-(\d+)\.ckpt")
_MARK = b"vlad-lightning sha256:"
_TRAILER = len(_MARK) + 64
_END = 22  # bytes of a zip archive's last record without its comment
_END_SIGNATURE = b"PK\x05\x06"
_CHUNK = 1 << 22


class DamagedError(ValueError):
    """A checkpoint that is not what was written, or whose writing did not come to its end."""


class ChecksumFile:
    """A binary file to ``torch.save`` into; hashes on a second thread what the first one writes.

    Args:
        path: is written again.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._hash = hashlib.sha256()
        self._hasher = ThreadPoolExecutor(1)
        self._end = b""  # the last record so far: its comment's length is not known before the end
        self.error: OSError | None = None

    def write(self, data: bytes | memoryview) -> int:
        """Write all of ``data``; the last bytes wait for what follows."""
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
        """Nothing: :meth:`finish` brings all to the disk."""

    def finish(self) -> None:
        """Put the checksum at the end, and everything on the disk.

        Raises:
            ValueError: where what was written is no zip archive.
        """
        if not self._end.startswith(_END_SIGNATURE):
            raise ValueError("only the zip archives of torch.save can carry a checksum")
        self._put(self._end[:-2] + _TRAILER.to_bytes(2, "little"))
        self._end = b""
        self._guard(lambda: self._file.write(_MARK + self._hash.hexdigest().encode()))
        self._guard(self._file.flush)
        self._guard(lambda: os.fsync(self._file.fileno()))

    def close(self) -> None:
        """Close; a buffer that does not fit on the disk any more is let go."""
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
                hashed.result()  # the memory behind `data` is torch's, and only until this returns

    def _guard(self, act: Callable[[], object]) -> None:
        """Keep the error: torch.save replaces it by one about positions."""
        try:
            act()
        except OSError as error:
            self.error = error
            raise


@contextlib.contextmanager
def checksum_file(target: Path) -> Iterator[ChecksumFile]:
    """A file that appears under its name when it is whole, with its checksum and on the disk.

    It is written beside the target under one name, so that what a kill leaves is written over by the next.

    Raises:
        OSError: where the disk is full or fails; what was under the name before is there as it was.
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
    """Bring the files of a sharded checkpoint to the disk and write their checksums, last.

    One process calls it, when all have written. Reads every file once, several at a time.

    Raises:
        OSError: where a file cannot be read, or the disk is full.
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

    A file without a checksum, as Lightning's own plugin writes it, is held against the CRC-32 of its records. What was
    found whole is not read again by this process while its time and size stay.

    Raises:
        DamagedError: where it is truncated or changed, or a folder's save did not come to its end.
        FileNotFoundError: where there is none.
    """
    look(path)
    if path.is_dir():
        _check_folder(path)
        return
    facts = path.stat()
    _check_file(path.resolve(), facts.st_ino, facts.st_size, facts.st_mtime_ns)


def look(path: Path) -> None:
    """Look whether a checkpoint can be opened: a pipe would wait for a writer.

    Raises:
        DamagedError: where it is neither a file nor a folder.
        FileNotFoundError: where there is none.
    """
    if not path.exists():
        link = f"; it is a link to {path.readlink()}" if path.is_symlink() else ""
        raise FileNotFoundError(f"checkpoint {path} does not exist{link}")
    if not (path.is_file() or path.is_dir()):
        raise DamagedError(f"{path} is neither a file nor a folder")


def newest_valid(
    folder: Path, accepts: Callable[[Path], bool] | None = None, check: Callable[[Path], None] = verify
) -> Path | None:
    """The newest whole checkpoint of a stage's folder: ``last.ckpt``, else the latest step's.

    Each that is damaged, or cannot be read, is named in a warning.

    Args:
        folder: where :class:`~vlad_lightning.checkpoints.Checkpoints` writes.
        accepts: says of a whole one whether it may be taken.
        check: raises a ValueError or an OSError for one that is not whole.

    Returns:
        None where there is none, or none that is accepted.

    Raises:
        DamagedError: where none can be read: a training that starts over has to be told to.
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
    """The checkpoints of a folder, newest first; ``last.ckpt`` and the step it is a link of count as one."""
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
    """The checkpoints that are kept by their steps."""
    if not folder.is_dir():
        return {}
    return {int(match[1]): path for path in folder.iterdir() if (match := _STEP.fullmatch(path.name))}


def step_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is kept."""
    return folder / f"step-{step:09d}.ckpt"


def sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where folders can be opened (not on Windows)."""
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
    """``inode``, ``size`` and ``time`` are there for the cache; an error is not kept."""
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
    """``inode`` and ``time`` are there for the cache."""
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
        raise DamagedError(f"{path} is damaged: its record {broken} has another CRC-32 than was written")


def _check_folder(folder: Path) -> None:
    try:
        lines = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DamagedError(f"{folder} is damaged: it has no {MANIFEST}, its save did not come to the end") from None
    except UnicodeDecodeError as error:
        raise DamagedError(f"{folder} is damaged: {MANIFEST} is no text") from error
    listed = [line.partition("  ") for line in lines]
    if not listed or any(len(digest) != 64 or not name for digest, _, name in listed):
        raise DamagedError(f"{folder} is damaged: {MANIFEST} is no list of checksums")
    if missing := [name for _, _, name in listed if not (folder / name).is_file()]:
        raise DamagedError(f"{folder} is damaged: {missing[0]} is missing")
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        hashes = pool.map(lambda name: _hash_of(folder / name), (n for *_, n in listed))
        for (written, _, name), found in zip(listed, hashes, strict=True):
            _compare(folder / name, found, written)
