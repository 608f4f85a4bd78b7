"""A prepared data set as a source of samples: nothing is scanned, and ten million names cost no memory to hold."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
from PIL import Image

from vlad_lightning.data.index_file import read_index
from vlad_lightning.data.latent_cache import LatentReader, read_latent_note
from vlad_lightning.data.ocr_lines import parse_ocr
from vlad_lightning.data.prepare_inputs import short_key
from vlad_lightning.data.prepared_shard import ShardReader
from vlad_lightning.data.remote_path import (
    Place,
    RemotePath,
    UnknownHostError,
    as_place,
    is_url,
    local_file,
    read_small,
)
from vlad_lightning.data.scene_file import decode_scene
from vlad_lightning.data.source import DataOutageError, RawSample, SampleSource, SampleTexts, SkipSample
from vlad_lightning.files import LIST_BYTES, as_rgb, picture_from_bytes, printable
from vlad_lightning.limits import shown
from vlad_lightning.types import Latents

NOTE = "prepared.json"
"""The file in the folder of a prepared data set that says what is in it."""

SHARDS = "shards"
"""The folder in it that holds the samples."""

KEYS, ROWS, SIDES = "keys.npy", "rows.npy", "sides.npy"
"""The files of the index: the samples' names, their places among all rows of the shards, their widths and heights."""

KEY = np.dtype("S16")
VERSION = 2

_log = logging.getLogger(__name__)
_CHUNK = 1 << 20  # names that are hashed at a time
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 10.0  # seconds between two attempts
_REFUSALS = (FileNotFoundError, PermissionError, UnknownHostError)  # of a remote storage that does answer
_STATE = ("root", "max_outage", "index", "_chosen", "_note", "_place", "_read_row", "_read_texts", "_latents")
_T = TypeVar("_T")


def is_prepared(root: str | Path) -> bool:
    """Return whether a folder is a prepared data set, finished or not; of a URL, nothing else can be read."""
    return is_url(root) or Path(root, NOTE).is_file()


