from __future__ import annotations

import pytest
import torch

from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.metrics.word_colour import WordColour, ink_colours, requested_colours
from vlad_lightning.types import Layout

LAYOUT = Layout(("SALE", "now"), torch.tensor([[0.5, 0.3, 0.7, 0.25, 0.2], [0.5, 0.75, 0.5, 0.2, 0.0]]))
PROMPT = "'SALE' in {} letters and 'now' in {} serif letters"


def painted(ground: list[str], inks: tuple[str, str], fonts: tuple[str, ...] = (), size: int = 96) -> torch.Tensor:
    """Draw LAYOUT's words in two colours on vertical stripes, (3, size, size) float in [-1, 1]."""
    rgb = {name: torch.tensor(value) / 127.5 - 1 for name, value in PALETTE.items()}
    stripes = torch.stack([rgb[ground[x // 4 % len(ground)]] for x in range(size)], dim=1)  # (3, size)
    image = stripes[:, None].repeat(1, size, 1)
    for i, ink in enumerate(inks):
        word = Layout((LAYOUT.words[i],), LAYOUT.boxes[i : i + 1], fonts[i : i + 1])
        cover = Rasterizer()(word, (size, size)).float() / 255
        image = image.lerp(rgb[ink].view(3, 1, 1), cover)
    return image


def glyphs_of(layout: Layout, size: int = 96) -> torch.Tensor:
    return glyph_images(Rasterizer()(layout, (size, size))[None])[0]


@pytest.mark.parametrize("inks", [("red", "black"), ("purple", "brown")])
def test_the_letters_colours_are_seen_on_a_ground_of_two_colours(inks: tuple[str, str]) -> None:
    assert ink_colours(painted(["yellow", "green"], inks), glyphs_of(LAYOUT), LAYOUT) == list(inks)


@pytest.mark.parametrize("ground", [["blue"], ["white"], ["yellow"]])
@pytest.mark.parametrize("inks", [("red", "black"), ("purple", "brown")])
def test_the_letters_colours_are_seen_whatever_the_ground_and_the_font(
    ground: list[str], inks: tuple[str, str]
) -> None:
    for fonts in ((), ("serif", "hand")):
        assert ink_colours(painted(ground, inks, fonts), glyphs_of(LAYOUT), LAYOUT) == list(inks)


def test_only_words_with_a_colour_of_the_palette_are_counted() -> None:
    metric = WordColour()
    image = painted(["white"], ("red", "black"))[None]
    glyphs = glyphs_of(LAYOUT)[None]
    for prompt in (PROMPT.format("red", "blue"), PROMPT.format("gold", "black"), "'SALE' and 'now'"):
        metric.update(image, glyphs, [LAYOUT], [prompt], [prompt])
    result = metric.compute()["word_colour"]
    assert (result.value, result.n) == (pytest.approx(2 / 3), 3)
    assert sorted(metric.per_image()["word_colour"].values()) == [(0.0, 0.0), (1.0, 1.0), (1.0, 2.0)]


def test_nothing_asked_for_is_no_result() -> None:
    metric = WordColour()
    assert metric.compute() == {}
    metric.update(torch.zeros(0, 3, 8, 8), torch.zeros(0, 3, 8, 8), [], [])
    metric.update(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), [Layout.empty()], ["'A' in red"])
    assert metric.compute() == {}
    with pytest.raises(ValueError, match="prompts has 0 entries; 1 images need as many"):
        metric.update(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), [Layout.empty()], [])


def test_a_layouts_own_colour_is_no_request() -> None:
    own = Layout(LAYOUT.words, LAYOUT.boxes, colours=("red", None))
    assert requested_colours("'SALE' and 'now' in grey", own) == [None, "gray"]
