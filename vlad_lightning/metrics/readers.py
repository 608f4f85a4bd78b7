"""Readers of image files by name: the lines and words of each image, read in several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing import parent_process
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.processes import unordered
from vlad_lightning.files import as_rgb, read_picture
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.limits import check_whole
from vlad_lightning.metrics.easyocr_engine import EasyOCREngine
from vlad_lightning.metrics.ocr_engine import OCRLocator, PaddleOCREngine, RapidOCREngine, ReadLine
from vlad_lightning.metrics.paddle_models import model_folders
from vlad_lightning.metrics.tesseract_engine import TesseractEngine

READERS: tuple[str, ...] = ("rapidocr", "paddleocr", "tesseract", "easyocr")
"""The names of the readers. The first two are of one family (PP-OCR), the others of one each."""

_MOST_WORKERS = 1024


@runtime_checkable
class Reader(OCRLocator, Protocol):
    """An engine that also says what it is made of.

    Attributes:
        provenance: the engine, its version, and the SHA-256 of each of its model files by name.
    """

    provenance: Mapping[str, str]

    def read_lines(self, images: Tensor) -> list[list[ReadLine]]:
        """Read the lines with their words, see :meth:`~vlad_lightning.metrics.ocr_engine.LineEngine.read_lines`."""
        ...

    def read_words(self, images: Tensor) -> list[list[OcrWord]]:
        """Read the words, see :meth:`~vlad_lightning.metrics.ocr_engine.LineEngine.read_words`."""
        ...


@dataclass(frozen=True, eq=False)
class ReadImage:
    """What a reader found on an image.

    Attributes:
        size: width and height in pixels, of the upright image.
        lines: the lines of text, in reading order.
        words: their words, line by line, with corners in fractions of the image.
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


def make_reader(name: str, models: Path | None = None) -> Reader:
    """Build the reader with this name; it uses one thread.

    Args:
        name: one of :data:`READERS`.
        models: folder of the reader's models, or a folder with one of the reader's name; None takes those of packages.
            For ``paddleocr`` see :func:`~vlad_lightning.metrics.paddle_models.model_folders`; ``tesseract`` needs
            ``eng.traineddata``, ``easyocr`` the files :data:`~vlad_lightning.metrics.easyocr_engine.FILES`;
            ``rapidocr`` reads with the models in its package only, whatever this is.

    Raises:
        ValueError: for another name.
        ModuleNotFoundError: if the reader is not installed.
        FileNotFoundError: if its models are missing.
    """
    check_reader(name)
    if models is not None and (models / name).is_dir():
        models = models / name
    return _BUILDERS[name](models)


def check_reader(name: str) -> None:
    """Refuse a name that no reader has.

    Raises:
        ValueError: naming those that there are.
    """
    if name not in READERS:
        raise ValueError(f"reader is {name!r}; allowed are {', '.join(READERS)}")


def read_files(
    paths: Sequence[Path],
    reader: str = READERS[0],
    models: Path | None = None,
    workers: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Iterator[tuple[Path, ReadImage | UnreadableImage]]:
    """Read image files, each process with one engine and one thread.

    Two images a process are in memory or on their way at most. Ctrl-C, and the end of this process however it comes,
    end the others.

    Args:
        paths: the files.
        reader: one of :data:`READERS`.
        models: see :func:`make_reader`.
        workers: number of processes; with 1, this process reads.
        progress: called after each image with the number of images done since the last call, 1.

    Returns:
        Each path with what was read on it, as images are finished: in any order, unless ``workers`` is 1.

    Raises:
        ValueError: for another reader, or if ``workers`` is out of range; before anything is read.
        ModuleNotFoundError, FileNotFoundError: see :func:`make_reader`; with the first image.
        RuntimeError: if one of the other processes dies.
    """
    check_reader(reader)
    check_whole("workers", workers, 1, _MOST_WORKERS)
    return _read_all(paths, partial(_read_file, reader, models), min(workers, max(1, len(paths))), progress)


def _read_all(
    paths: Sequence[Path],
    read: Callable[[Path], tuple[Path, ReadImage | UnreadableImage]],
    workers: int,
    progress: Callable[[int], object] | None,
) -> Iterator[tuple[Path, ReadImage | UnreadableImage]]:
    try:
        for found in unordered(read, paths, workers):
            if progress is not None:
                progress(1)
            yield found
    except BrokenProcessPool as error:
        raise RuntimeError("a process that reads images died, perhaps for lack of memory; try fewer workers") from error


def _read_file(name: str, models: Path | None, path: Path) -> tuple[Path, ReadImage | UnreadableImage]:
    try:
        image = as_rgb(read_picture(path))
    except (OSError, ValueError) as error:
        return path, UnreadableImage(" ".join(str(error).split()))
    lines = _engine(name, models).read_lines(from_pil(image)[None])[0]
    words = tuple(word for line in lines for word in line.words)
    return path, ReadImage(image.size, tuple(line.text for line in lines), words)


@lru_cache(maxsize=1)
def _engine(name: str, models: Path | None) -> Reader:
    """Return this process's engine."""
    if parent_process() is not None:  # there are as many processes as cores
        torch.set_num_threads(1)
    return make_reader(name, models)


def _paddleocr(models: Path | None) -> Reader:
    with model_folders(models) as (detector, recogniser):
        return PaddleOCREngine(detector.name, str(detector), recogniser.name, str(recogniser))


_BUILDERS: Mapping[str, Callable[[Path | None], Reader]] = {
    "rapidocr": lambda models: RapidOCREngine(workers=1),
    "paddleocr": _paddleocr,
    "tesseract": TesseractEngine,
    "easyocr": EasyOCREngine,
}
