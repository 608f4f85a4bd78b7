"""Reading and measuring of images: a row for each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.progress import Shown
from vlad_lightning.evaluation.image_files import ImageFile
from vlad_lightning.evaluation.row_file import IMAGE_COLUMNS, RowFile, column_name, measure_columns
from vlad_lightning.evaluation.suite import Seen, Suite
from vlad_lightning.files import as_rgb, read_picture, write_file
from vlad_lightning.metrics.readers import ReadImage, UnreadableImage, read_files

_JPEG = (".jpg", ".jpeg")


@dataclass(frozen=True)
class SeededImage:
    """An image and its seed.

    Attributes:
        file: the image.
        seed: None if it is not known.
    """

    file: ImageFile
    seed: int | None

    @property
    def name(self) -> tuple[str, str]:
        """Key and number, as they stand in a row."""
        return self.file.item.key, str(self.file.number)


@dataclass(frozen=True)
class ImageReading:
    """How images are read.

    Attributes:
        folder: the folder of the images.
        suite: the prompts and what is measured.
        reader: name of the reader.
        models: folder of its models, for a reader that needs one.
        workers: number of processes.
    """

    folder: Path
    suite: Suite
    reader: str
    models: Path | None = None
    workers: int = 1

    def read(self, images: Sequence[SeededImage], rows: RowFile, copies: Path) -> None:
        """Read and measure images, and keep a row of each as soon as it is read.

        Args:
            images: images that have no row yet.
            rows: where the rows are kept.
            copies: folder of the images as JPEG, if the suite reads them so.
        """
        if not images:
            return
        paths = {self._as_defined(image.file, copies): image for image in images}
        with Shown(f"images, {self.reader}", len(images)) as shown:
            for path, found in read_files(
                [*paths], self.reader, self.models, min(self.workers, len(images)), _not_counted
            ):
                rows.append(self._row(paths[path], path, found))
                shown(1)

    def _as_defined(self, image: ImageFile, copies: Path) -> Path:
        """Return the file that is read: the image, or a copy as JPEG where the suite reads those of another kind so."""
        quality = self.suite.jpeg_quality
        if quality is None or image.path.suffix.lower() in _JPEG:
            return image.path
        copy = copies / f"{image.item.key}_{image.number}.jpg"
        if not copy.exists():
            try:
                picture = as_rgb(read_picture(image.path))
            except (OSError, ValueError):
                return image.path  # the reader says what is wrong
            write_file(copy, lambda beside: picture.save(beside, quality=quality))
        return copy

    def _row(self, image: SeededImage, path: Path, found: ReadImage | UnreadableImage) -> dict[str, object]:
        file = image.file
        row: dict[str, object] = dict.fromkeys([*IMAGE_COLUMNS, *measure_columns(self.suite.measures)], "")
        row |= {"key": file.item.key, "subset": file.item.subset, "number": file.number, "reader": self.reader}
        row |= {"file": file.path.relative_to(self.folder).as_posix(), "sha256": sha256_of(file.path)}
        row |= {"seed": "" if image.seed is None else image.seed}
        if isinstance(found, UnreadableImage):
            reason = found.reason.replace(f"{self.folder}{os.sep}", "")
            return row | {"problem": " ".join(reason.split()) or "unreadable"}
        row |= {"width": found.size[0], "height": found.size[1]}
        row |= {"lines": json.dumps(found.lines), "words": json.dumps([*map(_written, found.words)])}
        seen = Seen(path, found.size, found.lines, found.words)
        for measure in self.suite.measures:
            values = measure.row(file.item, seen)
            row |= {column_name(measure, column): repr(float(values[column])) for column in measure.columns}
        return row


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hex, or ``unreadable``."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def _written(word: OcrWord) -> list[object]:
    corners = np.asarray(word.quad, dtype=np.float64).ravel()
    return [word.text, round(float(word.confidence), 4), *(round(float(number), 5) for number in corners)]


def _not_counted(*_: object) -> None:
    """Take the readers' count of images, which is shown here instead."""
