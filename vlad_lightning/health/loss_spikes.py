"""Detection of loss spikes: losses far above the median of the recent ones."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

SpikeAction = Literal["log", "skip", "roll_back"]

_NORMAL = 1.4826  # the standard deviation of a normal distribution over its median absolute deviation
_LEAST = 0.01  # of the median: the smallest deviation assumed, even if the losses hardly vary


@dataclass(frozen=True)
class SpikeRule:
    """The rule by which a finite loss counts as a spike, and the action taken then.

    OLMo-core's optimizers skip a step whose loss lies 6 deviations above the last 128 (SkipStepOptimizer). PaLM (arXiv
    2204.02311, 5.1) goes back about 100 steps before a spike and skips 200 to 500 batches. Both train language models,
    whose loss is an average over a million tokens. A diffusion loss is an average over tens of images at random noise
    levels, and its high values are part of the objective; skipping them by default would bias it. So the default is
    ``log``.

    Attributes:
        window: the number of recent losses compared with; the first ``window`` steps are never spikes.
        deviations: how far above their median a spike is, in deviations estimated from their median absolute deviation.
        action: ``log`` counts and warns; ``skip`` skips the step; ``roll_back`` skips it and counts it as a bad step
            for :class:`~vlad_lightning.health.RollBack`.

    Raises:
        ValueError: if a value is out of its range.
    """

    window: int = 128
    deviations: float = 10.0
    action: SpikeAction = "log"

    def __post_init__(self) -> None:
        if self.window < 8:
            raise ValueError(f"window is {self.window}; it must be at least 8")
        if not self.deviations > 0:
            raise ValueError(f"deviations is {self.deviations}; it must be above 0")
        if self.action not in get_args(SpikeAction):
            raise ValueError(f"action is {self.action!r}; allowed are {', '.join(get_args(SpikeAction))}")


class LossWindow:
    """The latest losses, with which a new loss is compared.

    Median and median absolute deviation hardly change until half the window is spikes, so spikes are kept too: after a
    lasting change of level, such as a new data set, losses stop counting as spikes after half a window.
    """

    def __init__(self, rule: SpikeRule = SpikeRule()) -> None:
        self.rule = rule
        self.losses: deque[float] = deque(maxlen=rule.window)

    def add(self, loss: float) -> bool:
        """Add a finite loss, and return whether it is a spike compared with those before it."""
        spike = len(self.losses) == self.rule.window and loss > self.limit()
        self.losses.append(loss)
        return spike

    def limit(self) -> float:
        """Return the loss above which the next one is a spike; infinity if there are none to compare with."""
        if not self.losses:
            return math.inf
        middle = statistics.median(self.losses)
        spread = _NORMAL * statistics.median(abs(x - middle) for x in self.losses)
        return middle + self.rule.deviations * max(spread, _LEAST * abs(middle))
