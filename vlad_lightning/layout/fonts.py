"""Fonts by file or family: loading, shaping of words, and the characters that a font lacks."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageFont, features

from vlad_lightning.files import UnusableFileError, check_file
from vlad_lightning.layout.packaged import package_folder

HAND = "Intuitive.ttf"

FAMILIES = {
    "sans": "DejaVuSans-Bold.ttf",
    "serif": "DejaVuSerif-Bold.ttf",
    "mono": "DejaVuSansMono-Bold.ttf",
    "hand": HAND,
}
"""Families that can be named in the place of a font file, and the font that is drawn: handwriting comes with
``font-intuitive``, the others with matplotlib."""

_MOST_BYTES = 500_000_000  # a font of all Chinese, Japanese and Korean letters in every weight has 150 million
_CHECKED_SIZE = 16  # pixels: any size shows whether a file is a font


@lru_cache(maxsize=64)
def load_font(font: str | None, size: int, shaped: bool = False) -> ImageFont.FreeTypeFont:
    """Load a font file at a size.

    Args:
        font: a TrueType or OpenType file, or one of :data:`FAMILIES`; None is ``sans``.
        size: font size in pixels.
        shaped: whether Raqm joins letters and puts them in visual order; otherwise one glyph per character, from left
            to right, with kerning.

    Raises:
        OSError: if ``font`` cannot be read.
        UnusableFileError: if ``font`` is not a regular file, or is far too large.
    """
    if (
        font is not None and font not in FAMILIES and Path(font).exists()
    ):  # otherwise Pillow looks for the name among the system's fonts
        check_file(Path(font), _MOST_BYTES)
    # The basic engine is in every build of Pillow and draws the same everywhere; the other one needs FriBidi.
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    return ImageFont.truetype(font_file(font), size, layout_engine=engine)


def font_file(font: str | None) -> str:
    """Return the path of a font: of one of :data:`FAMILIES`, of ``sans`` for None, or ``font`` itself."""
    if font is not None and font not in FAMILIES:
        return font
    return packaged_font(FAMILIES[font or "sans"])


def packaged_font(name: str) -> str:
    """Return the path of a font file of matplotlib's, or of :data:`HAND`.

    Raises:
        FileNotFoundError: if the font's package is not installed.
    """
    if name == HAND:
        return str(package_folder("font_intuitive", "font-intuitive", "0.0.4") / "files" / name)
    # not matplotlib.get_data_path(): to import matplotlib takes half a second in each process
    return str(package_folder("matplotlib", "matplotlib", "3.11.0") / "mpl-data" / "fonts" / "ttf" / name)


def check_font(font: str | None, argument: str = "font") -> None:
    """Refuse a file that is not a font.

    Raises:
        ValueError: naming ``argument``.
    """
    try:
        load_font(font, _CHECKED_SIZE)
    except (OSError, UnusableFileError) as error:
        raise ValueError(f"{argument}={font!r} cannot be read ({error}); give a TrueType or OpenType file") from error


@lru_cache(maxsize=1)
def can_shape() -> bool:
    """Return whether this machine's Pillow has Raqm; Pillow's wheels have it if they find the system's FriBidi."""
    return bool(features.check("raqm"))


def needs_shaping(word: str) -> bool:
    """Return whether one glyph per character, from left to right, would be wrong.

    That is so for text that is read from right to left (Arabic, Hebrew) and for combining marks (Devanagari, Thai).

    Example:
        >>> needs_shaping("Ångström"), needs_shaping("中文"), needs_shaping("سلام"), needs_shaping("हिन्दी")
        (False, False, True, True)
    """
    if word.isascii():
        return False
    return any(unicodedata.bidirectional(c) in ("R", "AL") or unicodedata.category(c).startswith("M") for c in word)


def missing_characters(word: str, font: str | None = None) -> tuple[str, ...]:
    """Return the characters of a word for which a font has no glyph, except white space and invisible characters.

    Args:
        word: the word as it is drawn.
        font: a font file; None is the default one.
    """
    # Raqm composes what it can, so a letter and its accent may be one glyph
    seen = dict.fromkeys(unicodedata.normalize("NFC", word))
    return tuple(c for c in seen if not (c.isspace() or _invisible(c) or _has_glyph(font, c)))


def check_words(words: Sequence[str], fonts: Sequence[str | None]) -> None:
    """Refuse words that their fonts cannot draw.

    Args:
        words: the words as they are drawn.
        fonts: a font file for each; None is the default one.

    Raises:
        ValueError: naming the characters and the font, or what this machine lacks to shape the word.
    """
    for word, font in zip(words, fonts, strict=True):
        if missing := missing_characters(word, font):
            named = ", ".join(f"{c!r} (U+{ord(c):04X})" for c in missing)
            raise ValueError(
                f"the font {font_file(font)} has no glyph for {named} of the word {word!r}; name a font that has"
            )
        if needs_shaping(word) and not can_shape():
            raise ValueError(
                f"the word {word!r} is of a script that has to be shaped, which Pillow cannot do here: its Raqm needs "
                "the library FriBidi (Debian and Ubuntu: apt install libfribidi0)"
            )


def _invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc")


@lru_cache(maxsize=65_536)
def _has_glyph(font: str | None, character: str) -> bool:
    return bool(_charmap(font).get_char_index(ord(character)) != 0)


@lru_cache(maxsize=16)
def _charmap(font: str | None) -> Any:
    from matplotlib.ft2font import FT2Font

    return FT2Font(font_file(font))
