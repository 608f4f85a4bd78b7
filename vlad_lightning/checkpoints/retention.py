"""The callback that decides when and where checkpoints are written, their names, and which are kept."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from vlad_lightning.checkpoints.checksum import (
    LAST,
    MANIFEST,
    candidates,
    step_path,
    steps_of,
    sync_folder,
    write_checksums,
)
from vlad_lightning.checkpoints.fit_lock import release, take
from vlad_lightning.checkpoints.folder import swap
from vlad_lightning.checkpoints.io import DurableCheckpointIO
from vlad_lightning.checkpoints.ranks import on_first

_NEW = ".new.ckpt"  # the name while it is written; it then gets its final names


class Checkpoints(Checkpoint):
    """A callback that writes ``folder/last.ckpt`` every N optimizer steps and when a fit ends, and keeps the last few.

    Each checkpoint is also ``folder/step-<number>.ckpt``: a hard link, which costs no space and no second write; a
    relative symbolic link if the checkpoint is a folder or the file system has no hard links. ``last.ckpt`` is replaced
    in one move and first, so it is the newest whole checkpoint at any moment. A fit that resumes at an earlier step
    removes the later checkpoints at its first save; a fit that resumes from no checkpoint in the folder needs
    ``overwrite`` if the folder holds any. One fit at a time uses the folder
    (:mod:`~vlad_lightning.checkpoints.fit_lock`).

    Args:
        folder: the stage's folder of checkpoints. None: ``checkpoints`` in the trainer's ``default_root_dir``, but
            nothing is written if another checkpoint callback is configured.
        every_n_steps: optimizer steps between two checkpoints; None writes at the end only.
        keep: how many of the newest checkpoints are kept, at least 1.
        keep_every: checkpoints at multiples of this step are kept forever; 0 for none.
        asynchronous: copy the state and write it while training goes on.
        run: a name for the run, stored in each checkpoint; ``--ckpt_path last`` skips checkpoints of other names.
        overwrite: a fit that does not resume from a checkpoint in the folder may remove the ones in it.
        enabled: False writes nothing, as does the command line's ``--trainer.enable_checkpointing false``.

    Raises:
        ValueError: if a number is out of its range, or, at a fit's start, if ``asynchronous`` is used with another
            checkpoint plugin than :class:`DurableCheckpointIO`, the folder holds an earlier fit's checkpoints without
            ``overwrite``, or another fit writes to it.
        OSError: at a fit's start, if the folder cannot be written to.
    """

    def __init__(
        self,
        folder: str | None = None,
        every_n_steps: int | None = None,
        keep: int = 2,
        keep_every: int = 0,
        asynchronous: bool = False,
        run: str = "",
        overwrite: bool = False,
        enabled: bool = True,
    ) -> None:
        for name, value, least in (
            ("every_n_steps", every_n_steps, 1),
            ("keep", keep, 1),
            ("keep_every", keep_every, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"checkpoints.{name} is {value}; it must be at least {least}")
        self.folder = None if folder is None else Path(folder)
        self.every_n_steps = every_n_steps
        self.keep = keep
        self.keep_every = keep_every
        self.asynchronous = asynchronous
        self.run = run
        self.overwrite = overwrite
        self.enabled = enabled
        self._target: Path | None = None  # None: this fit writes nothing
        self._first: str | None = None  # the checkpoint that all processes resume from, if they have agreed on one
        self._began = self._saved = 0
        self._ours: set[int] = set()

    @property
    def state_key(self) -> str:
        """The key of the callback's state, the same for all settings."""
        return "Checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """Return the run's name."""
        return {"run": self.run}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find and lock the folder, and agree with the other processes on the checkpoint to resume from."""
        if stage != "fit":
            return
        self._target, self._ours = self.directory(trainer), set()
        if self.asynchronous and writer_of(trainer) is None:
            raise ValueError("checkpoints.asynchronous needs the plugin vlad_lightning.checkpoints.DurableCheckpointIO")
        if self._target is not None:
            on_first(partial(_begin, self._target))
        self._agree(trainer)

    def _agree(self, trainer: Trainer) -> None:
        """Have all processes resume from the checkpoint of the first one: the others may not have verified theirs.

        Raises:
            ValueError: if some have found a checkpoint and others none.
        """
        own, writer, self._first = trainer.ckpt_path, writer_of(trainer), None
        first = trainer.strategy.broadcast(own)
        if not trainer.strategy.reduce_boolean_decision((own is None) == (first is None), all=True):
            raise ValueError(
                "some processes found a checkpoint to resume from, and some none: the folder of checkpoints has to be "
                "on one file system for all nodes"
            )
        if own is not None and first is not None and writer is not None:
            writer.load_together(Path(first), Path(own))
            self._first = str(first)

    def directory(self, trainer: Trainer) -> Path | None:
        """Return the folder that a trainer's fit writes to; None if it writes nothing."""
        others = [callback for callback in trainer.checkpoint_callbacks if callback is not self]
        if not self.enabled or getattr(trainer, "fast_dev_run", False) or (self.folder is None and others):
            return None
        return self.folder or Path(trainer.default_root_dir, "checkpoints")

    @property
    def newest(self) -> Path | None:
        """The checkpoint that this fit wrote last; None before its first."""
        return self._target / LAST if self._target and self._ours else None

    @property
    def newest_step(self) -> int | None:
        """The step of the newest checkpoint of this fit or of those it resumed from; None if there is none.

        Only the first process knows what this fit wrote.
        """
        return max(self._line(self._target), default=None) if self._target else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the step where the fit begins, which is known only after a checkpoint has been loaded.

        Raises:
            ValueError: if the processes found different checkpoints, or see :func:`refuse_to_replace`.
        """
        if self._first not in (None, trainer.ckpt_path):
            trainer.ckpt_path = self._first
        same = trainer.strategy.broadcast(str(trainer.ckpt_path)) == str(trainer.ckpt_path)
        if not trainer.strategy.reduce_boolean_decision(same, all=True):
            raise ValueError("the processes found different checkpoints to resume from; give --ckpt_path FILE")
        if self._target is not None and not self.overwrite:
            on_first(partial(refuse_to_replace, self._target, trainer.ckpt_path))
        self._saved, self._ours = trainer.global_step, set()
        here = self._target is not None and _is_in(self._target, trainer.ckpt_path)
        self._began = trainer.global_step if here else 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every N optimizer steps."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._save_if_new(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save if there were steps since the last save, or if that save failed."""
        if on_first(partial(_has_failed, writer_of(trainer))):
            self._saved = -1
        self._save_if_new(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Wait for pending writes, and raise if the last save failed; not every strategy does so itself."""
        writer = writer_of(trainer)
        try:
            if stage == "fit" and writer is not None:
                writer.teardown()
        finally:
            self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the folder's lock: Lightning does not call ``teardown`` after an error."""
        self._release()

    def _release(self) -> None:
        if self._target is not None:
            release(self._target)

    def _save_if_new(self, trainer: Trainer) -> None:
        if self._target is not None and trainer.global_step != self._saved:
            self.save(trainer)

    def save(self, trainer: Trainer, wait: bool = False) -> bool:
        """Save now; every process of the fit has to call it.

        Args:
            trainer: the fit's trainer.
            wait: wait until it is on the disk, also if saves are asynchronous.

        Returns:
            False on every process if it is known that it could not be written; a save in the background counts as
            written unless ``wait`` is True.

        Raises:
            RuntimeError: outside a fit that writes checkpoints.
        """
        if self._target is None:
            raise RuntimeError("no fit that writes checkpoints is running")
        new, step, writer = self._target / _NEW, trainer.global_step, writer_of(trainer)
        self._saved, written = step, False
        with nullcontext() if writer is None else writer.of_fit(new, self.asynchronous):
            on_first(partial(_make_room, new, writer))  # before every process writes its part of a sharded checkpoint
            if writer is not None:
                writer.begin()  # only the first process has to wait, and it already has
            trainer.save_checkpoint(new, weights_only=False)
            written = on_first(partial(self._name, new, step, writer, wait))
        return written

    def ensure(self, trainer: Trainer) -> bool:
        """Ensure that this step is on the disk: wait for its save, or save now; every process has to call it.

        Returns:
            Whether it is on the disk.
        """
        had = on_first(partial(self._has, trainer.global_step, writer_of(trainer)))
        return had or self.save(trainer, wait=True)

    def _has(self, step: int, writer: DurableCheckpointIO | None) -> bool:
        if writer is not None:
            writer.wait()
        return step in self._ours

    def _name(self, new: Path, step: int, writer: DurableCheckpointIO | None, wait: bool) -> bool:
        publish = partial(self._publish, new, step)
        if writer is None:
            publish()
            return True
        writer.after_save(publish, new)
        if wait:
            writer.wait()
        return not writer.failed

    def _publish(self, new: Path, step: int) -> None:
        """Give a new checkpoint its names, ``last.ckpt`` first if it is hard-linked, and remove those not kept."""
        folder, kept = new.parent, step_path(new.parent, step)
        if new.is_dir() and not (new / MANIFEST).exists():  # written by another strategy than this package's
            write_checksums(new)
        linked = not new.is_dir() and _link(new, folder / LAST)
        swap(new, kept)
        if not linked:
            _symlink(kept, folder / LAST)
        sync_folder(folder)
        self._ours.add(step)
        self._prune(folder)

    def _line(self, folder: Path) -> list[int]:
        """Return the steps saved by this fit, and those it resumed from; the newest first."""
        return sorted((step for step in steps_of(folder) if step <= self._began or step in self._ours), reverse=True)

    def _prune(self, folder: Path) -> None:
        line = self._line(folder)
        stay = {*line[: self.keep], *(step for step in line if self.keep_every and step % self.keep_every == 0)}
        for step, path in steps_of(folder).items():
            if step not in stay:
                _remove(path)


def fit_folder(trainer: Trainer) -> Path:
    """Return the folder of the trainer's checkpoints; if it has none, its log's folder or ``default_root_dir``.

    All ranks call it together, after the callbacks were set up.
    """
    return next(iter(_folders(trainer)), Path(trainer.log_dir or trainer.default_root_dir))


def checkpoints(trainer: Trainer) -> list[Path]:
    """Return the checkpoints in the trainer's checkpoint folders and the one the fit started from, newest first."""
    found = {path for folder in _folders(trainer) for path in folder.glob("*.ckpt") if not path.name.startswith(".")}
    if trainer.ckpt_path and Path(trainer.ckpt_path).exists():
        found.add(Path(trainer.ckpt_path))
    return sorted(filter(Path.exists, found), key=lambda path: path.stat().st_mtime, reverse=True)


def last_checkpoint(trainer: Trainer) -> str:
    """Return the checkpoint that this fit wrote last, or started from; empty if there is none."""
    named = {str(trainer.ckpt_path or "")}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, Checkpoints):
            named.add(str(callback.newest or ""))
        elif isinstance(callback, ModelCheckpoint):
            named |= {callback.last_model_path, callback.best_model_path, *callback.best_k_models}
    written = [path for path in named if path and Path(path).exists()]
    return max(written, key=lambda path: Path(path).stat().st_mtime, default="")


