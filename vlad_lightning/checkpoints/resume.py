"""Finding the checkpoint that a command starts from, and checking its configuration and weights."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.checkpoints.checksum import DamagedError, candidates, look, newest_valid, verify
from vlad_lightning.checkpoints.config_lock import RECORD, refuse_changes
from vlad_lightning.checkpoints.folder import read_header, read_saved, refuse_address
from vlad_lightning.checkpoints.ranks import is_first_of_node

_LIGHTNINGS = ("best", "hpc")
_ABSENT = "absent"


@dataclass(frozen=True)
class Found:
    """A checkpoint that a command starts from.

    Attributes:
        path: the file or folder.
        header: its content; the tensors have a shape and a dtype, but no values.
        verified: whether this process has compared its checksum. In a fit one process of each node does, and decides
            whether the fit may start from it; all load what the first one has found, see
            :meth:`~vlad_lightning.checkpoints.DurableCheckpointIO.load_together`.
    """

    path: Path
    header: Mapping[str, Any]
    verified: bool


def resolve(given: str, folder: str | None, run: str, fits: bool) -> Found | str | None:
    """Find the checkpoint that ``--ckpt_path`` names.

    Args:
        given: a file or folder; ``last``; or a word that Lightning handles, such as ``best``.
        folder: the folder of the stage's checkpoints; ``last`` is looked for only there.
        run: ``checkpoints.run``; unless it is empty, checkpoints of other runs are skipped.
        fits: whether the command is a fit, which may start without a checkpoint.

    Returns:
        A whole checkpoint that holds what the command needs; ``given`` if Lightning handles it; None for a fit that
        starts over.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, an address, or not a checkpoint that a fit can resume.
    """
    try:
        refuse_address(given)
    except ValueError as error:
        raise ValueError(f"--ckpt_path {error}") from error
    verifies = not fits or is_first_of_node()
    if given in _LIGHTNINGS or given.startswith("registry") or (given == "last" and not folder and not run):
        return given
    if given != "last":
        found = _read(Path(given), verifies)
    elif (newest := _last(folder, run, verifies)) is None:
        if not fits:
            raise FileNotFoundError(f"--ckpt_path last: there is no checkpoint in {folder}")
        return None
    else:
        found = newest
    if fits and not {"loops", "optimizer_states"} <= set(found.header):
        raise ValueError(f"{found.path} holds weights only; a fit cannot go on from it")
    return found


def _last(folder: str | None, run: str, verifies: bool) -> Found | None:
    if folder is None:
        return None
    read: dict[Path, Found] = {}

    def check(path: Path) -> None:
        read[path] = _read(path, verifies)

    path = newest_valid(Path(folder), (lambda path: _run_of(read[path]) == run) if run else None, check)
    if path is None and candidates(Path(folder)):
        warnings.warn(f"the checkpoints in {folder} are of another run; this one starts again", stacklevel=3)
    return None if path is None else read[path]


def _run_of(found: Found) -> str:
    return str(found.header.get("callbacks", {}).get("Checkpoints", {}).get("run", ""))


def _read(path: Path, verifies: bool) -> Found:
    """Read a checkpoint's header, and compare its checksum first if ``verifies``.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it is damaged, or not a checkpoint of Lightning.
    """
    (verify if verifies else look)(path)
    try:
        header = read_header(path)
        if not isinstance(header, dict):
            raise TypeError(f"it holds a {type(header).__name__}")
        header["global_step"]
    except DamagedError:
        raise
    except (UnpicklingError, RuntimeError, KeyError, TypeError, ValueError, EOFError, FileNotFoundError) as error:
        raise ValueError(f"{path} is no checkpoint of Lightning: {shorten(str(error), 200)}") from error
    return Found(path, header, verifies)


def check_config(found: Found, now: Mapping[str, Any], allow_changes: Sequence[str]) -> None:
    """Refuse to resume a checkpoint under another configuration; a table of the differences goes to stderr.

    Args:
        found: a checkpoint of a fit; one without a configuration is accepted with a warning.
        now: the configuration, flattened.
        allow_changes: keys and patterns that may differ.

    Raises:
        ValueError: names the keys that differ.
    """
    then = found.header.get(RECORD)
    if then is None:
        warnings.warn(f"{found.path} does not say under which configuration it was trained", stacklevel=2)
        return
    refuse_changes(found.path, then, now, allow_changes)


def load_checkpoint(module: LightningModule, checkpoint: Path) -> dict[str, Any]:
    """Load a checkpoint's weights strictly, and return the checkpoint.

    Raises:
        ValueError: if it is damaged, of another stage or shape, or has adapters of another scale.
    """
    saved = read_saved(checkpoint)
    try:
        module.load_state_dict(saved["state_dict"], strict=True)
    except RuntimeError as error:
        raise _unfit(module, checkpoint, _difference(saved["state_dict"], module) or str(error)) from error
    module.on_load_checkpoint(saved)
    return saved


def check_weights(module: LightningModule, found: Found) -> None:
    """Refuse a checkpoint that :func:`load_checkpoint` would refuse, by the names and shapes of its weights.

    The trainer's strategy reads the weights later, once. Entries that are not tensors, such as a tokenizer, are loaded
    into the module.

    Raises:
        ValueError: if it is of another stage or shape, or has adapters of another scale.
    """
    state = found.header.get("state_dict")
    if not isinstance(state, Mapping):
        raise ValueError(f"{found.path} is no checkpoint of Lightning: its state_dict is no mapping")
    if difference := _difference(state, module):
        raise _unfit(module, found.path, difference)
    module.load_state_dict({key: value for key, value in state.items() if not isinstance(value, Tensor)}, strict=False)
    module.on_load_checkpoint(dict(found.header))


def _difference(state: Mapping[str, Any], module: LightningModule) -> str:
    """Return how many weights of a checkpoint have another name or shape than the module's, and one of them."""
    saved, own = _shapes(state), _shapes(module.state_dict())
    differing = [key for key in {**own, **saved} if own.get(key, _ABSENT) != saved.get(key, _ABSENT)]
    if not differing:
        return ""
    there, here = (of.get(differing[0], _ABSENT) for of in (saved, own))
    return f"{len(differing)} weights differ; {differing[0]} is {there}, here {here}"


def _shapes(state: Mapping[str, Any]) -> dict[str, object]:
    """Return the shapes of the tensors; other entries have none."""
    return {key: tuple(value.shape) if isinstance(value, Tensor) else "no tensor" for key, value in state.items()}


def _unfit(module: LightningModule, checkpoint: Path, reason: str) -> ValueError:
    return ValueError(
        f"{checkpoint} does not fit {type(module).__name__} of this config; it is of another stage or shape: "
        f"{shorten(reason, 500)}"
    )
