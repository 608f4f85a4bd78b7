from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from vlad_lightning.data.word_ink import tight_quad
from vlad_lightning.layout.fonts import load_font

INK = (60, 50, 160, 80)  # a solid "word" of 100 x 30 pixels in a picture of 240 x 160


def picture(ground: tuple[int, int, int] = (250, 150, 200), ink: str = "black") -> Image.Image:
    image = Image.new("RGB", (240, 160), ground)
    ImageDraw.Draw(image).rectangle((INK[0], INK[1], INK[2] - 1, INK[3] - 1), fill=ink)
    return image


def quad(left: float, top: float, right: float, bottom: float, size: tuple[int, int] = (240, 160)) -> np.ndarray:
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)
    return corners / np.array(size, dtype=np.float32)


@pytest.mark.parametrize("loose", [(50, 40, 170, 92), (58, 38, 162, 90), (62, 44, 158, 88)], ids=str)
@pytest.mark.parametrize("ink", ["black", "white", "navy"])
def test_a_box_shrinks_to_the_ink_or_grows_to_its_ends(loose: tuple[int, int, int, int], ink: str) -> None:
    found = tight_quad(picture(ink=ink), quad(*loose))
    np.testing.assert_allclose(found * [240, 160], quad(*INK) * [240, 160], atol=1.01)


@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_turned_word_keeps_its_start(angle: int) -> None:
    """Turning the picture turns the box, and the corner at which the word starts stays the first."""
    image = picture().rotate(angle, expand=True)
    turned = lambda corners: _turned(corners, angle)  # noqa: E731
    found = tight_quad(image, turned(quad(50, 40, 170, 92)))
    np.testing.assert_allclose(found * image.size, turned(quad(*INK)) * image.size, atol=1.01)


def _turned(corners: np.ndarray, angle: int) -> np.ndarray:
    """Turn corners in fractions anticlockwise, as Pillow turns pictures."""
    for _ in range(angle // 90):
        corners = np.stack([corners[:, 1], 1 - corners[:, 0]], axis=1)
    return np.asarray(corners, dtype=np.float32)


def test_a_slanted_word_is_straightened() -> None:
    strip = Image.new("RGB", (240, 160), "white")
    ImageDraw.Draw(strip).text((60, 60), "SALE", font=load_font(None, 40), fill="black")
    ink = np.array(strip.convert("L").point(lambda level: 255 * (level < 128)).getbbox(), dtype=np.float64)
    turn = np.deg2rad(-20)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])

    def slanted(box: tuple[float, ...]) -> np.ndarray:
        corners = quad(*box) * [240, 160] - [120, 80]
        return np.asarray((corners @ matrix.T + [120, 80]) / [240, 160], dtype=np.float32)

    image = strip.rotate(20, Image.Resampling.BICUBIC, fillcolor="white")
    found = tight_quad(image, slanted((ink[0] - 4, ink[1] - 8, ink[2] + 4, ink[3] + 8)))
    np.testing.assert_allclose(found * [240, 160], slanted(tuple(ink)) * [240, 160], atol=2.5)


@pytest.mark.parametrize(
    "image",
    [
        Image.new("RGB", (240, 160), "red"),
        Image.effect_noise((240, 160), 120).convert("RGB"),
        picture(ground=(20, 20, 20)),
    ],
    ids=["nothing", "noise", "faint"],
)
def test_where_no_ink_stands_out_the_box_stays(image: Image.Image) -> None:
    loose = quad(50, 40, 170, 92)
    assert tight_quad(image, loose) is loose


def test_boxes_in_which_nothing_can_be_looked_for_stay() -> None:
    image = picture()
    for corners in (quad(50, 40, 52, 92), np.full((4, 2), np.nan, dtype=np.float32), quad(400, 400, 500, 500)):
        assert tight_quad(image, corners) is corners


def test_a_box_that_leaves_the_picture_is_looked_at_inside() -> None:
    image = Image.new("RGB", (240, 160), "white")
    ImageDraw.Draw(image).rectangle((0, 50, 99, 79), fill="black")
    found = tight_quad(image, quad(-6, 40, 108, 92))
    np.testing.assert_allclose(found * [240, 160], quad(0, 50, 100, 80) * [240, 160], atol=1.01)
