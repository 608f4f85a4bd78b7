"""Index files: a name of a sample on each line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vlad_lightning.files import LIST_BYTES, read_utf8


def read_index(index: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, without the white space around them, and their numbers from 1.

    Raises:
        FileNotFoundError: if it is no file.
        ValueError: if it is not text in UTF-8.
    """
    if not index.is_file():
        raise FileNotFoundError(f"index is {str(index)!r}, which is not a file; it must list samples, one a line")
    try:
        text = read_utf8(index, LIST_BYTES)
    except UnicodeDecodeError as error:
        raise ValueError(f"index {str(index)!r} is not text in UTF-8: {error}") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if name := line.strip():
            yield number, name
