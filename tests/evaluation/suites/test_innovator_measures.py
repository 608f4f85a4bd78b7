from __future__ import annotations

from typing import Any

import pytest
from suite_images import figures, seen, word

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites.innovator_measures import ExactMeasure, TextLayoutMeasure


def item(*texts: dict[str, Any], sides: tuple[Any, ...] = (), script: str = "latin") -> Item:
    words = tuple(one for text in texts for one in text["words"])
    return Item("x/0", "x", "x", words, {"texts": list(texts), "sides": list(sides), "script": script})


def text(*words: str, **more: Any) -> dict[str, Any]:
    return {"words": list(words), **more}


def test_exact_words_keep_case_punctuation_and_accents() -> None:
    one = item(text("Caf\u00e9", "OPEN!", case="written"), text("now"))
    found = figures(ExactMeasure(), [(one, seen("Cafe\u0301 OPEN", "now"))])
    assert found["exact_words"] == pytest.approx(2 / 3)
    assert found["case_accuracy"] == 1 / 2
    assert "text_free" not in found


@pytest.mark.parametrize(("line", "right"), [("no NO no", 1), ("no no", 0), ("no no no no", 0), ("nono no", 0)])
def test_repetitions_are_counted(line: str, right: int) -> None:
    assert figures(ExactMeasure(), [(item(text("no", "no", "no", times=3)), seen(line))])["repeat_accuracy"] == right


def test_nothing_to_draw_means_nothing_to_read() -> None:
    found = figures(ExactMeasure(), [(item(), seen("", " ")), (item(), seen("7"))])
    assert found == {"text_free": 0.5}


def test_a_text_is_where_its_common_box_is_centred() -> None:
    one = item(text("BIG", "SALE", place="top"), text("now", place="bottom right"))
    words = [word("BIG", 0.3, 0.2), word("SALE", 0.7, 0.2), word("now", 0.5, 0.8)]
    found = figures(TextLayoutMeasure(), [(one, seen(words=words))])
    assert found["place_accuracy"] == 1 / 2
    assert found["text_binding"] == 1 / 2
    missing = figures(TextLayoutMeasure(), [(one, seen(words=words[1:]))])
    assert missing["place_accuracy"] == 0


def test_equal_words_go_to_the_text_whose_place_they_have() -> None:
    one = item(text("SALE", place="bottom"), text("SALE", place="top"))
    words = [word("SALE", 0.5, 0.1), word("sale", 0.5, 0.9)]
    assert figures(TextLayoutMeasure(), [(one, seen(words=words))])["place_accuracy"] == 1
    assert figures(TextLayoutMeasure(), [(one, seen(words=words[:1]))])["place_accuracy"] == 1 / 2


@pytest.mark.parametrize(
    ("x", "y", "side"), [(0.1, 0.5, "left"), (0.9, 0.5, "right"), (0.5, 0.1, "above"), (0.45, 0.7, "below")]
)
def test_sides_of_two_texts(x: float, y: float, side: str) -> None:
    for said in ("left", "right", "above", "below"):
        one = item(text("a"), text("b"), sides=((0, said, 1),))
        found = figures(TextLayoutMeasure(), [(one, seen(words=[word("a", x, y), word("b", 0.5, 0.5)]))])
        assert found["side_accuracy"] == (said == side)


@pytest.mark.parametrize(("height", "right"), [(0.2, 1), (0.126, 1), (0.12, 0), (0.05, 0)])
def test_big_letters_are_higher_than_small_ones(height: float, right: int) -> None:
    one = item(text("a", size="big"), text("b", size="small"))
    words = [word("a", 0.5, 0.2, height=height), word("b", 0.5, 0.8, height=0.1)]
    found = figures(TextLayoutMeasure(), [(one, seen(words=words))])
    assert (found["size_accuracy"], found["text_binding"]) == (right, right)


@pytest.mark.parametrize(
    ("places", "right"),
    [
        ([(0.2, 0.5), (0.5, 0.5), (0.8, 0.5)], 1),  # one line
        ([(0.2, 0.4), (0.5, 0.4), (0.2, 0.6)], 1),  # two lines
        ([(0.5, 0.5), (0.2, 0.5), (0.8, 0.5)], 0),
        ([(0.2, 0.6), (0.5, 0.4), (0.8, 0.6)], 0),
    ],
)
def test_words_follow_each_other(places: list[tuple[float, float]], right: int) -> None:
    words = [word(name, x, y) for name, (x, y) in zip("abc", places, strict=True)]
    found = figures(TextLayoutMeasure(), [(item(text(*"abc")), seen(words=words))])
    assert found["order_accuracy"] == right
    assert "order_accuracy" not in figures(TextLayoutMeasure(), [(item(text(*"abc"), script="hebrew"), seen())])


def test_words_that_lie_on_each_other_are_counted() -> None:
    apart, over = [word("a", 0.2, 0.5), word("b", 0.5, 0.5)], [word("a", 0.2, 0.5), word("b", 0.3, 0.5)]
    found = figures(TextLayoutMeasure(), [(item(), seen(words=apart)), (item(), seen(words=over))])
    assert found["text_overlap"] == 0.5


def test_binding_needs_all_that_is_said_of_a_text() -> None:
    one = item(text("OPEN", place="top", case="upper"), text("late", place="bottom", case="lower"), text("free"))
    words = [word("open", 0.5, 0.1), word("late", 0.5, 0.9), word("free", 0.5, 0.5)]
    found = figures(TextLayoutMeasure(), [(one, seen(words=words))])
    assert (found["place_accuracy"], found["text_binding"]) == (1, 1 / 2)


def test_without_corners_nothing_is_in_its_place() -> None:
    found = figures(TextLayoutMeasure(), [(item(text("a", place="top")), seen("a"))])
    assert (found["place_accuracy"], found["text_overlap"]) == (0, 0)
