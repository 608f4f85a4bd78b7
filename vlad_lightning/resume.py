"""Which checkpoint a command starts from, and whether it may: answered before anything is built."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from textwrap import shorten
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from vlad_lightning.callbacks.config_lock import RECORD, changes, table
from vlad_lightning.checkpoint_folder import read_rest, refuse_address
from vlad_lightning.checkpoints import candidates, newest_valid, verify

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