def _folders(trainer: Trainer) -> list[Path]:
    directories = [_directory(trainer, callback) for callback in trainer.checkpoint_callbacks]
    return [directory for directory in directories if directory is not None]


def _directory(trainer: Trainer, callback: Checkpoint) -> Path | None:
    if isinstance(callback, Checkpoints):
        return callback.directory(trainer)
    return Path(callback.dirpath) if isinstance(callback, ModelCheckpoint) and callback.dirpath else None


def writer_of(trainer: Trainer) -> DurableCheckpointIO | None:
    """Return the trainer's checkpoint plugin if it is this package's, else None."""
    plugin = trainer.strategy.checkpoint_io
    return plugin if isinstance(plugin, DurableCheckpointIO) else None


def refuse_to_replace(folder: Path, resumed: str | Path | None) -> None:
    """Refuse a fit that would remove the checkpoints in ``folder`` because it does not resume from one of them.

    Args:
        folder: the folder of the fit's checkpoints.
        resumed: the checkpoint that the fit resumes from, which may be in another folder; None if it starts over.

    Raises:
        ValueError: if the folder holds checkpoints and ``resumed`` is not in it.
    """
    if _is_in(folder, resumed) or not (found := candidates(folder)):
        return
    steps = steps_of(folder)
    newest = f"step {max(steps)}" if steps else found[0].name
    raise ValueError(
        f"{folder} holds checkpoints of an earlier fit, up to {newest}, which the first save of this one would remove: "
        "--ckpt_path last goes on from there, --checkpoints.overwrite true starts over and replaces them"
    )


