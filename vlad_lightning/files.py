"""Files that are never half-written (beside the target first, then renamed), and files that people name."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_POINTER = b"version https://git-lfs"


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


def set_aside(path: Path, why: object) -> None:
    """Rename a file that cannot be used to ``{name}.damaged``, with a warning, so that it can be made anew.

    Args:
        path: the file; an earlier one that was set aside is kept beside it, under the next number.
        why: what is wrong with it.

    Raises:
        OSError: where it cannot be renamed.
    """
    names = (f"{path.name}.damaged{number or ''}" for number in itertools.count())
    aside = next(place for name in names if not os.path.lexists(place := path.with_name(name)))
    path.rename(aside)
    warnings.warn(f"{path} is damaged: {why}. It is kept as {aside.name}, and made anew", stacklevel=2)


def check_stored(folder: Path) -> None:
    """Refuse a folder of weights and settings with a file that is cut short, or is only git-LFS' pointer to one.

    Only the heads of the weights are read, which say how long the file has to be.

    Raises:
        ValueError: naming the file.
    """
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*")):
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
            elif file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
        except (SafetensorError, ValueError) as error:
            with file.open("rb") as opened:
                pointer = opened.read(len(_POINTER)) == _POINTER
            why = "it is git-LFS' pointer to the file; get it with `git lfs pull`" if pointer else error
            raise ValueError(f"{file} cannot be read: {why}") from error


@contextlib.contextmanager
def naming(what: object) -> Iterator[None]:
    """What libraries raise about files that they cannot use names no file, and is of any kind; this names it.

    Args:
        what: a file, a folder, or what was said of it.

    Raises:
        ValueError: for whatever is raised inside; an OSError, which tells of its file by itself, is let through.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{what} cannot be used: {shorten(str(error) or type(error).__name__, 400)}") from error


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
