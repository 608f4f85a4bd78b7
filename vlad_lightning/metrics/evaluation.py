"""All metrics that ``test`` computes on generated images, in one injected object."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import torch
from torch import nn
from torchmetrics import Metric

from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.metrics.alignment_probe import AlignmentProbe
from vlad_lightning.metrics.clip_score import CLIPScore
from vlad_lightning.metrics.colour import BackgroundColour
from vlad_lightning.metrics.evaluation_encoder import EvaluationEncoder
from vlad_lightning.metrics.fid import FrechetDistance
from vlad_lightning.metrics.layout import LayoutMetrics
from vlad_lightning.metrics.objects import ObjectFinder, ObjectMetrics
from vlad_lightning.metrics.ocr import OCRMetrics, mario_targets
from vlad_lightning.metrics.ocr_engine import OCREngine
from vlad_lightning.metrics.paired import PerImage
from vlad_lightning.metrics.per_image import PerImageMetric, ResultMetric
from vlad_lightning.metrics.word_colour import WordColour
from vlad_lightning.types import Batch, GeneratedImages, MetricResult

_T = TypeVar("_T")
_SPELT = ("word_accuracy", "edit_similarity")
_READ = (*_SPELT, "sentence_accuracy", "mario_f")
_SHORT = {"human_overlap_share": "human_overlap"}


class Evaluation(nn.Module):
    """OCR of generated images, rasterised layouts and true images; layouts; colours; objects; CLIP score; distances.

    Prompts without true images, such as users write, have separate results: ``human_word_accuracy`` and so on.

    Args:
        ocr_engine: reads the images.
        clip: the CLIP score; None leaves it out, unless ``evaluation_encoder`` is given.
        distance: FID and KID, or such distances from another network; None leaves them out, unless
            ``evaluation_encoder`` is given.
        evaluation_encoder: a stage-0 run that computes the alignment probe, and both of the above if they are None, as
            at the mini scale; its name is in the results.
        read_truth: also measure OCR and objects on the data set's own images, which shows the engine's and the
            detector's ceiling.
        objects: finds the objects in the images; None leaves them out.
    """

    def __init__(
        self,
        ocr_engine: OCREngine,
        clip: CLIPScore | None = None,
        distance: FrechetDistance | None = None,
        evaluation_encoder: EvaluationEncoder | None = None,
        read_truth: bool = True,
        objects: ObjectFinder | None = None,
    ) -> None:
        super().__init__()
        self.generated, self.drawn, self.truth, self.human = (OCRMetrics(ocr_engine) for _ in range(4))
        self.layout, self.human_layout, self.background = LayoutMetrics(), LayoutMetrics(), BackgroundColour()
        self.word_colour, self.true_word_colour = WordColour(), WordColour()
        self.objects = None if objects is None else ObjectMetrics(objects)
        self.true_objects = None if objects is None or not read_truth else ObjectMetrics(objects)
        self.probe = None if evaluation_encoder is None else AlignmentProbe(evaluation_encoder.score)
        self.clip = clip or (CLIPScore(evaluation_encoder) if evaluation_encoder else None)
        self.distance = distance or (FrechetDistance(evaluation_encoder) if evaluation_encoder else None)
        self.read_truth = read_truth

    def update(self, generated: GeneratedImages, batch: Batch) -> None:
        """Measure one batch of generated images against the samples with the same prompts."""
        words = [drawn_words(prompt) for prompt in batch.prompts]
        mario_words = [mario_targets(prompt) for prompt in batch.prompts]
        self.generated.update(generated.images, words, mario_words, batch.keys)
        self.background.update(generated.images, batch.prompts, batch.keys)
        if any(len(layout) for layout in generated.layouts):
            self.drawn.update(generated.glyphs, words, keys=batch.keys)
            truth = (batch.word_boxes, batch.word_mask, batch.object_boxes, batch.object_mask)
            self.layout.update(generated.layouts, batch.prompts, *truth, batch.keys)
            self.word_colour.update(generated.images, generated.glyphs, generated.layouts, batch.prompts, batch.keys)
        if self.read_truth:
            self.truth.update(batch.images, words, mario_words, batch.keys)
            glyphs = glyph_images(batch.glyphs)
            self.true_word_colour.update(batch.images, glyphs, batch.layouts, batch.prompts, batch.keys)
        if self.objects is not None:
            self.objects.update(generated.images, batch.prompts, batch.keys)
        if self.true_objects is not None:
            self.true_objects.update(batch.images, batch.prompts, batch.keys)
        if self.probe is not None:
            self.probe.update(batch.images, batch.prompts, batch.keys)
        if self.clip is not None:
            self.clip.update(generated.images, batch.prompts, batch.keys)
        if self.distance is not None:
            self.distance.update(batch.images, real=True)
            self.distance.update(generated.images, real=False)

    def update_human(self, generated: GeneratedImages) -> None:
        """Measure one batch of generated images for prompts that have no true images."""
        words = [drawn_words(prompt) for prompt in generated.prompts]
        self.human.update(generated.images, words, [mario_targets(prompt) for prompt in generated.prompts])
        boxes = torch.zeros(len(words), 0, 5)
        self.human_layout.update(generated.layouts, generated.prompts, boxes, boxes[..., 0].bool())

    def compute(self) -> dict[str, MetricResult]:
        """Return every result by name, those of the generated images first."""
        return self._collect(lambda metric: metric.compute())

    def per_image(self) -> dict[str, PerImage]:
        """Return what each sample adds to a result, by the result's name; distances and alignment probe have no entry.

        The samples are those of all processes, see :meth:`~vlad_lightning.metrics.per_image.PerImageMetric.per_image`.
        """
        return self._collect(lambda metric: metric.per_image() if isinstance(metric, PerImageMetric) else {})

    def _collect(self, ask: Callable[[ResultMetric], Mapping[str, _T]]) -> dict[str, _T]:
        """Collect what ``ask`` returns for each metric, under the names of this evaluation's results."""
        answers: dict[str, _T] = {}
        for metric in self._of_images():
            answers |= ask(metric) if metric is not None else {}
        answers |= _under("human", ask(self.human), (*_SPELT, "sentence_accuracy"))
        answers |= _under("human", ask(self.human_layout), ("overlap_share",))
        answers |= _under("layout", ask(self.drawn), _SPELT) | _under("layout", ask(self.layout))
        answers |= _under("truth", ask(self.truth), _READ) | _under("truth", ask(self.true_word_colour))
        answers |= _under("truth", ask(self.true_objects)) if self.true_objects is not None else {}
        return {_SHORT.get(name, name): one for name, one in answers.items()}

    def _of_images(self) -> tuple[ResultMetric | None, ...]:
        """Return the metrics whose results have no prefix."""
        return (
            self.generated,
            self.background,
            self.word_colour,
            self.objects,
            self.clip,
            self.distance,
            self.probe,
        )

    def reset(self) -> None:
        """Reset all metrics."""
        for metric in self.children():
            cast(Metric, metric).reset()


def _under(prefix: str, answers: Mapping[str, _T], names: tuple[str, ...] | None = None) -> dict[str, _T]:
    """Return the entries with these names, or all of them, with a prefix."""
    return {f"{prefix}_{name}": answers[name] for name in (answers if names is None else names) if name in answers}
