"""A whole folder of one's own pictures, written as a data folder in MARIO's format."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from vlad_lightning.data.annotation import NOTE, UNFINISHED, AnnotationSettings, Outcome, Reader, annotate_picture
from vlad_lightning.data.annotation_page import write_page
from vlad_lightning.data.own_pictures import CAPTION_SUFFIXES, METADATA, Portion, file_portions
from vlad_lightning.data.parquet_pictures import parquet_portions
from vlad_lightning.data.processes import unordered
from vlad_lightning.data.progress import Shown
from vlad_lightning.files import NOTE_BYTES, printable, read_utf8, write_text
from vlad_lightning.limits import check_whole

_PARQUET = ".parquet"
_EXAMPLES = 5  # pictures that are named for each reason
_DOUBLE = "the same file as another picture"
_TAKEN = "its number is taken by another picture; rename it"


@dataclass(frozen=True)
class AnnotationReport:
    """What has become of the pictures of a folder.

    Attributes:
        source: the folder of the pictures.
        engine: what has read the words.
        settings: how the samples were made.
        pictures: number of pictures found.
        samples: number of samples.
        kept: how many of these an earlier run had written.
        words: number of words read on them.
        quoted: number of words to draw in their captions.
        without_words: number of samples on which no word was read.
        unquoted: number of samples whose caption has no word to draw.
        dropped: number of pictures left out, by reason.
        examples: names of a few pictures for each reason.
        seconds: how long it took.
        finished: False in the file of a run that was stopped.
    """

    source: str
    engine: str
    settings: Mapping[str, Any]
    pictures: int = 0
    samples: int = 0
    kept: int = 0
    words: int = 0
    quoted: int = 0
    without_words: int = 0
    unquoted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    seconds: float = 0.0
    finished: bool = False

    def lines(self) -> list[str]:
        """Format the report as lines: the totals, then a line for each reason to leave pictures out."""
        before = f", {self.kept} of them by an earlier run" if self.kept else ""
        lines = [
            f"{self.pictures} pictures: {self.samples} samples are written{before}, "
            f"{sum(self.dropped.values())} pictures are left out",
            f"{self.words} words were read; {self.quoted} are quoted in the captions, as words to draw",
        ]
        if self.without_words:
            lines.append(f"{self.without_words} samples have no word on them")
        if self.unquoted > self.without_words:
            lines.append(
                f"{self.unquoted - self.without_words} captions name none of the words on their picture; "
                "--add_words appends them"
            )
        for reason, count in self.dropped.items():
            lines.append(f"{count} left out: {reason} ({', '.join(self.examples[reason])})")
        return lines


def annotate(
    source: Path,
    out: Path,
    settings: AnnotationSettings,
    reader: Reader,
    workers: int = 1,
    text_column: str | None = None,
    image_column: str | None = None,
) -> AnnotationReport:
    """Write the pictures of a folder as samples in MARIO's format.

    A run that was stopped, at any moment, is continued by the next one; so is one whose pictures, captions or settings
    have changed since. Samples whose picture is gone are removed.

    Args:
        source: a folder with pictures in any of the forms of :mod:`~vlad_lightning.data.own_pictures` and
            :mod:`~vlad_lightning.data.parquet_pictures`, or one parquet file.
        out: the data folder: new, empty, or written by an earlier run for the same ``source``.
        settings: how samples are made.
        reader: reads the words.
        workers: number of processes.
        text_column: see :func:`~vlad_lightning.data.own_pictures.file_portions`.
        image_column: see :func:`~vlad_lightning.data.parquet_pictures.parquet_portions`.

    Returns:
        The report, which is also in the folder, as ``annotation.json`` and ``annotation.md``.

    Raises:
        FileNotFoundError, FileExistsError, ValueError: if an argument cannot be used.
        OSError: if the source cannot be read as a whole, or a sample cannot be written.
    """
    check_whole("workers", workers, 1, 1024)
    began = time.monotonic()
    portions = find_portions(source, text_column, image_column)
    _check_out(source, out)
    report = AnnotationReport(str(source.resolve()), reader.name, asdict(settings))
    _write(report, out)
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    work = partial(_annotate_portion, out, settings, reader)
    outcomes: list[Outcome] = []
    with Shown("pictures", sum(map(len, portions))) as shown:
        for done in unordered(work, portions, workers):
            outcomes += done
            shown(len(done))
    outcomes = _without_doubles(outcomes)
    _remove_others(out, {outcome.folder for outcome in outcomes} - {""})
    shutil.rmtree(out / UNFINISHED, ignore_errors=True)
    report = _reported(report, outcomes, time.monotonic() - began)
    write_page(out, report.lines(), [(outcome.name, outcome.folder) for outcome in outcomes if outcome.folder])
    _write(report, out)
    return report


def find_portions(source: Path, text_column: str | None, image_column: str | None) -> list[Portion]:
    """Find all pictures.

    Raises:
        FileNotFoundError: if ``source`` does not exist.
        ValueError: if it is neither a folder nor a parquet file, holds no picture, or its lists cannot be used.
    """
    if not source.exists():
        raise FileNotFoundError(f"DIR is {printable(source)!r}, which does not exist; it must be a folder of pictures")
    if source.is_file() and source.suffix.lower() != _PARQUET:
        raise ValueError(f"DIR is {printable(source)!r}, which is a file; it must be a folder of pictures")
    tables = [source] if source.is_file() else _tables(source)
    names = [table.relative_to(source if source.is_dir() else source.parent).as_posix() for table in tables]
    portions: list[Portion] = [] if source.is_file() else [*file_portions(source.resolve(), text_column)]
    for table, name in zip(tables, names, strict=True):
        portions += parquet_portions(table, printable(name), image_column, text_column)
    if not sum(map(len, portions)):
        captions = " or ".join(f"a{suffix}" for suffix in CAPTION_SUFFIXES)
        raise ValueError(
            f"DIR is {printable(source)!r}, which holds no picture; expected a.jpg with {captions} beside it, "
            f"a {METADATA}, or {_PARQUET} files"
        )
    return portions


def _tables(source: Path) -> list[Path]:
    hidden = (path for path in source.rglob(f"*{_PARQUET}") if path.is_file())
    return sorted(path for path in hidden if not any(p.startswith(".") for p in path.relative_to(source).parts))


def _check_out(source: Path, out: Path) -> None:
    inside, around = out.resolve(), source.resolve()
    if inside.is_relative_to(around):
        raise ValueError(f"out is {printable(out)!r}, which is in {printable(source)!r}; name a folder elsewhere")
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    try:
        before = json.loads(read_utf8(out / NOTE, NOTE_BYTES))["source"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FileExistsError(
            f"out is {printable(out)!r}, which is not empty and was not written by annotate; name another folder"
        ) from error
    if before != str(around):
        raise FileExistsError(
            f"out is {printable(out)!r}, which holds the pictures of {before!r}; name another folder for those of "
            f"{printable(source)!r}"
        )


def _annotate_portion(out: Path, settings: AnnotationSettings, reader: Reader, portion: Portion) -> list[Outcome]:
    return [annotate_picture(picture, out, settings, reader) for picture in portion.read()]


def _without_doubles(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Sort by name, and drop samples whose file, or number, is that of an earlier one."""
    digests: set[str] = set()
    folders: set[str] = set()
    kept = []
    for outcome in sorted(outcomes, key=lambda outcome: outcome.name):
        if outcome.folder and outcome.digest in digests:
            outcome = Outcome(outcome.name, dropped=_DOUBLE)
        elif outcome.folder in folders:
            outcome = Outcome(outcome.name, dropped=_TAKEN)
        elif outcome.folder:
            digests.add(outcome.digest)
            folders.add(outcome.folder)
        kept.append(outcome)
    return kept


