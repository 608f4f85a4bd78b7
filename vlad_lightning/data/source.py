"""The source of samples: an interface between how a data set is stored and how its samples are used."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from vlad_lightning.data.ocr_lines import OcrWord, quote_read_words
from vlad_lightning.data.scene_file import SceneFacts
from vlad_lightning.data.splits import positions_of
from vlad_lightning.files import printable

if TYPE_CHECKING:
    from vlad_lightning.types import Latents

_MOST_BYTES = 1_500  # of a prompt in UTF-8: a text encoder may need a token per byte, and pads the batch to the longest


@dataclass(frozen=True, eq=False)
class SampleTexts:
    """The texts of a sample, without its image.

    Attributes:
        caption: as in :class:`RawSample`.
        words: as in :class:`RawSample`.
        problems: a short reason for each word that was left out.
        recoded: names of the files that are not in UTF-8.
        prompt: as in :class:`RawSample`.
    """

    caption: str
    words: tuple[OcrWord, ...]
    problems: tuple[str, ...] = ()
    recoded: tuple[str, ...] = ()
    prompt: str = ""


@dataclass(frozen=True, eq=False)
class RawSample:
    """A sample as it is stored, before any processing.

    Attributes:
        key: its name, as in MARIO's index files (``06269_062690093``).
        image: the decoded image, of any size and mode; from :meth:`SampleSource.read_without_image`, one pixel or a
            blank image.
        caption: one line, not empty, without quotes around the words that are drawn.
        words: the words read on the image, in reading order.
        problems: a short reason for each word that was left out, and for a scene that was left out.
        scene: the words, objects and their positions; None if unknown.
        prompt: the caption with quotes around the words that are drawn; if empty, :func:`prompt_of` makes it.
    """

    key: str
    image: Image.Image
    caption: str
    words: tuple[OcrWord, ...]
    problems: tuple[str, ...] = ()
    scene: SceneFacts | None = None
    prompt: str = ""


def no_image() -> Image.Image:
    """Return the single pixel that stands for an image that was not read."""
    return Image.new("RGB", (1, 1))


class SkipSample(Exception):  # noqa: N818 -- it asks to skip; nothing has failed
    """A sample that cannot be used.

    Attributes:
        reason: a short category, the same for all samples with this problem, such as ``"no image.jpg"``.
    """

    def __init__(self, reason: str, where: Path | str) -> None:
        super().__init__(f"{printable(where)}: {reason}")
        self.reason = reason


class DataOutageError(OSError):
    """A source that as a whole could not be read within the waiting time."""


def prompt_of(sample: RawSample | SampleTexts, where: Path | str) -> str:
    """Return a sample's caption with quotes around the words that are drawn.

    Args:
        sample: a sample, or its texts.
        where: its name, for errors.

    Raises:
        SkipSample: as :func:`quoted_caption`.
    """
    return sample.prompt or quoted_caption(sample.caption, sample.words, where)


def quoted_caption(caption: str, words: Sequence[OcrWord], where: Path | str) -> str:
    """Add quotes to a caption around the words that are drawn.

    Args:
        caption: the caption without these quotes.
        words: the words that were read on the image.
        where: the sample's name, for errors.

    Raises:
        SkipSample: if the caption or the result is too long.
    """
    check_caption_length(caption, where)
    prompt = quote_read_words(caption, words)
    check_caption_length(prompt, where)  # quotes can double the length of a caption of single letters
    return prompt


def check_caption_length(text: str, where: Path | str) -> None:
    """Refuse a caption or a prompt that is too long.

    Raises:
        SkipSample: beyond 1,500 bytes in UTF-8.
    """
    if len(text.encode()) > _MOST_BYTES:
        raise SkipSample(f"caption of more than {_MOST_BYTES:,} bytes", where)


@runtime_checkable
class SampleSource(Protocol):
    """The samples of a data set, by number: a folder, shards of an archive, or posters drawn on request.

    The data module splits, orders, builds and batches the samples; it uses only the methods here. A source is pickled
    into the processes that read, after :meth:`setup`: objects that cannot be pickled, such as an open file, must be
    opened by the process that reads. A source that cannot be read for a while waits by itself.

    A subclass implements the length, :attr:`keys` and :meth:`read`, and inherits the rest.
    """

    @property
    def name(self) -> str:
        """The name in reports, results and errors, such as a folder; the class's name unless overridden."""
        return type(self).__name__

    @property
    def nouns(self) -> tuple[str, ...]:
        """The objects that the captions name, in the singular; empty where they are not known, as of other pictures."""
        return ()

    def setup(self) -> None:
        """Find the samples, once: every process calls this before anything else, and may call it again.

        Raises:
            FileNotFoundError: if the source does not exist.
            ValueError: if it cannot be used.
            DataOutageError: if it cannot be read for too long.
        """
        return  # a source that needs none need not override this

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of samples; the same in every process, and each time."""
        ...

    @property
    @abstractmethod
    def keys(self) -> Sequence[str]:
        """The samples' names, in their order, each unique and printable; the splits depend on them.

        The sequence may compute a name when it is accessed.
        """
        ...

    @abstractmethod
    def read(self, index: int) -> RawSample:
        """Return a sample; the same for the same number each time.

        Raises:
            SkipSample: if it cannot be used. Any other exception marks this sample as broken as well, except:
            DataOutageError: if no sample could be read for too long.
        """
        ...

    def read_without_image(self, index: int) -> RawSample:
        """Return a sample for someone who ignores its ``image``; a source should override this if that saves time.

        A source with cached latents must override it: its ``image`` must have the proportions of the stored one.

        Raises:
            SkipSample, DataOutageError: as :meth:`read`; a damaged image may go unnoticed.
        """
        return self.read(index)

    def read_texts(self, index: int) -> SampleTexts:
        """Return the texts of a sample; a source should override this if it need not read the image.

        Raises:
            SkipSample, DataOutageError: as :meth:`read`.
        """
        sample = self.read(index)
        return SampleTexts(sample.caption, sample.words, sample.problems, prompt=sample.prompt)

    def check_latents(self, needed: Mapping[str, Any]) -> None:
        """Open the cached latents.

        Args:
            needed: the settings with which they must have been made, see
                :class:`~vlad_lightning.data.latent_cache.LatentNote`.

        Raises:
            ValueError: if there are none, or they were made with others.
        """
        raise ValueError(
            f"data.latents is true, and {printable(self.name)} cannot have cached latents; a prepared data set can: "
            "vlad-cli prepare"
        )

    def read_latents(self, index: int) -> Latents:
        """Return a sample's cached latents, after :meth:`check_latents`.

        Raises:
            SkipSample: if it has none.
            DataOutageError: if no sample could be read for too long.
        """
        raise RuntimeError(f"{type(self).__name__} has no cached latents")

    def proportions(self) -> np.ndarray:
        """Return the images' widths by their heights, (N,) float64; a source that knows them overrides this.

        Raises:
            ValueError: if they are not known without reading every image.
        """
        raise ValueError(
            f"data.buckets is given, and {printable(self.name)} does not list the sizes of its pictures; a prepared "
            "data set does: vlad-cli prepare"
        )

    def positions(self, seed: int) -> np.ndarray:
        """Return the samples' positions in [0, 1), (N,) float64, which decide their splits and the order of these.

        They are hashes of the keys and the seed. A source with a faster hash than that of the keys may override this,
        and so may one that holds samples several times: equal positions are in the same split.
        """
        return positions_of(self.keys, seed)

    def content(self) -> Mapping[str, str]:
        """Return a fingerprint of the content, by kind, which changes with the content; empty if there is none.

        A resumed fit compares it, see :func:`~vlad_lightning.data.content.differing`.
        """
        return {}
