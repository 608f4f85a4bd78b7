"""OCR engines with one interface: images in, lines of text out."""

from __future__ import annotations

import hashlib
import logging
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.layout.pictures import TextLocator, to_bytes
from vlad_lightning.metrics.word_quads import words_of_line
from vlad_lightning.types import Layout

EngineName = Literal["rapidocr", "paddleocr"]

_MOST_WORKERS = 8  # each holds its own copy of the models

PADDLE_FILES = ("inference.onnx", "inference.yml")
"""The files of a model's folder that :class:`PaddleOCREngine` reads."""


@runtime_checkable
class OCREngine(Protocol):
    """A reader of text in images.

    Attributes:
        name: the engine, its version and its models; in the details of every result, since engines differ.
    """

    name: str

    def read(self, images: Tensor) -> list[list[str]]:
        """Return the lines of text in each image, in reading order.

        Args:
            images: (B, 3, H, W) float in [-1, 1], RGB.
        """
        ...


@runtime_checkable
class OCRLocator(OCREngine, TextLocator, Protocol):
    """An engine that also returns the positions of the text."""


@dataclass(frozen=True, eq=False)
class ReadLine:
    """A line of text as it was read.

    Attributes:
        text: the text, with spaces between its words.
        quad: (4, 2) float64, its corners in fractions of the frame, clockwise from the top left.
        words: its words with their own corners; each has the line's confidence where the engine gives no other.
    """

    text: str
    quad: NDArray[np.float64]
    words: tuple[OcrWord, ...]


class LineEngine(ABC):
    """An engine that reads one picture at a time.

    Attributes:
        name: see :class:`OCREngine`.
        provenance: the engine, its version, and the SHA-256 of each of its model files by name.

    Args:
        engine: name of the package that reads.
        version: its version.
        models: names of its models, for people.
        files: its model files.
        min_side: images with a shorter side below this, in pixels, are enlarged to it (bicubic) before reading.

    Raises:
        ValueError: if ``min_side`` is below 1.
    """

    def __init__(self, engine: str, version: str, models: str, files: Sequence[Path], min_side: int) -> None:
        check_least("min_side", min_side)
        self.name = f"{engine} {version} ({models}, at least {min_side} px)"
        self.provenance: Mapping[str, str] = {"engine": engine, "version": version, "min_side": str(min_side)} | {
            f"{file.parent.name}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)
        }
        self._min_side = min_side

    @abstractmethod
    def read_picture(self, picture: NDArray[np.uint8]) -> list[ReadLine]:
        """Read one picture (H, W, 3), BGR; the corners are in fractions of it."""

    def read_lines(self, images: Tensor) -> list[list[ReadLine]]:
        """Read the lines of text with their words.

        Args:
            images: as in :meth:`OCREngine.read`.
        """
        return [self.read_picture(picture) for picture in bgr_pictures(images, self._min_side)]

    def read(self, images: Tensor) -> list[list[str]]:
        """Read the lines of text, see :meth:`OCREngine.read`."""
        return [[line.text for line in lines] for lines in self.read_lines(images)]

    def locate(self, images: Tensor) -> list[Layout]:
        """Locate the lines of text, see :meth:`~vlad_lightning.layout.pictures.TextLocator.locate`."""
        return [
            layout_of_lines([line.text for line in lines], [line.quad for line in lines], (1, 1))
            for lines in self.read_lines(images)
        ]

    def read_words(self, images: Tensor) -> list[list[OcrWord]]:
        """Read the words with their corners, line by line in reading order.

        Args:
            images: as in :meth:`OCREngine.read`.
        """
        return [[word for line in lines for word in line.words] for lines in self.read_lines(images)]


