"""Words drawn letter by letter equal, bit for bit, what Pillow draws in one piece."""

from __future__ import annotations

import random
import string

import numpy as np
import pytest

from vlad_lightning.layout.fonts import load_font
from vlad_lightning.layout.letters import Ink, draw_letters, draw_shaped

CHARACTERS = string.ascii_letters + string.digits + "&-.'äéÅ,:;!?()/ jJfTVAWy\"\u200b中█"


@pytest.mark.parametrize("font", [None, "serif", "mono", "hand"])
@pytest.mark.parametrize("size", [1, 16, 64, 256])
def test_a_word_equals_pillows(font: str | None, size: int) -> None:
    rng = random.Random(size)
    words = ["AVAVA", "fRfhS", "LTAYVJ", "j", " ", "Q&R'wC"]  # kerned, overlapping, before the pen, without ink
    words += ["".join(rng.choices(CHARACTERS, k=rng.randint(1, 12))) for _ in range(20)]
    for word in words:
        whole, found = draw_shaped(word, load_font(font, size)), draw_letters(word, font, size)
        if whole is None or found is None:
            assert whole is found is None
            continue
        assert np.array_equal(found.picture, whole.picture), word
        assert found.box == whole.box


def test_an_edge_counts_by_its_coverage() -> None:
    picture = np.zeros((6, 9), dtype=np.uint8)
    picture[1:5, 2:7] = 255
    picture[1:5, 2], picture[4, 3:7] = 51, 204
    assert Ink(picture, (2, 1, 7, 5)).exact_box == pytest.approx((2.8, 1, 7, 4.8))
    faint = np.full((1, 1), 51, dtype=np.uint8)
    assert Ink(faint, (0, 0, 1, 1)).exact_box == (0, 0, 1, 1)
