"""A whole data set prepared for training: portion by portion, in any number of processes and tasks of a cluster.

Each portion becomes a shard, a list of its samples, and, last, a note; what has a note is done. The index of the set is
made of the notes and lists alone, so it is the same however often the work was stopped, and whoever did it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vlad_lightning.data.annotation import Reader
from vlad_lightning.data.content import NAMES
from vlad_lightning.data.prepare_inputs import InputPortion
from vlad_lightning.data.prepared_sample import Prepared, PrepareSettings, counted, prepare_sample
from vlad_lightning.data.prepared_shard import SUFFIX, PreparedRow, write_shard
from vlad_lightning.data.prepared_source import KEY, KEYS, NOTE, ROWS, SHARDS, SIDES, VERSION
from vlad_lightning.data.processes import unordered
from vlad_lightning.data.progress import Shown
from vlad_lightning.data.source import SkipSample
from vlad_lightning.files import LIST_BYTES, NOTE_BYTES, new_folder, printable, read_utf8, write_file, write_text
from vlad_lightning.limits import check_share, check_whole

_LISTED = np.dtype([("key", KEY), ("pixels", "<u8", (2,)), ("mark", "<u8"), ("sides", "<u2", (2,))])  # of JPEG
_EXAMPLES = 5  # samples that are named for each reason
_ENOUGH = 500  # samples after which a large share of unusable ones ends the work
_LEFT = 3600.0  # seconds after which a file that was not finished is one of a killed process
_DOUBLE = "the same picture as another sample's"
_TAKEN = "its name is that of another sample"


@dataclass(frozen=True)
class PrepareReport:
    """What has become of the samples.

    Attributes:
        source: what they were made of.
        settings: how.
        found: number of samples found.
        samples: number of samples in the set.
        words: number of words that were read on them.
        quoted: number of words to draw in their captions.
        without_words: number of samples on which no word was read.
        unquoted: number of samples whose caption has no word to draw.
        dropped: number of samples left out, by reason.
        examples: names of a few samples for each reason.
        mended: how often something in a sample was changed or left out.
        seconds: of all processes' work on the samples.
    """

    source: str
    settings: Mapping[str, Any]
    found: int = 0
    samples: int = 0
    words: int = 0
    quoted: int = 0
    without_words: int = 0
    unquoted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)
    mended: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def lines(self) -> list[str]:
        """Format the report as lines: the totals, then a line for each reason and each change."""
        lines = [
            f"{self.found} samples found: {self.samples} are prepared, {sum(self.dropped.values())} are left out",
            f"{self.words} words were read; {self.quoted} are quoted in the captions, as words to draw",
            f"{self.without_words} samples have no word on them; the captions of {self.unquoted} have no word to draw",
        ]
        for reason, count in self.dropped.items():
            lines.append(f"{count} left out: {reason} ({', '.join(self.examples[reason])})")
        return [*lines, *(f"{count} times: {change}" for change, count in self.mended.items())]


@dataclass(frozen=True)
class Preparation:
    """What is prepared, and where to.

    Attributes:
        source: what the samples are made of, for the report; another one is refused for the same folder.
        portions: the samples.
        out: the folder of the prepared set.
        settings: how samples are prepared.
        reader: reads the words of pictures that come without.
        max_bad: refuse a larger share of samples that cannot be used.
    """

    source: str
    portions: Sequence[InputPortion]
    out: Path
    settings: PrepareSettings = field(default_factory=PrepareSettings)
    reader: Reader | None = None
    max_bad: float = 0.5

    @property
    def made(self) -> dict[str, Any]:
        """How shards are made; those that were made otherwise are made again."""
        return {"settings": asdict(self.settings), "reader": self.reader.name if self.reader else None}


def prepare(work: Preparation, workers: int = 1, part: tuple[int, int] = (0, 1)) -> PrepareReport | None:
    """Prepare a data set, or go on where an earlier run was stopped, at any moment.

    Args:
        work: what is prepared.
        workers: number of processes.
        part: ``(i, n)`` does only the ``i``-th of ``n`` parts of the portions, 0 the first; the one that ends last
            makes the index.

    Returns:
        The report; None if other parts are still missing.

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError: if an argument is out of its range, or too many samples cannot be used.
        OSError: if the source cannot be read as a whole, or nothing can be written.
    """
    check_whole("workers", workers, 1, 1024)
    check_share("max_bad", work.max_bad)
    check_whole("the number of parts in range", part[1], 1, 100_000)
    check_whole("the part in range", part[0], 0, part[1] - 1)
    claim(work.out, work.source)
    own = work.portions[part[0] :: part[1]]
    notes = {portion.name: note for portion in own if (note := _done(work, portion))}
    left = [portion for portion in own if portion.name not in notes]
    if left:  # the index of an earlier run does not fit the shards any more
        write_text(work.out / NOTE, _unfinished(work.source))
    tally = _Bad(work.max_bad)
    for note in notes.values():
        tally.add(note)
    with Shown("samples", sum(map(len, own))) as shown:
        shown(sum(len(portion) for portion in own if portion.name in notes))
        for note in unordered(
            partial(_prepare_portion, work.out, work.made, work.settings, work.reader), left, workers
        ):
            tally.add(note)
            shown(note["listed"])
    return _merge(work)


def missing(work: Preparation) -> int:
    """Return the number of portions that are not done yet."""
    return sum(_done(work, portion) is None for portion in work.portions)


class _Bad:
    """The share of samples that cannot be used; raises an error if it is too large."""

    def __init__(self, most: float) -> None:
        self._most = most
        self._found = 0
        self._dropped: Counter[str] = Counter()

    def add(self, note: Mapping[str, Any]) -> None:
        self._found += note["found"]
        self._dropped.update(note["dropped"])
        self.check(_ENOUGH)

    def check(self, enough: int) -> None:
        bad = sum(self._dropped.values())
        if self._found >= enough and bad > self._most * self._found:
            reason, count = self._dropped.most_common(1)[0]
            raise ValueError(
                f"{bad} of {self._found} samples cannot be used, more than --max_bad {self._most:g} allows; "
                f"{count} of them: {reason}"
            )


def claim(out: Path, source: str) -> None:
    """Write the unfinished note of a new set, or check that the existing one is of the same source.

    Raises:
        FileExistsError: if the folder holds something else.
    """
    note = out / NOTE
    if note.exists():
        try:
            before = json.loads(read_utf8(note, LIST_BYTES))["source"]
        except (ValueError, KeyError, TypeError) as error:
            raise FileExistsError(f"{printable(note)} is not of vlad-cli prepare; name another folder") from error
        if before != source:
            raise FileExistsError(f"out is {printable(out)!r}, which is prepared from {before}; name another folder")
    elif out.exists() and any(not path.name.startswith(".") for path in out.iterdir()):
        raise FileExistsError(f"out is {printable(out)!r}, which is not empty; name another folder")
    else:
        write_text(note, _unfinished(source))


def _unfinished(source: str) -> str:
    return json.dumps({"version": VERSION, "source": source, "finished": False})


def _done(work: Preparation, portion: InputPortion) -> Mapping[str, Any] | None:
    """Return a portion's note if its shard was made of the same samples in the same way."""
    try:
        note = json.loads(read_utf8(work.out / SHARDS / f"{portion.name}.json", NOTE_BYTES))
    except (OSError, ValueError):
        return None
    same = note.get("version") == VERSION and note["state"] == portion.state and note["made"] == work.made
    return note if same else None


