"""Training, validation and test data from folders in MARIO's format."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario import list_samples
from vlad_lightning.data.scan import DataReport, quoted_caption, scan
from vlad_lightning.data.splits import in_hash_order, split
from vlad_lightning.models.glyphs import Rasterizer
from vlad_lightning.types import Batch, Sample


class MarioDataModule(LightningDataModule):
    """Posters with their captions, layouts and glyphs, in batches of :class:`~vlad_lightning.types.Batch`.

    Captions get quotes around the words that are also on the image. Samples that cannot be used are skipped, counted
    and reported.

    Args:
        root: a folder in MARIO's format.
        size: height and width of the images in pixels; others are stretched to it.
        batch_size: samples a batch and device.
        max_words: ``N``, the number of words a layout generator places; a caption's further words are left out.
        max_boxes: at most this many words are drawn in ``glyphs``, the largest ones.
        val_share: share of ``root`` that validates; the split depends on the samples' names and ``seed`` only.
        test_share: share of ``root`` that tests; not used if ``test_root`` is given.
        test_root: another folder in MARIO's format; all of it tests.
        index: a file in ``root``'s place that lists the samples of ``root`` to use, as ``06269_062690093``.
        limit_test: test on this many samples only.
        min_confidence: words that were read with less are left out; in MARIO it goes down to 0.115.
        max_bad_share: refuse a folder with a larger share of samples that cannot be used.
        rasterizer: draws ``glyphs``; None is the one with the default font.
        num_workers: processes that read, for each loader; 0 reads in the training process.
        pin_memory: copy batches into pinned memory, for a GPU.
        seed: of the splits and of the order of the training samples.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        root: str,
        size: int = 64,
        batch_size: int = 16,
        max_words: int = 4,
        max_boxes: int = 32,
        val_share: float = 0.05,
        test_share: float = 0.05,
        test_root: str | None = None,
        index: str | None = None,
        limit_test: int | None = None,
        min_confidence: float = 0.3,
        max_bad_share: float = 0.5,
        rasterizer: Rasterizer | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _at_least(1, size=size, batch_size=batch_size, max_words=max_words, max_boxes=max_boxes)
        _at_least(0, num_workers=num_workers)
        if limit_test is not None:
            _at_least(1, limit_test=limit_test)
        _shares(min_confidence=min_confidence, max_bad_share=max_bad_share, val_share=val_share, test_share=test_share)
        if val_share == 0 or (test_share == 0 and test_root is None) or val_share + test_share >= 1:
            raise ValueError(
                f"val_share={val_share} and test_share={test_share}: each must be above 0, and the sum below 1"
            )
        self.root = root
        self.size = size
        self.batch_size = batch_size
        self.max_words = max_words
        self.max_boxes = max_boxes
        self.val_share = val_share
        self.test_share = test_share
        self.test_root = test_root
        self.index = index
        self.limit_test = limit_test
        self.min_confidence = min_confidence
        self.max_bad_share = max_bad_share
        self.rasterizer = rasterizer or Rasterizer()
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.seed = seed
        self._sets: dict[str, MarioDataset] = {}
        self._reports: dict[str, DataReport] = {}

    @property
    def report(self) -> DataReport:
        """What the scan of ``root`` found."""
        self.setup()
        return self._reports[self.root]

    @property
    def test_report(self) -> DataReport:
        """What the scan of ``test_root`` found; of ``root`` if there is no other."""
        self.setup()
        return self._reports[self.test_root or self.root]

    @property
    def broken(self) -> tuple[str, ...]:
        """Keys of samples whose images turned out to be broken when they were read, and were replaced."""
        return tuple(sorted({key for data in self._sets.values() for key in data.broken}))

    def setup(self, stage: str | None = None) -> None:
        """Scan the folders and split them, once; every split is there at every stage, so that errors come first.

        Raises:
            FileNotFoundError: if a folder or the index does not exist.
            ValueError: if a folder holds no usable sample or too large a share of bad ones.
        """
        if self._sets:
            return
        folders = self._usable(self.root, self.index)
        if self.test_root is None:
            train, val, test = split(folders, self.val_share, self.test_share, self.seed)
        else:
            train, val, _ = split(folders, self.val_share, 0.0, self.seed)
            test = in_hash_order(self._usable(self.test_root), self.seed)
        self._sets = {"train": self._dataset(train), "val": self._dataset(val)}
        self._sets["test"] = self._dataset(test[: self.limit_test])

    def captions(self) -> list[str]:
        """The training split's captions, with quotes around the words that are drawn; no image is read."""
        self.setup()
        return [quoted_caption(folder, self.min_confidence)[0] for folder in self._sets["train"].folders]

    def train_dataloader(self) -> DataLoader[Sample]:
        """Shuffled; the order depends on ``seed``. A last batch that is not full is left out if there are others."""
        self.setup()
        data = self._sets["train"]
        ranks = self.trainer.world_size if self.trainer else 1
        return DataLoader(
            data,
            batch_size=self.batch_size,
            shuffle=True,
            drop_last=len(data) // ranks > self.batch_size,
            generator=torch.Generator().manual_seed(self.seed),
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=Batch.collate,
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """In a fixed order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        """In a fixed order."""
        return self._in_order("test")

    def _in_order(self, name: str) -> DataLoader[Sample]:
        self.setup()
        return DataLoader(
            self._sets[name],
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=Batch.collate,
        )

    def _dataset(self, folders: list[Path]) -> MarioDataset:
        return MarioDataset(folders, self.size, self.max_words, self.max_boxes, self.min_confidence, self.rasterizer)

    def _usable(self, root: str, index: str | None = None) -> list[Path]:
        listed = list_samples(Path(root), Path(index) if index else None)
        folders, report = scan(root, listed, self.min_confidence, self.max_words)
        self._reports[root] = report
        lines = "\n".join(report.lines())
        if not folders or report.bad_share > self.max_bad_share:
            raise ValueError(
                f"{report.bad_share:.0%} of the samples in {root!r} cannot be used, and at most "
                f"max_bad_share={self.max_bad_share:.0%} may be, with one good one at least; a sample is a folder like "
                f"00000/000000000 with image.jpg, caption.txt and ocr.txt.\n{lines}"
            )
        rank_zero_info(lines)
        return folders


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name}={value}: must be at least {least}")


def _shares(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name}={value}: must lie in [0, 1]")
