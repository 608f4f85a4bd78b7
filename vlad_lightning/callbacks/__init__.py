"""What stands beside the modules: initialisation, averages, pictures, results."""

from vlad_lightning.callbacks.checkpoint_io import DurableCheckpointIO
from vlad_lightning.callbacks.checkpoints import Checkpoints
from vlad_lightning.callbacks.config_lock import ConfigLock
from vlad_lightning.callbacks.ema import EMA
from vlad_lightning.callbacks.image_writer import ImageWriter
from vlad_lightning.callbacks.init_from import InitFrom
from vlad_lightning.callbacks.preemption import Preempted, Preemption
from vlad_lightning.callbacks.pretrained import FromPretrained, SameSchedule, TokenizerFromPretrained
from vlad_lightning.callbacks.results_writer import ResultsWriter
from vlad_lightning.callbacks.sample_grid import SampleGrid

__all__ = [
    "EMA",
    "Checkpoints",
    "ConfigLock",
    "DurableCheckpointIO",
    "FromPretrained",
    "ImageWriter",
    "InitFrom",
    "Preempted",
    "Preemption",
    "ResultsWriter",
    "SameSchedule",
    "SampleGrid",
    "TokenizerFromPretrained",
]
