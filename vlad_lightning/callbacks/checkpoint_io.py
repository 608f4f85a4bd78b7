"""Checkpoints that are whole under their name, or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from vlad_lightning.checkpoint_folder import is_folder_checkpoint, read_checkpoint


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, to the disk, then renames: a kill at any moment leaves the checkpoint before.

    Lightning collects a checkpoint in memory, writes it into the temporary folder and moves it, which across file
    systems is a copy under the final name. This one streams it, so a large checkpoint needs no second copy in memory.
    Addresses of other file systems (``s3://``) are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save; the interface is Lightning's."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.part")  # one name, so that what a kill leaves is written over
        try:
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        _sync_folder(target.parent)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = lambda storage, loc: storage, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load; the interface is Lightning's. A folder, which a sharded run wrote, is read as a file is."""
        if "://" not in str(path) and is_folder_checkpoint(Path(path)):
            return read_checkpoint(Path(path))
        return dict(super().load_checkpoint(path, map_location, weights_only))


def _sync_folder(folder: Path) -> None:
    """Bring the rename to the disk, where folders can be opened (not on Windows)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