def _prepare_portion(
    out: Path, made: Mapping[str, Any], settings: PrepareSettings, reader: Reader | None, portion: InputPortion
) -> Mapping[str, Any]:
    """Write a portion's shard and list, and then its note, which is returned."""
    began = time.process_time()
    job = _PortionJob(settings, reader)
    beside = out / SHARDS / portion.name
    write_shard(beside.with_suffix(SUFFIX), job.rows(portion))
    listed = np.array(job.listed, dtype=_LISTED)
    write_file(beside.with_suffix(".npy"), lambda path: np.save(path, listed))
    note = {
        "version": VERSION,
        "state": portion.state,
        "made": made,
        "listed": len(portion),
        "rows": len(listed),
        **job.counts(),
        "seconds": round(time.process_time() - began, 2),
    }
    write_text(beside.with_suffix(".json"), json.dumps(note))
    return note


class _PortionJob:
    """The work on one portion: what becomes of its samples is counted."""

    def __init__(self, settings: PrepareSettings, reader: Reader | None) -> None:
        self.listed: list[tuple[bytes, tuple[int, int], int, tuple[int, int]]] = []
        self._settings = settings
        self._reader = reader
        self._totals: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()
        self._mended: Counter[str] = Counter()
        self._examples: dict[str, list[str]] = {}

    def rows(self, portion: InputPortion) -> Iterator[PreparedRow]:
        """Yield the samples that can be used."""
        for found in portion.read():
            self._totals["found"] += 1
            try:
                prepared = prepare_sample(found, self._settings, self._reader)
            except Exception as error:  # a file may be broken in any way, and one sample must not end the work
                self._drop(error.reason if isinstance(error, SkipSample) else type(error).__name__, found.name)
            else:
                self._add(prepared)
                yield prepared.row

    def counts(self) -> dict[str, Any]:
        """Return the counts, for the note."""
        names = ("found", "words", "quoted", "without_words", "unquoted")
        counters = {"dropped": self._dropped, "mended": self._mended, "examples": self._examples}
        return {name: self._totals[name] for name in names} | counters

    def _add(self, prepared: Prepared) -> None:
        low, high = (int.from_bytes(half, "big") for half in (prepared.pixels[:8], prepared.pixels[8:]))
        row = prepared.row
        self.listed.append((row.key.encode("ascii"), (low, high), _mark(row), (row.width, row.height)))
        self._mended.update(counted([prepared]))
        self._totals["words"] += prepared.words
        self._totals["quoted"] += prepared.quoted
        self._totals["without_words"] += not prepared.words
        self._totals["unquoted"] += not prepared.quoted

    def _drop(self, reason: str, name: str) -> None:
        self._dropped[reason] += 1
        if len(self._examples.setdefault(reason, [])) < _EXAMPLES:
            self._examples[reason].append(name)