class RapidOCREngine(LineEngine):
    """PP-OCR as ONNX on a CPU, with the weights in the ``rapidocr`` package, so it works offline.

    The pictures of a batch are read side by side, each by one worker, so what is read does not depend on their number.

    Args:
        min_side: see :class:`LineEngine`.
        threads: CPU threads for each of detector and recogniser.
        workers: pictures that are read at a time; None is the number of torch's threads, but at most 8.

    Raises:
        ValueError: if ``min_side``, ``threads`` or ``workers`` is below 1.
    """

    def __init__(self, min_side: int = 256, threads: int = 1, workers: int | None = None) -> None:
        workers = min(torch.get_num_threads(), _MOST_WORKERS) if workers is None else workers
        for name, value in (("min_side", min_side), ("threads", threads), ("workers", workers)):
            check_least(name, value)
        import rapidocr  # opencv and the ONNX runtime take a second to import

        params = {
            "Global.use_cls": False,  # would turn some pictures upside down; posters are upright
            "Global.log_level": "error",
            "Det.limit_side_len": min_side,  # the default, 736, is several times slower and no better
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        self._build: Callable[[], Any] = partial(rapidocr.RapidOCR, params=params)
        first = self._build()
        self._idle, self._building = deque([first]), Lock()
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ocr") if workers > 1 else None
        models = f"{first.cfg.Det.ocr_version.value} {first.cfg.Rec.model_type.value}"
        folder = Path(rapidocr.__file__).parent / "models"
        files = [*folder.glob("*_det_*.onnx"), *folder.glob("*_rec_*.onnx")]
        super().__init__("rapidocr", metadata.version("rapidocr"), models, files, min_side)

    def read(self, images: Tensor) -> list[list[str]]:
        """Read the lines of text, see :meth:`OCREngine.read`."""
        pages = self._each(partial(self._page, words=False), bgr_pictures(images, self._min_side))
        return [list(page.txts or ()) for page in pages]

    def read_lines(self, images: Tensor) -> list[list[ReadLine]]:
        """Read the lines of text with their words, see :meth:`LineEngine.read_lines`."""
        return self._each(self.read_picture, bgr_pictures(images, self._min_side))

    def _each(self, function: Callable[[NDArray[np.uint8]], Any], pictures: list[NDArray[np.uint8]]) -> list[Any]:
        """Apply a function to each picture, in order."""
        if self._pool is None or len(pictures) < 2:
            return [function(picture) for picture in pictures]
        return list(self._pool.map(function, pictures))

    def _page(self, picture: NDArray[np.uint8], words: bool) -> Any:
        """Read a picture with a reader that no other thread uses, since a reader remembers the last call's setting."""
        try:
            reader = self._idle.pop()
        except IndexError:
            with self._building:
                reader = self._build()
        try:
            return reader(picture, return_word_box=words)
        finally:
            self._idle.append(reader)

    def read_picture(self, picture: NDArray[np.uint8]) -> list[ReadLine]:
        """See :meth:`LineEngine.read_picture`."""
        try:
            page = self._page(picture, words=True)
        except IndexError:  # the engine fails if it locates nothing in one line but words in others
            page = self._page(picture, words=False)
        lines = page.txts or ()
        located = page.word_results or ()
        if len(located) != len(lines):  # the engine leaves out lines in which it locates nothing
            located = [()] * len(lines)
        return [
            line_of(line, quad, score, picture.shape[:2], [(word[0], word[2]) for word in words if word[2] is not None])
            for line, quad, score, words in zip(
                lines, page.boxes if lines else (), page.scores or (), located, strict=True
            )
        ]


class PaddleOCREngine(LineEngine):
    """PaddleOCR 3 from model folders on this machine; needs the ``paddle`` extra.

    Args:
        detection_model: name of the text detection model, such as ``PP-OCRv5_mobile_det``.
        detection_dir: its folder, with ``inference.onnx`` and ``inference.yml``.
        recognition_model: name of the text recognition model, such as ``en_PP-OCRv5_mobile_rec``.
        recognition_dir: its folder.
        min_side: see :class:`LineEngine`.
        threads: CPU threads for each of detector and recogniser.

    Raises:
        ModuleNotFoundError: if paddleocr 3 is not installed.
        FileNotFoundError: if a folder or a file in it is missing.
        ValueError: if ``min_side`` or ``threads`` is below 1.
    """

    def __init__(
        self,
        detection_model: str,
        detection_dir: str,
        recognition_model: str,
        recognition_dir: str,
        min_side: int = 256,
        threads: int = 1,
    ) -> None:
        check_least("min_side", min_side)
        check_least("threads", threads)
        version = _paddleocr_version()
        for argument, folder in (("detection_dir", detection_dir), ("recognition_dir", recognition_dir)):
            _check_paddle_folder(argument, Path(folder))
        os.environ.setdefault("PADDLE_PDX_DISABLE_MODEL_SOURCE_CHECK", "True")  # or it looks for hosts of models
        from paddleocr import PaddleOCR

        logging.getLogger("paddlex").setLevel(logging.WARNING)  # it would tell each network that it loads
        self._ocr: Any = PaddleOCR(
            device="cpu",  # not looked for, which would import paddlepaddle
            engine="onnxruntime",  # runs without it
            engine_config={"intra_op_num_threads": threads, "inter_op_num_threads": 1, "log_severity_level": 3},
            text_detection_model_name=detection_model,
            text_detection_model_dir=detection_dir,
            text_recognition_model_name=recognition_model,
            text_recognition_model_dir=recognition_dir,
            use_doc_orientation_classify=False,  # each of these three would download another model
            use_doc_unwarping=False,
            use_textline_orientation=False,
        )
        files = [Path(folder, name) for folder in (detection_dir, recognition_dir) for name in PADDLE_FILES]
        super().__init__("paddleocr", version, f"{detection_model}, {recognition_model}", files, min_side)

    def read_picture(self, picture: NDArray[np.uint8]) -> list[ReadLine]:
        """See :meth:`LineEngine.read_picture`."""
        return [
            line_of(line, quad, score, picture.shape[:2])
            for result in self._ocr.predict(picture)
            for line, quad, score in zip(result["rec_texts"], result["rec_polys"], result["rec_scores"], strict=True)
        ]


def build_ocr_engine(
    name: EngineName,
    detection_model: str = "PP-OCRv5_mobile_det",
    detection_dir: str | None = None,
    recognition_model: str = "en_PP-OCRv5_mobile_rec",
    recognition_dir: str | None = None,
) -> OCREngine:
    """Build the OCR engine with this name.

    Args:
        name: ``rapidocr`` or ``paddleocr``; only ``paddleocr`` uses the other arguments.
        detection_model: see :class:`PaddleOCREngine`.
        detection_dir: see :class:`PaddleOCREngine`; required for ``paddleocr``.
        recognition_model: see :class:`PaddleOCREngine`.
        recognition_dir: see :class:`PaddleOCREngine`; required for ``paddleocr``.

    Raises:
        ValueError: for another name, or for ``paddleocr`` without its two folders.
    """
    if name == "rapidocr":
        return RapidOCREngine()
    if name != "paddleocr":
        raise ValueError(f"OCR engine is {name!r}; allowed are {', '.join(get_args(EngineName))}")
    _paddleocr_version()
    if detection_dir is None or recognition_dir is None:
        raise ValueError(
            f"detection_dir is {detection_dir!r} and recognition_dir is {recognition_dir!r}; "
            "paddleocr needs the folders of both models"
        )
    return PaddleOCREngine(detection_model, detection_dir, recognition_model, recognition_dir)


def bgr_pictures(images: Tensor, min_side: int) -> list[NDArray[np.uint8]]:
    """Convert images to the arrays that OCR engines take, enlarged if the shorter side is below ``min_side`` pixels.

    Args:
        images: (B, 3, H, W) float in [-1, 1], RGB.
        min_side: smallest shorter side in pixels.

    Returns:
        B arrays (H', W', 3) uint8, BGR.

    Raises:
        ValueError: if ``images`` has another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images has shape {tuple(images.shape)}; (B, 3, H, W) is needed")
    images = images.detach().to("cpu", torch.float32)
    if min(images.shape[2:]) < min_side:
        images = resize(images, [min_side], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return list(np.ascontiguousarray(to_bytes(images).flip(1).permute(0, 2, 3, 1).numpy()))


def layout_of_lines(lines: Sequence[str], quads: Any, size: tuple[int, ...]) -> Layout:
    """Build the layout of the lines that an engine has read; blank lines, which PaddleOCR keeps, are left out.

    Args:
        lines: text of the lines, in reading order.
        quads: for each line (4, 2) corners in pixels, clockwise from the top left; None if there is no line.
        size: height and width of the picture in pixels.
    """
    kept = [i for i, line in enumerate(lines) if line.strip()]
    if not kept:
        return Layout.empty()
    height, width = size
    corners = np.stack([np.asarray(quads[i], dtype=np.float64) for i in kept]) / (width, height)
    return Layout.from_quads([lines[i] for i in kept], torch.from_numpy(corners))


def line_of(
    text: str,
    quad: ArrayLike,
    score: float,
    size: tuple[int, ...],
    located: Sequence[tuple[str, ArrayLike]] = (),
) -> ReadLine:
    """Build a line from what an engine says of it.

    Args:
        text: its text.
        quad: (4, 2), its corners in pixels, clockwise from the top left.
        score: the engine's confidence; above 1 it counts as 1.
        size: height and width of the picture in pixels.
        located: as in :func:`~vlad_lightning.metrics.word_quads.words_of_line`.
    """
    height, width = size
    corners = np.asarray(quad, dtype=np.float64)
    confidence = min(float(score), 1.0)
    words = tuple(
        OcrWord(word, (np.asarray(place) / (width, height)).astype(np.float32), confidence)
        for word, place in words_of_line(text, corners, located)
    )
    return ReadLine(text, corners / (width, height), words)


def check_least(argument: str, value: int) -> None:
    """Refuse a number below 1.

    Raises:
        ValueError: naming the argument and the value.
    """
    if value < 1:
        raise ValueError(f"{argument} is {value}; it must be at least 1")


def _paddleocr_version() -> str:
    try:
        version = metadata.version("paddleocr")
    except metadata.PackageNotFoundError:
        version = "missing"
    if not version.partition(".")[0].isdigit() or int(version.partition(".")[0]) < 3:
        raise ModuleNotFoundError(
            f"the engine paddleocr needs paddleocr 3.7 or later ({version} here): pip install 'vlad-lightning[paddle]'"
        )
    return version


def _check_paddle_folder(argument: str, folder: Path) -> None:
    missing = [name for name in PADDLE_FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{argument} is {str(folder)!r}, which lacks {' and '.join(missing)}")
