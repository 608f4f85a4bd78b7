"""Pictures and captions that are columns of a parquet file; needs the ``parquet`` extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlad_lightning.data.own_pictures import TEXT_COLUMNS, OwnPicture
from vlad_lightning.files import naming, printable

_ROWS = 16  # decoded at a time: a row group of pictures may be larger than the memory


@dataclass(frozen=True)
class ParquetPortion:
    """The pictures of one row group.

    Attributes:
        path: the file.
        name: its name; a picture's name is this, ``#`` and its row.
        group: the row group's number.
        first: the number of its first row in the file.
        rows: the number of its rows.
        image_column: the column of the pictures.
        text_column: the column of the captions; None if there is none.
    """

    path: Path
    name: str
    group: int
    first: int
    rows: int
    image_column: str
    text_column: str | None

    def __len__(self) -> int:
        return self.rows

    def read(self) -> Iterator[OwnPicture]:
        """See :meth:`~vlad_lightning.data.own_pictures.Portion.read`."""
        row = self.first
        try:
            for image, caption in self._rows():
                yield self._picture(row, image, caption)
                row += 1
        except (OSError, ValueError) as error:  # pyarrow's errors are among these
            reason = f"unreadable row group: {type(error).__name__}"
            yield from (OwnPicture(f"{self.name}#{i}", problem=reason) for i in range(row, self.first + self.rows))

    def _rows(self) -> Iterator[tuple[Any, Any]]:
        columns = [self.image_column, *([self.text_column] if self.text_column else [])]
        with _opened(self.path) as file:
            for batch in file.iter_batches(batch_size=_ROWS, row_groups=[self.group], columns=columns):
                images = batch.column(self.image_column).to_pylist()
                texts = batch.column(self.text_column).to_pylist() if self.text_column else [None] * len(images)
                yield from zip(images, texts, strict=True)

    def _picture(self, row: int, image: Any, caption: Any) -> OwnPicture:
        content = image.get("bytes") if isinstance(image, dict) else image
        name = f"{self.name}#{row}"
        if not isinstance(content, bytes) or not content:
            return OwnPicture(name, problem="no picture in its row")
        return OwnPicture(name, content, caption if isinstance(caption, str) else None)


def parquet_portions(
    path: Path, name: str, image_column: str | None = None, text_column: str | None = None
) -> list[ParquetPortion]:
    """Find the pictures in a parquet file.

    Args:
        path: the file.
        name: its name in the pictures' names.
        image_column: the column of the pictures: the bytes of their files, or a struct with such ``bytes``, as Hugging
            Face's data sets have it. None takes ``image``, or the only column of such a type.
        text_column: the column of the captions; None looks for
            :data:`~vlad_lightning.data.own_pictures.TEXT_COLUMNS`.

    Raises:
        ValueError: if pyarrow is missing, the file is none of parquet, or it has no such column.
    """
    with _opened(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    pictures = [column.name for column in schema if _holds_pictures(column.type)]
    image = _chosen("image_column", image_column, ("image", *pictures[: len(pictures) == 1]), pictures, path)
    text = _chosen("text_column", text_column, TEXT_COLUMNS, schema.names, path, required=text_column is not None)
    assert image is not None
    starts = [sum(rows[:group]) for group in range(len(rows))]
    return [ParquetPortion(path, name, group, starts[group], rows[group], image, text) for group in range(len(rows))]


def _opened(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{printable(path)}: parquet files are read with pyarrow: pip install 'vlad-lightning[parquet]'"
        ) from error
    with naming(printable(path)):
        return ParquetFile(path)


def _holds_pictures(column_type: Any) -> bool:
    from pyarrow import types

    if types.is_struct(column_type):
        index = column_type.get_field_index("bytes")
        return index >= 0 and _holds_pictures(column_type.field(index).type)
    return bool(types.is_binary(column_type) or types.is_large_binary(column_type))


def _chosen(
    argument: str, given: str | None, usual: Sequence[str], present: Sequence[str], path: Path, required: bool = True
) -> str | None:
    name = given if given is not None else next((name for name in usual if name in present), None)
    if name in present or (name is None and not required):
        return name
    columns = ", ".join(present) or "none"
    raise ValueError(f"{argument} is {given!r}; {printable(path)} has these of its kind: {columns}")
