from __future__ import annotations

import pytest
import torch

from vlad_lightning.data.source import prompt_of
from vlad_lightning.data.synthetic.online import SyntheticSource
from vlad_lightning.layout.fonts import FAMILIES, load_font
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.layout.lettering_requests import Lettering, lettering_spans, requested_lettering, with_lettering
from vlad_lightning.layout.prompt_parser import PromptDecomposer, bare_word, drawn_words
from vlad_lightning.types import Layout


@pytest.mark.parametrize(
    ("prompt", "asked"),
    [
        ("a sign that says 'SALE' in red", [("red", None)]),
        ("a sign that says 'SALE' in red letters, on a blue background", [("red", None)]),
        ("'SALE' at the top left in small dark green serif letters", [("dark green", "serif")]),
        ("'SALE' written in gold with a star", [("gold", None)]),
        ("the big red handwritten words 'BIG SALE'", [("red", "hand")] * 2),
        ("a card in blue with the text 'HI'", [(None, None)]),
        ("a sign, written in pink: 'HI'", [("pink", None)]),
        ("the white words 'A' at the top and 'B' in the middle", [("white", None)] * 2),
        ("the white word 'A' and 'B' in black letters", [("white", None), ("black", None)]),
        ("the white word 'A' on a red card, and 'B'", [("white", None), (None, None)]),
        ("'A' in red and 'B' in blue", [("red", None), ("blue", None)]),
        ("'SALE' in a red frame", [(None, None)]),
        ("'SALE' in red background", [(None, None)]),
        ("a red 'SALE' sign", [(None, None)]),
        ("'SALE' in the center", [(None, None)]),
        ("'SALE' in monospaced letters", [(None, "mono")]),
        ("poster, 'SALE' in orange capital letters, 'NOW' top", [("orange", None), (None, None)]),
        ("'A' in small letters, 'B' top and 'C' in red", [(None, None), (None, None), ("red", None)]),
        ("'SALE' in red and a blue star", [("red", None)]),
        ("'SALE' in red and blue letters", [("blue", None)]),
        ("'SALE' in and", [(None, None)]),
        ("no words, in red letters", []),
        ("", []),
    ],
)
def test_colour_and_family_are_read_where_they_are_clear(
    prompt: str, asked: list[tuple[str | None, str | None]]
) -> None:
    assert requested_lettering(prompt) == tuple(Lettering(*pair) for pair in asked)


@pytest.mark.parametrize(
    ("prompt", "behind"),
    [
        ("'SALE' in red", ["red"]),
        ("'SALE' at the top in dark red letters, on white", ["at the top", "dark red letters"]),
        ("'A' in red and 'B' in big serif type, a star", ["red", "big serif type"]),
        ("'A' in red and a blue star", ["red"]),
        ("'SALE' in red background", []),
        ("the red word 'SALE' above a star in blue", []),
        ("a star in blue", []),
    ],
)
def test_what_is_said_of_letters_behind_the_words(prompt: str, behind: list[str]) -> None:
    spans = lettering_spans(prompt)
    chunks = PromptDecomposer()(prompt).objects
    assert [chunk.text for chunk in chunks if any(start <= chunk.start < end for start, end in spans)] == behind


def test_captions_of_posters_are_read_back() -> None:
    source = SyntheticSource(300, size=64, seed=11, world="rich")
    said, wrong = 0, []
    for index in range(len(source)):
        sample = source.read(index)
        prompt = prompt_of(sample, sample.key)
        true: dict[str, list[tuple[str | None, str | None]]] = {}
        for word in sample.scene.words if sample.scene else ():
            true.setdefault(bare_word(word.text), []).append((word.colour, word.style and word.style.family))
        for word, asked in zip(drawn_words(prompt), requested_lettering(prompt), strict=True):
            if asked:
                colours, families = zip(*true[bare_word(word)], strict=True)
                said += 1
                if asked.colour not in (None, *colours) or asked.family not in (None, *families):
                    wrong.append((prompt, word, asked))
    assert said > 100
    assert wrong == []


def test_a_layouts_own_colours_and_fonts_stay() -> None:
    layout = Layout(
        ("A", "B", "a"), torch.full((3, 5), 0.5), fonts=("mono", None, None), colours=(None, "#102030", None)
    )
    filled = with_lettering(layout, "the red serif words 'a B' and 'A' in blue letters")
    assert filled.colours == ("red", "#102030", "blue")
    assert filled.fonts == ("mono", "serif", None)
    assert with_lettering(layout, "'A'") is layout
    assert with_lettering(Layout.empty(), "'A' in red").words == ()


def test_a_family_without_the_glyphs_is_not_used() -> None:
    layout = Layout(("Привет",), torch.full((1, 5), 0.5))
    assert with_lettering(layout, "'Привет' in handwritten letters").fonts == ()
    assert with_lettering(layout, "'Привет' in serif letters").fonts == ("serif",)


def test_each_family_draws_other_letters() -> None:
    boxes = torch.tensor([[0.5, 0.5, 0.8, 0.4, 0.0]])
    drawn = [Rasterizer()(Layout(("Rag",), boxes, fonts=(family,)), (64, 64)) for family in FAMILIES]
    assert len({picture.numpy().tobytes() for picture in drawn}) == len(FAMILIES)
    assert torch.equal(drawn[0], Rasterizer()(Layout(("Rag",), boxes), (64, 64)))
    assert {load_font(family, 16).getname()[0] for family in FAMILIES} >= {"DejaVu Sans", "Intuitive"}
