r"""Layouts as JSON files that people write and edit: words and objects, their corners in pixels, fonts, colours.

    {"width": 512, "height": 512, "font": "fonts/Inter.ttf",
     "words": [{"text": "HELLO", "quad": [[64, 128], [448, 128], [448, 192], [64, 192]], "colour": "red"},
               {"text": "two\nlines", "quad": [...], "align": "left"}],
     "objects": [{"phrase": "a red star", "quad": [...]}]}

``size`` instead of ``width`` and ``height`` means a square frame, as in the files that ``predict`` writes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from vlad_lightning.files import read_utf8, write_text
from vlad_lightning.layout.colours import PALETTE, rgb_named
from vlad_lightning.layout.fonts import FAMILIES, check_font
from vlad_lightning.layout.paragraph import Align, paragraph
from vlad_lightning.layout.prompt_parser import PromptDecomposer, bare_phrase, comparable, drawn_words, quoted_spans
from vlad_lightning.limits import MOST_CHARACTERS, MOST_PHRASES, check_prompts, shown
from vlad_lightning.types import Layout

_FILE_KEYS = ("width", "height", "size", "font", "prompt", "words", "objects")
_OBJECT_KEYS = ("phrase", "quad")
_WORD_KEYS = ("text", "quad", "font", "colour", "align", "wrap")
_MOST_BYTES = 10_000_000  # no layout is longer
_MOST_PIXELS = 1_000_000  # per side; a wall of 10 m at 300 dots per inch has 118,110
_DIGITS = 2  # of a corner in pixels
_SHORT_SIDE = 4  # pixels
_FAR = 1000.0  # times the frame: the numbers of boxes that reach further overflow


@dataclass(frozen=True)
class LayoutFile:
    """The content of a layout file.

    Attributes:
        layout: the words with their boxes, fonts and colours (a text of several lines becomes one word per line), and
            the objects with their boxes.
        width: width in pixels of the frame in which the file's corners are given.
        height: height of that frame in pixels.
        prompt: the prompt of the layout, if the file gives one.

    Raises:
        ValueError: if a side of the frame has no pixels or far too many.
    """

    layout: Layout
    width: int
    height: int
    prompt: str | None = None

    def __post_init__(self) -> None:
        if not (1 <= self.width <= _MOST_PIXELS and 1 <= self.height <= _MOST_PIXELS):
            raise ValueError(
                f"width and height are {shown(self.width)} and {shown(self.height)}; they must lie in 1 to "
                f"{_MOST_PIXELS:,}"
            )

    @classmethod
    def load(cls, path: str | Path) -> LayoutFile:
        """Read a layout file.

        Args:
            path: JSON in UTF-8; paths of font files in it are relative to its folder.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: naming the entry that is wrong.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; it must be a layout file")
        try:
            text = read_utf8(path, _MOST_BYTES)
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not a JSON file: {error}") from error
        try:
            return cls.from_json(text, path.parent)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, text: str, folder: Path = Path()) -> LayoutFile:
        """Read the text of a layout file.

        Args:
            text: JSON.
            folder: paths of font files in it are relative to this folder.

        Raises:
            ValueError: naming the entry that is wrong.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON file: {error}") from error
        return _read(content, folder)

    def save(self, path: str | Path) -> None:
        """Write a file that people can read: corners have two digits after the point. Never leave half a file.

        If a side of a box is shorter than 4 pixels of the frame, all digits are written, since two would change it.
        """
        width, height = float(self.width), float(self.height)
        boxes = torch.cat([self.layout.boxes, self.layout.object_boxes])
        sides = boxes[:, 2:4] * min(width, height)
        write_text(Path(path), self.to_json(_DIGITS if (sides >= _SHORT_SIDE).all() else None))

    def to_json(self, digits: int | None = None) -> str:
        """Return the file's text, one entry per line.

        Args:
            digits: digits of the corners after the point; None writes all: :meth:`from_json` then returns the boxes
                exact to 1e-14 of the frame.
        """
        exact = replace(self.layout, boxes=self.layout.boxes.double())
        quads = self._corners(exact, digits)
        none = (None,) * len(self.layout)
        fonts = [
            font if font is None or font in FAMILIES else str(Path(font).resolve())
            for font in self.layout.fonts or none
        ]
        texts = [" ".join(word.split()) for word in self.layout.words]  # as drawn: a line break would make it two words
        rows = zip(texts, quads, fonts, self.layout.colours or none, strict=True)
        words = [dict(zip(_WORD_KEYS, row, strict=False)) for row in rows]
        head = {"prompt": self.prompt, "width": self.width, "height": self.height}
        lines = [f" {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}," for k, v in head.items() if v is not None]
        things = self._corners(Layout(exact.objects, self.layout.object_boxes.double()), digits)
        objects = [dict(zip(_OBJECT_KEYS, row, strict=True)) for row in zip(exact.objects, things, strict=True)]
        lists = [_listed("words", words), *([_listed("objects", objects)] if objects else [])]
        return "\n".join(["{", *lines, ",\n".join(lists), "}", ""])

    def _corners(self, layout: Layout, digits: int | None) -> list[list[list[float]]]:
        """Return the corners of a layout's words in pixels."""
        corners: list[list[list[float]]] = (layout.quads() * torch.tensor([self.width, self.height])).tolist()
        if digits is None:
            return corners
        # + 0.0, since -0.0 is written with its sign
        return [[[round(number, digits) + 0.0 for number in point] for point in quad] for quad in corners]

    def completed(self, prompt: str) -> str:
        """Add the file's colours and objects that a prompt lacks, in the wording of the training captions.

        A colour follows the quoted word, as in ``'SALE' in red letters``; for a word that the prompt does not quote
        alone, a phrase is appended. A code such as ``#ff8000`` is not mentioned; it acts through the layout alone. Each
        object that is not among the prompt's phrases is appended, too.

        Args:
            prompt: its words to draw are in quotes.
        """
        phrases = Counter(bare_phrase(phrase.text) for phrase in PromptDecomposer()(prompt).objects)
        for wanted in self.layout.objects:
            phrases[bare_phrase(wanted)] -= 1
            if phrases[bare_phrase(wanted)] < 0:
                prompt = f"{prompt.rstrip(' .,')}, with {wanted}" if prompt.strip() else wanted
        for word, colour in zip(self.layout.words, self.layout.colours, strict=False):
            if colour is None or colour.startswith("#"):
                continue
            ending = f" in {colour} letters"
            ends = [end for text, end in quoted_spans(prompt) if comparable(text) == comparable(word)]
            if not ends:
                drawn = map(comparable, drawn_words(prompt))
                named = word if comparable(word) in drawn else f'with the text "{word}"'
                prompt = f"{prompt.rstrip(' .,')}, {named}{ending}"
            elif not prompt[min(ends) :].startswith(ending):
                prompt = prompt[: min(ends)] + ending + prompt[min(ends) :]
        return prompt


