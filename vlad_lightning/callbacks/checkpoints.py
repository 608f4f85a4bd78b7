"""When checkpoints are written, under which names, and which of them stay."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from vlad_lightning.callbacks.checkpoint_io import DurableCheckpointIO
from vlad_lightning.checkpoints import LAST, MANIFEST, seal, step_path, steps_of, sync_folder

_NEW = ".new.ckpt"  # written under this name, then given its others


class Checkpoints(Checkpoint):
    """Writes ``folder/last.ckpt`` every N optimizer steps and when a fit ends, and keeps the last few of them.

    Each is also ``folder/step-<number>.ckpt``: a hard link, which costs no space and no second writing; a relative
    symbolic link where the checkpoint is a folder or the file system has no hard links. ``last.ckpt`` is replaced in
    one move and first, so it is the newest whole one at any moment. The first checkpoint of a fit removes those of an
    earlier fit in the folder that it did not go on from.

    Args:
        folder: of the stage. None: ``checkpoints`` in the trainer's ``default_root_dir``, and nothing where another
            checkpoint callback is configured.
        every_n_steps: optimizer steps between two; None writes at the end only.
        keep: how many of the newest stay, at least 1.
        keep_every: steps that are a multiple of it stay for ever; 0 for none.
        asynchronous: copy the state and write it while training goes on.
        run: a name for the run, kept in each checkpoint; ``--ckpt_path last`` passes over those of another name.
        enabled: False writes nothing, which the command line's ``--trainer.enable_checkpointing false`` means as well.

    Raises:
        ValueError: where a number is out of its range, or ``asynchronous`` meets another checkpoint plugin than
            :class:`DurableCheckpointIO`.
    """

    def __init__(
        self,
        folder: str | None = None,
        every_n_steps: int | None = None,
        keep: int = 2,
        keep_every: int = 0,
        asynchronous: bool = False,
        run: str = "",
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
        self.enabled = enabled
        self._target: Path | None = None  # None: this fit writes nothing
        self._began = self._saved = 0
        self._ours: set[int] = set()

    @property
    def state_key(self) -> str:
        """One for all settings."""
        return "Checkpoints"

    def state_dict(self) -> dict[str, Any]:
        """The run's name."""
        return {"run": self.run}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the folder, and the plugin that writes."""
        if stage != "fit":
            return
        self._target, self._ours = self.place(trainer), set()
        same = trainer.strategy.broadcast(str(trainer.ckpt_path)) == str(trainer.ckpt_path)
        if not trainer.strategy.reduce_boolean_decision(same, all=True):
            raise ValueError("the processes found different checkpoints to resume from; give --ckpt_path FILE")
        writer = self._writer(trainer)
        if writer is not None:
            writer.asynchronous, writer.goes_on = self.asynchronous, True
        elif self.asynchronous:
            raise ValueError("checkpoints.asynchronous needs the plugin vlad_lightning.callbacks.DurableCheckpointIO")

    def place(self, trainer: Trainer) -> Path | None:
        """The folder that a trainer's fit writes to; None where it writes nothing."""
        others = [callback for callback in trainer.checkpoint_callbacks if callback is not self]
        if not self.enabled or getattr(trainer, "fast_dev_run", False) or (self.folder is None and others):
            return None
        return self.folder or Path(trainer.default_root_dir, "checkpoints")

    @property
    def newest(self) -> Path | None:
        """The checkpoint that this fit wrote last."""
        return self._target / LAST if self._target and self._ours else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the fit begins."""
        self._saved, self._ours = trainer.global_step, set()
        resumed = Path(trainer.ckpt_path).parent if trainer.ckpt_path else None
        here = resumed is not None and self._target is not None and resumed.resolve() == self._target.resolve()
        self._began = trainer.global_step if here else 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every N optimizer steps."""
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._save_if_new(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what has come since, or what could not be written."""
        writer = self._writer(trainer)
        failed = False
        if writer is not None and trainer.is_global_zero:
            writer.wait()
            failed = writer.failed
        if trainer.strategy.broadcast(failed):
            self._saved = -1
        self._save_if_new(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the plugin as it was; the strategy's own teardown comes next and waits for it."""
        writer = self._writer(trainer)
        if stage == "fit" and writer is not None:
            writer.wait()
            writer.goes_on = writer.asynchronous = False

    def _save_if_new(self, trainer: Trainer) -> None:
        if self._target is not None and trainer.global_step != self._saved:
            self.save(trainer)

    def save(self, trainer: Trainer, wait: bool = False) -> None:
        """Save now; every process of the fit has to call it.

        Args:
            trainer: of the fit.
            wait: until it is on the disk, also where saves are asynchronous.

        Raises:
            RuntimeError: outside of a fit that writes checkpoints.
        """
        if self._target is None:
            raise RuntimeError("no fit that writes checkpoints is running")
        new, step, writer = self._target / _NEW, trainer.global_step, self._writer(trainer)
        if trainer.is_global_zero:
            if writer is not None:
                writer.begin()
            _remove(new)  # of a kill
        trainer.strategy.barrier("Checkpoints.save")  # a sharded one is written by every process
        trainer.save_checkpoint(new, weights_only=False)
        self._saved = step
        if trainer.is_global_zero:
            publish = partial(self._publish, new, step)
            if writer is None:
                publish()
            else:
                writer.after_save(publish, new)
                if wait:
                    writer.wait()

    def _publish(self, new: Path, step: int) -> None:
        """Give the new one its names, newest first, and remove what does not stay."""
        folder, kept = new.parent, step_path(new.parent, step)
        if new.is_dir() and not (new / MANIFEST).exists():  # another strategy's than ours
            seal(new)
        linked = not new.is_dir() and _link(new, folder / LAST)
        if new.is_dir():
            _remove(kept)  # not even a file is replaced by a folder
        _clear(kept)
        new.replace(kept)
        if not linked:
            _symlink(kept, folder / LAST)
        sync_folder(folder)
        self._ours.add(step)
        self._prune(folder)

    def _prune(self, folder: Path) -> None:
        found = steps_of(folder)
        line = sorted((step for step in found if step <= self._began or step in self._ours), reverse=True)
        stay = {*line[: self.keep], *(step for step in line if self.keep_every and step % self.keep_every == 0)}
        for step, path in found.items():
            if step not in stay:
                _remove(path)

    def _writer(self, trainer: Trainer) -> DurableCheckpointIO | None:
        plugin = trainer.strategy.checkpoint_io
        return plugin if isinstance(plugin, DurableCheckpointIO) else None


def _link(source: Path, name: Path) -> bool:
    """Put a hard link of ``source`` in the place of ``name``; False where the file system has none."""
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
    """Put a relative link to ``source``, in the same folder, in the place of ``name``."""
    beside = name.with_name(f".{name.name}.link")
    beside.unlink(missing_ok=True)
    beside.symlink_to(source.name)
    _clear(name)
    beside.replace(name)


def _clear(name: Path) -> None:
    """A file and a link are replaced by a move; a folder cannot be."""
    if name.is_dir() and not name.is_symlink():
        _remove(name)


def _remove(path: Path) -> None:
    """Remove a checkpoint; a folder leaves its name at once, so that nobody finds half of it."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    path.replace(doomed)
    shutil.rmtree(doomed)
