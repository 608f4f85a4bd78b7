"""Cached latents of a prepared data set: beside each of its shards a file in Arrow's IPC format with the same rows.

A row holds what frozen networks compute of a sample, see :class:`~vlad_lightning.types.Latents`; it is null for a
sample that could not be read. The note of the cache says by which networks, and of which data, the latents were made.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlad_lightning.data.prepared_shard import SUFFIX, ShardReader, import_arrow
from vlad_lightning.data.remote_path import Place, RemotePath, read_small
from vlad_lightning.data.source import SkipSample
from vlad_lightning.files import NOTE_BYTES, printable, write_file, write_text
from vlad_lightning.types import Latents

FOLDER = "latents"
"""The folder in a prepared data set that holds its cached latents."""

FORMATS = ("float16", "float32")
"""The dtypes in which latents can be stored."""

VERSION = 1
_NOTE, _NO_GLYPHS = "latents.json", "no_glyphs.npy"
_LETTERS = "letters"  # 0 or 1 in a byte each; the other columns have the cache's dtype
_LEFT = 3600.0  # seconds after which a file that was not finished is one of a killed process
_REMEDY = "vlad-cli cache with the configuration of the training and --data.root {root}"
_ABSENT = "none"


@dataclass(frozen=True)
class LatentNote:
    """What is in a cache.

    Attributes:
        key: by which networks and settings it was made, nested; a training needs some of these, see :meth:`check`.
            ``dtype`` is that of all columns but ``letters``, one of :data:`FORMATS`.
        shapes: the shape of each column.
        content: the fingerprint of the data set that it was made of.
        finished: whether all shards have their latents.
    """

    key: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    content: Mapping[str, str]
    finished: bool = False

    @property
    def dtype(self) -> str:
        """The dtype of all columns but ``letters``."""
        return str(self.key["dtype"])

    @property
    def digest(self) -> str:
        """A hash of what every file of the cache depends on."""
        made = {"key": self.key, "shapes": self.shapes, "version": VERSION}
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()

    def check(self, needed: Mapping[str, Any], root: Place) -> None:
        """Refuse a cache that was made by other networks or settings.

        Args:
            needed: those of a training, or a part of them, as in ``key``.
            root: the folder of its data set, for the error.

        Raises:
            ValueError: naming the first one that differs, with both values, and what to do.
        """
        own = _flat(self.key)
        other = {name: value for name, value in _flat(needed).items() if own.get(name, _ABSENT) != value}
        if other:
            name, value = next(iter(other.items()))
            more = f" and {len(other) - 1} more" if len(other) > 1 else ""
            raise ValueError(
                f"{_shown(root / FOLDER)} was made with {name} {_short(own.get(name, _ABSENT))}, and here it is "
                f"{_short(value)}{more}; make it again: {_remedy(root, ' --replace')}, or train without it: "
                "--data.latents false"
            )


def read_latent_note(root: Place, content: Mapping[str, str]) -> LatentNote:
    """Return the note of a finished cache.

    Args:
        root: the folder of a prepared data set, local or remote.
        content: the set's fingerprint.

    Raises:
        ValueError: if there is none, it is not finished or damaged, or the set has changed since.
    """
    shown, remedy = _shown(root), _remedy(root)
    note = stored_note(root)
    if note is None:
        raise ValueError(f"data.latents is true, and {shown} has no cached latents; make them: {remedy}")
    if not note.finished:
        raise ValueError(f"the cached latents of {shown} are not finished; go on: {remedy}")
    if dict(note.content) != dict(content):
        raise ValueError(f"{shown} has changed since its latents were cached; cache those of the new: {remedy}")
    return note


def stored_note(root: Place) -> LatentNote | None:
    """Return the note of a cache, finished or not; None if there is none.

    Raises:
        ValueError: if it is damaged, or of another version.
    """
    path = root / FOLDER / _NOTE
    try:
        note = json.loads(read_small(path, NOTE_BYTES).decode("utf-8-sig"))
        version = note.pop("version")
        if version == VERSION:
            return LatentNote(**note)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{_shown(path)} cannot be used ({type(error).__name__}: {error}); remove its folder, and cache again"
        ) from error
    raise ValueError(
        f"{_shown(path)} is of version {version}, and this is version {VERSION}; remove its folder, and cache again"
    )


def claim_cache(root: Path, note: LatentNote, no_glyphs: Tensor | None, replaces: bool = False) -> None:
    """Write the note of a cache that is begun or gone on with.

    Args:
        root: the folder of a prepared data set.
        note: what will be in it.
        no_glyphs: see :class:`~vlad_lightning.types.Latents`.
        replaces: remove a cache that was made otherwise.

    Raises:
        ValueError: if there is one that was made otherwise, and it is not to be replaced.
    """
    folder = root / FOLDER
    there = stored_note(root)
    if there is not None and there.digest != note.digest:
        if not replaces:
            there.check(note.key, root)
            raise ValueError(f"{printable(folder)} was made with other settings; --replace makes it again")
        shutil.rmtree(folder)
        there = None
    if no_glyphs is not None:
        write_file(folder / _NO_GLYPHS, lambda path: np.save(path, no_glyphs.numpy()))
    if there is None or dict(there.content) != dict(note.content):
        _write_note(root, note)


def finish_cache(root: Path, note: LatentNote, shards: Sequence[str]) -> None:
    """Mark a cache as finished, and remove files of shards that are gone and what killed processes have left."""
    folder = root / FOLDER
    for path in folder.glob(f"*{SUFFIX}"):
        gone = path.stem not in shards and not path.name.startswith(".")
        if gone or (path.name.startswith(".") and time.time() - path.stat().st_mtime > _LEFT):
            path.unlink(missing_ok=True)
    _write_note(root, LatentNote(**asdict(note) | {"finished": True}))


def _write_note(root: Path, note: LatentNote) -> None:
    write_text(root / FOLDER / _NOTE, json.dumps({"version": VERSION, **asdict(note)}, indent=1) + "\n")


def write_latents(root: Path, shard: str, state: str, note: LatentNote, rows: Iterable[Latents | None]) -> None:
    """Write the latents of a shard, atomically.

    Args:
        root: the folder of a prepared data set.
        shard: name of the shard.
        state: a hash of the samples that they are computed of.
        note: the cache's.
        rows: a shard's rows, taken one by one.

    Raises:
        ValueError: if a value is beyond the range of the cache's dtype, or pyarrow is missing.
        OSError: if it cannot be written.
    """
    arrow = import_arrow()
    schema = _schema(note).with_metadata({"key": note.digest, "state": state})

    def write(beside: Path) -> None:
        with arrow.OSFile(str(beside), "wb") as sink, arrow.ipc.new_file(sink, schema) as file:
            for row in rows:
                values = [_stored(note, name, row) for name in note.shapes]
                arrays = [
                    arrow.nulls(1, field.type) if v is None else arrow.FixedSizeListArray.from_arrays(v, len(v))
                    for field, v in zip(schema, values, strict=True)
                ]
                file.write_batch(arrow.record_batch(arrays, schema=schema))

    write_file(root / FOLDER / f"{shard}{SUFFIX}", write)


def has_latents(root: Path, shard: str, state: str, note: LatentNote) -> bool:
    """Return whether a shard's latents are there, made of the same samples in the same way."""
    arrow = import_arrow()
    path = root / FOLDER / f"{shard}{SUFFIX}"
    if not path.is_file():
        return False
    try:
        with arrow.OSFile(str(path), "rb") as source:
            metadata = arrow.ipc.open_file(source).schema.metadata or {}
    except ValueError:
        return False
    return bool(metadata.get(b"key") == note.digest.encode() and metadata.get(b"state") == state.encode())


