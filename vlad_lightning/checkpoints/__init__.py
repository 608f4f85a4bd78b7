"""Checkpoints: writing them as whole files or folders, verifying them, removing old ones, and resuming from them."""

from vlad_lightning.checkpoints.config_lock import ConfigLock
from vlad_lightning.checkpoints.io import DurableCheckpointIO
from vlad_lightning.checkpoints.retention import Checkpoints

__all__ = ["Checkpoints", "ConfigLock", "DurableCheckpointIO"]
