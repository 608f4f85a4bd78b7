"""Everything ``test`` measures, in one injected object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import nn
from torchmetrics import Metric

from vlad_lightning.metrics.clip_score import CLIPScore
from vlad_lightning.metrics.colour import BackgroundColour
from vlad_lightning.metrics.fid import FrechetDistance
from vlad_lightning.metrics.layout import LayoutMetrics
from vlad_lightning.metrics.ocr import OCRMetrics, mario_targets
from vlad_lightning.metrics.ocr_engine import OCREngine
from vlad_lightning.models.prompts import drawn_words
from vlad_lightning.modules.judge import AlignmentJudge
from vlad_lightning.types import Batch, Figure, Painting


class Evaluation(nn.Module):
    """OCR of paintings, rasterised layouts and true images; layouts; colours; CLIP score; distances.

    Args:
        ocr_engine: reads the images.
        clip: gives the embeddings of the CLIP score; None leaves it out.
        distance: FID and KID, or their like from another network; None leaves them out.
        judge: a stage-0 run that serves as both where they are not given: the mini scale, named as such.
        read_truth: also read the data set's own images, the ceiling of the OCR engine.
    """

    def __init__(
        self,
        ocr_engine: OCREngine,
        clip: CLIPScore | None = None,
        distance: FrechetDistance | None = None,
        judge: AlignmentJudge | None = None,
        read_truth: bool = True,
    ) -> None:
        super().__init__()
        self.painted, self.drawn, self.truth = (OCRMetrics(ocr_engine) for _ in range(3))
        self.layout, self.background = LayoutMetrics(), BackgroundColour()
        self.clip = clip or (CLIPScore(judge) if judge else None)
        self.distance = distance or (FrechetDistance(judge) if judge else None)
        self.read_truth = read_truth

    def update(self, painting: Painting, batch: Batch) -> None:
        """Measure one batch of paintings against the samples whose prompts they answer."""
        words = [drawn_words(prompt) for prompt in batch.prompts]
        self.painted.update(painting.images, words, [mario_targets(prompt) for prompt in batch.prompts])
        self.background.update(painting.images, batch.prompts)
        if any(len(layout) for layout in painting.layouts):
            self.drawn.update(painting.glyphs, words)
            self.layout.update(painting.layouts, batch.prompts, batch.word_boxes, batch.word_mask)
        if self.read_truth:
            self.truth.update(batch.images, words)
        if self.clip is not None:
            self.clip.update(painting.images, batch.prompts)
        if self.distance is not None:
            self.distance.update(batch.images, real=True)
            self.distance.update(painting.images, real=False)

    def compute(self) -> dict[str, Figure]:
        """Every figure by name, those of the paintings first."""
        figures = self.painted.compute() | self.background.compute()
        for metric in (self.clip, self.distance):
            figures |= metric.compute() if metric is not None else {}
        figures |= _under("layout", self.drawn.compute(), ("word_accuracy", "edit_similarity"))
        figures |= {f"layout_{name}": figure for name, figure in self.layout.compute().items()}
        return figures | _under("truth", self.truth.compute(), ("word_accuracy", "edit_similarity"))

    def reset(self) -> None:
        """Forget what was measured."""
        for metric in self.children():
            cast(Metric, metric).reset()


def _under(prefix: str, figures: Mapping[str, Figure], names: tuple[str, ...]) -> dict[str, Figure]:
    return {f"{prefix}_{name}": figures[name] for name in names if name in figures}