class LatentReader:
    """Reads the cached latents of single rows; it can be pickled and forked.

    Args:
        root: the folder of a prepared data set, local or remote.
        note: the cache's.

    Raises:
        ValueError: if the cache is damaged.
        OSError: if the system fails to read.
    """

    def __init__(self, root: Place, note: LatentNote) -> None:
        self._note = note
        if isinstance(root, RemotePath):
            root = root.of_version(note.digest)
        self._rows = ShardReader(root / FOLDER)
        self._no_glyphs = None
        if "glyphs" in note.shapes:
            path = root / FOLDER / _NO_GLYPHS
            try:
                content = io.BytesIO(read_small(path, NOTE_BYTES))
                self._no_glyphs = torch.from_numpy(np.load(content, allow_pickle=False))
            except (FileNotFoundError, ValueError, EOFError) as error:
                raise ValueError(f"{_shown(path)} cannot be used: {type(error).__name__}: {error}") from error

    def __call__(self, shard: str, row: int) -> Latents:
        """Return a row's latents.

        Raises:
            SkipSample: if it has none.
            OSError: if the system fails to read.
            ValueError: if the file is damaged.
        """
        batch = self._rows.batch(shard, row)
        found: dict[str, Tensor | None] = {"glyphs": None, "embeddings": None}
        for name, shape in self._note.shapes.items():
            column = batch.column(name)
            if column.null_count:
                raise SkipSample("no cached latents", f"{shard}, row {row}")
            values = torch.from_numpy(column.flatten().to_numpy().copy()).reshape(*shape)  # arrow's memory is read-only
            found[name] = values.bool() if name == _LETTERS else values
        return Latents(**found, no_glyphs=self._no_glyphs)  # type: ignore[arg-type]


def _shown(place: Place) -> str:
    return printable(str(place))


def _remedy(root: Place, option: str = "") -> str:
    """Return how to make the cache; nothing is written to remote storage."""
    if isinstance(root, RemotePath):
        return f"{_REMEDY.format(root='SET')}{option} on the set's local original SET, and copy its {FOLDER} there"
    return _REMEDY.format(root=printable(root)) + option


def _schema(note: LatentNote) -> Any:
    arrow = import_arrow()
    kinds = {name: "uint8" if name == _LETTERS else note.dtype for name in note.shapes}
    lists = [(name, arrow.list_(getattr(arrow, kinds[name])(), prod(shape))) for name, shape in note.shapes.items()]
    return arrow.schema(lists)


def _stored(note: LatentNote, name: str, row: Latents | None) -> np.ndarray | None:
    """Return the values of a column as they are stored."""
    if row is None:
        return None
    value = getattr(row, name).cpu()
    dtype = torch.uint8 if name == _LETTERS else getattr(torch, note.dtype)
    stored: np.ndarray = value.to(dtype).flatten().numpy()
    if not np.isfinite(stored).all():
        reason = "values beyond its range: --dtype float32" if bool(value.isfinite().all()) else "values not finite"
        raise ValueError(f"dtype is {note.dtype}; {name} has {reason}")
    return stored


def _flat(value: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by dotted names."""
    found: dict[str, Any] = {}
    for name, part in value.items():
        dotted = f"{above}{name}"
        found |= _flat(part, f"{dotted}.") if isinstance(part, Mapping) else {dotted: part}
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 16 else f"{text[:12]}..."
