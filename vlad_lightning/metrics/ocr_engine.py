"""OCR engines with one interface: images in, lines of text out."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.layout.pictures import TextLocator, to_bytes
from vlad_lightning.metrics.word_quads import words_of_line
from vlad_lightning.types import Layout

EngineName = Literal["rapidocr", "paddleocr"]


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


class RapidOCREngine:
    """PP-OCR as ONNX on a CPU, with the weights in the ``rapidocr`` package, so it works offline.

    Args:
        min_side: images with a shorter side below this, in pixels, are enlarged to it (bicubic) before reading.
        threads: CPU threads for each of detector and recogniser.

    Raises:
        ValueError: if ``min_side`` or ``threads`` is below 1.
    """

    def __init__(self, min_side: int = 256, threads: int = 1) -> None:
        for argument, value in (("min_side", min_side), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{argument} is {value}; it must be at least 1")
        from rapidocr import RapidOCR  # opencv and the ONNX runtime take a second to import

        self._min_side = min_side
        params = {
            "Global.use_cls": False,  # would turn some pictures upside down; posters are upright
            "Global.log_level": "error",
            "Det.limit_side_len": min_side,  # the default, 736, is several times slower and no better
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
        self._ocr: Any = RapidOCR(params=params)
        models = f"{self._ocr.cfg.Det.ocr_version.value} {self._ocr.cfg.Rec.model_type.value}"
        self.name = f"rapidocr {metadata.version('rapidocr')} ({models}, at least {min_side} px)"

    def read(self, images: Tensor) -> list[list[str]]:
        """Read the lines of text, see :meth:`OCREngine.read`."""
        return [list(self._ocr(picture).txts or ()) for picture in bgr_pictures(images, self._min_side)]

    def locate(self, images: Tensor) -> list[Layout]:
        """Locate the lines of text, see :meth:`~vlad_lightning.layout.pictures.TextLocator.locate`."""
        pictures = bgr_pictures(images, self._min_side)
        pages = [(self._ocr(picture), picture) for picture in pictures]
        return [layout_of_lines(page.txts or (), page.boxes, picture.shape[:2]) for page, picture in pages]

    def read_words(self, images: Tensor) -> list[list[OcrWord]]:
        """Read the words with their corners, line by line in reading order; each has its line's confidence.

        Args:
            images: as in :meth:`OCREngine.read`.
        """
        pictures = bgr_pictures(images, self._min_side)
        return [_words_of_page(self._ocr(picture, return_word_box=True), picture.shape[:2]) for picture in pictures]


class PaddleOCREngine:
    """PaddleOCR 3 from model folders on this machine; needs the ``paddle`` extra.

    Args:
        detection_model: name of the text detection model, such as ``PP-OCRv5_mobile_det``.
        detection_dir: its folder, with ``inference.onnx`` and ``inference.yml``.
        recognition_model: name of the text recognition model, such as ``en_PP-OCRv5_mobile_rec``.
        recognition_dir: its folder.
        min_side: as in :class:`RapidOCREngine`.

    Raises:
        ModuleNotFoundError: if paddleocr 3 is not installed.
        FileNotFoundError: if a folder or a file in it is missing.
        ValueError: if ``min_side`` is below 1.
    """

    def __init__(
        self,
        detection_model: str,
        detection_dir: str,
        recognition_model: str,
        recognition_dir: str,
        min_side: int = 256,
    ) -> None:
        if min_side < 1:
            raise ValueError(f"min_side is {min_side}; it must be at least 1")
        version = _paddleocr_version()
        for argument, folder in (("detection_dir", detection_dir), ("recognition_dir", recognition_dir)):
            _check_paddle_folder(argument, Path(folder))
        from paddleocr import PaddleOCR

        self._min_side = min_side
        self._ocr: Any = PaddleOCR(
            engine="onnxruntime",  # runs without paddlepaddle
            text_detection_model_name=detection_model,
            text_detection_model_dir=detection_dir,
            text_recognition_model_name=recognition_model,
            text_recognition_model_dir=recognition_dir,
            use_doc_orientation_classify=False,  # each of these three would download another model
            use_doc_unwarping=False,
            use_textline_orientation=False,
        )
        self.name = f"paddleocr {version} ({detection_model}, {recognition_model}, at least {min_side} px)"

    def read(self, images: Tensor) -> list[list[str]]:
        """Read the lines of text, see :meth:`OCREngine.read`."""
        pages = (self._ocr.predict(picture) for picture in bgr_pictures(images, self._min_side))
        return [[line for result in page for line in result["rec_texts"]] for page in pages]

    def locate(self, images: Tensor) -> list[Layout]:
        """Locate the lines of text, see :meth:`~vlad_lightning.layout.pictures.TextLocator.locate`."""
        found = []
        for picture in bgr_pictures(images, self._min_side):
            results = self._ocr.predict(picture)
            lines = [line for result in results for line in result["rec_texts"]]
            quads = [quad for result in results for quad in result["rec_polys"]]
            found.append(layout_of_lines(lines, quads, picture.shape[:2]))
        return found


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


def _words_of_page(page: Any, size: tuple[int, ...]) -> list[OcrWord]:
    lines = page.txts or ()
    located = page.word_results or ()
    if len(located) != len(lines):  # the engine leaves out lines in which it locates nothing
        located = [()] * len(lines)
    height, width = size
    found = []
    for line, quad, score, words in zip(lines, page.boxes if lines else (), page.scores or (), located, strict=True):
        for text, corners in words_of_line(line, quad, [(word[0], word[2]) for word in words]):
            found.append(OcrWord(text, (corners / (width, height)).astype(np.float32), min(float(score), 1.0)))
    return found


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
    missing = [name for name in ("inference.onnx", "inference.yml") if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{argument} is {str(folder)!r}, which lacks {' and '.join(missing)}")
