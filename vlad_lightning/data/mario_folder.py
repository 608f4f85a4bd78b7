"""A folder in MARIO's format as a source of samples: it is listed, scanned, and waited for during an outage."""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_info

from vlad_lightning.data.mario import key_of, list_samples, read_sample, read_texts
from vlad_lightning.data.outage import OutageGuard
from vlad_lightning.data.scan import DataReport, scan
from vlad_lightning.data.scene_file import NAME
from vlad_lightning.data.source import DataOutageError, RawSample, SampleSource, SampleTexts
from vlad_lightning.limits import check_share


class MarioFolder(SampleSource):
    """The usable samples of a folder in MARIO's format.

    Unusable samples are skipped, counted and reported. No sample counts as broken because the folder as a whole cannot
    be read for a while.

    Args:
        root: the folder.
        index: a file that lists the samples of ``root`` to use, as ``06269_062690093``; None uses all.
        min_confidence: words with a lower confidence are left out; in MARIO it goes down to 0.115.
        max_bad_share: refuse a folder with a larger share of unusable samples.
        max_outage: seconds to wait if the folder as a whole cannot be read (its disk is away, access is denied) before
            raising an error.
        max_words: the report counts the words to draw that come after a caption's first ``max_words``.
        scenes_only: leave out samples without a ``scene.json``.

    Raises:
        ValueError: if an argument is out of its range.

    Attributes:
        folders: folders of the usable samples, sorted; empty before :meth:`setup`.
        report: the result of the scan; None before :meth:`setup`.
    """

    def __init__(
        self,
        root: str,
        index: str | None = None,
        min_confidence: float = 0.3,
        max_bad_share: float = 0.5,
        max_outage: float = 300.0,
        max_words: int = 4,
        scenes_only: bool = False,
    ) -> None:
        check_share("min_confidence", min_confidence)
        check_share("max_bad_share", max_bad_share)
        if not max_outage >= 0:  # also refuses nan
            raise ValueError(f"max_outage={max_outage}: must be at least 0")
        self.root = root
        self.index = index
        self.min_confidence = min_confidence
        self.max_bad_share = max_bad_share
        self.max_outage = max_outage
        self.max_words = max_words
        self.scenes_only = scenes_only
        self.folders: list[Path] = []
        self.report: DataReport | None = None
        self._keys: list[str] = []
        self._guard = OutageGuard((), max_outage)

    @property
    def name(self) -> str:
        """The folder's path."""
        return self.root

    def setup(self) -> None:
        """List and scan the folder, once.

        Raises:
            FileNotFoundError: if the folder or the index does not exist.
            ValueError: if the folder holds no usable sample or too large a share of unusable ones.
            DataOutageError: if it cannot be read for too long.
        """
        if self.report is not None:
            return
        listed = list_samples(Path(self.root), Path(self.index) if self.index else None)
        folders, report = scan(self.root, listed, self.min_confidence, self.max_words, self.max_outage)
        lines = "\n".join(report.lines())
        if not folders or report.bad_share > self.max_bad_share:
            raise ValueError(
                f"{report.bad_share:.0%} of the samples in {self.root!r} cannot be used; at most "
                f"max_bad_share={self.max_bad_share:.0%} may be so, and one must be usable; a sample is a folder like "
                f"00000/000000000 with image.jpg, caption.txt and ocr.txt.\n{lines}"
            )
        rank_zero_info(lines)
        self._guard = OutageGuard(folders, self.max_outage)
        self.folders = self._with_scenes(folders) if self.scenes_only else folders
        self._keys = [key_of(folder) for folder in self.folders]
        self.report = report

    def _with_scenes(self, folders: Sequence[Path]) -> list[Path]:
        found = [folder for folder in folders if _has_scene(folder, self._guard)]
        if not found:
            raise ValueError(
                f"root is {self.root!r}, where no sample has a {NAME}; the object detector learns from posters with "
                "this file: vlad-cli synth draws some"
            )
        return found

    def __len__(self) -> int:
        return len(self.folders)

    @property
    def keys(self) -> Sequence[str]:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        return self._keys

    def read(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        return self._guard(partial(read_sample, min_confidence=self.min_confidence), self.folders[index])

    def read_without_image(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        read = partial(read_sample, min_confidence=self.min_confidence, with_image=False)
        return self._guard(read, self.folders[index])

    def read_texts(self, index: int) -> SampleTexts:
        """See :class:`~vlad_lightning.data.source.SampleSource`; no image is read."""
        return self._guard(partial(read_texts, min_confidence=self.min_confidence), self.folders[index])

    def content(self) -> Mapping[str, str]:
        """Return the fingerprint of the usable samples, see :class:`~vlad_lightning.data.content.Content`."""
        return {} if self.report is None else self.report.content


def _has_scene(folder: Path, guard: OutageGuard) -> bool:
    """Return whether a sample has a scene file, usable or not.

    Raises:
        DataOutageError: if the data folder as a whole cannot be read for too long.
    """
    try:
        return guard(_find_scene, folder)
    except DataOutageError:
        raise
    except OSError:  # of this sample alone, which has been removed meanwhile
        return False


def _find_scene(folder: Path) -> bool:
    try:
        return stat.S_ISREG((folder / NAME).stat().st_mode)
    except FileNotFoundError:
        folder.stat()  # raises if the sample itself is missing
        return False
