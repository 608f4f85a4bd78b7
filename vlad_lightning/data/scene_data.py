"""Posters with all that stands on them, read from ``scene.json``: what an object detector learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.scene_file import NAME, SceneFacts
from vlad_lightning.data.source import RawSample, SkipSample
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.layout.scene_objects import COLOURS, KINDS, MOST_OBJECTS, FoundObject, encode_objects


@dataclass(frozen=True)
class ScenePoster:
    """A poster and its objects.

    Attributes:
        key: its name.
        image: (3, H, W) float32 in [-1, 1].
        objects: all that stand on it, also those that its caption does not tell.
    """

    key: str
    image: Tensor
    objects: tuple[FoundObject, ...]


@dataclass(frozen=True)
class SceneBatch:
    """``B`` posters and their objects.

    Attributes:
        keys: B names.
        images: (B, 3, H, W) float32 in [-1, 1].
        things: (B, M, 7) float32: see :data:`~vlad_lightning.layout.scene_objects.FIELDS`.
        spare: True for a repeated batch that only keeps a device in step with the others: nothing of it counts.
    """

    keys: tuple[str, ...]
    images: Tensor
    things: Tensor
    spare: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def counted(self) -> int:
        """How many posters count in a mean: B, or 0 where the batch is spare."""
        return 0 if self.spare else len(self)

    @classmethod
    def collate(cls, posters: Sequence[ScenePoster]) -> SceneBatch:
        """Stack posters; a DataLoader's ``collate_fn``."""
        things = encode_objects([poster.objects for poster in posters])
        return cls(tuple(p.key for p in posters), torch.stack([p.image for p in posters]), things)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SceneBatch:
        """The batch with its tensors on ``device``."""
        images, things = (x.to(device, non_blocking=non_blocking) for x in (self.images, self.things))
        return replace(self, images=images, things=things)

    def pin_memory(self) -> SceneBatch:
        """The batch with its tensors in pinned memory; a DataLoader calls this."""
        return replace(self, images=self.images.pin_memory(), things=self.things.pin_memory())


class SceneDataset(MarioDataset):
    """Samples with a scene; one that turns out to have none that can be used is left out, as a broken one is."""

    def _build(self, sample: RawSample) -> Any:
        if sample.scene is None or not is_known(sample.scene):
            raise SkipSample(f"no {NAME} that can be used", sample.key)
        objects = found_in(sample.scene)
        return ScenePoster(sample.key, from_pil(sample.image, (self.size, self.size)), objects)


class SceneDataModule(MarioDataModule):
    """Samples of which it is known what stands where, in batches of :class:`SceneBatch`.

    Of a folder in MARIO's format, those with a ``scene.json``.

    Arguments, splits and order are those of :class:`~vlad_lightning.data.datamodule.MarioDataModule`.
    """

    dataset_class = SceneDataset
    batch_class = SceneBatch

    def _folder(self, root: str, index: str | None = None) -> MarioFolder:
        folder = super()._folder(root, index)
        folder.scenes_only = True
        return folder


def is_known(scene: SceneFacts) -> bool:
    """Whether every colour of a scene's objects is one of the palette's, and they are not too many for a batch."""
    return len(scene.objects) <= MOST_OBJECTS and all(thing.colour in COLOURS for thing in scene.objects)


def found_in(scene: SceneFacts) -> tuple[FoundObject, ...]:
    """A scene's objects as a detector would find them; of no shape where it does not know their name."""
    found = []
    for thing in scene.objects:
        left, top, right, bottom = thing.box
        name = thing.name if thing.name in KINDS else None
        centre = ((left + right) / 2, (top + bottom) / 2)
        found.append(FoundObject(name, thing.colour, *centre, right - left, bottom - top))
    return tuple(found)
