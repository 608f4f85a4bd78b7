"""The data set that turns raw samples into tensors, and the matching of phrases to boxes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from textwrap import shorten

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vlad_lightning.data.framing import Resize, framed
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.sample_memory import SampleMemory
from vlad_lightning.data.scene_file import SceneFacts
from vlad_lightning.data.source import DataOutageError, RawSample, SampleSource, SkipSample, prompt_of
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.lettering_requests import with_lettering
from vlad_lightning.layout.object_requests import count_of
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.layout.prompt_parser import PromptDecomposer, bare_phrase, bare_word, drawn_words
from vlad_lightning.types import COSTLY_FIELDS, LATENTS, Layout, Sample, not_built

_log = logging.getLogger(__name__)
_Box = tuple[float, float, float, float]
_FRAME = (0.0, 0.0, 1.0, 1.0)


class MarioDataset(Dataset[Sample]):
    """Samples of a source, read when requested.

    A sample that turns out to be broken is remembered, also across the worker processes of a DataLoader. ``samples[i]``
    is then the next good sample; :meth:`read` returns None.

    Args:
        source: source of the samples, already set up.
        size: height and width of the images in pixels.
        max_words: ``N`` of :class:`~vlad_lightning.types.Sample`.
        max_boxes: the layout has at most this many words, the largest ones.
        rasterizer: draws the layouts.
        max_objects: ``K`` of :class:`~vlad_lightning.types.Sample`.
        indices: the numbers in ``source`` of this data set's samples; None takes all.
        resize: how a picture gets other proportions, see :func:`~vlad_lightning.data.framing.framed`.
        memory: samples that were read are kept in it and not read again; None keeps none. Data sets of one source may
            share it.

    Attributes:
        frames: (N, 2) int, height and width in pixels of each sample's image; None is ``size`` for all.
        built: which of :data:`~vlad_lightning.types.COSTLY_FIELDS` are built; all unless it is set. A sample whose
            image is not needed for anything is read without it. With :data:`~vlad_lightning.types.LATENTS` among them,
            the cached latents are read.
    """

    def __init__(
        self,
        source: SampleSource,
        size: int,
        max_words: int,
        max_boxes: int,
        rasterizer: Rasterizer,
        max_objects: int = 12,
        indices: Sequence[int] | np.ndarray | None = None,
        resize: Resize = "stretch",
        memory: SampleMemory | None = None,
    ) -> None:
        self.source = source
        self.indices = torch.from_numpy(
            np.array(range(len(source)) if indices is None else indices, dtype=np.int64)
        )  # a tensor: processes share it
        self.size = size
        self.max_words = max_words
        self.max_boxes = max_boxes
        self.rasterizer = rasterizer
        self.max_objects = max_objects
        self.resize: Resize = resize
        self.memory = SampleMemory(0) if memory is None else memory
        self.frames: Tensor | None = None
        self.built: Collection[str] = COSTLY_FIELDS
        self._decompose = PromptDecomposer()
        self._broken = torch.zeros(len(self.indices), dtype=torch.bool).share_memory_()
        self._why = "each was found to be broken before"  # the last sample was left out

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, or the next sample that can be read, in the frame of the first.

        Raises:
            ValueError: if none can be read.
        """
        frame = self.frame(index)
        for number in range(index, index + len(self)):
            sample = self.read(number % len(self), frame)
            if sample is not None:
                return sample
        raise ValueError(f"none of the {len(self)} samples can be read, {self._key(index)} for one; {self._why}")

    @property
    def broken(self) -> tuple[str, ...]:
        """Keys of the samples found to be broken so far."""
        return tuple(self._key(i) for i in self._broken.nonzero().flatten().tolist())

    def _key(self, index: int) -> str:
        return self.source.keys[int(self.indices[index])]

    def frame(self, index: int) -> tuple[int, int]:
        """Return height and width of a sample's image in pixels."""
        if self.frames is None:
            return self.size, self.size
        height, width = self.frames[index].tolist()
        return height, width

    def read(self, index: int, frame: tuple[int, int] | None = None) -> Sample | None:
        """Return a sample; None if it is broken.

        Any exception while reading a sample marks that sample as broken: one in a million must not end a training.
        The warning names the exception; if every sample fails, indexing raises an error after all.

        Args:
            index: its number.
            frame: height and width of its image in pixels; None is :meth:`frame`.

        Raises:
            DataOutageError: if the source as a whole cannot be read for too long.
        """
        if self._broken[index]:
            return None
        number, size = int(self.indices[index]), frame or self.frame(index)
        key = number, size, tuple(self.built)
        if (kept := self.memory.get(key)) is not None:
            return kept
        try:
            with_image = LATENTS not in self.built or "images" in self.built
            sample = self._build(framed(self._read(number), self.resize, size, with_image), size)
            if LATENTS in self.built:
                sample = replace(sample, latents=self.source.read_latents(number))
            self.memory.put(key, sample)
            return sample
        except DataOutageError:
            raise
        except SkipSample as skip:
            self._why = str(skip)
        except Exception as error:
            self._why = f"{self._key(index)}: {type(error).__name__}: {shorten(str(error), 200)}"
        self._broken[index] = True
        _log.warning("%s; the sample is left out", self._why)
        return None

    def _read(self, index: int) -> RawSample:
        needs_proportions = self.resize != "stretch" and LATENTS not in self.built  # a cached sample has them anyway
        if "images" in self.built or needs_proportions:
            return self.source.read(index)
        return self.source.read_without_image(index)

    def captions(self, most: int | None = None) -> Iterator[str]:
        """Yield the captions as prompts, of samples whose texts can be read; images in a folder are not read.

        Args:
            most: at most so many, of samples that are evenly spread over all; None yields all.

        Raises:
            DataOutageError: as :meth:`read`.
        """
        for index in self.indices[:: 1 if most is None else max(1, -(-len(self) // most))].tolist():
            with suppress(SkipSample):
                yield prompt_of(self.source.read_texts(index), self.source.keys[index])

    def _build(self, sample: RawSample, frame: tuple[int, int]) -> Sample:
        """Convert a raw sample into tensors, with an image of this height and width.

        Raises:
            SkipSample: if it cannot be used.
        """
        prompt = prompt_of(sample, sample.key)
        boxes = _layout(sample.words)
        layout = with_lettering(_largest(boxes, self.max_boxes), prompt)
        word_boxes, word_mask = match_boxes(drawn_words(prompt), boxes, self.max_words)
        chunks = [chunk.text for chunk in self._decompose(prompt).objects]
        object_boxes, object_mask = match_objects(chunks, sample.scene, self.max_objects)
        found = object_mask.nonzero().flatten()
        return Sample(
            key=sample.key,
            image=from_pil(sample.image, frame) if "images" in self.built else not_built("images"),
            prompt=prompt,
            layout=replace(layout, objects=tuple(chunks[i] for i in found), object_boxes=object_boxes[found]),
            glyphs=self.rasterizer(layout, frame) if "glyphs" in self.built else not_built("glyphs"),
            word_boxes=word_boxes,
            word_mask=word_mask,
            object_boxes=object_boxes,
            object_mask=object_mask,
            object_counts=_counts(chunks, self.max_objects),
            scene_known=sample.scene is not None,
        )


def match_boxes(words: Sequence[str], layout: Layout, max_words: int) -> tuple[Tensor, Tensor]:
    """Find a box for each of a prompt's words, ignoring case; each box is used for one word only.

    Args:
        words: the words to draw, in the prompt's order; those after the first ``max_words`` are left out.
        layout: the words read on the image.
        max_words: ``N``.

    Returns:
        (N, 5) float32 boxes, zero for words without a box, and (N,) bool, True for words with one.
    """
    return _match(
        [bare_word(word) for word in words], [bare_word(word) for word in layout.words], layout.boxes, max_words
    )


def match_objects(chunks: Sequence[str], scene: SceneFacts | None, max_objects: int) -> tuple[Tensor, Tensor]:
    """Find a box for each of a prompt's object phrases, by the phrases of the scene's objects.

    Phrases match regardless of case and of a leading article. An object's box goes to the first matching phrase that
    has none yet; where a phrase counts its objects (``two red cars``), it gets the box around as many of them. The box
    of the background's phrase is the whole frame.

    Args:
        chunks: the object phrases, in the prompt's order; those after the first ``max_objects`` are left out.
        scene: the poster's scene; None if unknown.
        max_objects: ``K``.

    Returns:
        (K, 5) float32 boxes, zero for phrases without a box, and (K,) bool, True for phrases with one.
    """
    boxed = _joined([(bare_phrase(entry.phrase or ""), entry.box) for entry in scene.objects]) if scene else []
    boxed += [(bare_phrase(scene.phrase or ""), _FRAME)] if scene else []
    rows = [
        ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, 0.0)
        for _, (left, top, right, bottom) in boxed
    ]
    texts = [bare_phrase(chunk) for chunk in chunks]
    return _match(texts, [phrase for phrase, _ in boxed], torch.tensor(rows).reshape(-1, 5), max_objects)


def _counts(chunks: Sequence[str], max_objects: int) -> Tensor:
    """Return how many objects each phrase counts, (K,) int64, 1 where there is no phrase."""
    counts = [count_of(bare_phrase(chunk)) for chunk in chunks[:max_objects]]
    return torch.tensor(counts + [1] * (max_objects - len(counts)), dtype=torch.int64)


def _joined(boxed: Sequence[tuple[str, _Box]]) -> list[tuple[str, _Box]]:
    """Replace the boxes of as many objects as a phrase counts by the box around them."""
    joined: list[tuple[str, _Box]] = []
    place: dict[str, int] = {}
    missing: Counter[str] = Counter()  # how many boxes are still to be joined to the last one of a phrase
    for phrase, box in boxed:
        if missing[phrase] > 0:
            left, top, right, bottom = joined[place[phrase]][1]
            around = min(left, box[0]), min(top, box[1]), max(right, box[2]), max(bottom, box[3])
            joined[place[phrase]] = (phrase, around)
            missing[phrase] -= 1
            continue
        place[phrase], missing[phrase] = len(joined), count_of(phrase) - 1
        joined.append((phrase, box))
    return joined


def _match(texts: Sequence[str], own: Sequence[str], boxes: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Give each of the first ``slots`` texts a box: the nth occurrence of a text gets the nth box with that text.

    Args:
        texts: the prompt's texts, normalized for the comparison; an empty text gets no box.
        own: the text of each box, normalized likewise.
        boxes: (M, 5) float32.
        slots: number of rows to return.

    Returns:
        (slots, 5) float32 and (slots,) bool, as in :func:`match_boxes`.
    """
    rows, known, own_rows = [[0.0] * 5] * slots, [False] * slots, boxes.tolist()
    free = {text: [index for index, other in enumerate(own) if other == text] for text in set(own) - {""}}
    for slot, text in enumerate(texts[:slots]):
        if free.get(text):
            rows[slot], known[slot] = own_rows[free[text].pop(0)], True
    return torch.tensor(rows, dtype=torch.float32).reshape(slots, 5), torch.tensor(known, dtype=torch.bool)


def _layout(words: Sequence[OcrWord]) -> Layout:
    if not words:
        return Layout.empty()
    return Layout.from_quads([word.text for word in words], torch.from_numpy(np.stack([word.quad for word in words])))


def _largest(layout: Layout, limit: int) -> Layout:
    """Return the layout with only the ``limit`` boxes of the largest area, in their original order."""
    if len(layout) <= limit:
        return layout
    areas = layout.boxes[:, 2] * layout.boxes[:, 3]
    keep = areas.argsort(descending=True, stable=True)[:limit].sort().values
    return Layout(tuple(layout.words[i] for i in keep.tolist()), layout.boxes[keep])
