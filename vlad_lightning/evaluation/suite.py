"""A suite: prompts in subsets, how many images each has, and what is measured of an image."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.metrics.bootstrap import Statistic
from vlad_lightning.metrics.per_image import Share

Seeding = Literal["each", "running"]
"""Where an image's noise comes from: from a seed of its own, or from one generator that runs through all prompts."""


@dataclass(frozen=True)
class Item:
    """A prompt of a suite.

    Attributes:
        key: its name, unique in the suite: a relative path without suffix, such as ``DrawBenchText/12``.
        prompt: the prompt, as it is given to a system.
        subset: the part of the suite it belongs to.
        words: the words to read in its images, in the prompt's order.
        facts: what else the suite's measures need to know; can be written as JSON.
    """

    key: str
    prompt: str
    subset: str
    words: tuple[str, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """What was found on one image.

    Attributes:
        path: the image.
        size: its width and height in pixels.
        lines: the lines of text that a reader found, in reading order.
        words: the words with their corners in fractions of the image, where the reader gives them.
    """

    path: Path
    size: tuple[int, int]
    lines: tuple[str, ...]
    words: tuple[OcrWord, ...] = ()


class Measure(Protocol):
    """Numbers of one image, and the figures that follow from those of many.

    Attributes:
        name: prefix of the figures' names; empty for none.
        columns: names of the numbers of an image.
    """

    name: str
    columns: tuple[str, ...]

    def row(self, item: Item, seen: Seen) -> Mapping[str, float]:
        """Return the numbers of one image, by the names of the columns."""
        ...

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> Mapping[str, Share]:
        """Return the figures by name, as part and whole of each image.

        Args:
            table: the numbers of n images, a column of n each.
        """
        ...


@dataclass(frozen=True)
class Pooled:
    """A figure that is no part of a whole, such as MARIO-Eval's F of a mean precision and a mean recall.

    Attributes:
        statistic: called as ``statistic(*columns, axis=-1)``, as in
            :func:`~vlad_lightning.metrics.bootstrap.bootstrap_result`.
        columns: its arguments, (n_images,) each.
    """

    statistic: Statistic
    columns: tuple[NDArray[np.float64], ...]


@runtime_checkable
class PooledMeasure(Measure, Protocol):
    """A measure with figures that are no shares, beside its shares."""

    def pooled(self, table: Mapping[str, NDArray[np.float64]]) -> Mapping[str, Pooled]:
        """Return these figures by name; ``table`` as for :meth:`Measure.shares`."""
        ...


@dataclass(frozen=True)
class Suite:
    """Prompts and what is measured of their images.

    Attributes:
        name: as on the command line: ``mario-eval``, ``innovator-eval``, ...
        items: the prompts, each key once.
        measures: what is measured of each image.
        images_per_prompt: how many images the suite's definition asks for.
        definition: where the definition is written down, and how this one differs from it.
        jpeg_quality: the definition has images stored as JPEG of this quality before they are read; None if it reads
            them as they were generated.
        seeding: how the definition draws the noise.
        notes: what a reader of the results has to know of the prompts at hand, such as a count that differs from the
            published one; a sentence each.
        needs_seeds: whether images without a known seed are refused.
    """

    name: str
    items: tuple[Item, ...]
    measures: tuple[Measure, ...]
    images_per_prompt: int = 1
    definition: str = ""
    jpeg_quality: int | None = None
    seeding: Seeding = "each"
    notes: tuple[str, ...] = ()
    needs_seeds: bool = False

    @property
    def sha256(self) -> str:
        """Hash of the prompts, their subsets, words and facts, in hex."""
        lines = (
            json.dumps([item.key, item.prompt, item.subset, item.words, item.facts], sort_keys=True, ensure_ascii=False)
            for item in self.items
        )
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def subsets(self) -> tuple[str, ...]:
        """Return the names of the subsets, in the order of their first items."""
        return tuple(dict.fromkeys(item.subset for item in self.items))


def image_keys(item: Item, images: int) -> Sequence[str]:
    """Return the keys of a prompt's images: relative paths without suffix.

    Example:
        >>> list(image_keys(Item("animals/3", "a cat", "animals", ()), 2))
        ['animals/3_0', 'animals/3_1']
    """
    return [f"{item.key}_{number}" for number in range(images)]
