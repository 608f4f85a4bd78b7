"""What stands beside the modules: initialisation, averages, pictures, results, the health of a fit."""

from vlad_lightning.callbacks.checkpoint_io import DurableCheckpointIO
from vlad_lightning.callbacks.checkpoints import Checkpoints
from vlad_lightning.callbacks.config_lock import ConfigLock
from vlad_lightning.callbacks.ema import EMA
from vlad_lightning.callbacks.fit_summary import FitSummary
from vlad_lightning.callbacks.image_writer import ImageWriter
from vlad_lightning.callbacks.init_from import InitFrom
from vlad_lightning.callbacks.loss_spikes import SpikeRule
from vlad_lightning.callbacks.preemption import Preempted, Preemption
from vlad_lightning.callbacks.pretrained import FromPretrained, SameSchedule, TokenizerFromPretrained
from vlad_lightning.callbacks.results_writer import ResultsWriter
from vlad_lightning.callbacks.roll_back import RollBack, TrainingDivergedError
from vlad_lightning.callbacks.sample_grid import SampleGrid
from vlad_lightning.callbacks.step_guard import StepGuard
from vlad_lightning.callbacks.step_progress import StepProgressBar
from vlad_lightning.callbacks.throughput import ThroughputLogger
from vlad_lightning.callbacks.watchdog import Watchdog
from vlad_lightning.callbacks.weight_census import WeightCensus

__all__ = [
    "EMA",
    "Checkpoints",
    "ConfigLock",
    "DurableCheckpointIO",
    "FitSummary",
    "FromPretrained",
    "ImageWriter",
    "InitFrom",
    "Preempted",
    "Preemption",
    "ResultsWriter",
    "RollBack",
    "SameSchedule",
    "SampleGrid",
    "SpikeRule",
    "StepGuard",
    "StepProgressBar",
    "ThroughputLogger",
    "TokenizerFromPretrained",
    "TrainingDivergedError",
    "Watchdog",
    "WeightCensus",
]
