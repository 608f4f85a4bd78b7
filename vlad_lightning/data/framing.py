"""Pictures in a frame of other proportions: stretched to it, cropped to their middle, or with white beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import shapely
from PIL import Image

from vlad_lightning.data.scene_file import ObjectFacts, SceneFacts, WordFacts
from vlad_lightning.data.source import RawSample, quoted_caption
from vlad_lightning.files import as_rgb
from vlad_lightning.layout.prompt_parser import region_of

Resize = Literal["stretch", "crop", "pad"]

_LEGIBLE = 0.9  # of a word's area: one of which less is in the frame is cut off, and a prompt must not ask for it
_RECOGNISABLE = 0.5  # of an object's area


@dataclass(frozen=True, eq=False)
class _Frame:
    """Where the new frame lies: a point at ``p`` fractions of the picture is at ``p * scale + shift`` of the frame.

    Attributes:
        scale: (2,) float64: the picture's width and height in frames.
        shift: (2,) float64: the place of the picture's upper left corner.
    """

    scale: np.ndarray
    shift: np.ndarray

    def move(self, points: np.ndarray) -> np.ndarray:
        """Return points (..., 2) in fractions of the frame."""
        return points * self.scale + self.shift

    def shares(self, quads: np.ndarray) -> np.ndarray:
        """Return which share of each moved quad (N, 4, 2) lies in the frame, of what lies in the picture."""
        hulls = shapely.convex_hull(shapely.polygons(quads))
        picture = shapely.box(*self.shift, *(self.shift + self.scale))
        visible = shapely.area(shapely.intersection(hulls, picture))
        inside = shapely.area(shapely.intersection(hulls, shapely.box(0, 0, 1, 1)))
        return np.divide(inside, visible, out=np.zeros(len(quads)), where=visible > 0)


def check_resize(resize: str) -> None:
    """Refuse another way than those of :data:`Resize`.

    Raises:
        ValueError: naming the value and what is allowed.
    """
    if resize not in get_args(Resize):
        raise ValueError(f"resize is {resize!r}; allowed: {', '.join(get_args(Resize))}")


def framed(sample: RawSample, resize: Resize, size: tuple[int, int], with_image: bool = True) -> RawSample:
    """Return a sample whose picture has a frame's proportions, with its words and objects moved along.

    A word of which more than a tenth is cut off is left out, also from the prompt's words to draw; so is an object of
    which more than half is. The boxes of other objects end at the frame.

    Args:
        sample: the sample; returned as it is if its picture has them, or is to be stretched, which moves nothing.
        resize: ``stretch``; ``crop`` keeps the middle; ``pad`` keeps all, in the middle of a white frame.
        size: height and width of the frame in pixels.
        with_image: False leaves the picture as it is; only its proportions are used.

    Raises:
        SkipSample: if the prompt becomes too long.
    """
    if resize == "stretch":
        return sample
    image = as_rgb(sample.image) if with_image else sample.image
    width, height = image.size
    if width * size[0] == height * size[1]:
        return sample
    frame = _crop_frame(width, height, size) if resize == "crop" else _pad_frame(width, height, size)
    if with_image:
        image = (_cropped if resize == "crop" else _padded)(image, size)
    quads = frame.move(np.array([word.quad for word in sample.words], dtype=np.float64).reshape(-1, 4, 2))
    kept = np.flatnonzero(frame.shares(quads) >= _LEGIBLE).tolist()
    words = [sample.words[i] for i in kept]
    prompt = sample.prompt
    if len(kept) < len(sample.words):
        prompt = quoted_caption(sample.caption, words, sample.key)
    moved = tuple(replace(sample.words[i], quad=quads[i].astype(np.float32)) for i in kept)
    scene = None if sample.scene is None else _moved_scene(sample.scene, frame)
    return replace(sample, image=image, words=moved, prompt=prompt, scene=scene)


def _crop_frame(width: int, height: int, size: tuple[int, int]) -> _Frame:
    sides, kept = _kept(width, height, size)
    return _Frame(sides / kept, -(sides - kept) / 2 / kept)


def _cropped(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    sides, kept = _kept(*image.size, size)
    start = (sides - kept) / 2
    box = (*start.tolist(), *(start + kept).tolist())
    return image.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=box)


def _kept(width: int, height: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return width and height of a picture, and of the part of it that a crop keeps, (2,) float64 each."""
    down, across = size
    kept = min(width, height * across / down), min(height, width * down / across)
    return np.array([width, height], dtype=np.float64), np.array(kept, dtype=np.float64)


def _pad_frame(width: int, height: int, size: tuple[int, int]) -> _Frame:
    left, top, right, bottom = _padded_box(width, height, size)
    sides = np.array([size[1], size[0]])
    return _Frame(np.array([right - left, bottom - top]) / sides, np.array([left, top]) / sides)


def _padded(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    left, top, right, bottom = _padded_box(*image.size, size)
    picture = Image.new("RGB", (size[1], size[0]), "white")
    picture.paste(image.resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
    return picture


def _padded_box(width: int, height: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the shrunk picture in the frame, in pixels."""
    scale = min(size[1] / width, size[0] / height)
    wide, high = (max(1, round(side * scale)) for side in (width, height))
    left, top = (size[1] - wide) // 2, (size[0] - high) // 2
    return left, top, left + wide, top + high


def _moved_scene(scene: SceneFacts, frame: _Frame) -> SceneFacts:
    return replace(scene, words=_moved_words(scene.words, frame), objects=_moved_objects(scene.objects, frame))


def _moved_words(words: Sequence[WordFacts], frame: _Frame) -> tuple[WordFacts, ...]:
    quads = frame.move(np.array([word.quad for word in words], dtype=np.float64).reshape(-1, 4, 2))
    kept = np.flatnonzero(frame.shares(quads) >= _LEGIBLE).tolist()
    moved = []
    for i in kept:
        phrase = np.concatenate([quads[j] for j in kept if words[j].group == words[i].group])
        region = region_of(*((phrase.min(axis=0) + phrase.max(axis=0)) / 2).tolist())
        corners = tuple((x, y) for x, y in quads[i].tolist())
        moved.append(replace(words[i], quad=corners, region=region))
    return tuple(moved)


def _moved_objects(objects: Sequence[ObjectFacts], frame: _Frame) -> tuple[ObjectFacts, ...]:
    corners = frame.move(np.array([entry.box for entry in objects], dtype=np.float64).reshape(-1, 2, 2))
    quads = np.stack([corners[:, [0, 1, 1, 0], 0], corners[:, [0, 0, 1, 1], 1]], axis=2)
    moved = []
    for entry, share, ends in zip(objects, frame.shares(quads), corners.clip(0, 1), strict=True):
        if share >= _RECOGNISABLE:
            left, top, right, bottom = ends.ravel().tolist()
            region = region_of((left + right) / 2, (top + bottom) / 2)
            moved.append(replace(entry, box=(left, top, right, bottom), region=region))
    return tuple(moved)
