"""Explicit randomness: a generator is a function of what it is for, and a row has its own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

Key = tuple[int | str, ...]


def generator_for(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator seeded by ``key`` alone, so that a resumed run draws what an undisturbed one would have.

    Args:
        device: where the generator lives.
        key: whatever tells this use from every other: a seed, a purpose, a step, a rank.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def sampling_generators(seed: int, names: Sequence[Key]) -> list[torch.Generator]:
    """The generators of what is sampled, one a name, so that nothing depends on the rest of a batch.

    They live on the CPU: the same seed draws the same noise on every device.
    """
    return [generator_for("cpu", seed, "sampling", *name) for name in names]


def numbered(prompts: Sequence[str]) -> list[Key]:
    """Each prompt, and how many equal ones stand before it: the name of its noise, wherever in a list it stands.

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
    """Generators on the CPU seeded one after the other from one, as a caller gives it for several prompts."""
    device = generator.device
    seeds = [torch.randint(2**63 - 1, (), generator=generator, device=device).item() for _ in range(count)]
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


class SampleGenerators:
    """The draws of ``B`` rows of a batch, from one generator a row.

    However a batch is split over devices and accumulated parts, a row draws the same. Only :meth:`strata` looks at the
    whole batch, of which every part makes the same permutation.

    Args:
        device: where the generators live and the draws are.
        whole: the key of the batch that is split, for :meth:`strata`.
        rows: the keys of these B rows; :func:`~vlad_lightning.diffusion.generators.generator_for` says what a key is.
        first: the place of the first of them in the whole batch.
        size: rows of the whole batch; None means that these are all.

    Raises:
        ValueError: where the rows do not lie in the batch.
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
        """Those of the rows ``rows`` of a batch of ``size`` rows, by number."""
        return cls(device, whole, [(*whole, "row", row) for row in rows], rows.start, size)

    @classmethod
    def of_samples(cls, device: torch.device | str, whole: Key, names: Sequence[str]) -> SampleGenerators:
        """Those of samples by their names; the whole batch is these samples, known by the first name."""
        return cls(device, (*whole, *names[:1]), [(*whole, "sample", name) for name in names])

    def __len__(self) -> int:
        return len(self.generators)

    def uniform(self, *shape: int) -> Tensor:
        """(B, *shape) float32 in [0, 1)."""
        drawn = torch.empty(len(self), *shape, device=self.device)
        for row, generator in zip(drawn.unbind(), self.generators, strict=True):
            row.uniform_(generator=generator)
        return drawn

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape) float32, standard normal."""
        drawn = torch.empty(len(self), *shape, device=self.device)
        for row, generator in zip(drawn.unbind(), self.generators, strict=True):
            row.normal_(generator=generator)
        return drawn

    def uniforms(self, lengths: Sequence[int]) -> list[Tensor]:
        """As many numbers in [0, 1) as each row asks for: B of (length,) float32."""
        pairs = zip(lengths, self.generators, strict=True)
        return [torch.rand(length, generator=generator, device=self.device) for length, generator in pairs]

    def strata(self) -> Tensor:
        """(B,) float32 in [0, 1): one number in each of as many equal parts as the whole batch has rows."""
        shuffled = torch.randperm(self._size, generator=generator_for("cpu", *self._whole, "strata"))
        mine = shuffled[self._first : self._first + len(self)].to(self.device, non_blocking=True)
        return (mine + self.uniform()) / self._size
