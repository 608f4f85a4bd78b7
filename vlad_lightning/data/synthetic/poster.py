"""Drawing of a scene: the image, and the charseg map with the character that each pixel shows."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from vlad_lightning.data.mario import CHARSEG_SIDE
from vlad_lightning.data.synthetic.icons import CODES, icon_mask
from vlad_lightning.data.synthetic.lettering import draw_classes, draw_ink, fineness
from vlad_lightning.data.synthetic.scene import KINDS, Background, PlacedObject, PlacedWord, Scene
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.patterns import PATTERNS, pattern

_MASK_FINENESS = 4
_FRAME_WIDTH = 0.025  # of the poster's side: well within its margin
_HILLS = 0.03  # height of hills, a fraction of the frame


def draw_poster(scene: Scene, size: int) -> Image.Image:
    """Draw the scene as an RGB image of ``size`` pixels a side."""
    image = draw_background(scene.background, size)
    for placed in scene.objects:
        _draw_object(image, placed)
    for word in scene.words:
        _draw_word(image, word)
    return image


def draw_charseg(scene: Scene, size: int) -> np.ndarray:
    """Draw the character class of each pixel of the words, as in MARIO's ``charseg.npy``.

    Returns:
        (256, 256) int64: 0 where there is no letter, else :func:`~vlad_lightning.data.mario.character_class`.
    """
    frame = size * fineness(size)
    classes = Image.new("L", (frame, frame))
    for word in scene.words:
        left, top, right, bottom = _fine_box(word, size)
        ink = draw_classes(word.text, word.font, word.pixels * fineness(size))
        letters = _tilted(ink, word, frame, (left, top, right, bottom), Image.Resampling.NEAREST)
        # the greater class is the word's own, except where two words share a pixel; faster than a mask
        classes.paste(ImageChops.lighter(letters, classes.crop((left, top, right, bottom))), (left, top))
    return np.asarray(classes.resize((CHARSEG_SIDE, CHARSEG_SIDE), Image.Resampling.NEAREST), dtype=np.int64)


def draw_background(background: Background, size: int) -> Image.Image:
    """Draw a mix of the two shades at each pixel, according to the background's kind."""
    first, second = (np.array(shade, dtype=np.float32) for shade in background.shades)
    if background.kind in ("solid", "framed"):
        image = Image.new("RGB", (size, size), background.shades[0])
        if background.accent:
            width = max(1, round(_FRAME_WIDTH * size))
            ImageDraw.Draw(image).rectangle((0, 0, size - 1, size - 1), outline=PALETTE[background.accent], width=width)
        return image
    mix = _mix(background, size)[..., None]  # (S, S, 1) in [0, 1]
    return Image.fromarray((first + mix * (second - first) + 0.5).astype(np.uint8))


def _mix(background: Background, size: int) -> np.ndarray:
    """Return the share of the second shade at each pixel, (S, S) in [0, 1]."""
    match background.kind:
        case "landscape":
            x = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
            hills = background.horizon - 0.5 + _HILLS * np.sin(2 * math.pi * x / background.period + background.angle)
            return np.clip((x[:, None] - hills) * size + 0.5, 0, 1).astype(np.float32)
        case "noisy":
            return np.random.default_rng(background.noise).random((size, size), dtype=np.float32)
        case kind if kind in PATTERNS:
            return pattern(kind, (size, size), background.angle, background.period)
    raise ValueError(f"background kind is {background.kind!r}; allowed: {', '.join(KINDS)}")


def _draw_object(image: Image.Image, placed: PlacedObject) -> None:
    left, top = (
        round((v - placed.radius * side) * image.width)
        for v, side in zip((placed.x, placed.y), placed.sides, strict=True)
    )
    width, height = (max(2, round(2 * placed.radius * side * image.width)) for side in placed.sides)
    if placed.shape in CODES:
        mask = icon_mask(placed.shape, placed.turn, width, height)
    else:
        mask = _shape_mask(placed.shape, width)
    image.paste(placed.rgb, (left, top), mask)


@lru_cache(maxsize=1024)
def _shape_mask(shape: str, side: int) -> Image.Image:
    """Draw a shape that fills a square of ``side`` pixels, in mode ``L``, with smooth edges."""
    fine = side * _MASK_FINENESS
    mask = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(mask)
    if shape in ("circle", "ring"):
        draw.ellipse((0, 0, fine - 1, fine - 1), fill=255)
    if shape == "ring":
        draw.ellipse((0.27 * fine, 0.27 * fine, 0.73 * fine, 0.73 * fine), fill=0)
    if shape not in ("circle", "ring"):
        draw.polygon([(x * fine, y * fine) for x, y in _outline(shape)], fill=255)
    return mask.reduce(_MASK_FINENESS)


def _outline(shape: str) -> list[tuple[float, float]]:
    """Return the corners of a shape in the unit square."""
    match shape:
        case "square":
            return [(0.06, 0.06), (0.94, 0.06), (0.94, 0.94), (0.06, 0.94)]
        case "triangle":
            return [(0.5, 0.02), (1, 0.96), (0, 0.96)]
        case "diamond":
            return [(0.5, 0), (0.92, 0.5), (0.5, 1), (0.08, 0.5)]
        case "star":
            spikes = [(i * math.pi / 5, 0.22 if i % 2 else 0.54) for i in range(10)]
            return [(0.5 + radius * math.sin(turn), 0.54 - radius * math.cos(turn)) for turn, radius in spikes]
        case "heart":
            return [_heart(2 * math.pi * i / 60) for i in range(60)]
    raise ValueError(f"shape is {shape!r}; allowed: circle, ring, square, triangle, diamond, star, heart")


def _heart(turn: float) -> tuple[float, float]:
    """Return a point of the heart curve, scaled to the unit square."""
    height = 13 * math.cos(turn) - 5 * math.cos(2 * turn) - 2 * math.cos(3 * turn) - math.cos(4 * turn)
    return 0.5 + 0.5 * math.sin(turn) ** 3, 0.5 - (height + 2.5) / 29


def _draw_word(image: Image.Image, word: PlacedWord) -> None:
    scale = fineness(image.width)
    left, top, right, bottom = _fine_box(word, image.width)
    ink = draw_ink(word.text, word.font, word.pixels * scale).image
    tilted = _tilted(ink, word, image.width * scale, (left, top, right, bottom), Image.Resampling.BILINEAR)
    image.paste(PALETTE[word.colour], (left // scale, top // scale), tilted.reduce(scale))


def _fine_box(word: PlacedWord, size: int) -> tuple[int, int, int, int]:
    """Return the word's upright box in fine pixels, widened to whole pixels of the poster."""
    scale = fineness(size)
    left, top, right, bottom = (v * size for v in word.box)
    return math.floor(left) * scale, math.floor(top) * scale, math.ceil(right) * scale, math.ceil(bottom) * scale


def _tilted(
    ink: Image.Image, word: PlacedWord, frame: int, box: tuple[int, int, int, int], resample: Image.Resampling
) -> Image.Image:
    """Rotate the upright ink about its centre and move it to the position of its word, cropped to ``box``."""
    cos, sin = math.cos(word.angle), math.sin(word.angle)
    dx, dy = box[0] - word.x * frame, box[1] - word.y * frame
    # Pillow needs the position in the ink of each pixel of the result: the inverse rotation.
    matrix = (cos, sin, cos * dx + sin * dy + ink.width / 2, -sin, cos, -sin * dx + cos * dy + ink.height / 2)
    return ink.transform((box[2] - box[0], box[3] - box[1]), Image.Transform.AFFINE, matrix, resample)
