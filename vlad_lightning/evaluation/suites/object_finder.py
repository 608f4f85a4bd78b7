"""The shipped object detector on image files of the synthetic domain."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from vlad_lightning.files import as_rgb, read_picture
from vlad_lightning.layout.nouns import NOUNS
from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.evaluation_detector import EvaluationDetector
from vlad_lightning.models.object_detector import ObjectDetector
from vlad_lightning.pretrained.shipped import SHIPPED_EVALUATION

DETECTED = NOUNS
"""The objects that the shipped detector knows."""


def read_pixels(path: Path) -> Tensor:
    """Read an image as (3, H, W) float32 in [-1, 1]."""
    return pil_to_tensor(as_rgb(read_picture(path))).float() / 127.5 - 1


def find_objects(pixels: Tensor) -> tuple[FoundObject, ...]:
    """Find the objects in an image, the most confident first.

    Args:
        pixels: (3, H, W) float in [-1, 1].
    """
    found = _shipped().detect(pixels[None])[0]
    return tuple(sorted(found, key=lambda one: -one.score))


@cache
def _shipped() -> EvaluationDetector:
    """Return the detector with its architecture, as in ``configs/rich/object_detector.yaml``."""
    state = torch.random.get_rng_state()  # its weights are replaced at once: no other random number must depend on it
    detector = EvaluationDetector(SHIPPED_EVALUATION, ObjectDetector(size=128, width=24, things=True))
    torch.random.set_rng_state(state)
    return detector
