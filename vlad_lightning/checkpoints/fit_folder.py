"""Where a fit keeps its files."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from vlad_lightning.checkpoints.retention import Checkpoints


def fit_folder(trainer: Trainer) -> Path:
    """The folder of its checkpoints; without any, that of its log, or the working folder.

    To be called by all ranks alike, after the callbacks were set up.
    """
    return next(iter(_folders(trainer)), Path(trainer.log_dir or trainer.default_root_dir))


def checkpoints(trainer: Trainer) -> list[Path]:
    """What lies in the folders of the checkpoints, and what the fit started from; the newest first."""
    found = {path for folder in _folders(trainer) for path in folder.glob("*.ckpt") if not path.name.startswith(".")}
    if trainer.ckpt_path and Path(trainer.ckpt_path).exists():
        found.add(Path(trainer.ckpt_path))
    return sorted(filter(Path.exists, found), key=lambda path: path.stat().st_mtime, reverse=True)


def last_checkpoint(trainer: Trainer) -> str:
    """The checkpoint that this fit wrote last, or started from; empty where there is none."""
    named = {str(trainer.ckpt_path or "")}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, Checkpoints):
            named.add(str(callback.newest or ""))
        elif isinstance(callback, ModelCheckpoint):
            named |= {callback.last_model_path, callback.best_model_path, *callback.best_k_models}
    written = [path for path in named if path and Path(path).exists()]
    return max(written, key=lambda path: Path(path).stat().st_mtime, default="")


def _folders(trainer: Trainer) -> list[Path]:
    places = [_place(trainer, callback) for callback in trainer.checkpoint_callbacks]
    return [place for place in places if place is not None]


def _place(trainer: Trainer, callback: Checkpoint) -> Path | None:
    if isinstance(callback, Checkpoints):
        return callback.place(trainer)
    return Path(callback.dirpath) if isinstance(callback, ModelCheckpoint) and callback.dirpath else None
