"""The whole system of Eq. 1: P(I | T) = P(I | Z_T) P(Z_T | T)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vlad_lightning.diffusion.generators import Key, numbered, sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_generator import Painter
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.types import Layout, Painting, Region, TextToImage

_Settings = TypeVar("_Settings")


@dataclass(frozen=True)
class SystemSampling:
    """How the whole system samples.

    Attributes:
        images: how images are sampled.
        layouts: how the layouts are sampled that are not given.
    """

    images: ImageSampler = ImageSampler()
    layouts: Sampler = Sampler()


@dataclass(frozen=True)
class VLADSystem:
    """VLAD as a :class:`~vlad_lightning.types.TextToImage`: what is tested, predicts and is exported.

    Attributes:
        painter: layouts to images.
        layout_generator: prompts to layouts; None leaves the layouts that are not given empty.
    """

    painter: Painter
    layout_generator: LayoutGenerator | None = None

    def generate(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None] | None,
        settings: SystemSampling,
        generators: Sequence[torch.Generator],
        region: Region | None = None,
        progress: Callable[[Tensor], Iterable[Tensor]] = iter,
    ) -> Painting:
        """Draw ``B`` prompts; an image depends on its prompt, its layout and its generator alone, up to rounding.

        Args:
            prompts: B prompts.
            layouts: B layouts, None where one is generated; None has all of them generated.
            settings: how layouts and images are sampled.
            generators: B generators, all the randomness: of a prompt's layout first.
            region: see :meth:`~vlad_lightning.generation.image_generator.Painter.paint`.
            progress: wraps the timesteps of the images, as tqdm does.

        Raises:
            ValueError: where there are not B layouts or generators, or what was generated holds NaN or infinite values.
        """
        given = [None] * len(prompts) if layouts is None else list(layouts)
        for name, things in (("layouts", given), ("generators", generators)):
            if len(things) != len(prompts):
                raise ValueError(f"{name} has {len(things)} entries; {len(prompts)} prompts need one each")
        placed = self._placed(prompts, given, settings.layouts, generators)
        painting = self.painter.paint(prompts, placed, settings.images, generators, progress, region)
        check_finite(painting.images)
        return painting

    def _placed(
        self,
        prompts: Sequence[str],
        layouts: Sequence[Layout | None],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
    ) -> list[Layout]:
        """The layouts, with one for each prompt that had none."""
        rows = [row for row, layout in enumerate(layouts) if layout is None]
        if rows and self.layout_generator is not None:
            asked = [prompts[row] for row in rows]
            generated = self.layout_generator.sample(asked, sampler, [generators[row] for row in rows])
        else:
            generated = (Layout.empty(),) * len(rows)
        made = iter(generated)
        return [next(made) if layout is None else layout for layout in layouts]


def generate_named(
    system: TextToImage[_Settings], prompts: Sequence[str], keys: Sequence[str], settings: _Settings, seed: int
) -> Painting:
    """Draw ``B`` prompts under their keys, with layouts of the system's own: what every system is tested by.

    Args:
        system: draws them.
        prompts: B prompts.
        keys: B names, of which their noise is a function; with none, their noise is one of the prompts.
        settings: of the system.
        seed: of the noise.
    """
    names: Sequence[Key] = [(key,) for key in keys] or numbered(prompts)
    return system.generate(prompts, None, settings, sampling_generators(seed, names)).named(keys)


def check_finite(images: Tensor) -> None:
    """Refuse what was painted by weights that have become NaN or infinite; a file format makes a black picture of it.

    Args:
        images: (B, 3, H, W) float.

    Raises:
        ValueError: saying how many.
    """
    finite = images.isfinite().flatten(1).all(1)
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of {len(images)} painted images hold NaN or infinite values: the weights are "
            "damaged (a training that diverged?), or the numbers overflow in this precision"
        )