def _merge(work: Preparation) -> PrepareReport | None:
    """Make the index and the report from the notes of all portions; None if one is missing."""
    notes = [_done(work, portion) for portion in work.portions]
    found = [note for note in notes if note]
    if len(found) < len(notes):
        return None
    tally = _Bad(work.max_bad)
    for note in found:
        tally.add(note)
    tally.check(1)
    names = [portion.name for portion in work.portions]
    listed = np.concatenate([np.load(work.out / SHARDS / f"{name}.npy") for name in names])
    kept, doubles = _without_doubles(listed)
    if not len(kept):
        raise ValueError(f"none of the {sum(note['found'] for note in found)} samples is left")
    report = _reported(work, found, doubles, len(kept))
    _write_index(work, [(name, note["rows"]) for name, note in zip(names, found, strict=True)], listed, kept, report)
    _remove_others(work, set(names))
    return report


def _without_doubles(listed: np.ndarray) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Return the rows of the first sample with each name and each picture, and the names of the others by reason."""
    taken = np.ones(len(listed), dtype=bool)
    taken[np.unique(listed["key"], return_index=True)[1]] = False
    free = np.flatnonzero(~taken)
    pixels = listed["pixels"][free]
    order = np.lexsort((free, pixels[:, 1], pixels[:, 0]))
    double = np.zeros(len(listed), dtype=bool)
    double[free[order[1:]]] = (pixels[order[1:]] == pixels[order[:-1]]).all(axis=1)
    reasons = {_TAKEN: taken, _DOUBLE: double}
    names = {reason: [key.decode() for key in listed["key"][which].tolist()] for reason, which in reasons.items()}
    return np.flatnonzero(~double & ~taken), {reason: keys for reason, keys in names.items() if keys}


def _reported(
    work: Preparation, notes: Sequence[Mapping[str, Any]], doubles: Mapping[str, Sequence[str]], samples: int
) -> PrepareReport:
    dropped: Counter[str] = Counter({reason: len(keys) for reason, keys in doubles.items()})
    mended: Counter[str] = Counter()
    examples = {reason: list(keys[:_EXAMPLES]) for reason, keys in doubles.items()}
    for note in notes:
        dropped.update(note["dropped"])
        mended.update(note["mended"])
        for reason, names in note["examples"].items():
            examples[reason] = [*examples.get(reason, []), *names][:_EXAMPLES]
    totals = {
        name: sum(note[name] for note in notes) for name in ("found", "words", "quoted", "without_words", "unquoted")
    }
    return PrepareReport(
        work.source,
        work.made,
        samples=samples,
        dropped=dict(dropped.most_common()),
        examples=examples,
        mended=dict(mended.most_common()),
        seconds=round(sum(note["seconds"] for note in notes), 1),
        **totals,
    )


def _write_index(
    work: Preparation,
    shards: Sequence[tuple[str, int]],
    listed: np.ndarray,
    kept: np.ndarray,
    report: PrepareReport,
) -> None:
    keys, marks = (np.ascontiguousarray(listed[name][kept]) for name in ("key", "mark"))
    content = {NAMES: _sha256(keys), "prepared samples": _sha256(marks)}
    index = f"index_{_sha256(keys, marks, kept, np.array(shards))[:16]}"
    try:
        if not (work.out / index).exists():
            with new_folder(work.out / index) as folder:
                np.save(folder / KEYS, keys)
                np.save(folder / ROWS, kept.astype(np.int64))
                np.save(folder / SIDES, listed["sides"][kept])
    except OSError:
        if not (work.out / index).exists():  # else another task was first, with the same
            raise
    note = {
        "version": VERSION,
        "source": work.source,
        "finished": True,
        "samples": len(kept),
        "index": index,
        "content": content,
        "made": work.made,
        "shards": shards,
    }
    write_text(work.out / "report.json", json.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    write_text(work.out / NOTE, json.dumps(note))


def _remove_others(work: Preparation, names: set[str]) -> None:
    """Remove shards of samples that are gone, indices before this one, and what killed processes have left."""
    for path in (work.out / SHARDS).glob("[!.]*"):
        if path.stem not in names:
            path.unlink(missing_ok=True)
    current = json.loads(read_utf8(work.out / NOTE, LIST_BYTES))["index"]
    for path in work.out.glob("index_*"):
        if path.name != current:
            shutil.rmtree(path, ignore_errors=True)
    for path in (*work.out.glob(".*"), *(work.out / SHARDS).glob(".*")):
        with contextlib.suppress(OSError):  # another task was first
            if time.time() - path.stat().st_mtime > _LEFT:  # younger ones may be of a task that is at work
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _mark(row: PreparedRow) -> int:
    """Return a 64-bit hash of all that is stored of a sample."""
    digest = hashlib.blake2b(digest_size=8)
    for value in asdict(row).values():
        part = value if isinstance(value, bytes) else str(value).encode()
        digest.update(b"%d:" % len(part) + part)
    return int.from_bytes(digest.digest(), "big")


def _sha256(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array.tobytes())
    return digest.hexdigest()
