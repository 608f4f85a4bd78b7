"""``scene.json``, an optional file beside MARIO's files: the words and objects on a poster and their positions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlad_lightning.files import TEXT_BYTES, read_bytes
from vlad_lightning.layout.prompt_parser import REGIONS

NAME = "scene.json"
BROKEN = f"broken {NAME}"
"""The reason given for a file that cannot be used."""

_DIGITS = 5
_FAR = 10.0  # frames: boxes that reach further are in another unit


@dataclass(frozen=True)
class WordStyle:
    """How the letters of a phrase look, besides their colour.

    Attributes:
        family: ``sans``, ``serif``, ``mono`` or ``hand``.
        case: ``upper``, ``lower`` or ``title``; ``none`` for a phrase without letters.
        size: ``big``, ``medium`` or ``small``.
    """

    family: str
    case: str
    size: str


@dataclass(frozen=True)
class WordFacts:
    """A word.

    Attributes:
        text: the word as drawn.
        quad: four corners in fractions of the frame, clockwise from the corner at which the word starts.
        region: region of its phrase as a whole.
        colour: colour name.
        font: file name of the font.
        group: index of the phrase it belongs to, from 0.
        style: the other properties of its letters; None where the file does not tell them.
    """

    text: str
    quad: tuple[tuple[float, float], ...]
    region: str
    colour: str
    font: str
    group: int
    style: WordStyle | None = None


@dataclass(frozen=True)
class ObjectFacts:
    """An object.

    Attributes:
        name: a noun.
        colour: colour name.
        box: left, top, right, bottom in fractions of the frame.
        region: region of its centre.
        phrase: the caption's phrase for it; None if the caption does not mention it.
    """

    name: str
    colour: str
    box: tuple[float, float, float, float]
    region: str
    phrase: str | None


@dataclass(frozen=True)
class SceneFacts:
    """A poster.

    Attributes:
        colour: colour name of the background.
        kind: kind of the background: ``solid``, ``gradient``, ``striped``, ``dotted``, ``noisy``, ``banded``,
            ``framed`` or ``landscape``.
        phrase: the caption's phrase for the background; None if the caption does not mention it.
        words: the words, phrase by phrase, in reading order.
        objects: the objects on it.
        accent: colour name of a frame, or of the ground in a landscape; None where the file tells none.
    """

    colour: str
    kind: str
    phrase: str | None
    words: tuple[WordFacts, ...]
    objects: tuple[ObjectFacts, ...]
    accent: str | None = None


def write_scene(folder: Path, facts: SceneFacts) -> None:
    """Write ``scene.json`` into a sample's folder."""
    (folder / NAME).write_text(encode_scene(facts), encoding="utf-8")


def encode_scene(facts: SceneFacts) -> str:
    """Return the content of a ``scene.json``; numbers are rounded to five digits."""
    accent = {"accent": facts.accent} if facts.accent else {}
    content = {
        "background": {"colour": facts.colour, "kind": facts.kind, "phrase": facts.phrase} | accent,
        "words": [_told(word) for word in facts.words],
        "objects": [vars(entry) | {"box": _rounded(entry.box)} for entry in facts.objects],
    }
    return json.dumps(content)


def read_scene(folder: Path) -> tuple[SceneFacts | None, str | None]:
    """Read a sample's ``scene.json``.

    Returns:
        The facts, or None if the file does not exist or cannot be used; and :data:`BROKEN` if it cannot be used, else
        None.

    Raises:
        OSError: if the system fails to read an existing file.
    """
    try:
        return decode_scene(read_bytes(folder / NAME, TEXT_BYTES).decode("utf-8-sig")), None
    except FileNotFoundError:
        return None, None
    except (IsADirectoryError, ValueError, KeyError, TypeError, RecursionError):
        return None, BROKEN


def decode_scene(text: str) -> SceneFacts:
    """Read the content of a ``scene.json``.

    Raises:
        ValueError, KeyError, TypeError, RecursionError: if it is not one.
    """
    content = json.loads(text)
    background = content["background"]
    words = tuple(map(_word, _list(content["words"])))
    objects = tuple(map(_object, _list(content["objects"])))
    colour, kind = _text(background["colour"]), _text(background["kind"])
    phrase, accent = (_optional(background.get(name)) for name in ("phrase", "accent"))
    return SceneFacts(colour, kind, phrase, words, objects, accent)


def _word(entry: Mapping[str, Any]) -> WordFacts:
    quad = _list(entry["quad"])
    if len(quad) != 4:
        raise ValueError(f"quad is {quad!r}; it must have four corners")
    group = entry["group"]
    if type(group) is not int or group < 0:
        raise ValueError(f"group is {group!r}; it must be a whole number from 0 on")
    corners = tuple((x, y) for x, y in (_numbers(corner, 2) for corner in quad))
    text, colour, font = (_text(entry[name]) for name in ("text", "colour", "font"))
    return WordFacts(text, corners, _region(entry), colour, font, group, _style(entry.get("style")))


def _style(entry: Mapping[str, Any] | None) -> WordStyle | None:
    if entry is None:
        return None
    return WordStyle(*(_text(entry[name]) for name in ("family", "case", "size")))


def _object(entry: Mapping[str, Any]) -> ObjectFacts:
    left, top, right, bottom = _numbers(entry["box"], 4)
    if left >= right or top >= bottom:
        raise ValueError(f"box is {entry['box']!r}; it must be left < right, top < bottom")
    box = (left, top, right, bottom)
    return ObjectFacts(_text(entry["name"]), _text(entry["colour"]), box, _region(entry), _optional(entry["phrase"]))


def _told(word: WordFacts) -> dict[str, Any]:
    told = vars(word) | {"quad": _rounded(word.quad)}  # not asdict, which copies each number
    style = told.pop("style")
    return told | {"style": asdict(style)} if style else told


def _optional(value: Any) -> str | None:
    return None if value is None else _text(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"{value!r} is not a text")
    return value


def _region(entry: Mapping[str, Any]) -> str:
    if entry["region"] not in REGIONS:
        raise ValueError(f"region is {entry['region']!r}; allowed: {', '.join(REGIONS)}")
    return str(entry["region"])


def _numbers(values: Any, count: int) -> list[float]:
    # without NumPy, which takes ten times as long for four numbers
    if not (
        isinstance(values, list)
        and len(values) == count
        and all(type(value) in (int, float) and abs(value) < _FAR for value in values)  # false for nan
    ):
        raise ValueError(f"{values!r} must be {count} numbers in fractions of the frame")
    return [float(value) for value in values]


def _rounded(values: Sequence[Any]) -> list[Any]:
    return np.round(np.array(values, dtype=np.float64), _DIGITS).tolist()
