"""Aspect-ratio buckets: frames of about the same area for pictures of different proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlad_lightning.limits import MOST_SIDE, check_whole

Frame = tuple[int, int]
"""Height and width in pixels."""

_LONGEST = 8.0


@dataclass(frozen=True)
class AspectBuckets:
    """Which frames there are: as in the training of SDXL (arXiv 2307.01952), of at most the square's area.

    Attributes:
        step: sides are multiples of this, in pixels.
        longest: the longer side by the shorter one, at most; from 1 to 8.

    Raises:
        ValueError: if a value is out of its range.
    """

    step: int = 64
    longest: float = 2.0

    def __post_init__(self) -> None:
        check_whole("step", self.step, 1, MOST_SIDE)
        if not 1 <= self.longest <= _LONGEST:
            raise ValueError(f"longest is {self.longest}; it must lie in [1, {_LONGEST:g}]")

    def frames(self, size: int) -> tuple[Frame, ...]:
        """Return the frames for images whose square has this side; the square first, then from tall to wide.

        Raises:
            ValueError: if ``size`` is no multiple of ``step``.
        """
        if size % self.step:
            raise ValueError(f"step is {self.step}; it must divide size, {size}")
        tall = [
            (size * size // (width * self.step) * self.step, width)
            for width in range(self.step, size, self.step)
            if size * size // (width * self.step) * self.step <= self.longest * width
        ]
        return ((size, size), *tall, *((width, height) for height, width in reversed(tall)))


def nearest_frames(proportions: np.ndarray, frames: Sequence[Frame], least: int = 1) -> np.ndarray:
    """Return which frame each picture gets: the one whose proportions are nearest, of those with enough pictures.

    Args:
        proportions: widths by heights, (N,) float64 above 0.
        frames: see :meth:`AspectBuckets.frames`.
        least: a frame with fewer pictures, such as a global batch, is given up: its pictures go to the nearest other.
            If none has as many, all pictures get the first frame.

    Returns:
        (N,) int64: numbers in ``frames``.
    """
    logs = np.array([math.log(width / height) for height, width in frames])
    kept = np.arange(len(frames))
    own = np.log(proportions)
    while True:
        numbers = kept[_nearest(own, logs[kept])]
        counts = np.bincount(numbers, minlength=len(frames))[kept]
        if (counts >= least).all():
            return numbers
        if len(kept) == 1:
            return np.zeros(len(proportions), dtype=np.int64)
        kept = np.delete(kept, counts.argmin())  # one by one: its pictures may fill another


def _nearest(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the index of the place nearest to each value; of two as near, the smaller place."""
    order = np.argsort(places, kind="stable")
    between = (places[order][1:] + places[order][:-1]) / 2
    return order[np.searchsorted(between, values, side="left")]
