"""The rasterizer: a layout as white words on black, the mean g_TLG(t) of Eq. 6 before the autoencoder encodes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageOps
from torch import Tensor

from vlad_lightning.layout.fonts import can_shape, check_font, check_words, load_font, needs_shaping
from vlad_lightning.layout.letters import draw_letters, draw_shaped
from vlad_lightning.limits import MOST_PHRASES, MOST_SIDE
from vlad_lightning.types import Layout

_FONT_SIZES = (16, 32, 64, 128, 256)  # few, so that the fonts stay in the cache
_MAX_STRIP = 16384  # pixels: the longest strip of text that is drawn before it is stretched
_MOST_CHARACTERS = 1024  # of a word: only the first ones of a longer word are drawn, each too small to be read
_MIN_SIDE = 1e-2  # pixels: a thinner box is degenerate
_SMALL = 128  # pixels: a smaller part of the frame is drawn at twice its size for smoother edges


@dataclass(frozen=True)
class Rasterizer:
    """A callable that draws each word of a layout into its box, as large as the box allows.

    The word's ink (not its line height) is stretched to fill the box, so a box reads the same for `one` and `TYPE`.
    The upper side of a box is the upper side of the drawn word, whatever the direction of its script.

    Drawing never fails because of a missing glyph: the texts of training data are noisy, and a font draws empty frames
    for characters that it lacks. If a person chose the words, :meth:`check` them first.

    Attributes:
        font: a TrueType or OpenType file; None is DejaVu Sans Bold, which comes with matplotlib. A layout may name
            others for its words.

    Raises:
        ValueError: if ``font`` is not a font file.
    """

    font: str | None = None

    def __post_init__(self) -> None:
        check_font(self.font)

    def check(self, words: Sequence[str], fonts: Sequence[str | None] = ()) -> None:
        """Refuse words for which their fonts lack glyphs, and words that are far too many or too long.

        Args:
            words: the words to draw.
            fonts: see :class:`~vlad_lightning.types.Layout`.

        Raises:
            ValueError: naming the characters and the font, the number of words or characters that is too large, or a
                font file that cannot be read.
        """
        if len(words) > MOST_PHRASES:
            raise ValueError(f"the layout has {len(words):,} words; at most {MOST_PHRASES:,} are drawn")
        for word in words:
            if len(word) > _MOST_CHARACTERS:
                raise ValueError(
                    f"the word {word[:20]!r}... has {len(word):,} characters; at most {_MOST_CHARACTERS:,} are drawn"
                )
        for font in set(fonts):
            check_font(font)
        check_words(words, self._fonts(words, fonts))

    def __call__(self, layout: Layout, size: tuple[int, int]) -> Tensor:
        """Draw a layout; the same layout always gives the same picture.

        Args:
            layout: the words and their boxes in fractions of the frame. Parts outside the frame are cut off; a word
                without ink, and a box without an area or with a coordinate that is not finite, draws nothing.
            size: height and width in pixels.

        Returns:
            (1, H, W) uint8: white words (255) on black (0), with antialiased edges; where words overlap, the brighter
            pixel shows. :func:`glyph_images` turns them into inputs of networks.

        Raises:
            ValueError: if ``size`` is out of its range.
        """
        height, width = size
        if not (1 <= height <= MOST_SIDE and 1 <= width <= MOST_SIDE):
            raise ValueError(f"size={size!r}: height and width must lie in 1 to {MOST_SIDE:,} pixels")
        canvas = Image.new("L", (width, height))
        quads = layout.quads().double().numpy() * (width, height)  # (N, 4, 2), pixels
        fonts = self._fonts(layout.words, layout.fonts)
        for word, quad, font in zip(layout.words, quads, fonts, strict=True):
            self._draw(canvas, " ".join(word[:_MOST_CHARACTERS].split()), quad, font)
        return torch.from_numpy(np.array(canvas))[None]

    def _fonts(self, words: Sequence[str], fonts: Sequence[str | None]) -> list[str | None]:
        return [font or self.font for font in fonts or (None,) * len(words)]

    def _draw(self, canvas: Image.Image, word: str, quad: np.ndarray, font: str | None) -> None:
        region = _visible(quad, canvas.size)
        if not word or region is None:
            return
        axes = np.stack([quad[1] - quad[0], quad[3] - quad[0]], axis=1)  # the box's sides as columns
        lengths = np.sqrt((axes * axes).sum(axis=0))
        if lengths.min() < _MIN_SIDE:
            return
        scale = 2 if max(region[2] - region[0], region[3] - region[1]) <= _SMALL else 1
        limit = 2 * scale * max(canvas.size)  # for a box far larger than the frame
        width, height = (max(1, round(min(scale * length, limit))) for length in lengths)
        strip = _strip(word, width, height, font)
        if strip is not None:
            tile = _turn(strip, quad[0], axes, region, scale)
            canvas.paste(ImageChops.lighter(canvas.crop(region), tile), region)


def glyph_images(levels: Tensor) -> Tensor:
    """Convert glyph maps to inputs of networks; do it late, since as bytes they take a twelfth of the memory.

    Args:
        levels: (B, 1, H, W) uint8, drawn by a :class:`Rasterizer`, on any device.

    Returns:
        (B, 3, H, W) float32 in [-1, 1] on the same device, three equal channels; the same bits on every device.
    """
    # divide by a tensor, not by a number: CUDA would multiply by the number's reciprocal, which rounds differently
    scale = levels.new_full((1,), 127.5, dtype=torch.float32)
    return levels.float().div_(scale).sub_(1).repeat(1, 3, 1, 1)


def _strip(word: str, width: int, height: int, font: str | None) -> Image.Image | None:
    """Draw the word's ink, stretched to (width, height), with a black border of one pixel; None if there is no ink."""
    size = _fitting_size(word, width, height)
    if needs_shaping(word) and can_shape():
        ink = draw_shaped(word, load_font(font, size, shaped=True))
    else:
        ink = draw_letters(word, font, size)
    if ink is None:
        return None
    # Antialiased here, where the size changes; the affine map then only turns and shifts.
    strip = Image.fromarray(ink.picture).resize((width, height), Image.Resampling.BILINEAR, ink.exact_box)
    return ImageOps.expand(strip, border=1)


