"""Checkpoints as folders, written by all processes at once: safetensors for the tensors, one file for all else.

    last.ckpt/
      meta.pt                                       all that is no tensor; a tensor's place holds its key
      shard-00001-model-00001-of-00001.safetensors  what process 0 holds: whole tensors, or its rows of them
      shard-00002-...                               the same of process 1, and so on

`torch.distributed.checkpoint` writes and reads them, in its safetensors form: its own form keeps an index that is a
pickle, and reading a pickle can run code. Here the index stands in the files' headers, as JSON. ``meta.pt`` is read
with ``weights_only=True``. A folder can be read by any number of processes, one without a process group included.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter, load, save
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from vlad_lightning.checkpoints import seal, sync_folder

_REST = "meta.pt"
_MARK = "vlad_lightning.tensor"  # ("vlad_lightning.tensor", key) stands where a tensor stood
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux

Place = tuple[str | int, ...]
"""Where a tensor stands in a checkpoint: ("state_dict", "layer.weight")."""


def is_folder_checkpoint(path: Path) -> bool:
    """Whether ``path`` is a checkpoint of this form."""
    return (path / _REST).is_file()


def read_rest(path: Path) -> Any:
    """What a checkpoint holds beside its tensors; a file's tensors stay on the disk. Reads Lightning's folders too."""
    file = path / _REST if path.is_dir() else path
    return torch.load(file, map_location="cpu", weights_only=True, mmap=True)


def write_folder(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint beside its target, then put it in its place. All processes call it together.

    Each process writes the shards it holds; what is equal on all is written once.

    Args:
        checkpoint: nested dicts and lists; tensors may be sharded.
        path: the target, the same on every process; what stands there is replaced.

    Raises:
        OSError: on every process, where one of them could not write.
    """
    rest, tensors = _separate(checkpoint)
    beside = path.with_name(f".{path.name}.part")
    if _rank() == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)  # of a run that was killed
        beside.mkdir()
    _barrier()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a process alone needs no process group
        save(tensors, storage_writer=HuggingFaceStorageWriter(str(beside), save_distributed=True))
    failure = None
    if _rank() == 0:
        try:
            with (beside / _REST).open("wb") as file:
                torch.save(rest, file)
                file.flush()
                os.fsync(file.fileno())
            publish(beside, path)
        except OSError as error:
            failure = str(error)
    if failure := _from_first(failure):
        raise OSError(f"the checkpoint {path} could not be written: {failure}")


def publish(beside: Path, path: Path) -> None:
    """Give a checkpoint folder its checksums and its name. Process 0 calls it when the others have written their parts.

    On Linux the new folder and the old one change places in one step, so there is a whole checkpoint under the name at
    any moment. File systems that cannot do this (NFS) get two renames.
    """
    seal(beside)
    if not path.exists():
        beside.rename(path)
    elif not _exchange(beside, path):
        old = path.with_name(f".{path.name}.old")
        _remove(old)
        path.rename(old)
        beside.rename(path)
        _remove(old)
    sync_folder(path.parent)
    _remove(beside)  # the old one, after an exchange


def read_checkpoint(path: Path, optimizer: bool = True) -> dict[str, Any]:
    """A checkpoint, file or folder, whole on the CPU; no process group is needed.

    Args:
        path: a ``.ckpt`` file of Lightning, or a folder of :func:`write_folder`.
        optimizer: False leaves out what only a fit needs, of a folder: the optimizers' states are two thirds of it.

    Raises:
        ValueError: where it is damaged, or no checkpoint.
    """
    if not path.is_dir():
        return dict(read_rest(path))
    rest, index = open_folder(path)
    if not optimizer:
        rest.pop("optimizer_states", None)
    targets = {key: torch.empty(index[key].size, dtype=index[key].properties.dtype) for key in places(rest).values()}
    fill_tensors(targets, path, alone=True)
    return dict(restore(rest, lambda place, key: targets[key]))


