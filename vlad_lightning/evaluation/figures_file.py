"""What each image adds to each figure, as a CSV file: for reports, which need no suite then."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vlad_lightning.evaluation.figures import Figure, Rows
from vlad_lightning.evaluation.row_file import Row
from vlad_lightning.files import LIST_BYTES, read_utf8, write_text

FIGURES = "figures"
"""The folder of these files, one for each reader."""

_IMAGE = ("key", "subset", "number")


@dataclass(frozen=True)
class ImageFigures:
    """The figures of images.

    Attributes:
        keys: the prompt's key of each image.
        subsets: its subset.
        numbers: which of the prompt's images it is.
        figures: the figures over these images, by name.
    """

    keys: tuple[str, ...]
    subsets: tuple[str, ...]
    numbers: tuple[int, ...]
    figures: Mapping[str, Figure]

    def by_prompt(self, name: str) -> Rows:
        """Return the sums of each prompt's images."""
        return self.figures[name].by_prompt(self.keys)

    def of_subset(self, subset: str) -> ImageFigures:
        """Return those of a subset."""
        chosen = np.array([name == subset for name in self.subsets])
        places = np.flatnonzero(chosen)
        parts = {name: figure.at(chosen) for name, figure in self.figures.items()}
        return ImageFigures(
            tuple(self.keys[i] for i in places),
            (subset,) * len(places),
            tuple(self.numbers[i] for i in places),
            {name: figure for name, figure in parts.items() if figure.known},
        )


def write_figures(path: Path, rows: Sequence[Row], figures: Mapping[str, Figure]) -> None:
    """Write what each image adds to the figures that are ratios or an F of sums.

    The columns of a figure are ``NAME.0``, ``NAME.1``, ...: part and whole, of an F those of precision and recall.

    Args:
        path: the file.
        rows: rows of the images.
        figures: figures over these images.
    """
    kept = {name: figure for name, figure in figures.items() if figure.other is None}
    table = {f"{name}.{i}": column for name, figure in kept.items() for i, column in enumerate(figure.columns)}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_IMAGE, *table])
    for place, row in enumerate(rows):
        writer.writerow([*(row[name] for name in _IMAGE), *(f"{column[place]:.12g}" for column in table.values())])
    write_text(path, text.getvalue())


def read_figures(path: Path) -> ImageFigures:
    """Read such a file.

    Raises:
        OSError: if there is none.
        ValueError: if it holds something else.
    """
    lines = list(csv.reader(io.StringIO(read_utf8(path, LIST_BYTES))))
    head = lines[0] if lines else []
    if tuple(head[: len(_IMAGE)]) != _IMAGE or any(len(line) != len(head) for line in lines):
        raise ValueError(f"{path} does not hold the figures of `vlad-cli evaluate score`")
    values = np.array([line[len(_IMAGE) :] for line in lines[1:]], dtype=np.float64)
    columns: dict[str, list[np.ndarray]] = {}
    for place, name in enumerate(head[len(_IMAGE) :]):
        columns.setdefault(name.rpartition(".")[0], []).append(values[:, place])
    images = lines[1:]
    return ImageFigures(
        tuple(line[0] for line in images),
        tuple(line[1] for line in images),
        tuple(int(line[2]) for line in images),
        {name: Figure(tuple(found)) for name, found in columns.items()},
    )
