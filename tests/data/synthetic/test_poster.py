from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vlad_lightning.data.mario import character_class
from vlad_lightning.data.synthetic.lettering import draw_ink
from vlad_lightning.data.synthetic.poster import draw_background, draw_charseg, draw_poster
from vlad_lightning.data.synthetic.scene import Background, PlacedObject, PlacedWord, Scene
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.layout.colours import PALETTE, nearest_colours
from vlad_lightning.layout.nouns import SHAPES

NAMES = np.array(list(PALETTE))
PLAIN = Background("white", "solid", (PALETTE["white"], PALETTE["white"]))


def word(text: str, size: int, angle: float = 0.0, pixels: int = 16) -> PlacedWord:
    scale = max(1, 256 // size)
    width, height = (v / (size * scale) for v in draw_ink(text, "DejaVuSans-Bold.ttf", pixels * scale).image.size)
    return PlacedWord(text, "DejaVuSans-Bold.ttf", pixels, "black", 0.5, 0.5, width, height, angle)


@pytest.mark.parametrize("kind", ["solid", "gradient", "striped", "dotted", "noisy"])
def test_every_pixel_of_a_background_lies_between_its_shades(kind):
    dark, light = (30, 60, 170), (70, 110, 215)
    background = Background("blue", kind, (dark, light), angle=0.8, period=0.15, noise=4)
    pixels = np.asarray(draw_background(background, 64))
    assert pixels.shape == (64, 64, 3)
    assert (pixels >= dark).all()
    assert (pixels <= light).all()
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) >= {"solid": 1, "striped": 2, "dotted": 2}.get(kind, 20)


def test_a_gradient_equals_its_formula_rounded_to_bytes():
    dark, light = (30, 60, 170), (73, 111, 215)
    found = np.asarray(draw_background(Background("blue", "gradient", (dark, light), angle=0.0), 50))
    mix = np.arange(50)[:, None] / 49  # from the first column's centre to the last one's
    expected = np.rint(dark + mix * np.subtract(light, dark))
    assert np.array_equal(found, np.broadcast_to(expected, (50, 50, 3)))


def test_an_unknown_background_is_named():
    with pytest.raises(ValueError, match="'checked'; allowed: solid"):
        draw_background(replace(PLAIN, kind="checked"), 64)


def test_an_unknown_shape_is_named():
    with pytest.raises(ValueError, match="'blob'; allowed: circle"):
        draw_poster(Scene(PLAIN, (PlacedObject("blob", "red", 0.5, 0.5, 0.2),), ()), 64)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_object_lies_in_its_box_in_its_colour(shape):
    thing = PlacedObject(shape, "red", 0.3, 0.6, 0.2)
    red = NAMES[nearest_colours(np.asarray(draw_poster(Scene(PLAIN, (thing,), ()), 100)))] == "red"
    rows, columns = np.nonzero(red)
    assert columns.min() >= 9
    assert columns.max() <= 51
    assert rows.min() >= 39
    assert rows.max() <= 81
    assert red.sum() > 0.2 * 40 * 40
    assert np.ptp(rows) > 30
    assert np.ptp(columns) > 30


def test_shapes_differ():
    images = {draw_poster(Scene(PLAIN, (PlacedObject(s, "red", 0.5, 0.5, 0.3),), ()), 64).tobytes() for s in SHAPES}
    assert len(images) == len(SHAPES)


@pytest.mark.parametrize("size", [48, 64, 128, 300])
@pytest.mark.parametrize("angle", [-0.14, 0.0, 0.14])
def test_the_quad_fits_the_ink_tightly(size, angle):
    placed = word("HELM", size, angle, pixels=size // 5)
    dark = np.asarray(draw_poster(Scene(PLAIN, (), (placed,)), size).convert("L")) < 128
    rows, columns = np.nonzero(dark)
    points = np.stack([columns + 0.5, rows + 0.5], axis=1) / size - (0.5, 0.5)
    cos, sin = np.cos(angle), np.sin(angle)
    upright = points @ np.array([[cos, -sin], [sin, cos]])
    assert np.abs(upright).max(axis=0) == pytest.approx((placed.width / 2, placed.height / 2), abs=1.5 / size)


def test_a_positive_angle_slopes_down_to_the_right():
    quad = word("HELM", 64, 0.14).quad()
    assert quad[1, 1] > quad[0, 1]
    assert quad[1, 0] > quad[0, 0]


@pytest.mark.parametrize("size", [48, 64, 200, 512])
def test_charseg_covers_the_letters(size):
    placed = word("Cab", size, 0.1, pixels=size // 4)
    scene = Scene(PLAIN, (), (placed,))
    classes = draw_charseg(scene, size)
    assert classes.shape == (256, 256)
    assert classes.dtype == np.int64
    assert set(np.unique(classes)) == {0, *map(character_class, "Cab")}
    dark = draw_poster(scene, size).convert("L").resize((256, 256)).point(lambda v: 255 * (v < 128))
    both = (np.asarray(dark) > 0) & (classes > 0)
    either = (np.asarray(dark) > 0) | (classes > 0)
    assert both.sum() / either.sum() > 0.75


def test_the_background_is_the_majority_of_the_border():
    for index in range(60):
        scene, _ = make_scene(index, 64, seed=9, heldout=False)
        names = NAMES[nearest_colours(np.asarray(draw_poster(scene, 64)))]
        border = np.concatenate([names[:2].ravel(), names[-2:].ravel(), names[:, :2].ravel(), names[:, -2:].ravel()])
        assert (border == scene.background.colour).mean() > 0.8
