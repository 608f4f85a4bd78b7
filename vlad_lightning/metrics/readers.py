"""Readers of image files by name: lines and words of each image, in several processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.processes import unordered
from vlad_lightning.files import as_rgb, read_picture
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.ocr_engine import OCREngine, RapidOCREngine

READERS: tuple[str, ...] = ("rapidocr",)
"""The names of the readers."""


class Reader(OCREngine, Protocol):
    """An engine that says what it is made of.

    Attributes:
        provenance: engine, version and the SHA-256 of each model file.
    """

    provenance: Mapping[str, str]

    def read_words(self, images: Tensor) -> list[list[OcrWord]]:
        """Read the words with their corners, see :class:`~vlad_lightning.metrics.ocr_engine.RapidOCREngine`."""
        ...


@dataclass(frozen=True)
class ReadImage:
    """What a reader found on an image.

    Attributes:
        size: width and height in pixels.
        lines: lines of text, in reading order.
        words: words with their corners in fractions of the frame.
    """

    size: tuple[int, int]
    lines: tuple[str, ...]
    words: tuple[OcrWord, ...]


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be read.

    Attributes:
        reason: why, in one line.
    """

    reason: str


class _RapidOCR(RapidOCREngine):
    def __init__(self) -> None:
        super().__init__()
        import rapidocr

        models = sorted(Path(rapidocr.__file__).parent.glob("models/*.onnx"))
        self.provenance: Mapping[str, str] = {"engine": self.name} | {
            model.name: hashlib.sha256(model.read_bytes()).hexdigest() for model in models
        }


def make_reader(name: str, models: Path | None = None) -> Reader:
    """Build the reader with this name.

    Raises:
        ValueError: for another name.
    """
    if name not in READERS:
        raise ValueError(f"reader is {name!r}; allowed are {', '.join(READERS)}")
    return _RapidOCR()


def read_files(
    paths: Sequence[Path],
    reader: str,
    models: Path | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[Path, ReadImage | UnreadableImage]]:
    """Read image files in several processes.

    Args:
        paths: the files.
        reader: name of the reader.
        models: folder of its models, for a reader that needs one.
        workers: number of processes.
        progress: is called with the number of images that are done more.

    Yields:
        Each path with what was read on it, in any order.
    """
    for found in unordered(partial(_read, reader, models), paths, workers):
        if progress is not None:
            progress(1)
        yield found


@lru_cache(maxsize=1)
def _engine(name: str, models: Path | None) -> Reader:
    return make_reader(name, models)


def _read(name: str, models: Path | None, path: Path) -> tuple[Path, ReadImage | UnreadableImage]:
    try:
        image = as_rgb(read_picture(path))
    except (OSError, ValueError) as error:
        return path, UnreadableImage(" ".join(str(error).split()))
    engine, pixels = _engine(name, models), from_pil(image)[None]
    return path, ReadImage(image.size, tuple(engine.read(pixels)[0]), tuple(engine.read_words(pixels)[0]))
