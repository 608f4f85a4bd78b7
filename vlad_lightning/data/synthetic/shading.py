"""Shades of colours on a poster: of a gold star, a scene says that it is yellow, and its caption that it is gold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vlad_lightning.data.synthetic.composition import text_colours
from vlad_lightning.data.synthetic.scene import TEXTURES, Background, PlacedObject, Scene
from vlad_lightning.data.synthetic.shades import SHADES, rgb_of
from vlad_lightning.data.synthetic.telling import pick
from vlad_lightning.layout.colours import PALETTE, RGB, is_far

_OBJECT_SHARE, _BACKGROUND_SHARE = 0.35, 0.4
_KINDS = ("solid", "gradient", *TEXTURES, "banded")  # the backgrounds of one colour


def with_shades(scene: Scene, rng: np.random.Generator) -> Scene:
    """Give some of a scene's objects, and some backgrounds, a shade of their colour.

    All words stay readable, and objects far enough from the background to be seen; where no shade allows that, the
    colour stays.
    """
    scene = replace(scene, background=_shaded_background(scene, rng))
    objects = tuple(thing for row in scene.rows for thing in _shaded_row(row, scene.background, rng))
    return replace(scene, objects=objects)


def _shaded_background(scene: Scene, rng: np.random.Generator) -> Background:
    background = scene.background
    if background.kind not in _KINDS or not SHADES[background.colour] or rng.random() >= _BACKGROUND_SHARE:
        return background
    name = pick(rng, SHADES[background.colour])
    moved = np.subtract(rgb_of(name), PALETTE[background.colour])
    first, second = (
        tuple(int(value) for value in np.clip(np.add(shade, moved), 0, 255)) for shade in background.shades
    )
    shades: tuple[RGB, RGB] = ((first[0], first[1], first[2]), (second[0], second[1], second[2]))
    readable = {word.colour for word in scene.words} <= text_colours(*shades).keys()
    seen = all(is_far(PALETTE[thing.colour], shades) for thing in scene.objects)
    return replace(background, shade=name, shades=shades) if readable and seen else background


def _shaded_row(
    row: tuple[PlacedObject, ...], background: Background, rng: np.random.Generator
) -> tuple[PlacedObject, ...]:
    if rng.random() >= _OBJECT_SHARE:
        return row
    names = [name for name in SHADES[row[0].colour] if is_far(rgb_of(name), background.shades)]
    if not names:
        return row
    shade = pick(rng, names)
    return tuple(replace(thing, shade=shade) for thing in row)
