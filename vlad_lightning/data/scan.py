"""A look at every sample before training: texts are parsed; images are decoded if there are few, else their headers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_only
from rich.console import Console
from rich.progress import track

from vlad_lightning.data.mario import FILES, SampleTexts, SkipSample, check_header, read_sample, read_texts
from vlad_lightning.data.ocr_lines import quote_read_words
from vlad_lightning.data.scan_memory import fingerprint, keep, recall
from vlad_lightning.data.scene_file import NAME, read_scene
from vlad_lightning.models.prompts import drawn_words

_EXAMPLES = 3
_FEW = 200  # samples: up to here images are decoded too, since one that breaks later may be all that its split has
_MANY = 2000  # samples: from here on the scan takes seconds, and a progress bar is due


@dataclass(frozen=True)
class DataReport:
    """What a scan found.

    Attributes:
        root: the folder.
        usable: how many samples can be used, as far as a scan can tell.
        skipped: how many cannot, by reason.
        examples: a few folders of each reason.
        lines_left_out: how many lines of the usable samples' ``ocr.txt`` are not used, by reason.
        words_left_out: how many words to draw come after a caption's first ``max_words``.
        scenes_left_out: how many of the usable samples' ``scene.json`` cannot be used.
        texts_recoded: how many of the usable samples' texts are not in UTF-8, by file name.
    """

    root: str
    usable: int
    skipped: Mapping[str, int]
    examples: Mapping[str, tuple[str, ...]]
    lines_left_out: Mapping[str, int]
    words_left_out: int
    scenes_left_out: int = 0
    texts_recoded: Mapping[str, int] = field(default_factory=dict)

    @property
    def bad_share(self) -> float:
        """The share of samples that cannot be used, in [0, 1]."""
        bad = sum(self.skipped.values())
        return bad / max(bad + self.usable, 1)

    def lines(self) -> list[str]:
        """The report for a reader: the total, then a line for each reason."""
        lines = [f"{self.root}: {self.usable} samples are usable, {sum(self.skipped.values())} are skipped"]
        lines += [f"  {n} skipped: {reason} ({', '.join(self.examples[reason])})" for reason, n in self.skipped.items()]
        lines += [f"  {n} lines of ocr.txt left out: {reason}" for reason, n in self.lines_left_out.items()]
        lines += [f"  {n} {name} read in UTF-16 or Windows-1252: not UTF-8" for name, n in self.texts_recoded.items()]
        if self.words_left_out:
            lines.append(f"  {self.words_left_out} words to draw left out: the caption has more than max_words")
        if self.scenes_left_out:
            lines.append(f"  {self.scenes_left_out} {NAME} left out: damaged, or of another form than synth's")
        return lines


def quoted_caption(folder: Path, min_confidence: float) -> tuple[str, SampleTexts]:
    """A sample's caption with quotes around the words that are drawn, and the texts that it is made of.

    Raises:
        SkipSample: if a file is missing, no text or far too long, or the caption is empty.
    """
    texts = read_texts(folder, min_confidence)
    return quote_read_words(texts.caption, texts.words), texts


def scan(root: str, folders: Sequence[Path], min_confidence: float, max_words: int) -> tuple[list[Path], DataReport]:
    """Look at each sample folder; of many that have not changed since the last time, at the notes of that time.

    A broken image in a folder of many is found only when it is read, by
    :class:`~vlad_lightning.data.dataset.MarioDataset`.

    Returns:
        the usable ones in their order, and the report.
    """
    if len(folders) < _MANY:
        return _look(root, folders, min_confidence, max_words)
    now = fingerprint(folders, (*FILES, NAME), min_confidence, max_words, "left_out, texts_recoded")
    if found := recall(Path(root), now):
        examples = {reason: tuple(names) for reason, names in found["report"].pop("examples").items()}
        left_out = set(found["left_out"])
        usable = [folder for i, folder in enumerate(folders) if i not in left_out]
        return usable, DataReport(root, examples=examples, **found["report"])
    usable, report = _look(root, folders, min_confidence, max_words)
    good = set(usable)
    noted = {name: value for name, value in asdict(report).items() if name != "root"}
    keep(Path(root), now, {"left_out": [i for i, folder in enumerate(folders) if folder not in good], "report": noted})
    return usable, report


def _look(root: str, folders: Sequence[Path], min_confidence: float, max_words: int) -> tuple[list[Path], DataReport]:
    usable: list[Path] = []
    skipped: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    recoded: Counter[str] = Counter()
    examples: dict[str, tuple[str, ...]] = {}
    extra = damaged = 0
    quiet = len(folders) < _MANY or getattr(rank_zero_only, "rank", 0) != 0
    check_image = read_sample if len(folders) <= _FEW else check_header
    bar = track(folders, f"looking at {root}", console=Console(stderr=True), transient=True, disable=quiet)
    for folder in bar:
        try:
            prompt, texts = quoted_caption(folder, min_confidence)
            check_image(folder)
        except Exception as error:  # whatever it is, it is this sample's fault, and counted by name
            reason = error.reason if isinstance(error, SkipSample) else type(error).__name__
            skipped[reason] += 1
            examples[reason] = (*examples.get(reason, ()), str(folder))[:_EXAMPLES]
            continue
        usable.append(folder)
        lines.update(texts.problems)
        recoded.update(texts.recoded)
        extra += max(0, len(drawn_words(prompt)) - max_words)
        damaged += bool(read_scene(folder)[1])
    return usable, DataReport(
        root,
        len(usable),
        dict(skipped.most_common()),
        examples,
        dict(lines.most_common()),
        extra,
        damaged,
        dict(recoded.most_common()),
    )