def _is_in(folder: Path, checkpoint: str | Path | None) -> bool:
    return checkpoint is not None and Path(checkpoint).parent.resolve() == folder.resolve()


def _begin(folder: Path) -> None:
    """Check that this fit can write to ``folder``, and lock it against other fits."""
    _try_out(folder)
    take(folder)


def _try_out(folder: Path) -> None:
    """Write a small file and remove it, so that errors show now and not at the first save."""
    probe = folder / f".{os.getpid()}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            probe.write_bytes(b"checkpoints")
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(f"checkpoints cannot be written to {folder}: {error}") from error


def _has_failed(writer: DurableCheckpointIO | None) -> bool:
    if writer is None:
        return False
    writer.wait()
    return writer.failed


def _make_room(new: Path, writer: DurableCheckpointIO | None) -> None:
    """Wait for pending writes, then remove what a killed process left."""
    if writer is not None:
        writer.wait()
    _remove(new)


def _link(source: Path, name: Path) -> bool:
    """Replace ``name`` by a hard link to ``source``; return False if the file system has no hard links."""
    beside = name.with_name(f".{name.name}.link")
    beside.unlink(missing_ok=True)
    try:
        os.link(source, beside)
    except OSError:
        return False
    _clear(name)
    beside.replace(name)
    return True


def _symlink(source: Path, name: Path) -> None:
    """Replace ``name`` by a relative symbolic link to ``source`` in the same folder."""
    beside = name.with_name(f".{name.name}.link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(source.name)
    _clear(name)
    beside.replace(name)


def _clear(name: Path) -> None:
    """Remove a folder under ``name``: a move replaces files and links, but not folders."""
    if name.is_dir() and not name.is_symlink():
        _remove(name)


def _remove(path: Path) -> None:
    """Remove a checkpoint; a folder is renamed first, so that no reader finds half of it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.replace(doomed)
    shutil.rmtree(doomed)
