"""One picture of one's own as a sample in MARIO's format: the words on it are read, and its caption gets quotes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from vlad_lightning.data.mario import FILES, write_sample
from vlad_lightning.data.ocr_lines import OcrWord, format_word, parse_ocr
from vlad_lightning.data.own_pictures import OwnPicture
from vlad_lightning.data.source import RawSample, SkipSample, quoted_caption
from vlad_lightning.data.word_characters import character_map
from vlad_lightning.data.word_ink import tight_quad
from vlad_lightning.files import UnusableFileError, as_rgb, picture_from_bytes, read_utf8
from vlad_lightning.layout.prompt_parser import bare_word, drawn_words, quote_words
from vlad_lightning.limits import MOST_SIDE, check_whole

NOTE = "annotation.json"
"""The file in a sample's folder, and in the data folder, that says what it was made of."""

_SHELVES, _SAMPLES = 10**3, 10**9
_BESIDE = ", with the words "
_BOXES = "ink"  # which boxes the words have: samples with others are made again


class Reader(Protocol):
    """A reader of the words on a picture, that can be sent to other processes."""

    @property
    def name(self) -> str:
        """The engine and its version."""
        ...

    def __call__(self, image: Image.Image) -> list[OcrWord]:
        """Return the words on a picture with their corners."""
        ...


@dataclass(frozen=True)
class AnnotationSettings:
    """How pictures become samples.

    Attributes:
        caption: the caption of pictures that have none; None leaves these pictures out.
        add_words: append to a caption, in quotes, the words that were read and that it lacks.
        max_side: pictures with a longer side, in pixels, are shrunk to it before they are read and stored.
        min_side: pictures with a shorter side below this, in pixels, are left out.
        charseg: write ``charseg.npy`` too, which tells the character that each pixel shows.

    Raises:
        ValueError: if ``caption`` is blank or a side is out of its range.
    """

    caption: str | None = None
    add_words: bool = False
    max_side: int = 1024
    min_side: int = 64
    charseg: bool = False

    def __post_init__(self) -> None:
        if self.caption is not None and not self.caption.strip():
            raise ValueError(f"caption is {self.caption!r}; it must be a text, or not be given")
        check_whole("max_side", self.max_side, 8, MOST_SIDE)
        check_whole("min_side", self.min_side, 8, self.max_side)


@dataclass(frozen=True)
class Outcome:
    """What has become of a picture.

    Attributes:
        name: the picture's name.
        dropped: why it is left out; empty if it has become a sample.
        folder: its sample's folder, as ``00123/000000456``; empty if it is left out.
        digest: the hash of its content, equal for equal files.
        words: the number of words that were read.
        quoted: the number of words to draw in its caption.
        kept: whether an earlier run has written the sample.
    """

    name: str
    dropped: str = ""
    folder: str = ""
    digest: str = ""
    words: int = 0
    quoted: int = 0
    kept: bool = False


def annotate_picture(picture: OwnPicture, out: Path, settings: AnnotationSettings, reader: Reader) -> Outcome:
    """Write the sample of a picture, unless it is there and was made of the same picture in the same way.

    The sample's number is a hash of the picture's name, so that it keeps its number, and so its split, when others are
    added. Its folder is written beside the others and renamed: it is there with all its files, or not at all.

    Args:
        picture: the picture.
        out: the data folder.
        settings: how the sample is made.
        reader: reads the words.

    Raises:
        OSError: if the sample cannot be written.
    """
    if picture.problem:
        return Outcome(picture.name, dropped=picture.problem)
    digest = hashlib.sha256(picture.content).hexdigest()
    shelf, number = sample_name(picture.name)
    folder = out / shelf / number
    made_of = _fingerprint(digest, picture.caption, settings, reader.name)
    if noted := _noted(folder, made_of):
        return Outcome(picture.name, "", f"{shelf}/{number}", digest, *noted, kept=True)
    try:
        sample = make_sample(picture, f"{shelf}_{number}", settings, reader)
    except SkipSample as skip:
        return Outcome(picture.name, dropped=skip.reason)
    words, quoted = len(sample.words), len(drawn_words(sample.caption))
    note = {"picture": picture.name, "made_of": made_of, "words": words, "quoted": quoted}
    characters = character_map(sample.image, sample.words) if settings.charseg else None
    _put(sample, characters, folder, out / UNFINISHED / sample.key, json.dumps(note))
    return Outcome(picture.name, "", f"{shelf}/{number}", digest, words, quoted)


UNFINISHED = ".unfinished"
"""The folder in the data folder in which samples are written before they are renamed."""


