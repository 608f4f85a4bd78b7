"""Where samples come from: the seam between how a data set is stored and what is made of its samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from PIL import Image

from vlad_lightning.data.ocr_lines import OcrWord, quote_read_words
from vlad_lightning.data.scene_file import SceneFacts
from vlad_lightning.files import printable

_MOST_BYTES = 1_500  # of a prompt in UTF-8: a text encoder may need a token for each, and pads the others to as many


@dataclass(frozen=True, eq=False)
class SampleTexts:
    """What a sample says, without its image.

    Attributes:
        caption: as of :class:`RawSample`.
        words: likewise.
        problems: a short reason for each word that was left out.
        recoded: names of the files that are not in UTF-8.
        prompt: as of :class:`RawSample`.
    """

    caption: str
    words: tuple[OcrWord, ...]
    problems: tuple[str, ...] = ()
    recoded: tuple[str, ...] = ()
    prompt: str = ""


@dataclass(frozen=True, eq=False)
class RawSample:
    """A sample as it is stored, before anything is made of it.

    Attributes:
        key: its name, as MARIO's index files have it (``06269_062690093``).
        image: of any size and mode; decoded.
        caption: one line, not empty, without quotes around the words that are drawn.
        words: in reading order.
        problems: a short reason for each word that was left out, and for a scene that was.
        scene: what stands where; None where that is not known.
        prompt: the caption with quotes around the words that are drawn; where it is empty, :func:`prompt_of` makes it.
    """

    key: str
    image: Image.Image
    caption: str
    words: tuple[OcrWord, ...]
    problems: tuple[str, ...] = ()
    scene: SceneFacts | None = None
    prompt: str = ""


class SkipSample(Exception):  # noqa: N818 -- it asks to skip; nothing has failed
    """Raised where a sample cannot be used.

    Attributes:
        reason: a short category, the same for all samples with this trouble, such as ``"no image.jpg"``.
    """

    def __init__(self, reason: str, where: Path | str) -> None:
        super().__init__(f"{printable(where)}: {reason}")
        self.reason = reason


class DataOutageError(OSError):
    """A source as a whole could not be read for longer than there was to wait."""


def prompt_of(sample: RawSample | SampleTexts, where: Path | str) -> str:
    """A sample's caption with quotes around the words that are drawn.

    Args:
        sample: a sample, or its texts.
        where: its name, for an error.

    Raises:
        SkipSample: as :func:`quoted_caption`.
    """
    return sample.prompt or quoted_caption(sample.caption, sample.words, where)


def quoted_caption(caption: str, words: Sequence[OcrWord], where: Path | str) -> str:
    """A caption with quotes around the words that are drawn.

    Args:
        caption: without them.
        words: that were read on the image.
        where: the sample's name, for an error.

    Raises:
        SkipSample: where either is too long.
    """
    _check_length(caption, where)
    prompt = quote_read_words(caption, words)
    _check_length(prompt, where)  # of a caption of single letters, quotes make twice as much
    return prompt


def _check_length(text: str, where: Path | str) -> None:
    if len(text.encode()) > _MOST_BYTES:
        raise SkipSample(f"caption of more than {_MOST_BYTES:,} bytes", where)


@runtime_checkable
class SampleSource(Protocol):
    """The samples of a data set, by number: a folder, shards of an archive, posters drawn when they are asked for.

    Whoever reads one splits, orders, builds and batches its samples, and asks it nothing else. It is pickled into the
    processes that read, after :meth:`setup`: what cannot be pickled, such as an open file, it opens where it reads. It
    waits by itself where it cannot be read for a while.

    A class that inherits from this one writes the length, :attr:`keys` and :meth:`read`, and has the rest.
    """

    @property
    def name(self) -> str:
        """What reports, results and errors call it, such as a folder; the class's name unless it says another."""
        return type(self).__name__

    def setup(self) -> None:
        """Look at what there is, once: it is called in every process before anything else is asked, and again.

        Raises:
            FileNotFoundError: where it does not exist.
            ValueError: where it cannot be used.
            DataOutageError: where it cannot be read for too long.
        """

    @abstractmethod
    def __len__(self) -> int:
        """How many samples; the same in every process, and each time."""
        ...

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """The samples' names, in their order, each unique and printable; the splits depend on them.

        A sequence may work a name out when it is asked for.
        """
        ...

    @abstractmethod
    def read(self, index: int) -> RawSample:
        """A sample; the same for the same number each time.

        Raises:
            SkipSample: where it cannot be used. Whatever else is raised counts as this sample's fault as well, but for:
            DataOutageError: where no sample could be read for too long.
        """
        ...

    def read_texts(self, index: int) -> SampleTexts:
        """What a sample says; a source that can leaves its image alone.

        Raises:
            SkipSample, DataOutageError: as :meth:`read`.
        """
        sample = self.read(index)
        return SampleTexts(sample.caption, sample.words, sample.problems, prompt=sample.prompt)

    def content(self) -> Mapping[str, str]:
        """A fingerprint of what it holds, by kind; another one where that has changed. Empty where it has none.

        A fit that is resumed compares it, see :func:`~vlad_lightning.data.content.differing`.
        """
        return {}
