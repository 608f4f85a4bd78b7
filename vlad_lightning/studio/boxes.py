"""The editor's value in the browser, and the layout and regions that it stands for.

The value is JSON: ``width`` and ``height`` of the frame in pixels, ``picture`` (the address of the picture behind the
boxes, or None), ``regions`` (whether boxes of regions can be added), ``fonts`` and ``colours`` to choose from, and
``boxes``, each with ``kind`` (``word``, ``object`` or ``region``), ``text``, ``x``, ``y``, ``w``, ``h`` and ``angle``
as in :class:`~vlad_lightning.types.Layout`, and, for words, ``font`` and ``colour`` or None.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.fonts import FAMILIES
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.limits import MOST_PHRASES, shown
from vlad_lightning.types import Layout

_NUMBERS = ("x", "y", "w", "h", "angle")
_KINDS = ("word", "object", "region")


def editor_value(
    layout: Layout | None = None,
    size: tuple[int, int] = (1, 1),
    picture: str | None = None,
    regions: bool = False,
    kept: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the editor's value for a layout.

    Args:
        layout: its words and objects; None shows no boxes but ``kept``.
        size: width and height of the frame in pixels.
        picture: address of the picture behind the boxes.
        regions: whether boxes of regions can be added.
        kept: further boxes, as in the editor's value.
    """
    return {
        "width": size[0],
        "height": size[1],
        "picture": picture,
        "regions": regions,
        "fonts": list(FAMILIES),
        "colours": {name: "#{:02x}{:02x}{:02x}".format(*rgb) for name, rgb in PALETTE.items()},
        "boxes": [*(_boxes(layout) if layout is not None else []), *kept],
    }


def _boxes(layout: Layout) -> list[dict[str, Any]]:
    none = (None,) * len(layout)
    words = zip(layout.words, layout.boxes.tolist(), layout.fonts or none, layout.colours or none, strict=True)
    objects = zip(layout.objects, layout.object_boxes.tolist(), strict=True)
    return [
        *(
            {"kind": "word", "text": text, **_placed(box), "font": font if font in FAMILIES else None, "colour": colour}
            for text, box, font, colour in words
        ),
        *({"kind": "object", "text": phrase, **_placed(box)} for phrase, box in objects),
    ]


def _placed(box: Sequence[float]) -> dict[str, float]:
    return dict(zip(_NUMBERS, box, strict=True))


def edited_layout(value: object, prompt: str | None = None) -> LayoutFile:
    """Return the words and objects of an editor's value as a layout file, checked as one.

    Args:
        value: the editor's value, as any browser may have sent it.
        prompt: the prompt to store in the file.

    Raises:
        ValueError: naming the box and what is wrong with it.
    """
    boxes = _checked(value)
    width, height = _frame(value)
    words = [
        {"text": box["text"].strip(), "quad": quad, **_lettering(box)}
        for box, quad in _with_corners(boxes, "word", width, height)
    ]
    objects = [
        {"phrase": box["text"].strip(), "quad": quad} for box, quad in _with_corners(boxes, "object", width, height)
    ]
    content = {"width": width, "height": height, "words": words, "objects": objects}
    if prompt is not None:
        content["prompt"] = prompt
    return LayoutFile.from_json(json.dumps(content))


def region_mask(value: object) -> Image.Image | None:
    """Return a mask of the frame's size, white in the regions of an editor's value; None if it has none.

    Raises:
        ValueError: naming the box and what is wrong with it.
    """
    boxes = _checked(value)
    width, height = _frame(value)
    quads = [quad for _, quad in _with_corners(boxes, "region", width, height)]
    if not quads:
        return None
    mask = Image.new("L", (width, height))
    for quad in quads:
        ImageDraw.Draw(mask).polygon([(x, y) for x, y in quad], fill=255)
    return mask


def regions_of(value: object) -> list[dict[str, Any]]:
    """Return the boxes of regions of an editor's value.

    Raises:
        ValueError: naming the box and what is wrong with it.
    """
    return [box for box in _checked(value) if box["kind"] == "region"]


def _with_corners(
    boxes: Sequence[dict[str, Any]], kind: str, width: int, height: int
) -> list[tuple[dict[str, Any], list[list[float]]]]:
    """Return the boxes of one kind, each with its corners in pixels."""
    chosen = [box for box in boxes if box["kind"] == kind]
    numbers: Tensor = torch.tensor([[box[name] for name in _NUMBERS] for box in chosen], dtype=torch.float64)
    layout = Layout(tuple(box["text"] for box in chosen), numbers.reshape(len(chosen), 5))
    quads = (layout.quads() * torch.tensor([width, height], dtype=torch.float64)).tolist()
    return list(zip(chosen, quads, strict=True))


def _lettering(box: Mapping[str, Any]) -> dict[str, str]:
    """Return the font and the colour of a word, if it has them; a font must be a family, since files are private."""
    font, colour = box.get("font"), box.get("colour")
    if font is not None and font not in FAMILIES:
        raise ValueError(f"the word {shown(box['text'])} has the font {shown(font)}; allowed are {', '.join(FAMILIES)}")
    return {name: value for name, value in (("font", font), ("colour", colour)) if value is not None}


def _frame(value: object) -> tuple[int, int]:
    given = value if isinstance(value, dict) else {}
    width, height = given.get("width"), given.get("height")
    if type(width) is not int or type(height) is not int or width < 1 or height < 1 or width * height > 10**8:
        raise ValueError(f"the editor's frame is {shown(width)} x {shown(height)}; it must have whole pixels")
    return width, height


def _checked(value: object) -> list[dict[str, Any]]:
    boxes = value.get("boxes") if isinstance(value, dict) else None
    if not isinstance(boxes, list) or len(boxes) > MOST_PHRASES:
        raise ValueError(f"the editor's boxes are {shown(boxes)}; they must be a list of at most {MOST_PHRASES:,}")
    for box in boxes:
        if not isinstance(box, dict) or box.get("kind") not in _KINDS or not isinstance(box.get("text"), str):
            raise ValueError(f"the editor has the box {shown(box)}; it must have a kind and a text")
        numbers = [box.get(name) for name in _NUMBERS]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise ValueError(f"the box {shown(box['text'])} has the numbers {shown(numbers)}; they must be finite")
        if not box["text"].strip():
            raise ValueError(f"a box of kind {box['kind']} has no text; give it one, or remove it")
    return boxes
