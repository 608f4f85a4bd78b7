"""A check of every sample before training: it parses texts, and decodes images if there are few, else reads headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import track

from vlad_lightning.data.content import Content, marks
from vlad_lightning.data.mario import FILES, check_header, read_sample, read_texts
from vlad_lightning.data.outage import OutageGuard
from vlad_lightning.data.scan_memory import fingerprint, keep, recall
from vlad_lightning.data.scene_file import NAME, read_scene
from vlad_lightning.data.source import DataOutageError, SampleTexts, SkipSample
from vlad_lightning.files import printable
from vlad_lightning.layout.prompt_parser import drawn_words

_EXAMPLES = 3
_ODD_NAME = "samples have a name that is not UTF-8"
_FEW = 200  # samples: up to here images are decoded too, since a broken one may be the only sample of its split
_MANY = 2000  # samples: from here on the scan takes seconds, and shows a progress bar


@dataclass(frozen=True)
class DataReport:
    """The result of a scan.

    Attributes:
        root: the folder.
        usable: number of usable samples, as far as a scan can determine.
        skipped: number of unusable samples, by reason.
        examples: a few folders for each reason, and for names that are not in UTF-8; printable.
        lines_left_out: number of lines in the usable samples' ``ocr.txt`` that are not used, by reason.
        words_left_out: number of words to draw after a caption's first ``max_words``.
        scenes_left_out: number of the usable samples' ``scene.json`` that cannot be used.
        texts_recoded: number of the usable samples' texts that are not in UTF-8, by file name.
        names_recoded: number of the usable samples' own names that are not in UTF-8.
        content: the fingerprint of all usable samples, see :class:`~vlad_lightning.data.content.Content`.
    """

    root: str
    usable: int
    skipped: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    lines_left_out: Mapping[str, int]
    words_left_out: int
    scenes_left_out: int = 0
    texts_recoded: Mapping[str, int] = field(default_factory=dict)
    names_recoded: int = 0
    content: Mapping[str, str] = field(default_factory=dict)

    @property
    def bad_share(self) -> float:
        """The share of samples that cannot be used, in [0, 1]."""
        bad = sum(self.skipped.values())
        return bad / max(bad + self.usable, 1)

    def lines(self) -> list[str]:
        """Format the report as lines: the total, then a line for each reason."""
        lines = [f"{printable(self.root)}: {self.usable} samples are usable, {sum(self.skipped.values())} are skipped"]
        lines += [f"  {n} skipped: {reason} ({', '.join(self.examples[reason])})" for reason, n in self.skipped.items()]
        lines += [f"  {n} lines of ocr.txt left out: {reason}" for reason, n in self.lines_left_out.items()]
        lines += [f"  {n} {name} read in UTF-16 or Windows-1252: not UTF-8" for name, n in self.texts_recoded.items()]
        if self.names_recoded:
            lines.append(f"  {self.names_recoded} {_ODD_NAME} ({', '.join(self.examples[_ODD_NAME])})")
        if self.words_left_out:
            lines.append(f"  {self.words_left_out} words to draw left out: the caption has more than max_words")
        if self.scenes_left_out:
            lines.append(f"  {self.scenes_left_out} {NAME} left out: damaged, or in another format than synth's")
        return lines


def scan(
    root: str, folders: Sequence[Path], min_confidence: float, max_words: int, max_outage: float = 300.0
) -> tuple[list[Path], DataReport]:
    """Check each sample folder; for many folders that have not changed, use the stored result of the last scan.

    A broken image in a folder of many is found only when it is read, by
    :class:`~vlad_lightning.data.dataset.MarioDataset`.

    Args:
        root: the data folder.
        folders: its samples.
        min_confidence: words with a lower confidence are left out.
        max_words: a caption's words to draw after the first ``max_words`` are left out.
        max_outage: seconds to wait if the folder cannot be read for a while.

    Returns:
        The usable folders in their order, and the report.

    Raises:
        DataOutageError: if the folder cannot be read for longer than ``max_outage``.
    """
    if len(folders) < _MANY:
        return _look(root, folders, min_confidence, max_words, max_outage)
    now = fingerprint(folders, (*FILES, NAME), min_confidence, max_words, "left_out, texts_recoded, content, prompts")
    if found := recall(Path(root), now):
        examples = {reason: tuple(names) for reason, names in found["report"].pop("examples").items()}
        left_out = set(found["left_out"])
        usable = [folder for i, folder in enumerate(folders) if i not in left_out]
        return usable, DataReport(root, examples=examples, **found["report"])
    usable, report = _look(root, folders, min_confidence, max_words, max_outage)
    good = set(usable)
    noted = {name: value for name, value in asdict(report).items() if name != "root"}
    keep(Path(root), now, {"left_out": [i for i, folder in enumerate(folders) if folder not in good], "report": noted})
    return usable, report


def _look(
    root: str, folders: Sequence[Path], min_confidence: float, max_words: int, max_outage: float
) -> tuple[list[Path], DataReport]:
    tally = _Tally(max_words)
    guard = OutageGuard(folders, max_outage)
    check_image = read_sample if len(folders) <= _FEW else check_header
    look = partial(_look_at, min_confidence=min_confidence, check_image=check_image)
    quiet = len(folders) < _MANY or getattr(rank_zero_only, "rank", 0) != 0
    console = Console(stderr=True)
    for folder in track(folders, f"looking at {printable(root)}", console=console, transient=True, disable=quiet):
        try:
            found = guard(look, folder)
        except DataOutageError:
            raise
        except Exception as error:  # any error marks this sample as unusable, and is counted by its name
            tally.skip(folder, error)
        else:
            tally.add(folder, found)
    return tally.usable, tally.report(root)


@dataclass(frozen=True)
class _Found:
    """The result of checking a sample: its texts, its marks, and whether its scene cannot be used."""

    texts: SampleTexts
    marks: Mapping[str, bytes]
    scene_is_damaged: bool


def _look_at(folder: Path, min_confidence: float, check_image: Callable[[Path], object]) -> _Found:
    texts = read_texts(folder, min_confidence)
    check_image(folder)
    return _Found(texts, marks(folder), read_scene(folder)[1] is not None)


class _Tally:
    """The counts of a scan."""

    def __init__(self, max_words: int) -> None:
        self.usable: list[Path] = []
        self._max_words = max_words
        self._content = Content()
        self._skipped: Counter[str] = Counter()
        self._lines: Counter[str] = Counter()
        self._recoded: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, ...]] = {}
        self._extra = self._damaged = self._names = 0

    def add(self, folder: Path, found: _Found) -> None:
        """Count a usable sample."""
        self.usable.append(folder)
        self._content.add(found.marks)
        self._lines.update(found.texts.problems)
        self._recoded.update(found.texts.recoded)
        self._extra += max(0, len(drawn_words(found.texts.prompt)) - self._max_words)
        self._damaged += found.scene_is_damaged
        name = f"{folder.parent.name}/{folder.name}"
        if printable(name) != name:
            self._names += 1
            self._show(_ODD_NAME, folder)

    def skip(self, folder: Path, error: Exception) -> None:
        """Count an unusable sample by its reason; an unexpected error is counted by its name."""
        reason = error.reason if isinstance(error, SkipSample) else type(error).__name__
        self._skipped[reason] += 1
        self._show(reason, folder)

    def _show(self, reason: str, folder: Path) -> None:
        self._examples[reason] = (*self._examples.get(reason, ()), printable(folder))[:_EXAMPLES]

    def report(self, root: str) -> DataReport:
        """Return the report, with the most frequent reasons first."""
        return DataReport(
            root,
            len(self.usable),
            dict(self._skipped.most_common()),
            self._examples,
            dict(self._lines.most_common()),
            self._extra,
            self._damaged,
            dict(self._recoded.most_common()),
            self._names,
            self._content.digests(),
        )
