"""An object detector's weights as the object finder of the evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vlad_lightning.layout.scene_objects import FoundObject
from vlad_lightning.metrics.evaluation_weights import DETECTOR, read_weights
from vlad_lightning.models.object_detector import ObjectDetector


class EvaluationDetector(nn.Module):
    """The detector of an :class:`~vlad_lightning.modules.object_detection.ObjectDetectionModule`'s run, frozen.

    Args:
        checkpoint: the ``.ckpt`` of that run, a file or a folder; or a folder that ``vlad-cli export --evaluation``
            wrote, or the shipped ``vlad-mini-evaluation``.
        detector: a detector with the checkpoint's architecture; its weights are replaced.
        threshold: lowest score of an object that counts as found, in [0, 1].

    Raises:
        FileNotFoundError: where there is no such checkpoint.
        ValueError: where it does not fit or is damaged, or ``threshold`` is out of its range.
    """

    def __init__(self, checkpoint: str, detector: ObjectDetector, threshold: float = 0.4) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}; it must lie in [0, 1]")
        weights = read_weights(checkpoint, DETECTOR)
        try:
            detector.load_state_dict(weights.states["detector"], strict=True)
        except RuntimeError as error:
            raise ValueError(f"{weights.path} does not fit the detector of this configuration: {error}") from error
        self.sha256 = weights.sha256
        self.name = f"objects-{self.sha256[:8]}"
        self.nouns = detector.nouns
        self.detector, self.threshold = detector, threshold
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def detect(self, images: Tensor) -> list[tuple[FoundObject, ...]]:
        """Find the objects in each of (B, 3, H, W) float images in [-1, 1], on their device, in float32."""
        self.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return self.detector.detect(images.float(), self.threshold)
