"""What is in a data set: counts and distributions of the words, captions and pictures of some of its samples."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.progress import Shown
from vlad_lightning.data.source import DataOutageError, RawSample, SampleSource, SkipSample, prompt_of
from vlad_lightning.layout.prompt_parser import drawn_words

_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "DIGIT": "digits"}
_FACETS = ("words a picture", "words to draw a caption", "characters a caption", "confidence", "height of a word")


@dataclass
class Inspection:
    """What was found in the samples that were read.

    Attributes:
        name: the data set's name.
        samples: number of its samples.
        read: number of samples that were read.
        skipped: number of samples that could not be, by reason.
        values: for each facet, its values.
        scripts: number of letters and digits in the words, by script.
        sizes: number of pictures by width and height in pixels.
    """

    name: str
    samples: int
    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    values: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _FACETS})
    scripts: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, sample: RawSample) -> None:
        """Count a sample."""
        prompt = prompt_of(sample, sample.key)
        heights = [_height(word) for word in sample.words]
        found: Mapping[str, Sequence[float]] = dict(
            zip(
                _FACETS,
                (
                    [len(sample.words)],
                    [len(drawn_words(prompt))],
                    [len(sample.caption)],
                    [word.confidence for word in sample.words],
                    heights,
                ),
                strict=True,
            )
        )
        for name, values in found.items():
            self.values[name] += values
        self.scripts.update(chain.from_iterable(map(script_of, word.text) for word in sample.words))
        self.scripts.pop("", None)
        self.sizes[sample.image.size] += 1
        self.read += 1

    def lines(self) -> list[str]:
        """Format the counts as lines."""
        lines = [f"{self.samples:,} samples, of which {self.read:,} were read"]
        for name, values in self.values.items():
            if values:
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95]).tolist()
                lines.append(f"{name}: median {middle:.3g}, 90 % from {low:.3g} to {high:.3g}")
        if self.scripts:
            total = self.scripts.total()
            shares = ", ".join(f"{script} {count / total:.1%}" for script, count in self.scripts.most_common(6))
            lines.append(f"scripts of the words: {shares}")
        sizes = ", ".join(f"{w} x {h} ({count})" for (w, h), count in self.sizes.most_common(4))
        lines.append(f"pictures: {len(self.sizes)} different sizes; the most frequent: {sizes or 'none'}")
        return [*lines, *(f"{count} not read: {reason}" for reason, count in self.skipped.most_common())]


def inspect_samples(source: SampleSource, most: int, shown: int) -> tuple[Inspection, list[RawSample]]:
    """Read some samples, evenly spread over a data set.

    Args:
        source: the data set, already set up.
        most: at most so many samples.
        shown: number of samples that are returned, of these.

    Returns:
        What was found, and some of the samples.

    Raises:
        DataOutageError: if the data set as a whole cannot be read for too long.
    """
    found = Inspection(source.name, len(source))
    indices = spread(len(source), most)
    pictured = {indices[i] for i in spread(len(indices), shown)}
    samples = []
    with Shown("samples", len(indices)) as progress:
        for index in indices:
            try:
                sample = source.read(index)
                found.add(sample)
            except DataOutageError:
                raise
            except Exception as error:  # counted by its name, as in training
                found.skipped[error.reason if isinstance(error, SkipSample) else type(error).__name__] += 1
            else:
                samples += [sample] if index in pictured else []
            progress(1)
    return found, samples


def spread(length: int, most: int) -> list[int]:
    """Return at most so many numbers below a length, evenly spread.

    Example:
        >>> spread(10, 4), spread(3, 4)
        ([0, 2, 5, 7], [0, 1, 2])
    """
    number = min(length, most)
    return [i * length // number for i in range(number)]


def script_of(character: str) -> str:
    """Return the script of a letter, ``digits`` for a digit, and an empty text for other characters.

    Example:
        >>> script_of("a"), script_of("é"), script_of("Ж"), script_of("漢"), script_of("7"), script_of("!")
        ('Latin', 'Latin', 'Cyrillic', 'Han', 'digits', '')
    """
    if not character.isalnum():
        return ""
    name = unicodedata.name(character, "unknown").split()[0].split("-")[0]
    return _SCRIPTS.get(name, name.capitalize())


def _height(word: OcrWord) -> float:
    """Return a word's height in frames, along the side at which it starts."""
    return float(np.hypot(*(word.quad[3] - word.quad[0])))
