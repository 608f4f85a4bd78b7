from __future__ import annotations

import numpy as np
import pytest

from vlad_lightning.layout.colours import PALETTE, contrast, luminance, nearest_colours, rgb_named


def test_each_palette_colour_is_nearest_to_itself_and_far_from_the_others():
    rgb = np.array(list(PALETTE.values()), dtype=float)
    apart = np.linalg.norm(rgb[:, None] - rgb[None], axis=-1) + 1e9 * np.eye(len(rgb))
    assert nearest_colours(rgb).tolist() == list(range(len(PALETTE)))
    assert apart.min() > 80


def test_nearest_colours_keeps_the_shape_of_an_image():
    image = np.zeros((4, 5, 3), dtype=np.uint8)
    image[1:3] = PALETTE["pink"]
    names = np.array(list(PALETTE))[nearest_colours(image)]
    assert names.shape == (4, 5)
    assert (names[1:3] == "pink").all()
    assert (names[[0, 3]] == "black").all()


@pytest.mark.parametrize(
    ("first", "second", "ratio"),
    [((255, 255, 255), (0, 0, 0), 21.0), ((255, 0, 0), (255, 255, 255), 4.0), ((119, 119, 119), (255, 255, 255), 4.48)],
)
def test_contrast_agrees_with_published_wcag_ratios(first, second, ratio):
    assert contrast(first, second) == pytest.approx(ratio, abs=0.01)
    assert contrast(second, first) == contrast(first, second)


def test_luminance_weighs_green_most():
    assert luminance((0, 255, 0)) == pytest.approx(0.7152)
    assert luminance((255, 255, 255)) == pytest.approx(1.0)


def test_names_of_the_palette_come_before_those_of_css() -> None:
    assert all(rgb_named(name.title()) == rgb for name, rgb in PALETTE.items())
    assert rgb_named("grey") == rgb_named("gray")
    assert [rgb_named(name) for name in ("gold", "DarkGreen", "#0a0B0c")] == [(255, 215, 0), (0, 100, 0), (10, 11, 12)]
    assert [rgb_named(name) for name in ("", "#12345", "#12345g", "rgb(1,2,3)", "serif")] == [None] * 5
