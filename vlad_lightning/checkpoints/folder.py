"""Checkpoints as folders, written by all processes at once: safetensors for the tensors, one file for the rest.

    last.ckpt/
      meta.pt                                       everything but the tensors; each is replaced by its key
      shard-00001-model-00001-of-00001.safetensors  what process 0 holds: whole tensors, or its rows of them
      shard-00002-...                               the same for process 1, and so on

`torch.distributed.checkpoint` writes and reads them in its safetensors format: its default format keeps a pickled
index, and reading a pickle can run code. Here the index is in the files' headers, as JSON. ``meta.pt`` is read with
``weights_only=True``. Any number of processes can read a folder, also one process without a process group.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import io
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import (
    CheckpointException,
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
    load,
    save,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from vlad_lightning.checkpoints.checksum import DamagedError, sync_folder, verify, write_checksums
from vlad_lightning.checkpoints.ranks import SaveFailedError, barrier, on_first
from vlad_lightning.lightning_internals import storage_id

_METADATA = "meta.pt"
_MARK = "vlad_lightning.tensor"  # ("vlad_lightning.tensor", key) replaces a tensor
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # two letters at least: not C:/
_ONE_DISK = "has to be one file system for all nodes"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux

TensorPath = tuple[str | int, ...]
"""The path of a tensor in a checkpoint's nested containers: ("state_dict", "layer.weight")."""


def is_folder_checkpoint(path: Path) -> bool:
    """Return whether ``path`` is a checkpoint of this format."""
    return (path / _METADATA).is_file()


