"""Captions of the literal world that say where an object is relative to the words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from vlad_lightning.data.synthetic.beside_words import beside_words, side_of
from vlad_lightning.data.synthetic.scene import Background, Phrase, PlacedObject, PlacedWord
from vlad_lightning.data.synthetic.sentences import ground_of
from vlad_lightning.data.synthetic.synthetic import make_scene
from vlad_lightning.data.synthetic.telling import RELATIONS, CaptionContent, NamedObject

WORD = PlacedWord("SALE", "DejaVuSans.ttf", 20, "black", 0.5, 0.5, 0.4, 0.1, 0.0)
GROUND = Background("white", "solid", ((245, 245, 245), (245, 245, 245)))


def car(x: float, y: float) -> NamedObject:
    return NamedObject((PlacedObject("car", "red", x, y, 0.1),), "red car")


@pytest.mark.parametrize(
    ("place", "side"),
    [((0.5, 0.8), "below"), ((0.5, 0.2), "above"), ((0.1, 0.5), "left"), ((0.9, 0.5), "right"), ((0.8, 0.8), None)],
)
def test_the_side_of_the_words(place: tuple[float, float], side: str | None) -> None:
    assert side_of(car(*place), Phrase((WORD,))) == side


def test_every_form_is_true() -> None:
    content = CaptionContent(GROUND, (car(0.5, 0.8), NamedObject((), "blue bus")), (Phrase((WORD,)),))
    told = set()
    for seed in range(400):
        text = beside_words(content, ground_of(GROUND), np.random.default_rng(seed))
        if text is None:  # the bus is not there, so it is on no side
            continue
        told.add(re.sub(r"SALE|the [\w -]*?(?:word|text|lettering)\b", "WORDS", text))
        below = re.search(r"a red car (below|under) .*SALE", text)
        above = re.search(r"SALE (above|over) a red car", text)
        assert bool(below) != bool(above), text
        assert "a blue bus" in text
        assert "a white background" in text
    assert len(told) > 20


def test_there_is_no_side_without_an_object_or_with_two_phrases() -> None:
    rng = np.random.default_rng(0)
    other = Phrase((PlacedWord("NOW", "DejaVuSans.ttf", 20, "black", 0.5, 0.1, 0.3, 0.1, 0.0, 1),))
    assert beside_words(CaptionContent(None, (), (Phrase((WORD,)),)), None, rng) is None
    assert beside_words(CaptionContent(None, (car(0.5, 0.8),), (Phrase((WORD,)), other)), None, rng) is None
    assert beside_words(CaptionContent(None, (car(0.8, 0.8),), (Phrase((WORD,)),)), None, rng) is None


def test_some_literal_captions_say_it_and_no_rich_one_does() -> None:
    sides = "|".join(side for group in RELATIONS.values() for side in group)

    def share(world: str) -> float:
        said = 0
        for index in range(200):
            scene, caption = make_scene(index, 128, 9, False, world)  # type: ignore[arg-type]
            if len(scene.phrases) == 1:
                text = re.escape(scene.phrases[0].text)
                said += bool(
                    re.search(rf"(?:{sides}) (?:the (?:[\w-]+ )*)?{text}", caption.text)
                    or re.search(rf"{text} (?:{sides}) ", caption.text)
                )
        return said / 200

    assert 0.05 < share("literal") < 0.25
    assert share("rich") < 0.02
