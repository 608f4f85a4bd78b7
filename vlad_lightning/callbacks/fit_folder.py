"""Where a fit keeps its files."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


def fit_folder(trainer: Trainer) -> Path:
    """The folder of its checkpoints; without any, that of its log, or the working folder.

    To be called by all ranks alike, after the callbacks were set up.
    """
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and callback.dirpath:
            return Path(callback.dirpath)
    return Path(trainer.log_dir or trainer.default_root_dir)


def checkpoints(trainer: Trainer) -> list[Path]:
    """What lies in the folders of the checkpoints, and what the fit started from; the newest first."""
    folders = {Path(c.dirpath) for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath}
    found = {path for folder in folders for path in folder.glob("*.ckpt") if not path.name.startswith(".")}
    if trainer.ckpt_path and Path(trainer.ckpt_path).exists():
        found.add(Path(trainer.ckpt_path))
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def last_checkpoint(trainer: Trainer) -> str:
    """The checkpoint that this fit wrote last, or started from; empty where there is none."""
    named = {str(trainer.ckpt_path or "")}
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint):
            named |= {callback.last_model_path, callback.best_model_path, *callback.best_k_models}
    written = [path for path in named if path and Path(path).exists()]
    return max(written, key=lambda path: Path(path).stat().st_mtime, default="")