def read_metadata(path: Path) -> Any:
    """Read a checkpoint without its tensors; those of a file are memory-mapped. Reads Lightning's folders too."""
    file = path / _METADATA if path.is_dir() else path
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def write_folder(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint beside its target, then move it to the target. All processes call it together.

    Each process writes the shards it holds; what is equal on all is written once.

    Args:
        checkpoint: nested dicts and lists; tensors may be sharded.
        path: the target, the same on every process; an existing checkpoint is replaced.

    Raises:
        SaveFailedError: on every process, if one of them could not write; an existing checkpoint at ``path`` stays,
            and no partial files are left.
    """
    metadata, tensors = _separate(checkpoint)
    beside = path.with_name(f".{path.name}.part")
    try:
        on_first(partial(_recreate, beside))
        _write_shards(tensors, beside)
        on_first(partial(_finish, metadata, {key: tensor.shape for key, tensor in tensors.items()}, beside, path))
    except SaveFailedError:
        _remove(beside)
        barrier()  # a late removal would delete files of the next save
        raise


def _recreate(folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove(folder)  # left by a run that was killed
    folder.mkdir()


def _write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write each process's own shards.

    Raises:
        SaveFailedError: if all errors come from the disk. torch gives every process the errors of all.
        CheckpointException: if there was another error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a process alone needs no process group
            save(tensors, storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))
    except CheckpointException as error:
        causes = {number: cause for number, (cause, _) in error.failures.items()}
        refused = {number: cause for number, cause in causes.items() if isinstance(cause, OSError)}
        if len(refused) < len(causes):
            raise
        number, first = min(refused.items())
        raise SaveFailedError(first.errno, f"{first.strerror or first} (process {number})", str(folder)) from error


def _finish(metadata: Any, shapes: Mapping[str, torch.Size], beside: Path, path: Path) -> None:
    content = io.BytesIO()
    torch.save(metadata, content)  # to memory first: torch's own errors about a full disk only name file positions
    with (beside / _METADATA).open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    found = _read_index(beside)  # after creating a file, which makes NFS look for files that other nodes created
    if lost := [key for key, shape in shapes.items() if key not in found or found[key].size != shape] or _gaps(found):
        raise OSError(f"{_lost(lost)}, though every process has written its own; {path.parent} {_ONE_DISK}")
    publish(beside, path)


def _read_index(folder: Path) -> dict[str, Any]:
    """Return shape, dtype and parts of each tensor by its key, from the headers of all shards.

    Raises:
        OSError: if a header cannot be read.
    """
    try:
        return dict(HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata)
    except SafetensorError as error:
        raise OSError(f"a shard has no whole header: {error}") from error


def _gaps(index: Mapping[str, TensorStorageMetadata]) -> list[str]:
    """Return the keys of the tensors of which parts are missing."""
    return [key for key, t in index.items() if sum(math.prod(c.sizes) for c in t.chunks) != math.prod(t.size)]


def _lost(keys: Collection[str]) -> str:
    return f"{len(keys)} tensors are not whole, {min(keys)!r} among them"


def publish(beside: Path, path: Path) -> None:
    """Write a folder's checksums and give it its name. Process 0 calls it when the others have written their parts."""
    write_checksums(beside)
    swap(beside, path)


def swap(new: Path, path: Path) -> None:
    """Move a file or folder to ``path``, and then remove the file or folder that was there.

    On Linux the two are exchanged in one step, so the name refers to a whole checkpoint at any moment. Folders on file
    systems that cannot do this (NFS) need two renames.
    """
    if not new.is_dir() and (path.is_symlink() or not path.is_dir()):
        new.replace(path)
    elif not os.path.lexists(path):
        new.rename(path)
    elif not _exchange(new, path):
        old = path.with_name(f".{path.name}.old")
        _remove(old)
        path.rename(old)
        try:
            new.rename(path)
        except OSError:
            old.rename(path)
            raise
        _remove(old)
    sync_folder(path.parent)
    _remove(new)  # the old one, after an exchange


def read_header(path: Path) -> Any:
    """Read a checkpoint with its tensors on the meta device: their shapes and dtypes are known, but not their values.

    Raises:
        ValueError: if it is damaged, or not a checkpoint.
    """
    if not path.is_dir():
        return map_tensors(read_metadata(path), lambda at, tensor: torch.empty_like(tensor, device="meta"))
    metadata, index = open_folder(path)

    def shaped(at: TensorPath, key: str) -> Tensor:
        return torch.empty(index[key].size, dtype=index[key].properties.dtype, device="meta")

    return restore(metadata, shaped)


def read_checkpoint(path: Path, optimizer: bool = True) -> dict[str, Any]:
    """Read a whole checkpoint, file or folder, to the CPU; no process group is needed.

    Args:
        path: a ``.ckpt`` file of Lightning, or a folder of :func:`write_folder`.
        optimizer: False leaves out a folder's optimizer states, which only a fit needs: they are two thirds of it.

    Raises:
        ValueError: if it is damaged, or not a checkpoint.
    """
    if not path.is_dir():
        return dict(read_metadata(path))
    metadata, index = open_folder(path)
    if not optimizer:
        metadata.pop("optimizer_states", None)
    targets = {
        key: torch.empty(index[key].size, dtype=index[key].properties.dtype) for key in tensor_paths(metadata).values()
    }
    fill_tensors(targets, path, alone=True)
    return dict(restore(metadata, lambda at, key: targets[key]))


def refuse_address(given: str | Path) -> None:
    """Refuse an address instead of a path: its content is not checked, and Lightning would unpickle it.

    Raises:
        ValueError: if ``given`` begins with a scheme, such as ``http://``, ``s3://`` or ``file://``.
    """
    if _ADDRESS.match(str(given)):
        raise ValueError(f"{given} is an address; a checkpoint is only read from a file or folder: copy it here first")


def read_saved(checkpoint: str | Path) -> dict[str, Any]:
    """Verify a checkpoint's checksum, then read it to the CPU; a folder without its optimizers' states.

    Args:
        checkpoint: a ``.ckpt``, file or folder.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged, not a checkpoint of Lightning, or holds pickled code, which is not run.
    """
    refuse_address(checkpoint)
    path = Path(checkpoint)
    verify(path)
    try:
        saved = read_checkpoint(path, optimizer=False)
        if not isinstance(saved["state_dict"], Mapping):
            raise TypeError("its state_dict is no mapping")
    except DamagedError:
        raise
    except (UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no checkpoint of Lightning: {shorten(str(error), 200)}") from error
    return saved


def digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint, in hex; for a folder, of its files' names and hashes, ordered by name."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = (f"{digest(file)}  {file.name}\n" for file in sorted(path.iterdir()) if file.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_folder(path: Path) -> tuple[dict[str, Any], dict[str, TensorStorageMetadata]]:
    """Read a folder's metadata without its tensors, and shape and dtype of each tensor by its key.

    Raises:
        DamagedError: if a file, or a part of a tensor, is missing or broken.
        ValueError: if it is not a checkpoint.
    """
    if not is_folder_checkpoint(path):
        raise ValueError(f"{path} is a folder without {_METADATA}: no checkpoint, or one that was not finished")
    metadata = read_metadata(path)
    try:
        found = _read_index(path)
    except OSError as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if missing := set(tensor_paths(metadata).values()) - set(found):
        raise DamagedError(f"{path} is damaged: {len(missing)} tensors are missing, {min(missing)!r} among them")
    if gaps := _gaps(found):
        raise DamagedError(f"{path} is damaged: {_lost(gaps)}; the folder it was written to {_ONE_DISK}")
    return metadata, found


def fill_tensors(targets: dict[str, Tensor], path: Path, alone: bool = False) -> None:
    """Read tensors by key into ``targets``; each target may be sharded over any mesh.

    Args:
        targets: the tensors to fill in place.
        path: the folder.
        alone: True reads without the other processes; with False, all of them call it together.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a process alone needs no process group
        load(dict(targets), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=alone)


def tensor_paths(metadata: Any) -> dict[TensorPath, str]:
    """Return the keys of the tensors in the metadata of :func:`open_folder`, by their paths."""
    found: dict[TensorPath, str] = {}

    def note(at: TensorPath, key: str) -> str:
        found[at] = key
        return key

    restore(metadata, note)
    return found


def restore(metadata: Any, tensor: Callable[[TensorPath, str], Any], at: TensorPath = ()) -> Any:
    """Return ``metadata`` with each tensor's mark replaced by ``tensor(path, key)``."""
    if isinstance(metadata, tuple) and len(metadata) == 2 and metadata[0] == _MARK:
        return tensor(at, metadata[1])
    if isinstance(metadata, Mapping):
        return {k: restore(v, tensor, (*at, k)) for k, v in metadata.items()}
    if type(metadata) in (list, tuple):
        return type(metadata)(restore(v, tensor, (*at, i)) for i, v in enumerate(metadata))
    return metadata


def map_tensors(value: Any, change: Callable[[TensorPath, Tensor], Any], at: TensorPath = ()) -> Any:
    """Return ``value`` with each tensor replaced by ``change(path, tensor)``."""
    if isinstance(value, Tensor):
        return change(at, value)
    if isinstance(value, Mapping):
        return {k: map_tensors(v, change, (*at, k)) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_tensors(v, change, (*at, i)) for i, v in enumerate(value))
    return value


def storage_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return a key that is equal for tensors in the same memory: tied weights, and weights that two states share."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return storage_id(local), local.storage_offset(), tuple(tensor.shape), tensor.dtype


def _separate(checkpoint: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """Return the checkpoint with marks instead of tensors, and the tensors by key, each piece of memory once."""
    keys: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, Tensor] = {}

    def keep(at: TensorPath, tensor: Tensor) -> tuple[str, str]:
        key = keys.setdefault(storage_of(tensor), "/".join(map(str, at)))
        if key not in tensors:
            tensors[key] = tensor.detach().contiguous()
        return _MARK, key

    return map_tensors(checkpoint, keep), tensors


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step; return False if the operating system or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # not Linux, or an old one
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _remove(path: Path) -> None:
    """Remove a file or folder as far as the file system allows; the next save removes the rest."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
