"""Callbacks that keep a fit healthy: preemption, hangs, bad steps and roll-backs, weight averages, speed and logs."""

from vlad_lightning.health.ema import EMA
from vlad_lightning.health.fit_summary import FitSummary
from vlad_lightning.health.loss_spikes import SpikeRule
from vlad_lightning.health.preemption import Preempted, Preemption
from vlad_lightning.health.roll_back import RollBack, TrainingDivergedError
from vlad_lightning.health.step_guard import StepGuard
from vlad_lightning.health.throughput import ThroughputLogger
from vlad_lightning.health.watchdog import Watchdog
from vlad_lightning.health.weight_census import WeightCensus

__all__ = [
    "EMA",
    "FitSummary",
    "Preempted",
    "Preemption",
    "RollBack",
    "SpikeRule",
    "StepGuard",
    "ThroughputLogger",
    "TrainingDivergedError",
    "Watchdog",
    "WeightCensus",
]
