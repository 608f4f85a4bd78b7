from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from matplotlib import get_data_path

from vlad_lightning.layout.fonts import (
    can_shape,
    check_font,
    check_words,
    font_file,
    load_font,
    missing_characters,
    needs_shaping,
)

FONTS = Path(get_data_path(), "fonts", "ttf")
needs_raqm = pytest.mark.skipif(not can_shape(), reason="Pillow finds no FriBidi here, so it cannot shape")


@pytest.mark.parametrize("word", ["HELLO", "Ångström", "Ελλάδα", "Привет", "中文", "한글", "?!", ""])
def test_some_scripts_are_drawn_letter_by_letter(word: str) -> None:
    assert not needs_shaping(word)


@pytest.mark.parametrize("word", ["سلام", "שלום", "हिन्दी", "ไทยนี้", "e\u0301"])
def test_some_scripts_need_shaping(word: str) -> None:
    assert needs_shaping(word)


@needs_raqm
def test_arabic_letters_are_joined_and_run_from_right_to_left() -> None:
    joined, apart = load_font(None, 64, shaped=True), load_font(None, 64)
    assert joined.getlength("سلام") < 0.9 * apart.getlength("سلام")  # joined forms are narrower
    ink = [np.array(face.getmask("ام")).reshape(face.getmask("ام").size[::-1]) > 128 for face in (joined, apart)]
    tall = [picture.any(axis=0) & (picture.sum(axis=0) > 0.7 * len(picture)) for picture in ink]
    # the first letter, alef, is a tall stroke: on the right if shaped, on the left if drawn letter by letter
    assert np.flatnonzero(tall[0]).mean() > len(tall[0]) / 2
    assert np.flatnonzero(tall[1]).mean() < len(tall[1]) / 2


@pytest.mark.parametrize("name", ["DejaVuSans.ttf", "DejaVuSerif-Italic.ttf", "STIXGeneral.ttf"])
def test_missing_characters_are_those_not_in_the_character_map(name: str) -> None:
    with TTFont(FONTS / name) as font:
        known = font.getBestCmap()
    word = "".join(map(chr, (*range(0x41, 0x5A), *range(0x627, 0x64A), *range(0x4E00, 0x4E10), *range(0x2190, 0x21A0))))
    assert missing_characters(word, str(FONTS / name)) == tuple(c for c in word if ord(c) not in known)


def test_white_space_and_invisible_characters_are_never_missing() -> None:
    assert missing_characters("two\twords\u200d\u200b\u00ad") == ()


def test_an_accent_counts_with_its_letter() -> None:
    assert missing_characters("e\u0301", str(FONTS / "cmr10.ttf")) == missing_characters("é", str(FONTS / "cmr10.ttf"))


def test_missing_glyphs_are_named_with_their_font() -> None:
    with pytest.raises(ValueError, match=r"DejaVuSans-Bold\.ttf has no glyph for '中' \(U\+4E2D\) of the word 'a中'"):
        check_words(["fine", "a中"], [None, None])
    check_words(["fine", "a中"], [None, str(FONTS / "LastResortHE-Regular.ttf")])


def test_without_raqm_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlad_lightning.layout.fonts.can_shape", lambda: False)
    with pytest.raises(ValueError, match=r"'سلام' is of a script that has to be shaped.*apt install libfribidi0"):
        check_words(["سلام"], [None])
    check_words(["HELLO"], [None])


def test_a_file_that_is_not_a_font_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"words\[0\]\.font='.*none\.ttf' cannot be read .*TrueType"):
        check_font(str(tmp_path / "none.ttf"), "words[0].font")
    check_font(font_file(None))
