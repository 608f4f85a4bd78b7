"""One sample on its way into a prepared data set: checked, mended and shrunk."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from vlad_lightning.data.annotation import Reader, read_words
from vlad_lightning.data.mario import encode_image
from vlad_lightning.data.ocr_lines import OcrWord, format_word, parse_ocr
from vlad_lightning.data.prepared_shard import PreparedRow
from vlad_lightning.data.scene_file import decode_scene
from vlad_lightning.data.source import SkipSample, check_caption_length, quoted_caption
from vlad_lightning.files import UnusableFileError, as_rgb, picture_from_bytes
from vlad_lightning.layout.prompt_parser import bare_word, drawn_words, quote_words
from vlad_lightning.limits import MOST_SIDE, check_share, check_whole

_MOST_LINES = 1_000  # of an ocr.txt, as in a data folder
_DENSE = 3  # bytes a pixel: a file of more carries something else than its picture
_ORIENTATION = 0x0112  # the EXIF entry
_SYMBOLS = re.compile(r"([#@&%]*)([^\s#@&%](?:\S*[^\s#@&%.,;:!?)\]\"'])?)([#@&%]*)")


@dataclass(frozen=True)
class PrepareSettings:
    """How samples are prepared.

    Attributes:
        size: pictures whose shorter side is longer than this, in pixels, are shrunk to it.
        min_side: pictures with a shorter side below this are left out.
        min_confidence: words that were read with a lower confidence are left out.
        keep_quotes: a caption's own quotes mark words to draw, also such that were not read on the picture; False
            makes them plain text there.
        caption: the caption of pictures that have none; None leaves these out.

    Raises:
        ValueError: if a value is out of its range.
    """

    size: int = 512
    min_side: int = 64
    min_confidence: float = 0.3
    keep_quotes: bool = False
    caption: str | None = None

    def __post_init__(self) -> None:
        check_whole("size", self.size, 8, MOST_SIDE)
        check_whole("min_side", self.min_side, 8, self.size)
        check_share("min_confidence", self.min_confidence)
        if self.caption is not None and not self.caption.strip():
            raise ValueError(f"caption is {self.caption!r}; it must be a text, or not be given")


@dataclass(frozen=True)
class FoundSample:
    """A sample as it was found.

    Attributes:
        key: its name in the set.
        name: where it is, for reports; printable.
        image: the content of the picture's file.
        caption: None if there is none.
        ocr: the content of its ``ocr.txt``; None if the words are still to be read.
        scene: the content of its ``scene.json``; empty if there is none.
        problem: why it cannot be used, in short; empty if it can.
    """

    key: str
    name: str
    image: bytes = b""
    caption: str | None = None
    ocr: str | None = None
    scene: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Prepared:
    """A sample that is prepared.

    Attributes:
        row: what is stored.
        pixels: hash of the stored picture's pixels, 16 bytes.
        words: the number of words that were read.
        quoted: the number of words to draw.
        mended: what was changed or left out in it, in short.
    """

    row: PreparedRow
    pixels: bytes
    words: int
    quoted: int
    mended: tuple[str, ...]


def prepare_sample(found: FoundSample, settings: PrepareSettings, reader: Reader | None = None) -> Prepared:
    """Check, mend and shrink a sample.

    Args:
        found: the sample.
        settings: how it is prepared.
        reader: reads the words on a picture that comes without them.

    Raises:
        SkipSample: if it cannot be used.
    """
    if found.problem:
        raise SkipSample(found.problem, found.name)
    caption = " ".join((settings.caption or "" if found.caption is None else found.caption).split())
    if not caption:
        raise SkipSample("no caption" if found.caption is None else "empty caption", found.name)
    image, content = _picture(found, settings)
    words, mended = _words(found, image, settings, reader)
    words, completed = with_symbols(caption, words)
    mended += ["words with the symbol that the caption has"] * completed
    prompt = _prompt(caption, words, settings, found.name)
    scene = found.scene
    if scene and not _is_scene(scene):
        scene, mended = "", [*mended, "scene.json that cannot be used"]
    lines = "\n".join(map(format_word, words))
    row = PreparedRow(found.key, found.name, caption, prompt, lines, scene, content, *image.size)
    pixels = hashlib.blake2b(b"%d %d " % image.size + image.tobytes(), digest_size=16).digest()
    return Prepared(row, pixels, len(words), len(drawn_words(prompt)), tuple(mended))


def with_symbols(caption: str, words: Sequence[OcrWord]) -> tuple[list[OcrWord], int]:
    """Give words the ``%``, ``#``, ``&`` and ``@`` that the caption has beside them and the reader has not read.

    Returns:
        The words, and how many were changed.

    Example:
        >>> word = OcrWord("50", np.zeros((4, 2)))
        >>> [word.text for word in with_symbols("now 50% off", [word])[0]]
        ['50%']
    """
    beside: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for before, core, after in _SYMBOLS.findall(caption):
        if before or after:
            beside[bare_word(core)].append((before, after))
    for word in words:  # read with its symbols
        known = _SYMBOLS.fullmatch(word.text)
        if known and (known[1], known[3]) in beside[bare_word(word.text)]:
            beside[bare_word(word.text)].remove((known[1], known[3]))
    found, changed = [], 0
    for word in words:
        sides = beside[bare_word(word.text)]
        if sides and not re.search("[#@&%]", word.text):
            before, after = sides.pop(0)
            word, changed = replace(word, text=f"{before}{word.text}{after}"), changed + 1
        found.append(word)
    return found, changed


def _prompt(caption: str, words: Sequence[OcrWord], settings: PrepareSettings, name: str) -> str:
    if not settings.keep_quotes:
        return quoted_caption(caption, words, name)
    check_caption_length(caption, name)
    prompt = quote_words(caption, [word.text for word in words], np.array([word.quad for word in words]))
    check_caption_length(prompt, name)
    return prompt


def _words(
    found: FoundSample, image: Image.Image, settings: PrepareSettings, reader: Reader | None
) -> tuple[list[OcrWord], list[str]]:
    """Return the words with their corners in the frame, as the stored lines will be read, and what was changed."""
    if found.ocr is None:
        read = [] if reader is None else read_words(reader, image, found.name)
        problems: list[str] = []
    elif len(found.ocr.splitlines()) > _MOST_LINES:
        raise SkipSample(f"ocr.txt: more than {_MOST_LINES:,} lines", found.name)
    else:
        read, problems = parse_ocr(found.ocr, settings.min_confidence)
    clipped = [replace(word, quad=word.quad.clip(0, 1)) for word in read]
    moved = sum((a.quad != b.quad).any() for a, b in zip(read, clipped, strict=True))
    words, lost = parse_ocr("\n".join(map(format_word, clipped)))
    return words, [*problems, *["corners outside of the frame"] * int(moved), *lost]


def _picture(found: FoundSample, settings: PrepareSettings) -> tuple[Image.Image, bytes]:
    """Return the picture as it is stored, and the content of its file: the given one if nothing has to be changed."""
    try:
        picture = picture_from_bytes(found.image, found.name)
        if min(picture.size) < settings.min_side:
            raise SkipSample(f"a side of less than {settings.min_side} pixels", found.name)
        is_plain = picture.format == "JPEG" and picture.mode == "RGB"
        upright = picture.getexif().get(_ORIENTATION, 1) == 1
        size = picture.size
        if picture.format == "JPEG":  # decodes at a half, a quarter or an eighth, if that is enough
            picture.draft("RGB", (settings.size, settings.size))
        image = _shrunk(as_rgb(picture, in_place=True), settings.size)
    except UnusableFileError as error:
        raise SkipSample(error.reason, found.name) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise SkipSample("no picture, or a damaged one", found.name) from error
    if is_plain and upright and image.size == size and len(found.image) <= _DENSE * size[0] * size[1]:
        return image, found.image
    return image, encode_image(image)


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    scale = side / min(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _is_scene(text: str) -> bool:
    try:
        decode_scene(text)
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    return True


def counted(found: Sequence[Prepared]) -> Counter[str]:
    """Return how often each change was made."""
    return Counter(change for one in found for change in one.mended)
