"""All that is known about checkpoints: whole files, folders, which of them stay, and resuming."""

from vlad_lightning.checkpoints.config_lock import ConfigLock
from vlad_lightning.checkpoints.io import DurableCheckpointIO
from vlad_lightning.checkpoints.retention import Checkpoints

__all__ = ["Checkpoints", "ConfigLock", "DurableCheckpointIO"]
