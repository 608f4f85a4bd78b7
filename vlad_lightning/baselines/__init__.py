"""The systems that the paper compares VLAD with, trained and tested by the same code."""

from vlad_lightning.baselines.baseline import Baseline
from vlad_lightning.baselines.module import BaselineModule

__all__ = ["Baseline", "BaselineModule"]
