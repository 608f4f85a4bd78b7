"""Files that a browser uploads: read by the package's own readers, within limits of size and kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from vlad_lightning.files import PICTURE_SUFFIXES, as_rgb, check_file, picture_size, read_picture, read_utf8
from vlad_lightning.layout.fonts import FAMILIES
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.limits import shown

UPLOAD_BYTES = 20_000_000
"""The largest file that can be uploaded."""

UPLOAD_PIXELS = 16_000_000
"""The most pixels of a picture that can be uploaded."""

_LAYOUT_BYTES = 1_000_000


def uploaded_picture(path: str | Path) -> Image.Image:
    """Read an uploaded picture as RGB, upright; transparent pixels become white.

    Raises:
        ValueError: if it is of another kind, is damaged or is too large, naming the file.
    """
    path = Path(path)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise ValueError(f"{path.name} is no picture; allowed are {', '.join(PICTURE_SUFFIXES)}")
    try:
        check_file(path, UPLOAD_BYTES)
        height, width = picture_size(path)
        if height * width > UPLOAD_PIXELS:
            raise ValueError(f"{path}: {width} x {height} pixels; at most {UPLOAD_PIXELS:,} can be uploaded")
        return as_rgb(read_picture(path))
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), path.name)) from error


def uploaded_layout(path: str | Path) -> LayoutFile:
    """Read an uploaded layout file; its fonts must be families, since a path would be one of this machine's.

    Raises:
        ValueError: naming the entry that is wrong.
    """
    path = Path(path)
    try:
        text = read_utf8(path, _LAYOUT_BYTES)
        _refuse_font_files(json.loads(text))
        return LayoutFile.from_json(text, path.parent)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {str(error).replace(str(path), path.name)}") from error


def _refuse_font_files(content: Any) -> None:
    """Refuse every font but the families.

    Raises:
        ValueError: naming the font.
    """
    file = content if isinstance(content, dict) else {}
    words = file.get("words")
    for entry in [file, *(words if isinstance(words, list) else [])]:
        font = entry.get("font") if isinstance(entry, dict) else None
        if font is not None and font not in FAMILIES:
            raise ValueError(f"font is {shown(font)}; allowed here are {', '.join(FAMILIES)}")