def _read(content: Any, folder: Path) -> LayoutFile:
    content = _entries(content, "the file", _FILE_KEYS, {"words"})
    width, height = _frame(content)
    frame = (float(width), float(height))
    font = _font(content.get("font"), "font", folder)
    prompt = content.get("prompt")
    if not isinstance(prompt, str | None):
        raise ValueError(f"prompt is {shown(prompt)}; it must be a text")
    if prompt is not None:
        check_prompts([prompt])
    _check_list(content["words"], "words")
    words = [_word(word, f"words[{i}]", frame, font, folder) for i, word in enumerate(content["words"])]
    objects = content.get("objects", [])
    _check_list(objects, "objects")
    phrases = [_object(entry, f"objects[{i}]", frame) for i, entry in enumerate(objects)]
    lines = sum(len(part) for part, _ in words)
    if lines > MOST_PHRASES:
        raise ValueError(f"words has {lines:,} lines; at most {MOST_PHRASES:,} are drawn")
    colours = tuple(colour for part, colour in words for _ in part.words)
    layout = replace(
        _joined([part for part, _ in words]),
        colours=colours if any(colours) else (),
        objects=tuple(phrase for phrase, _ in phrases),
        object_boxes=torch.cat([torch.zeros(0, 5), *(boxes for _, boxes in phrases)]),
    )
    return LayoutFile(layout, width, height, prompt)


def _check_list(entries: Any, name: str) -> None:
    if not isinstance(entries, list):
        raise ValueError(f"{name} is {shown(entries)}; it must be a list")
    if len(entries) > MOST_PHRASES:
        raise ValueError(f"{name} has {len(entries):,} entries; at most {MOST_PHRASES:,} are drawn")


def _joined(parts: list[Layout]) -> Layout:
    if not parts:
        return Layout.empty()
    fonts = tuple(font for part in parts for font in part.fonts or (None,) * len(part))
    words = tuple(word for part in parts for word in part.words)
    return Layout(words, torch.cat([part.boxes for part in parts]), fonts if any(fonts) else ())


def _word(
    entry: Any, where: str, frame: tuple[float, float], font: str | None, folder: Path
) -> tuple[Layout, str | None]:
    """Read an entry of ``words``: its boxes, several if its text has several lines, and its colour."""
    entry = _entries(entry, where, _WORD_KEYS, {"text", "quad"})
    text, colour = entry["text"], entry.get("colour")
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{where}.text is {shown(text)}; it must be a text that is not blank")
    _check_length(text, f"{where}.text")
    if colour is not None and not (isinstance(colour, str) and rgb_named(colour)):
        raise ValueError(
            f"{where}.colour is {shown(colour)}; allowed are {', '.join(PALETTE)}, the other names of CSS, such as "
            "'dark red', and codes such as '#8b0000'"
        )
    quad = _quad(entry["quad"], f"{where}.quad", frame)
    font = _font(entry.get("font"), f"{where}.font", folder) or font
    align, wrap = entry.get("align"), entry.get("wrap", False)
    if align not in (None, *get_args(Align)):
        raise ValueError(f"{where}.align is {shown(align)}; allowed are {', '.join(get_args(Align))}")
    if not isinstance(wrap, bool):
        raise ValueError(f"{where}.wrap is {shown(wrap)}; it must be true or false")
    if wrap or align or len(text.strip().splitlines()) > 1:
        return paragraph(text, quad, align or "centre", wrap, font=font, ratio=frame[0] / frame[1]), colour
    return replace(Layout.from_quads([text], quad[None]), fonts=(font,) if font else ()), colour


