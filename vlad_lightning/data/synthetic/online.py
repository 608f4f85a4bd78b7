"""Posters drawn when they are read: no files, and as many as anyone wants."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import overload

import numpy as np

from vlad_lightning.data.content import NAMES
from vlad_lightning.data.source import RawSample, SampleSource, SampleTexts
from vlad_lightning.data.synthetic.scene import OF_SHAPES, World
from vlad_lightning.data.synthetic.synthetic import (
    as_stored,
    check_posters,
    draw_sample,
    facts_as_stored,
    poster_key,
    texts_as_stored,
    undrawn_sample,
)
from vlad_lightning.layout.nouns import ALL_NOUNS, NOUNS, SHAPES

_PROBED = 4  # posters that stand for all in the fingerprint


class SyntheticSource(SampleSource):
    """The posters that ``vlad-cli synth`` writes with the same arguments, each drawn when it is read.

    Poster ``i`` is a function of ``i`` and the arguments other than ``samples``, in any process: it equals the one in
    the files, scene included. So a fit that never reads a poster twice needs no disk, and one that is resumed reads on
    where it stopped.

    Args:
        samples: number of posters.
        size: side of the square images in pixels, 48 to 4096.
        seed: seed of the posters, at least 0.
        heldout: as in :func:`~vlad_lightning.data.synthetic.synthetic.write_posters`.
        world: likewise.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self, samples: int, size: int = 128, seed: int = 0, heldout: bool = False, world: World = "plain"
    ) -> None:
        check_posters(samples, size, seed, world)
        self.samples = samples
        self.size = size
        self.seed = seed
        self.heldout = heldout
        self.world: World = world

    @property
    def name(self) -> str:
        """The kind of posters, for reports."""
        split = "held-out " if self.heldout else ""
        return f"{self.samples:,} {split}{self.world} posters of {self.size} px, seed {self.seed}"

    @property
    def nouns(self) -> tuple[str, ...]:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        if self.world == "literal":
            return ALL_NOUNS
        return SHAPES if self.world in OF_SHAPES else NOUNS

    def __len__(self) -> int:
        return self.samples

    @property
    def keys(self) -> Sequence[str]:
        """The names that the posters have in files, each computed when it is accessed."""
        return _Keys(self.samples)

    def read(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        return as_stored(draw_sample(index, self.size, self.seed, self.heldout, self.world))

    def read_without_image(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`; no image is drawn."""
        return facts_as_stored(undrawn_sample(index, self.size, self.seed, self.heldout, self.world))

    def read_texts(self, index: int) -> SampleTexts:
        """See :class:`~vlad_lightning.data.source.SampleSource`; no image is drawn."""
        return texts_as_stored(index, self.size, self.seed, self.heldout, self.world)

    def proportions(self) -> np.ndarray:
        """See :class:`~vlad_lightning.data.source.SampleSource`; all posters are squares."""
        return np.ones(self.samples)

    def content(self) -> Mapping[str, str]:
        """Return the fingerprint of the arguments, and of the first posters: it differs if they are drawn otherwise."""
        arguments = f"{self.samples} {self.size} {self.seed} {self.heldout} {self.world}"
        drawn = hashlib.sha256()
        for index in range(min(_PROBED, self.samples)):
            sample = draw_sample(index, self.size, self.seed, self.heldout, self.world)
            drawn.update(f"{sample.caption}\n{sample.scene}\n".encode() + sample.image.tobytes())
        return {NAMES: hashlib.sha256(arguments.encode()).hexdigest(), "posters": drawn.hexdigest()}


class _Keys(Sequence[str]):
    """The posters' names."""

    def __init__(self, length: int) -> None:
        self._indices = range(length)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        found = self._indices[index]
        return poster_key(found) if isinstance(found, int) else [poster_key(i) for i in found]