def _visible(quad: np.ndarray, frame: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the whole pixels (left, top, right, bottom) around a quad, clipped to the frame; None if none are left."""
    corners: list[list[float]] = quad.tolist()  # a few numbers, for which numpy takes longer
    if not all(math.isfinite(x) and math.isfinite(y) for x, y in corners):
        return None
    (left, right), (top, bottom) = (
        (max(0, math.floor(min(values))), min(most, math.ceil(max(values))))
        for values, most in zip(zip(*corners, strict=True), frame, strict=True)
    )
    return (left, top, right, bottom) if left < right and top < bottom else None


def _turn(
    source: Image.Image, corner: np.ndarray, axes: np.ndarray, region: tuple[int, int, int, int], scale: int
) -> Image.Image:
    """Map a picture with a border of one pixel onto a parallelogram, and cut out a region of the frame.

    Args:
        source: the picture; its corners inside the border go to ``corner``, ``corner + axes[:, 0]``, ...
        corner: (2,) pixels of the frame.
        axes: (2, 2), the parallelogram's sides as columns, pixels of the frame.
        region: left, top, right, bottom in pixels of the frame.
        scale: samples per pixel in each direction.
    """
    inner = np.array(source.size) - 2
    # Pillow needs the inverse map: from a point in the enlarged region to a point in the source.
    back = inner[:, None] * _inverse(axes)
    offset = 1 + back @ (np.array(region[:2]) - corner)
    matrix = np.column_stack([back / scale, offset]).ravel().tolist()
    size = ((region[2] - region[0]) * scale, (region[3] - region[1]) * scale)
    return source.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC).reduce(scale)


def _inverse(axes: np.ndarray) -> np.ndarray:
    if axes[0, 1] == 0 == axes[1, 0]:  # most words are upright
        return np.diag(1 / axes.diagonal())
    return np.linalg.inv(axes)


def _fitting_size(word: str, width: int, height: int) -> int:
    """Return the smallest font size that fills the box without much enlarging; a smaller one for a very long word."""
    needed = max(height, width / len(word))
    fitting = next((size for size in _FONT_SIZES if size >= needed), _FONT_SIZES[-1])
    return max(1, min(fitting, _MAX_STRIP // len(word)))


def near_letters(glyphs: Tensor, size: Sequence[int]) -> Tensor:
    """Return where letters are, with a margin around them, (B, h, w) bool, from drawn layouts (B, 3, H, W)."""
    near = F.max_pool2d(glyphs.amax(dim=1), 3, stride=1, padding=1)
    return F.adaptive_max_pool2d(near, list(size)) > -0.5