def _object(entry: Any, where: str, frame: tuple[float, float]) -> tuple[str, Tensor]:
    """Read an entry of ``objects``: its phrase and its box (1, 5)."""
    entry = _entries(entry, where, _OBJECT_KEYS, set(_OBJECT_KEYS))
    phrase = entry["phrase"]
    _check_length(phrase, f"{where}.phrase")
    if not isinstance(phrase, str) or [p.text for p in PromptDecomposer()(phrase).objects] != [phrase.strip()]:
        raise ValueError(f"{where}.phrase is {shown(phrase)}; it must be one phrase of a prompt, such as 'a red star'")
    quad = _quad(entry["quad"], f"{where}.quad", frame)
    return phrase.strip(), Layout.from_quads([phrase], quad[None]).boxes


def _listed(name: str, entries: list[dict[str, Any]]) -> str:
    """Format a list of the file, one entry per line, without values that are None."""
    kept = [json.dumps({k: v for k, v in entry.items() if v is not None}, ensure_ascii=False) for entry in entries]
    return "\n".join([f' "{name}": [', ",\n".join(f"  {entry}" for entry in kept), " ]"])


def _check_length(text: Any, where: str) -> None:
    if isinstance(text, str) and len(text) > MOST_CHARACTERS:
        raise ValueError(f"{where} has {len(text):,} characters; at most {MOST_CHARACTERS:,} are read")


def _quad(value: Any, where: str, frame: tuple[float, float]) -> Tensor:
    """Read four corners as (4, 2) float64, in fractions of the frame."""
    points = value if isinstance(value, list) else []
    if len(points) != 4 or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise ValueError(f"{where} is {shown(value)}; it must be 4 corners [x, y], clockwise from the top left one")
    numbers = [number for point in points for number in point]
    if not all(type(number) is int or (type(number) is float and math.isfinite(number)) for number in numbers):
        raise ValueError(f"{where} is {shown(value)}; its coordinates must be finite numbers")
    if any(abs(number) > _FAR * side for point in points for number, side in zip(point, frame, strict=True)):
        raise ValueError(f"{where} reaches further than {_FAR:g} times the frame; the corners are in its pixels")
    quad = torch.tensor(points, dtype=torch.float64)
    across, down = quad[1] - quad[0] + quad[2] - quad[3], quad[3] - quad[0] + quad[2] - quad[1]
    if not across[0] * down[1] - across[1] * down[0] > 0:
        raise ValueError(f"{where} is {shown(value)}; the corners must run clockwise around an area")
    if (quad.amax(0) <= 0).any() or (quad.amin(0) >= torch.tensor(frame)).any():
        raise ValueError(f"{where} is {shown(value)}; it lies outside the frame of {frame[0]:g} x {frame[1]:g} pixels")
    return quad / torch.tensor(frame, dtype=torch.float64)


def _frame(content: Mapping[str, Any]) -> tuple[int, int]:
    given = {key: content[key] for key in ("width", "height", "size") if key in content}
    if set(given) not in ({"width", "height"}, {"size"}):
        named = " and ".join(given) or "nothing"
        raise ValueError(f"the frame is given by {named}; give width and height, or size, in pixels")
    for key, value in given.items():
        if type(value) is not int or not 1 <= value <= _MOST_PIXELS:
            raise ValueError(
                f"{key} is {shown(value)}; it must be a whole number of pixels, from 1 to {_MOST_PIXELS:,}"
            )
    return int(given.get("width", given.get("size", 0))), int(given.get("height", given.get("size", 0)))


def _font(value: Any, where: str, folder: Path) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{where} is {shown(value)}; it must be the path of a font file, or {', '.join(FAMILIES)}")
    if value in FAMILIES:
        return value
    path = str(folder / value)
    check_font(path, where)
    return path


def _entries(value: Any, where: str, allowed: tuple[str, ...], required: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {shown(value)}; it must be an object with {', '.join(allowed)}")
    if unknown := sorted(set(value) - set(allowed)):
        raise ValueError(f"{where}: unknown entry {', '.join(map(shown, unknown))}; allowed are {', '.join(allowed)}")
    if missing := sorted(required - set(value)):
        raise ValueError(f"{where}: missing entry {', '.join(map(repr, missing))}")
    return value
