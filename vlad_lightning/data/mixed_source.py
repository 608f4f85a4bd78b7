"""Several sources in one, each with its share of the samples."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, overload

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from vlad_lightning.data.content import NAMES
from vlad_lightning.data.source import RawSample, SampleSource, SampleTexts
from vlad_lightning.files import printable
from vlad_lightning.limits import check_whole, shown
from vlad_lightning.types import Latents

_MOST = 10**9  # samples of a mixture: the splits and the order hold 16 bytes of memory for each


class MixedSource(SampleSource):
    """Samples of several sources, each source with a fixed share of them.

    Which sample of which source a number stands for depends on the sources' lengths and the weights alone, so that the
    data module's order is as exact as for one source: the same when a run is resumed, and for every number of devices.
    The order shuffles all of them, so a batch has about these shares and an epoch has them exactly.

    A source with fewer samples than its share is repeated, each sample equally often or once more; one with more gives
    a part that is evenly spread over it. All occurrences of a sample are in the split in which it would be without the
    mixture, so no training sample is validated on because it occurs twice.

    Args:
        sources: at least one; on the command line and in YAML a list of classes with ``init_args``.
        weights: the sources' shares, in the same order and above 0; their sum is made 1.
        samples: number of samples of an epoch; None takes the smallest number with which every sample of every source
            occurs.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, sources: list[SampleSource], weights: list[float], samples: int | None = None) -> None:
        if not sources:
            raise ValueError("sources is []; it must list at least one source")
        if len(sources) != len(weights):
            raise ValueError(f"weights is {shown(weights)}; it must have one number for each of {len(sources)} sources")
        for weight in weights:
            if not 0 < weight < math.inf:  # also refuses nan
                raise ValueError(f"weights is {shown(weights)}; each must be a number above 0")
        if samples is not None:
            check_whole("samples", samples, len(sources), _MOST)
        self.sources = list(sources)
        self.weights = list(weights)
        self.samples = samples
        self._parts: list[_Part] = []

    @property
    def name(self) -> str:
        """The sources' names."""
        return " + ".join(source.name for source in self.sources)

    @property
    def nouns(self) -> tuple[str, ...]:
        """The nouns of all sources, each once; empty if one does not know its own."""
        known = [source.nouns for source in self.sources]
        return tuple(dict.fromkeys(noun for nouns in known for noun in nouns)) if all(known) else ()

    def setup(self) -> None:
        """Set up the sources, and report how often each is used.

        Raises:
            ValueError: if a source holds no sample, or the mixture would be too long; what a source raises as well.
        """
        if self._parts:
            return
        for source in self.sources:
            source.setup()
            if not len(source):
                raise ValueError(f"{printable(source.name)} holds no sample")
        lengths = [len(source) for source in self.sources]
        counts = mixture_counts(lengths, self.weights, self.samples)
        starts = [sum(counts[:number]) for number in range(len(counts))]
        self._parts = [_Part(*numbers) for numbers in zip(starts, counts, lengths, strict=True)]
        lines = [
            f"  {part.count:,} of {printable(source.name)}, each sample {part.count / part.length:.3g} times"
            for part, source in zip(self._parts, self.sources, strict=True)
        ]
        rank_zero_info("\n".join([f"a mixture of {len(self):,} samples an epoch:", *lines]))

    def __len__(self) -> int:
        return sum(part.count for part in self._parts)

    @property
    def keys(self) -> Sequence[str]:
        """The sources' keys behind ``{source}.{turn}-``: the number of the source, and of the earlier occurrences."""
        return _Keys(self.sources, self._parts)

    def read(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        number, _, item = place_of(self._parts, index)
        return replace(self.sources[number].read(item), key=self.keys[index])

    def read_without_image(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        number, _, item = place_of(self._parts, index)
        return replace(self.sources[number].read_without_image(item), key=self.keys[index])

    def check_latents(self, needed: Mapping[str, Any]) -> None:
        """See :class:`~vlad_lightning.data.source.SampleSource`; each of the sources must have them."""
        for source in self.sources:
            source.check_latents(needed)

    def read_latents(self, index: int) -> Latents:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        number, _, item = place_of(self._parts, index)
        return self.sources[number].read_latents(item)

    def read_texts(self, index: int) -> SampleTexts:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        number, _, item = place_of(self._parts, index)
        return self.sources[number].read_texts(item)

    def proportions(self) -> np.ndarray:
        """See :class:`~vlad_lightning.data.source.SampleSource`; each of the sources must know them."""
        found = np.empty(len(self))
        for part, source in zip(self._parts, self.sources, strict=True):
            found[part.start : part.start + part.count] = source.proportions()[part.items()]
        return found

    def positions(self, seed: int) -> np.ndarray:
        """See :class:`~vlad_lightning.data.source.SampleSource`; all occurrences of a sample have the same one."""
        found = np.empty(len(self))
        for part, source in zip(self._parts, self.sources, strict=True):
            found[part.start : part.start + part.count] = source.positions(seed)[part.items()]
        return found

    def content(self) -> Mapping[str, str]:
        """Return the sources' fingerprints, by the source's number and kind; the names' also covers the counts."""
        found = [source.content() for source in self.sources]
        if not all(found):
            return {}
        names = f"{[part.count for part in self._parts]} {[content.get(NAMES) for content in found]}"
        kinds = [(number, kind) for number, content in enumerate(found) for kind in content if kind != NAMES]
        others = {f"{kind} of source {number}": found[number][kind] for number, kind in kinds}
        return {NAMES: hashlib.sha256(names.encode()).hexdigest(), **others}


@dataclass(frozen=True)
class _Part:
    """The numbers of one source's samples: ``count`` of them from ``start`` on, of a source of ``length`` samples."""

    start: int
    count: int
    length: int

    def items(self) -> np.ndarray:
        """Return the source's sample for each of the numbers, (count,) int64."""
        turns, rest = divmod(self.count, self.length)
        return np.concatenate([np.tile(np.arange(self.length), turns), np.arange(rest) * self.length // max(1, rest)])

    def item(self, step: int) -> tuple[int, int]:
        """Return the turn of a step, and the source's sample, as in :meth:`items`."""
        turn, within = divmod(step, self.length)
        rest = self.count - turn * self.length
        return turn, within * self.length // rest if rest < self.length else within


def mixture_counts(lengths: Sequence[int], weights: Sequence[float], samples: int | None = None) -> list[int]:
    """Return how many samples of a mixture come from each source; the rounding errors are below one sample.

    Args:
        lengths: the sources' numbers of samples.
        weights: their shares, of any sum.
        samples: their sum; None takes the smallest with which no count is below its length.

    Raises:
        ValueError: if the sum is more than a thousand million.

    Example:
        >>> mixture_counts([1000, 50], [0.8, 0.2])
        [1000, 250]
    """
    exact = [Fraction(repr(float(weight))) for weight in weights]
    shares = [weight / sum(exact) for weight in exact]
    if samples is None:
        samples = max(math.ceil(length / share) for length, share in zip(lengths, shares, strict=True))
        if samples > _MOST:
            raise ValueError(
                f"weights is {shown(list(weights))}; with sources of {', '.join(map(str, lengths))} samples, every "
                f"sample occurs in {samples:,} only; set samples, to at most {_MOST:,}"
            )
    counts = [math.floor(samples * share) for share in shares]
    by_rest = sorted(range(len(counts)), key=lambda i: counts[i] - samples * shares[i])
    for number in by_rest[: samples - sum(counts)]:
        counts[number] += 1
    return counts


def place_of(parts: Sequence[_Part], index: int) -> tuple[int, int, int]:
    """Return the number of the source, the earlier occurrences, and the number in the source, of a mixture's sample.

    Raises:
        IndexError: if there is no such sample.
    """
    for number, part in enumerate(parts):
        if 0 <= index - part.start < part.count:
            return number, *part.item(index - part.start)
    raise IndexError(f"{index}: the mixture has {sum(part.count for part in parts)} samples")


class _Keys(Sequence[str]):
    """The names of a mixture's samples, each computed when it is accessed."""

    def __init__(self, sources: Sequence[SampleSource], parts: Sequence[_Part]) -> None:
        self._keys = [source.keys for source in sources]
        self._parts = parts

    def __len__(self) -> int:
        return sum(part.count for part in self._parts)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number, turn, item = place_of(self._parts, range(len(self))[index])
        return f"{number}.{turn}-{self._keys[number][item]}"