def _remove_others(out: Path, folders: set[str]) -> None:
    """Remove the samples that an earlier run, or this one, has written and that do not belong to ``folders``."""
    for note in out.glob(f"*/*/{NOTE}"):
        if note.parent.relative_to(out).as_posix() not in folders:
            shutil.rmtree(note.parent)


def _reported(report: AnnotationReport, outcomes: Sequence[Outcome], seconds: float) -> AnnotationReport:
    good = [outcome for outcome in outcomes if outcome.folder]
    dropped = Counter(outcome.dropped for outcome in outcomes if outcome.dropped)
    named: dict[str, list[str]] = {reason: [] for reason in dropped}
    for outcome in outcomes:
        if outcome.dropped and len(named[outcome.dropped]) < _EXAMPLES:
            named[outcome.dropped].append(outcome.name)
    return AnnotationReport(
        report.source,
        report.engine,
        report.settings,
        pictures=len(outcomes),
        samples=len(good),
        kept=sum(outcome.kept for outcome in good),
        words=sum(outcome.words for outcome in good),
        quoted=sum(outcome.quoted for outcome in good),
        without_words=sum(not outcome.words for outcome in good),
        unquoted=sum(not outcome.quoted for outcome in good),
        dropped=dict(dropped.most_common()),
        examples=named,
        seconds=round(seconds, 1),
        finished=True,
    )


def _write(report: AnnotationReport, out: Path) -> None:
    write_text(out / NOTE, json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