def digest(path: Path) -> str:
    """The SHA-256 of a checkpoint, in hex; of a folder, that of its files' names and hashes, in the order of names."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    lines = (f"{digest(file)}  {file.name}\n" for file in sorted(path.iterdir()) if file.is_file())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_folder(path: Path) -> tuple[dict[str, Any], dict[str, TensorStorageMetadata]]:
    """What a folder holds beside its tensors, and shape and type of each tensor by its key.

    Raises:
        ValueError: where it is damaged, or no checkpoint.
    """
    if not is_folder_checkpoint(path):
        raise ValueError(f"{path} is a folder without {_REST}: no checkpoint, or one that was not finished")
    rest = read_rest(path)
    try:
        found: Any = HuggingFaceStorageReader(str(path)).read_metadata().state_dict_metadata
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if missing := set(places(rest).values()) - set(found):
        raise ValueError(f"{path} is damaged: {len(missing)} tensors are missing, {min(missing)!r} among them")
    return rest, found


def fill_tensors(targets: dict[str, Tensor], path: Path, alone: bool = False) -> None:
    """Read tensors by key into ``targets``, of which each may be sharded over any mesh.

    Args:
        targets: are filled in place.
        path: the folder.
        alone: True reads without the other processes; False is called by all of them together.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a process alone needs no process group
        load(dict(targets), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=alone)


def places(rest: Any) -> dict[Place, str]:
    """The keys of the tensors in what :func:`open_folder` gives, by the places where they stand."""
    found: dict[Place, str] = {}

    def note(place: Place, key: str) -> str:
        found[place] = key
        return key

    restore(rest, note)
    return found


def restore(rest: Any, tensor: Callable[[Place, str], Any], place: Place = ()) -> Any:
    """``rest`` with ``tensor(place, key)`` where a tensor stood."""
    if isinstance(rest, tuple) and len(rest) == 2 and rest[0] == _MARK:
        return tensor(place, rest[1])
    if isinstance(rest, Mapping):
        return {k: restore(v, tensor, (*place, k)) for k, v in rest.items()}
    if type(rest) in (list, tuple):
        return type(rest)(restore(v, tensor, (*place, i)) for i, v in enumerate(rest))
    return rest


def map_tensors(value: Any, change: Callable[[Place, Tensor], Any], place: Place = ()) -> Any:
    """``value`` with ``change(place, tensor)`` in the place of each tensor."""
    if isinstance(value, Tensor):
        return change(place, value)
    if isinstance(value, Mapping):
        return {k: map_tensors(v, change, (*place, k)) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map_tensors(v, change, (*place, i)) for i, v in enumerate(value))
    return value


def storage_of(tensor: Tensor) -> tuple[Any, ...]:
    """What is equal for two tensors that are the same memory: tied weights, and weights that two states share."""
    local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
    return local.untyped_storage()._cdata, local.storage_offset(), tuple(tensor.shape), tensor.dtype


def _separate(checkpoint: Mapping[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """What is no tensor, with marks; and the tensors by key, each piece of memory once."""
    keys: dict[tuple[Any, ...], str] = {}
    tensors: dict[str, Tensor] = {}

    def keep(place: Place, tensor: Tensor) -> tuple[str, str]:
        key = keys.setdefault(storage_of(tensor), "/".join(map(str, place)))
        if key not in tensors:
            tensors[key] = tensor.detach().contiguous()
        return _MARK, key

    return map_tensors(checkpoint, keep), tensors


def _exchange(one: Path, other: Path) -> bool:
    """Let two paths change places in one step; False where this system or file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):  # no Linux, or an old one
        return False
    return bool(rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _grouped() -> bool:
    return dist.is_available() and dist.is_initialized()


def _rank() -> int:
    return dist.get_rank() if _grouped() else 0


def _barrier() -> None:
    if _grouped():
        dist.barrier()


def _from_first(value: Any) -> Any:
    """What process 0 has."""
    if not _grouped():
        return value
    held = [value]
    dist.broadcast_object_list(held, src=0)
    return held[0]
