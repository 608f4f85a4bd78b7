"""Explicit randomness: one generator per purpose and per row, each seeded by a key."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

Key = tuple[int | str, ...]


def generator_for(device: torch.device | str, *key: int | str) -> torch.Generator:
    """Return a generator seeded by ``key`` alone, so that a resumed run draws the same numbers as an uninterrupted one.

    Args:
        device: where the generator lives.
        key: whatever distinguishes this use from every other: a seed, a purpose, a step, a rank.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def sampling_generators(seed: int, names: Sequence[Key]) -> list[torch.Generator]:
    """Return one generator per name, so that no sample depends on the other samples of its batch.

    They live on the CPU: the same seed draws the same noise on every device.
    """
    return [generator_for("cpu", seed, "sampling", *name) for name in names]


def numbered(prompts: Sequence[str]) -> list[Key]:
    """Pair each prompt with the number of equal prompts before it: the name of its noise.

    The name does not depend on the prompt's index in the list.

    Example:
        >>> numbered(["a cat", "a dog", "a cat"])
        [('a cat', 0), ('a dog', 0), ('a cat', 1)]
    """
    before: Counter[str] = Counter()
    names: list[Key] = []
    for prompt in prompts:
        names.append((prompt, before[prompt]))
        before[prompt] += 1
    return names


def split_generator(generator: torch.Generator, count: int) -> list[torch.Generator]:
    """Return ``count`` CPU generators, seeded in turn from the one generator that a caller gave for several prompts."""
    device = generator.device
    seeds = [torch.randint(2**63 - 1, (), generator=generator, device=device).item() for _ in range(count)]
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


class SampleGenerators:
    """Random draws for ``B`` rows of a batch, from one generator per row.

    A row draws the same numbers however the batch is split over devices and accumulated parts. Only :meth:`strata`
    depends on the whole batch: every part computes the same permutation of it.

    Args:
        device: the device of the generators and of the draws.
        whole: the key of the batch that is split, for :meth:`strata`.
        rows: the keys of these B rows; :func:`~vlad_lightning.diffusion.generators.generator_for` says what a key is.
        first: index of the first of these rows in the whole batch.
        size: rows of the whole batch; None means ``len(rows)``.

    Raises:
        ValueError: if the rows do not lie in the batch.
    """

    def __init__(
        self, device: torch.device | str, whole: Key, rows: Sequence[Key], first: int = 0, size: int | None = None
    ) -> None:
        self.device = torch.device(device)
        self.generators = [generator_for(device, *row) for row in rows]
        self._whole = whole
        self._first = first
        self._size = len(rows) if size is None else size
        if not 0 <= first <= first + len(rows) <= self._size:
            raise ValueError(f"first is {first} with {len(rows)} rows; they must lie in a batch of size={self._size}")

    @classmethod
    def of_rows(cls, device: torch.device | str, whole: Key, rows: range, size: int) -> SampleGenerators:
        """Build the generators of the rows ``rows`` of a batch of ``size`` rows, keyed by row number."""
        return cls(device, whole, [(*whole, "row", row) for row in rows], rows.start, size)

    @classmethod
    def of_samples(cls, device: torch.device | str, whole: Key, names: Sequence[str]) -> SampleGenerators:
        """Build generators keyed by the samples' names; these are the whole batch, keyed by its first name."""
        return cls(device, (*whole, *names[:1]), [(*whole, "sample", name) for name in names])

    def __len__(self) -> int:
        return len(self.generators)

    def uniform(self, *shape: int) -> Tensor:
        """Draw (B, *shape) float32 in [0, 1)."""
        drawn = torch.empty(len(self), *shape, device=self.device)
        for row, generator in zip(drawn.unbind(), self.generators, strict=True):
            row.uniform_(generator=generator)
        return drawn

    def normal(self, *shape: int) -> Tensor:
        """Draw (B, *shape) float32, standard normal."""
        drawn = torch.empty(len(self), *shape, device=self.device)
        for row, generator in zip(drawn.unbind(), self.generators, strict=True):
            row.normal_(generator=generator)
        return drawn

    def uniforms(self, lengths: Sequence[int]) -> list[Tensor]:
        """Draw ``lengths[i]`` numbers in [0, 1) for row i: B tensors of (length,) float32."""
        pairs = zip(lengths, self.generators, strict=True)
        return [torch.rand(length, generator=generator, device=self.device) for length, generator in pairs]

    def strata(self) -> Tensor:
        """Draw (B,) float32 in [0, 1), stratified: [0, 1) has one equal part per row of the whole batch."""
        shuffled = torch.randperm(self._size, generator=generator_for("cpu", *self._whole, "strata"))
        mine = shuffled[self._first : self._first + len(self)].to(self.device, non_blocking=True)
        return (mine + self.uniform()) / self._size
