"""A reader of the words on a picture that can be sent to other processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.ocr_engine import RapidOCREngine


@dataclass(frozen=True)
class WordReader:
    """A callable that reads the words on a picture; each process builds the engine at its first call.

    Attributes:
        min_side: as in :class:`~vlad_lightning.metrics.ocr_engine.RapidOCREngine`.
    """

    min_side: int = 256

    @property
    def name(self) -> str:
        """The engine, its version and its models."""
        return _engine(self.min_side).name

    def __call__(self, image: Image.Image) -> list[OcrWord]:
        """Return the words on a picture of any mode, line by line; each has its line's confidence."""
        return _engine(self.min_side).read_words(from_pil(image)[None])[0]


@lru_cache(maxsize=1)
def _engine(min_side: int) -> RapidOCREngine:
    return RapidOCREngine(min_side)