class PreparedSource(SampleSource):
    """The samples of a folder that ``vlad-cli prepare`` has written, here or in remote storage.

    Of a remote set, the index is copied into the cache of :mod:`~vlad_lightning.data.remote_path`, and of the shards
    only the samples that are read are fetched.

    A sample's split depends on its name and the seed only, by a hash that takes a fraction of a second for ten million
    names; so no sample moves when others are added. It is another hash than that of a folder in MARIO's format.

    Args:
        root: the folder, or its URL (``s3://``, ``https://``, ``http://``).
        max_outage: seconds to wait if it cannot be read (its disk is away, access is denied) before raising an error.
        index: a file with the names of the samples to use, one a line; names that are not in the set are counted in a
            warning. None uses all.

    Raises:
        ValueError: if ``max_outage`` is below 0, or the URL cannot be used.
    """

    def __init__(self, root: str, max_outage: float = 300.0, index: str | None = None) -> None:
        if not max_outage >= 0:  # also refuses nan
            raise ValueError(f"max_outage={max_outage}: must be at least 0")
        self.root = root
        self.max_outage = max_outage
        self.index = index
        self._chosen: np.ndarray | None = None  # the numbers of the samples in the index, among all of the set
        self._note: Mapping[str, Any] = {}
        self._place: Place = as_place(root)
        self._latents: LatentReader | None = None
        self._open_shards()
        self._open_index()

    def _open_shards(self) -> None:
        self._read_row = ShardReader(self._place / SHARDS)
        self._read_texts = ShardReader(self._place / SHARDS, without=["image"])

    def _open_index(self) -> None:
        self._names: Sequence[str] = ()
        self._rows = np.zeros(0, dtype=np.int64)
        self._starts = np.zeros(0, dtype=np.int64)
        if self._note:
            self._names = _Keys(self._index_file(KEYS), self._chosen)
            rows = np.load(self._index_file(ROWS), mmap_mode="r")
            self._rows = rows if self._chosen is None else rows[self._chosen]
            counts = [rows for _, rows in self._note["shards"]]
            self._starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def _index_file(self, name: str) -> Path:
        return local_file(self._place / self._note["index"] / name)

    @property
    def name(self) -> str:
        """The folder's path or URL."""
        return self.root

    def setup(self) -> None:
        """Open the index, once; no sample is read, but the first one of a remote set, to try its storage.

        Raises:
            FileNotFoundError: if the folder is no prepared data set.
            ValueError: if it is not finished, or of a later version; or if the storage refuses it; or if the index
                cannot be used or names none of its samples.
            DataOutageError: if a remote one cannot be read for too long.
        """
        if self._note:
            return
        listed = None if self.index is None else _listed_keys(Path(self.index))
        if isinstance(self._place, RemotePath):
            self._set_up_remote(self._place)
        else:
            self._note = read_note(self._place)
            self._open_index()
        if listed is not None:
            self._choose(listed)

    def _choose(self, listed: np.ndarray) -> None:
        found = [np.flatnonzero(_among(keys, listed)) + start for start, keys in self._key_chunks()]
        chosen = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        if not len(chosen):
            self._note = {}
            self._open_index()
            raise ValueError(f"index {self.index!r} names none of the samples of {printable(self.root)!r}")
        if missing := len(listed) - len(chosen):
            _log.warning(
                "%s: %s of the %s samples of index %s are not in the set",
                printable(self.root),
                f"{missing:,}",
                f"{len(listed):,}",
                self.index,
            )
        self._chosen = chosen
        self._open_index()

    def _set_up_remote(self, place: RemotePath) -> None:
        try:
            note = self._patiently(lambda: read_note(place), _REFUSALS)
            self._place = place.of_version(json.dumps(note, sort_keys=True))
            self._open_shards()
            self._note = note
            self._patiently(self._open_index, _REFUSALS)
            if len(self):
                self._patiently(lambda: self._read_texts(*self.place(0)), _REFUSALS)
        except (*_REFUSALS, ValueError) as error:
            self._note = {}
            kind = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
            raise kind(f"data.root is {printable(self.root)!r}: {_told(error)}") from error

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def keys(self) -> Sequence[str]:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        return self._names

    @property
    def shards(self) -> Sequence[tuple[str, int]]:
        """The names of the shards and their numbers of rows."""
        return [(name, rows) for name, rows in self._note["shards"]]

    def samples_of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the samples of a shard, given its number: their numbers in the set and their rows, (N,) int64 each."""
        first, last = np.searchsorted(self._rows, self._starts[number : number + 2]).tolist()
        return np.arange(first, last), np.asarray(self._rows[first:last]) - self._starts[number]

    def place(self, index: int) -> tuple[str, int]:
        """Return the name of a sample's shard and its row in it; other columns can be stored under the same ones."""
        row = int(self._rows[index])
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._note["shards"][shard][0], row - int(self._starts[shard])

    def row(self, index: int) -> Mapping[str, Any]:
        """Return a sample's :class:`~vlad_lightning.data.prepared_shard.PreparedRow` by column, as it is stored.

        Raises:
            SkipSample: if its shard is missing.
            DataOutageError: if the system fails to read it for too long.
        """
        return self._patiently(lambda: self._read_row(*self.place(index)))

    def read(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        row = self.row(index)
        return _sample(row, as_rgb(picture_from_bytes(row["image"], row["key"]), in_place=True))

    def read_without_image(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`; the picture is not read."""
        row = self._patiently(lambda: self._read_texts(*self.place(index)))
        return _sample(row, Image.new("1", (row["width"], row["height"])))

    def read_texts(self, index: int) -> SampleTexts:
        """See :class:`~vlad_lightning.data.source.SampleSource`; the picture is not read."""
        return _texts(self._patiently(lambda: self._read_texts(*self.place(index))))

    def check_latents(self, needed: Mapping[str, Any]) -> None:
        """See :class:`~vlad_lightning.data.source.SampleSource`.

        Raises:
            ValueError: also if the cache is not finished, damaged, or not of these samples.
        """
        note = self._patiently(lambda: read_latent_note(self._place, self._note.get("content", {})), _REFUSALS)
        note.check(needed, self._place)
        self._latents = self._patiently(lambda: LatentReader(self._place, note), _REFUSALS)

    def read_latents(self, index: int) -> Latents:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        read = self._latents
        if read is None:
            raise RuntimeError("check_latents was not called")
        return self._patiently(lambda: read(*self.place(index)))

    def proportions(self) -> np.ndarray:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        sides = self._patiently(lambda: np.load(self._index_file(SIDES), mmap_mode="r"), _REFUSALS)
        sides = sides if self._chosen is None else sides[self._chosen]
        return np.divide(sides[:, 0], sides[:, 1], dtype=np.float64)

    def positions(self, seed: int) -> np.ndarray:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        found = np.empty(len(self))
        for start, keys in self._key_chunks():
            found[start : start + len(keys)] = key_positions(keys, seed)
        return found

    def _key_chunks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the samples' keys in chunks, each with the number of its first sample."""
        if not self._note:
            return
        with self._index_file(KEYS).open("rb") as file:  # mapped pages would count as memory
            np.lib.format.read_magic(file)
            (total,), _, _ = np.lib.format.read_array_header_1_0(file)
            number = 0
            for start in range(0, total, _CHUNK):
                keys = np.fromfile(file, dtype=KEY, count=min(_CHUNK, total - start))
                if self._chosen is not None:
                    first, last = np.searchsorted(self._chosen, (start, start + len(keys)))
                    keys = keys[self._chosen[first:last] - start]
                yield number, keys
                number += len(keys)

    def content(self) -> Mapping[str, str]:
        """Return the fingerprint that was made when the set was written, and that of the samples in the index."""
        content = dict(self._note.get("content", {}))
        if self._chosen is not None:
            content["index"] = hashlib.sha256(self._chosen.astype("<i8").tobytes()).hexdigest()
        return content

    def _patiently(self, read: Callable[[], _T], refusals: tuple[type[OSError], ...] = ()) -> _T:
        start, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return read()
            except refusals:  # waiting would not help
                raise
            except OSError as error:
                if isinstance(error, FileNotFoundError) and self._is_there():
                    raise SkipSample("its shard is missing", error.filename or self.root) from error
                left = start + self.max_outage - time.monotonic()
                where = printable(self.root)
                if left <= 0:
                    raise DataOutageError(
                        f"{where} could not be read for {self.max_outage:g} s (data.max_outage): {error}"
                    ) from error
                if pause == _FIRST_PAUSE:
                    _log.warning("%s cannot be read; waiting for up to %g s: %s", where, self.max_outage, error)
                time.sleep(min(pause, left))
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _is_there(self) -> bool:
        note = self._place / NOTE
        return note.exists() if isinstance(note, RemotePath) else note.is_file()

    def __getstate__(self) -> dict[str, Any]:
        return {name: vars(self)[name] for name in _STATE}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open_index()


def read_note(root: Place) -> Mapping[str, Any]:
    """Return the note of a finished data set.

    Raises:
        FileNotFoundError, ValueError: as :meth:`PreparedSource.setup`.
        OSError: if a remote one cannot be read.
    """
    where = printable(str(root))
    if isinstance(root, Path) and not is_prepared(root):
        raise FileNotFoundError(f"root is {where!r}, which has no {NOTE}; vlad-cli prepare writes such a folder")
    try:
        note = json.loads(read_small(root / NOTE, LIST_BYTES).decode("utf-8-sig"))
        version, finished = note["version"], note["finished"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{printable(str(root / NOTE))} cannot be used: {type(error).__name__}: {error}") from error
    if version != VERSION:
        older = "" if version not in range(VERSION) else "; call the same vlad-cli prepare again, which replaces it"
        raise ValueError(f"{where} is prepared in version {shown(version)}; this is version {VERSION}{older}")
    if not finished:
        raise ValueError(f"{where} is not finished; call the same vlad-cli prepare again, and it goes on")
    return dict(note)


def _told(error: Exception) -> str:
    """Return what a remote storage has refused, and what to do."""
    if not isinstance(error, OSError):
        return str(error)
    text = f"{error.filename} {error.strerror}"
    if isinstance(error, FileNotFoundError):
        return f"{text}; copy the whole folder that vlad-cli prepare has written there, or name another one"
    if isinstance(error, PermissionError):
        return f"{text}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for s3, or let the server publish it"
    return f"{text}; check the name, and AWS_ENDPOINT_URL for s3"


def key_positions(keys: np.ndarray, seed: int) -> np.ndarray:
    """Return a position in [0, 1) for each key, a hash of it and the seed.

    Args:
        keys: (N,) of 16 bytes each (``S16``).
        seed: any whole number.

    Returns:
        (N,) float64.
    """
    halves = np.ascontiguousarray(keys).view("<u8").reshape(-1, 2)
    start = _mixed(np.array([seed % 2**64], dtype=np.uint64))
    value = _mixed(halves[:, 1] ^ _mixed(halves[:, 0] ^ start))
    return (value >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(value: np.ndarray) -> np.ndarray:
    """Return a bijection of 64-bit numbers in which each bit depends on all (the finalizer of SplitMix64)."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _sample(row: Mapping[str, Any], image: Image.Image) -> RawSample:
    texts = _texts(row)
    scene = decode_scene(row["scene"]) if row["scene"] else None
    return RawSample(row["key"], image, texts.caption, texts.words, texts.problems, scene, texts.prompt)


def _texts(row: Mapping[str, Any]) -> SampleTexts:
    return SampleTexts(row["caption"], tuple(parse_ocr(row["ocr"])[0]), prompt=row["prompt"])


def _listed_keys(index: Path) -> np.ndarray:
    """Return the keys of the names in an index, sorted and each once."""
    return np.unique(np.array([short_key(name) for _, name in read_index(index)], dtype=KEY))


def _among(keys: np.ndarray, listed: np.ndarray) -> np.ndarray:
    """Return which keys are in a sorted list."""
    if not len(listed):
        return np.zeros(len(keys), dtype=bool)
    found: np.ndarray = listed[np.searchsorted(listed, keys).clip(max=len(listed) - 1)] == keys
    return found


class _Keys(Sequence[str]):
    """The samples' names, in a file that is mapped into memory.

    Args:
        path: the file.
        chosen: the numbers of the samples among those of the file; None is all.
    """

    def __init__(self, path: Path, chosen: np.ndarray | None = None) -> None:
        self._keys = np.load(path, mmap_mode="r")
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._keys if self._chosen is None else self._chosen)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        at: Any = index if self._chosen is None else self._chosen[index]
        if isinstance(index, slice):
            return [key.decode("ascii") for key in self._keys[at].tolist()]
        return bytes(self._keys[at]).decode("ascii")
