"""Files that are never half-written (beside the target first, then renamed), and pictures that people name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a neighbour of ``path``, then put it in its place.

    Args:
        path: the target; its folder is made.
        write: takes the path to write to, which has the target's suffix.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_picture(path: Path) -> Image.Image:
    """A picture, decoded.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it is no picture, or a damaged one.
    """
    from PIL import Image

    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        picture = Image.open(path)
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} is no picture that can be read: {error}") from error
    return picture
