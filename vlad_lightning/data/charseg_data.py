"""Samples with the character that each pixel shows, read from ``charseg.npy``."""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario import CHARACTERS, CHARSEG_SIDE, UNKNOWN
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.source import RawSample
from vlad_lightning.files import UnusableFileError, printable, read_bytes
from vlad_lightning.types import Batch, Sample

NAME = "charseg.npy"
CLASSES = len(CHARACTERS) + 1
"""The background, which is class 0, and the characters."""

_log = logging.getLogger(__name__)
_MOST_BYTES = 8 * CHARSEG_SIDE**2 + 4096  # int64 and a header
_SEARCHED = 1_000  # samples


@dataclass(frozen=True, eq=False)
class CharsegRawSample(RawSample):
    """A stored sample with its map of characters.

    Attributes:
        charseg: (256, 256) uint8: classes, :data:`UNKNOWN` where the file has none; None without a usable file.
    """

    charseg: np.ndarray | None = None


@dataclass(frozen=True)
class CharsegSample(Sample):
    """A sample with its map of characters.

    Attributes:
        charseg: (H, W) uint8: 0 is the background, 1 to 95 are :data:`~vlad_lightning.data.mario.CHARACTERS`,
            :data:`UNKNOWN` is not known.
    """

    charseg: Tensor


@dataclass(frozen=True)
class CharsegBatch(Batch):
    """``B`` samples with their maps of characters.

    Attributes:
        charseg: (B, H, W) uint8, as in :class:`CharsegSample`.
    """

    charseg: Tensor = field(kw_only=True)

    @classmethod
    def collate(cls, samples: Sequence[Sample]) -> CharsegBatch:
        """Stack samples; a DataLoader's ``collate_fn``."""
        maps = [sample.charseg for sample in samples if isinstance(sample, CharsegSample)]
        return cls(**vars(Batch.collate(samples)), charseg=torch.stack(maps))


class CharsegFolder(MarioFolder):
    """A folder in MARIO's format whose samples are read with their ``charseg.npy``, where they have one."""

    def read(self, index: int) -> RawSample:
        """See :class:`~vlad_lightning.data.source.SampleSource`."""
        return CharsegRawSample(**vars(super().read(index)), charseg=read_charseg(self.folders[index]))


class CharsegDataset(MarioDataset):
    """Samples with their maps of characters; all of a map is unknown where a source has none."""

    def _build(self, sample: RawSample, frame: tuple[int, int]) -> CharsegSample:
        stored = sample.charseg if isinstance(sample, CharsegRawSample) else None
        return CharsegSample(**vars(super()._build(sample, frame)), charseg=_resized(stored, self.size))


class CharsegDataModule(MarioDataModule):
    """Samples with the character that each pixel shows, in batches of :class:`CharsegBatch`.

    The training folder needs ``charseg.npy`` files, of which single ones may be missing; a test folder needs none.

    Arguments, splits and order are those of :class:`~vlad_lightning.data.datamodule.MarioDataModule`.
    A map of characters has the frame of the stretched picture, so ``resize`` must be ``stretch``.
    """

    dataset_class = CharsegDataset
    batch_class = CharsegBatch

    def setup(self, stage: str | None = None) -> None:
        """Set up the sources, see :meth:`~vlad_lightning.data.datamodule.MarioDataModule.setup`.

        Raises:
            ValueError: also if no sample of the training folder has a ``charseg.npy``, or ``resize`` is not
                ``stretch``.
        """
        if self.resize != "stretch":
            raise ValueError(f"resize is {self.resize!r}; it must be 'stretch' for data with {NAME}")
        super().setup(stage)
        folder = self.source
        if isinstance(folder, MarioFolder) and not any((f / NAME).is_file() for f in folder.folders[:_SEARCHED]):
            raise ValueError(
                f"root is {folder.root!r}, where no sample has a {NAME}; characters are learned from samples with this "
                "file: vlad-cli synth --charseg true draws some"
            )

    def _folder(self, root: str, index: str | None = None) -> MarioFolder:
        return CharsegFolder(root, index, self.min_confidence, self.max_bad_share, self.max_outage, self.max_words)


def read_charseg(folder: Path) -> np.ndarray | None:
    """Read a sample's map of characters.

    Returns:
        (256, 256) uint8, with :data:`UNKNOWN` for classes that MARIO does not have; None without a file, or with a
        warning if it cannot be used.
    """
    path = folder / NAME
    try:
        stored = np.load(io.BytesIO(read_bytes(path, _MOST_BYTES)), allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, UnusableFileError, ValueError, EOFError) as error:
        _log.warning("%s cannot be used (%s); its characters count as unknown", printable(path), error)
        return None
    if stored.shape != (CHARSEG_SIDE, CHARSEG_SIDE) or stored.dtype.kind not in "iu":
        _log.warning("%s is %s %s; its characters count as unknown", printable(path), stored.dtype, stored.shape)
        return None
    return np.where((stored >= 0) & (stored < CLASSES), stored, UNKNOWN).astype(np.uint8)


def _resized(stored: np.ndarray | None, size: int) -> Tensor:
    """Return a stored map at ``size`` pixels a side, (size, size) uint8; each pixel takes the class at its centre."""
    if stored is None:
        return torch.full((size, size), UNKNOWN, dtype=torch.uint8)
    return F.interpolate(torch.from_numpy(stored)[None, None], (size, size), mode="nearest-exact")[0, 0]