def sample_name(name: str) -> tuple[str, str]:
    """Return the two folder names of a picture's sample, by a hash of the picture's name.

    Example:
        >>> sample_name("posters/a.jpg")
        ('00455', '391204415')
    """
    value = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return f"{value // _SAMPLES % _SHELVES:05d}", f"{value % _SAMPLES:09d}"


def make_sample(picture: OwnPicture, key: str, settings: AnnotationSettings, reader: Reader) -> RawSample:
    """Return the sample of a picture: shrunk, its words read, in boxes of their ink, with quotes in its caption.

    Raises:
        SkipSample: if the picture cannot be used, or has no caption.
    """
    told = picture.caption or settings.caption or ""
    # a file with a NUL is no text, and a mark of the byte order at its start is no character
    caption = " ".join(told.replace("\0", " ").replace("\ufeff", "").split())
    if not caption:
        raise SkipSample("no caption", picture.name)
    image = _shrunk(_decoded(picture, settings.min_side), settings.max_side)
    words = read_words(reader, image, picture.name)
    prompt = quoted_caption(caption, words, picture.name)
    if settings.add_words:
        prompt = _with_words(prompt, words, picture.name)
    if not prompt.strip():  # it was nothing but quotes
        raise SkipSample("no caption", picture.name)
    return RawSample(key, image, prompt, tuple(words))


def read_words(reader: Reader, image: Image.Image, name: str) -> list[OcrWord]:
    """Return the words on a picture, in boxes of their ink, as they are read from ``ocr.txt``.

    Args:
        reader: reads the words.
        image: the picture.
        name: its name, for errors.

    Raises:
        SkipSample: if the reader fails.
    """
    return _as_stored([replace(word, quad=tight_quad(image, word.quad)) for word in _read(reader, image, name)])


def _decoded(picture: OwnPicture, min_side: int) -> Image.Image:
    try:
        image = picture_from_bytes(picture.content, picture.name)
        if min(image.size) < min_side:
            raise SkipSample(f"a side of less than {min_side} pixels", picture.name)
        return as_rgb(image, in_place=True)
    except UnusableFileError as error:
        raise SkipSample(error.reason, picture.name) from error
    except (OSError, SyntaxError, ValueError) as error:
        raise SkipSample("no picture, or a damaged one", picture.name) from error


def _shrunk(image: Image.Image, max_side: int) -> Image.Image:
    scale = max_side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _read(reader: Reader, image: Image.Image, name: str) -> list[OcrWord]:
    try:
        return reader(image)
    except Exception as error:  # an engine may fail in any way, and one picture must not end the work
        raise SkipSample(f"the words cannot be read: {type(error).__name__}", name) from error


def _as_stored(words: Sequence[OcrWord]) -> list[OcrWord]:
    """Return the words as they are read from ``ocr.txt``: in reading order, without those that cannot be used."""
    lines = [format_word(word) for word in words if np.isfinite(word.quad).all()]
    return parse_ocr("\n".join(lines))[0]


def _with_words(prompt: str, words: Sequence[OcrWord], name: str) -> str:
    """Append the words that the prompt does not ask for; if that makes it too long, return it as it is."""
    asked = Counter(bare_word(word) for word in drawn_words(prompt))
    lacking = []
    for word in words:
        if asked[bare_word(word.text)] > 0:
            asked[bare_word(word.text)] -= 1
        elif bare_word(word.text) and drawn_words(f'"{word.text}"') == (word.text,):  # it has no quotes of its own
            lacking.append(word)
    if not lacking:
        return prompt
    texts = [word.text for word in lacking]
    quoted = quote_words(" ".join(texts), texts, np.array([word.quad for word in lacking]))
    try:
        return quoted_caption(prompt.rstrip(" .,;:") + _BESIDE + quoted, words, name)
    except SkipSample:
        return prompt


def _fingerprint(digest: str, caption: str | None, settings: AnnotationSettings, engine: str) -> str:
    made_of = json.dumps([digest, caption, asdict(settings), engine, _BOXES])
    return hashlib.sha256(made_of.encode()).hexdigest()


def _noted(folder: Path, made_of: str) -> tuple[int, int] | None:
    """Return the numbers of words of a sample that was made of the same before; None if there is none."""
    try:
        note = json.loads(read_utf8(folder / NOTE, 1_000_000))
        if note["made_of"] == made_of and all((folder / name).is_file() for name in FILES):
            return int(note["words"]), int(note["quoted"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _put(sample: RawSample, characters: np.ndarray | None, folder: Path, beside: Path, note: str) -> None:
    write_sample(beside, sample, characters)
    (beside / NOTE).write_text(note, encoding="utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        folder.rename(beside.with_name(f"{beside.name}.old"))
    beside.rename(folder)
