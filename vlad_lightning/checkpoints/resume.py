"""Which checkpoint a command starts from, whether it may, and whether it fits the module that is built."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_only

from vlad_lightning.checkpoints.config_lock import RECORD, changes, table
from vlad_lightning.checkpoints.folder import open_folder, places, read_rest, read_saved, refuse_address
from vlad_lightning.checkpoints.seal import candidates, newest_valid, verify

_LIGHTNINGS = ("best", "hpc")


def resolve(given: str, folder: str | None, run: str, fits: bool) -> str | None:
    """The checkpoint that ``--ckpt_path`` means.

    Args:
        given: a file or folder; ``last``; or a word that is Lightning's affair.
        folder: of the stage's checkpoints; only there is ``last`` looked for.
        run: ``checkpoints.run``; others are passed over where it is not empty.
        fits: whether the command is a fit, which may start without one.

    Returns:
        Its path, whole and seen to hold what the command needs; None for a fit that starts anew.

    Raises:
        FileNotFoundError: where there is none.
        ValueError: where it is damaged, an address, or nothing that a fit can resume.
    """
    try:
        refuse_address(given)
    except ValueError as error:
        raise ValueError(f"--ckpt_path {error}") from error
    if given in _LIGHTNINGS or given.startswith("registry") or (given == "last" and not folder and not run):
        return given
    if given != "last":
        verify(Path(given))
        found = Path(given)
    elif (newest := _last(folder, run)) is None:
        if not fits:
            raise FileNotFoundError(f"--ckpt_path last: there is no checkpoint in {folder}")
        return None
    else:
        found = newest
    content = read(found)
    if fits and not {"loops", "optimizer_states"} <= set(content):
        raise ValueError(f"{found} holds weights only; a fit cannot go on from it")
    return str(found)


def _last(folder: str | None, run: str) -> Path | None:
    if folder is None:
        return None
    found = newest_valid(Path(folder), (lambda path: _run_of(path) == run) if run else None)
    if found is None and candidates(Path(folder)):
        warnings.warn(f"the checkpoints in {folder} are of another run; this one starts anew", stacklevel=3)
    return found


def _run_of(path: Path) -> str:
    return str(read(path).get("callbacks", {}).get("Checkpoints", {}).get("run", ""))


def read(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint holds, its tensors left on the disk; of a sharded one all but the tensors.

    Raises:
        ValueError: where it is no checkpoint of Lightning.
    """
    try:
        content = read_rest(checkpoint)
        if not isinstance(content, dict):
            raise TypeError(f"it holds a {type(content).__name__}")
        content["global_step"]
    except (UnpicklingError, RuntimeError, KeyError, TypeError, EOFError, FileNotFoundError) as error:
        raise ValueError(f"{checkpoint} is no checkpoint of Lightning: {shorten(str(error), 200)}") from error
    return content


def check_config(checkpoint: Path, now: Mapping[str, Any], may_change: Sequence[str]) -> None:
    """Refuse to go on from a checkpoint under another configuration; the table of what differs goes to stderr.

    Args:
        checkpoint: of a fit; one that kept no configuration is let through with a warning.
        now: the configuration, flattened.
        may_change: keys and patterns that may differ.

    Raises:
        ValueError: naming the keys that differ.
    """
    then = read(checkpoint).get(RECORD)
    if then is None:
        warnings.warn(f"{checkpoint} does not say under which configuration it was trained", stacklevel=2)
        return
    rows = changes(then, now, may_change)
    if not rows:
        return
    if getattr(rank_zero_only, "rank", 0) == 0:
        print(table(rows), file=sys.stderr)
    names = [key for key, *_ in rows]
    raise ValueError(
        f"{checkpoint} was trained under another configuration ({len(rows)} keys differ, above); undo the change, "
        f"or allow it: --may_change '[{', '.join(names)}]'"
    )


def load_checkpoint(module: LightningModule, checkpoint: Path) -> dict[str, Any]:
    """Load a checkpoint's weights strictly; returns what else it holds, too.

    Raises:
        ValueError: where it is damaged, of another stage or shape, or its adapters of another scale.
    """
    saved = read_saved(checkpoint)
    try:
        module.load_state_dict(saved["state_dict"], strict=True)
    except RuntimeError as error:
        raise _unfit(module, checkpoint, str(error)) from error
    module.on_load_checkpoint(saved)
    return saved


def check_folder(module: LightningModule, checkpoint: Path) -> None:
    """Refuse a sharded checkpoint that :func:`load_checkpoint` would refuse, by the names and shapes of its weights.

    Every process of a node would hold all of them otherwise, and the strategy of a fit reads its shards later. What is
    no tensor, such as a tokenizer, is put into the module.

    Raises:
        ValueError: where it is damaged, of another stage or shape, or its adapters of another scale.
    """
    verify(checkpoint)
    rest, index = open_folder(checkpoint)
    saved: dict[str | int, torch.Size] = {
        place[1]: index[key].size for place, key in places(rest).items() if place[0] == "state_dict"
    }
    own: dict[str | int, torch.Size] = {
        key: value.shape for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)
    }
    differing = [key for key in {**own, **saved} if own.get(key) != saved.get(key)]
    if differing:
        found, here = (tuple(of[differing[0]]) if differing[0] in of else "absent" for of in (saved, own))
        raise _unfit(module, checkpoint, f"{len(differing)} weights differ; {differing[0]} is {found}, here {here}")
    texts = {key: value for key, value in rest["state_dict"].items() if key not in saved}
    module.load_state_dict(texts, strict=False)
    module.on_load_checkpoint(rest)


def _unfit(module: LightningModule, checkpoint: Path, reason: str) -> ValueError:
    return ValueError(
        f"{checkpoint} does not fit {type(module).__name__} of this config; it is of another stage or shape: "
        f"{shorten(reason, 500)}"
    )
