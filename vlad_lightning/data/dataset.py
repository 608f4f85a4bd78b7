"""From a sample folder to tensors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from vlad_lightning.data.mario import MarioSample, SkipSample, key_of, read_sample
from vlad_lightning.data.ocr_lines import OcrWord, quote_read_words
from vlad_lightning.data.scene_file import SceneFacts
from vlad_lightning.models.glyphs import Rasterizer
from vlad_lightning.models.prompts import PromptDecomposer, bare_phrase, bare_word, drawn_words
from vlad_lightning.types import Layout, Sample

_log = logging.getLogger(__name__)
_FRAME = (0.0, 0.0, 1.0, 1.0)


class MarioDataset(Dataset[Sample]):
    """Sample folders, read from the disk whenever one is asked for.

    A sample that turns out to be broken is remembered, also across the worker processes of a DataLoader. For training,
    ``samples[i]`` is the next good one then; for a measurement, :meth:`read` leaves it out.

    Args:
        folders: the samples.
        size: height and width of the images in pixels.
        max_words: ``N`` of :class:`~vlad_lightning.types.Sample`.
        max_boxes: at most this many words make the layout, the largest ones.
        min_confidence: words below it are left out.
        rasterizer: draws the layouts.
        max_objects: ``K`` of :class:`~vlad_lightning.types.Sample`.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        size: int,
        max_words: int,
        max_boxes: int,
        min_confidence: float,
        rasterizer: Rasterizer,
        max_objects: int = 12,
    ) -> None:
        self.folders = list(folders)
        self.size = size
        self.max_words = max_words
        self.max_boxes = max_boxes
        self.min_confidence = min_confidence
        self.rasterizer = rasterizer
        self.max_objects = max_objects
        self._decompose = PromptDecomposer()
        self._broken = torch.zeros(len(folders), dtype=torch.bool).share_memory_()
        self._why = "each was found to be broken before"  # the last sample was left out

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: int) -> Sample:
        """A sample, or the next one that can be read.

        Raises:
            ValueError: if none can be read.
        """
        for place in range(index, index + len(self)):
            sample = self.read(place % len(self))
            if sample is not None:
                return sample
        raise ValueError(f"none of the {len(self)} samples can be read, {self.folders[index]} for one; {self._why}")

    @property
    def broken(self) -> tuple[str, ...]:
        """Keys of the samples that were found to be broken so far."""
        return tuple(key_of(self.folders[i]) for i in self._broken.nonzero().flatten().tolist())

    def read(self, index: int) -> Sample | None:
        """A sample; None where it is broken.

        Whatever goes wrong with a sample counts as that sample's fault: one of a million is no reason to end a
        training. The warning names the exception, and where every sample has it, it is an error after all.
        """
        if self._broken[index]:
            return None
        try:
            return self._build(self._checked(read_sample(self.folders[index], self.min_confidence), index))
        except SkipSample as skip:
            self._why = str(skip)
        except Exception as error:
            self._why = f"{self.folders[index]}: {type(error).__name__}: {shorten(str(error), 200)}"
        self._broken[index] = True
        _log.warning("%s; the sample is left out", self._why)
        return None

    def _checked(self, sample: MarioSample, index: int) -> MarioSample:
        """The sample, where it can be used.

        Raises:
            SkipSample: where it cannot.
        """
        return sample

    def _build(self, sample: MarioSample) -> Sample:
        prompt = quote_read_words(sample.caption, sample.words)
        boxes = _layout(sample.words)
        layout = _largest(boxes, self.max_boxes)
        word_boxes, word_mask = match_boxes(drawn_words(prompt), boxes, self.max_words)
        chunks = [chunk.text for chunk in self._decompose(prompt).objects]
        object_boxes, object_mask = match_objects(chunks, sample.scene, self.max_objects)
        found = object_mask.nonzero().flatten()
        return Sample(
            key=sample.key,
            image=to_tensor(sample.image, self.size),
            prompt=prompt,
            layout=replace(layout, objects=tuple(chunks[i] for i in found), object_boxes=object_boxes[found]),
            glyphs=self.rasterizer(layout, (self.size, self.size)),
            word_boxes=word_boxes,
            word_mask=word_mask,
            object_boxes=object_boxes,
            object_mask=object_mask,
            scene_known=sample.scene is not None,
        )


def match_boxes(words: Sequence[str], layout: Layout, max_words: int) -> tuple[Tensor, Tensor]:
    """Find a box for each of a prompt's words, without regard to case; a box serves one word only.

    Args:
        words: those to draw, in the prompt's order; those after the first ``max_words`` are left out.
        layout: the words read on the image.
        max_words: ``N``.

    Returns:
        (N, 5) float32, the boxes, zero where there is none, and (N,) bool, True where there is one.
    """
    boxes = torch.zeros(max_words, 5)
    mask = torch.zeros(max_words, dtype=torch.bool)
    free = [bare_word(word) for word in layout.words]
    for slot, word in enumerate(words[:max_words]):
        if bare_word(word) in free:
            found = free.index(bare_word(word))
            boxes[slot], mask[slot] = layout.boxes[found], True
            free[found] = ""  # no word is compared as an empty one
    return boxes, mask


def match_objects(chunks: Sequence[str], scene: SceneFacts | None, max_objects: int) -> tuple[Tensor, Tensor]:
    """Find a box for each of a prompt's object phrases, by the phrase that the scene tells for each of its objects.

    Phrases match without regard to case and to a leading article. An object's box goes to the first such phrase that
    has none yet. The background's phrase has the whole frame.

    Args:
        chunks: the object phrases, in the prompt's order; those after the first ``max_objects`` are left out.
        scene: what is known of the poster.
        max_objects: ``K``.

    Returns:
        (K, 5) float32, the boxes, zero where there is none, and (K,) bool, True where there is one.
    """
    boxes = torch.zeros(max_objects, 5)
    mask = torch.zeros(max_objects, dtype=torch.bool)
    free = [bare_phrase(chunk) for chunk in chunks[:max_objects]]
    told = [(thing.phrase, thing.box) for thing in scene.objects] if scene else []
    told += [(scene.phrase, _FRAME)] if scene else []
    for own, (left, top, right, bottom) in told:
        if own and (phrase := bare_phrase(own)) in free:
            slot = free.index(phrase)
            boxes[slot] = torch.tensor([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0.0])
            mask[slot] = True
            free[slot] = ""  # no phrase is compared as an empty one
    return boxes, mask


def to_tensor(image: Image.Image, size: int) -> Tensor:
    """(3, size, size) float32 in [-1, 1] of an RGB picture, stretched as MARIO's are; antialiased."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)


def _layout(words: Sequence[OcrWord]) -> Layout:
    if not words:
        return Layout.empty()
    return Layout.from_quads([word.text for word in words], torch.from_numpy(np.stack([word.quad for word in words])))


def _largest(layout: Layout, limit: int) -> Layout:
    """The ``limit`` boxes of the largest area, in the order they had."""
    if len(layout) <= limit:
        return layout
    areas = layout.boxes[:, 2] * layout.boxes[:, 3]
    keep = areas.argsort(descending=True, stable=True)[:limit].sort().values
    return Layout(tuple(layout.words[i] for i in keep.tolist()), layout.boxes[keep])
