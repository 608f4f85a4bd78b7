"""Everything ``test`` measures of what is painted, in one injected object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import torch
from torch import nn
from torchmetrics import Metric

from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.metrics.alignment_probe import AlignmentProbe
from vlad_lightning.metrics.clip_score import CLIPScore
from vlad_lightning.metrics.colour import BackgroundColour
from vlad_lightning.metrics.fid import FrechetDistance
from vlad_lightning.metrics.judge import AlignmentJudge
from vlad_lightning.metrics.layout import LayoutMetrics
from vlad_lightning.metrics.objects import ObjectFinder, ObjectMetrics
from vlad_lightning.metrics.ocr import OCRMetrics, mario_targets
from vlad_lightning.metrics.ocr_engine import OCREngine
from vlad_lightning.metrics.paired import PerImage
from vlad_lightning.metrics.per_image import FigureMetric, PerImageMetric
from vlad_lightning.types import Batch, Figure, Painting

_Told = TypeVar("_Told")
_SPELT = ("word_accuracy", "edit_similarity")
_SHORT = {"human_overlap_share": "human_overlap"}


class Evaluation(nn.Module):
    """OCR of paintings, rasterised layouts and true images; layouts; colours; objects; CLIP score; distances.

    Prompts without true images, such as people write them, have rows of their own: ``human_word_accuracy`` and so on.

    Args:
        ocr_engine: reads the images.
        clip: gives the embeddings of the CLIP score; None leaves it out.
        distance: FID and KID, or their like from another network; None leaves them out.
        judge: a stage-0 run that serves as both where they are not given: the mini scale, named as such.
        read_truth: also read the data set's own images, the ceiling of the OCR engine; the object finder's, too.
        objects: finds the objects on the images; None leaves them out.
    """

    def __init__(
        self,
        ocr_engine: OCREngine,
        clip: CLIPScore | None = None,
        distance: FrechetDistance | None = None,
        judge: AlignmentJudge | None = None,
        read_truth: bool = True,
        objects: ObjectFinder | None = None,
    ) -> None:
        super().__init__()
        self.painted, self.drawn, self.truth, self.human = (OCRMetrics(ocr_engine) for _ in range(4))
        self.layout, self.human_layout, self.background = LayoutMetrics(), LayoutMetrics(), BackgroundColour()
        self.objects = None if objects is None else ObjectMetrics(objects)
        self.true_objects = None if objects is None or not read_truth else ObjectMetrics(objects)
        self.probe = None if judge is None else AlignmentProbe(judge.score)
        self.clip = clip or (CLIPScore(judge) if judge else None)
        self.distance = distance or (FrechetDistance(judge) if judge else None)
        self.read_truth = read_truth

    def update(self, painting: Painting, batch: Batch) -> None:
        """Measure one batch of paintings against the samples whose prompts they answer."""
        words = [drawn_words(prompt) for prompt in batch.prompts]
        self.painted.update(painting.images, words, [mario_targets(prompt) for prompt in batch.prompts], batch.keys)
        self.background.update(painting.images, batch.prompts, batch.keys)
        if any(len(layout) for layout in painting.layouts):
            self.drawn.update(painting.glyphs, words, keys=batch.keys)
            truth = (batch.word_boxes, batch.word_mask, batch.object_boxes, batch.object_mask)
            self.layout.update(painting.layouts, batch.prompts, *truth, batch.keys)
        if self.read_truth:
            self.truth.update(batch.images, words, keys=batch.keys)
        if self.objects is not None:
            self.objects.update(painting.images, batch.prompts, batch.keys)
        if self.true_objects is not None:
            self.true_objects.update(batch.images, batch.prompts, batch.keys)
        if self.probe is not None:
            self.probe.update(batch.images, batch.prompts, batch.keys)
        if self.clip is not None:
            self.clip.update(painting.images, batch.prompts, batch.keys)
        if self.distance is not None:
            self.distance.update(batch.images, real=True)
            self.distance.update(painting.images, real=False)

    def update_human(self, painting: Painting) -> None:
        """Measure a batch of paintings of prompts that have no true images."""
        words = [drawn_words(prompt) for prompt in painting.prompts]
        self.human.update(painting.images, words, [mario_targets(prompt) for prompt in painting.prompts])
        boxes = torch.zeros(len(words), 0, 5)
        self.human_layout.update(painting.layouts, painting.prompts, boxes, boxes[..., 0].bool())

    def compute(self) -> dict[str, Figure]:
        """Every figure by name, those of the paintings first."""
        return self._collect(lambda metric: metric.compute())

    def per_image(self) -> dict[str, PerImage]:
        """What each sample adds to a figure, by the figure's name; those of distances and alignment probe have none.

        Of the samples of every process, see :meth:`~vlad_lightning.metrics.per_image.PerImageMetric.per_image`.
        """
        return self._collect(lambda metric: metric.per_image() if isinstance(metric, PerImageMetric) else {})

    def _collect(self, ask: Callable[[FigureMetric], Mapping[str, _Told]]) -> dict[str, _Told]:
        """What each metric says of its figures, by the names that they have here."""
        told: dict[str, _Told] = {}
        for metric in (self.painted, self.background, self.objects, self.clip, self.distance, self.probe):
            told |= ask(metric) if metric is not None else {}
        told |= _under("human", ask(self.human), (*_SPELT, "sentence_accuracy"))
        told |= _under("human", ask(self.human_layout), ("overlap_share",))
        told |= _under("layout", ask(self.drawn), _SPELT) | _under("layout", ask(self.layout))
        told |= _under("truth", ask(self.truth), _SPELT)
        told |= _under("truth", ask(self.true_objects)) if self.true_objects is not None else {}
        return {_SHORT.get(name, name): one for name, one in told.items()}

    def reset(self) -> None:
        """Forget what was measured."""
        for metric in self.children():
            cast(Metric, metric).reset()


def _under(prefix: str, told: Mapping[str, _Told], names: tuple[str, ...] | None = None) -> dict[str, _Told]:
    """The entries of those names that are there, or all, with a prefix."""
    return {f"{prefix}_{name}": told[name] for name in (told if names is None else names) if name in told}
