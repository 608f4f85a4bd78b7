"""Posters with all their objects, read from ``scene.json``: the training data of an object detector."""

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
        objects: all objects on it, also those that its caption does not mention.
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
        spare: True for a repeated batch that only keeps a device in step with the others: it is not counted.
    """

    keys: tuple[str, ...]
    images: Tensor
    things: Tensor
    spare: bool = False

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def counted(self) -> int:
        """Number of posters that count in a mean: B, or 0 for a spare batch."""
        return 0 if self.spare else len(self)

    @classmethod
    def collate(cls, posters: Sequence[ScenePoster]) -> SceneBatch:
        """Stack posters; a DataLoader's ``collate_fn``."""
        things = encode_objects([poster.objects for poster in posters])
        return cls(tuple(p.key for p in posters), torch.stack([p.image for p in posters]), things)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> SceneBatch:
        """Return the batch with its tensors on ``device``."""
        images, things = (x.to(device, non_blocking=non_blocking) for x in (self.images, self.things))
        return replace(self, images=images, things=things)

    def pin_memory(self) -> SceneBatch:
        """Return the batch with its tensors in pinned memory; a DataLoader calls this."""
        return replace(self, images=self.images.pin_memory(), things=self.things.pin_memory())


class SceneDataset(MarioDataset):
    """Samples with a scene; a sample without a usable scene is left out, like a broken one. Images are always built."""

    def _read(self, index: int) -> RawSample:
        return self.source.read(index)

    def _build(self, sample: RawSample, frame: tuple[int, int]) -> Any:
        if sample.scene is None or not is_known(sample.scene):
            raise SkipSample(f"no {NAME} that can be used", sample.key)
        objects = found_in(sample.scene)
        return ScenePoster(sample.key, from_pil(sample.image, frame), objects)


class SceneDataModule(MarioDataModule):
    """Samples whose objects and their positions are known, in batches of :class:`SceneBatch`.

    In a folder in MARIO's format, these are the samples with a ``scene.json``.

    Arguments, splits and order are those of :class:`~vlad_lightning.data.datamodule.MarioDataModule`.
    """

    dataset_class = SceneDataset
    batch_class = SceneBatch

    def _folder(self, root: str, index: str | None = None) -> MarioFolder:
        folder = super()._folder(root, index)
        folder.scenes_only = True
        return folder


def is_known(scene: SceneFacts) -> bool:
    """Return whether all colours of a scene's objects are in the palette, and there are not too many for a batch."""
    return len(scene.objects) <= MOST_OBJECTS and all(entry.colour in COLOURS for entry in scene.objects)


def found_in(scene: SceneFacts) -> tuple[FoundObject, ...]:
    """Convert a scene's objects to detections; an object with an unknown name gets None as its shape."""
    found = []
    for entry in scene.objects:
        left, top, right, bottom = entry.box
        name = entry.name if entry.name in KINDS else None
        centre = ((left + right) / 2, (top + bottom) / 2)
        found.append(FoundObject(name, entry.colour, *centre, right - left, bottom - top))
    return tuple(found)
