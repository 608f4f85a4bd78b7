"""Training, validation and test data: the samples of a source, split, ordered, built and batched."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, Dataset, Sampler

from vlad_lightning.data.batches import BatchShard, shard_loader
from vlad_lightning.data.bucketed_order import BucketedOrder
from vlad_lightning.data.buckets import AspectBuckets, Frame, nearest_frames
from vlad_lightning.data.content import differing
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.framing import Resize, check_resize
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.order import Draw, GlobalBatchSampler, SampleOrder
from vlad_lightning.data.prepared_source import PreparedSource, is_prepared
from vlad_lightning.data.prompts import collate_prompts, keyed_prompts, read_prompts
from vlad_lightning.data.sample_memory import SampleMemory
from vlad_lightning.data.source import SampleSource
from vlad_lightning.data.splits import in_hash_order, split
from vlad_lightning.data.workers import Loader, start_worker
from vlad_lightning.files import find_config, printable
from vlad_lightning.layout.fonts import load_font
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.limits import MOST_IN_BATCH, MOST_PHRASES, MOST_SIDE, check_share, check_whole
from vlad_lightning.types import COSTLY_FIELDS, FRAMES, LATENTS, Batch, PromptBatch, Sample

_log = logging.getLogger(__name__)
_NAMED = 20  # samples that a warning names
_SIZE, _MAX_WORDS = 64, 4
_FONT_SIZE = 16  # any: only the font's name is read
_PREPARED_AS = {"min_confidence": "min_confidence", "max_bad_share": "max_bad"}  # the settings' names when preparing

Preparation = Callable[[Batch, int | None], Batch]
"""A conversion of a batch in the process that reads it; the int is its optimizer step, None outside training."""


class MarioDataModule(LightningDataModule):
    """Posters with their captions, layouts and glyphs, in batches of :class:`~vlad_lightning.types.Batch`.

    The samples come from a :class:`~vlad_lightning.data.source.SampleSource`; ``root`` is the short way to name a
    :class:`~vlad_lightning.data.mario_folder.MarioFolder`. Captions get quotes around the words that are also on the
    image. If a sample turns out to be broken when it is read, training uses a sample of another step instead;
    validation and test leave it out, and report at their end how many are missing and which.

    The training order is a :class:`~vlad_lightning.data.order.SampleOrder`: the same for every number of devices with
    the same global batch. A checkpoint stores the position in it, so a resumed fit continues with the sample that an
    uninterrupted one would have used next; :class:`~vlad_lightning.checkpoints.loop_counters.ExactResume` adjusts
    Lightning's counters. Every loader shards by itself: the trainer needs ``use_distributed_sampler=False``.

    Args:
        root: a folder in MARIO's format, or one that ``vlad-cli prepare`` has written, which can also be read from an
            ``s3://``, ``https://`` or ``http://`` URL; None if there is a ``source``.
        size: height and width of the images in pixels; ``resize`` says what happens to others.
            None: 64, or on the command line the image generator's.
        batch_size: samples per batch and device.
        max_words: ``N``, the number of words a layout generator places; a caption's further words are left out.
            None: 4, or on the command line the text encoder's.
        max_objects: ``K``, the number of a caption's object phrases that can get a box from ``scene.json``.
        max_boxes: at most this many words are drawn in ``glyphs``, the largest ones.
        val_share: share of the samples for validation; the split depends on their names and ``seed`` only.
        test_share: share of the samples for the test; not used if ``test_root`` or ``test_source`` is given.
        test_root: another such folder; all its samples are used for the test.
        index: a file that lists the samples of ``root`` to use, as ``06269_062690093``; of a prepared set, by any
            names.
        limit_test: test on this many samples only.
        test_prompts: a text file with one prompt per line, a path or a shipped file: a test generates images for
            these as well, though there are no true images of them.
        min_confidence: words with a lower confidence are left out; in MARIO it goes down to 0.115.
        max_bad_share: refuse a folder with a larger share of unusable samples.
        max_outage: seconds to wait if a folder as a whole cannot be read (its disk or server is away, access is
            denied) before raising an error.
        rasterizer: draws ``glyphs``; None uses the default font.
        num_workers: processes that read, for each loader; 0 reads in the training process.
        pin_memory: copy batches into pinned memory, for a GPU.
        seed: seed of the splits and of the order of the training samples.
        source: source of the samples, instead of ``root``, ``index``, ``min_confidence``, ``max_bad_share`` and
            ``max_outage``, which are settings of a folder.
        test_source: source of the test samples, instead of ``test_root``.
        resize: how a picture of other proportions becomes a square: ``stretch``, which is what MARIO's pictures have
            been through; ``crop`` to its middle; or ``pad`` with white. See
            :func:`~vlad_lightning.data.framing.framed` for the words and objects that a crop cuts off.
        latents: train and validate on the latents that ``vlad-cli cache`` has stored beside the samples of a prepared
            data set, instead of its pictures; stage 2 reads them.
        buckets: train on frames of several proportions, and give each picture the one that is nearest to its own;
            ``resize`` does the rest. All samples of a step have the same frame. A frame with fewer samples than a
            global batch is given up. Stage 2 trains on them; validation and test have the square. None has the square
            only.
        keep_in_memory: megabytes of samples that each process that reads keeps for the next epochs, as they were read
            for training and validation; 0 reads all of them in each epoch.

    Attributes:
        frames: heights and widths of the images that training may read.
        preparation: converts each batch for the trained module before the batch is moved to the device; set in the
            module's ``setup``, and run by the processes that read.

    Raises:
        ValueError: if an argument is out of its range, or would have no effect with the others.
    """

    dataset_class: ClassVar[type[MarioDataset]] = MarioDataset
    batch_class: ClassVar[type[Any]] = Batch

    def __init__(
        self,
        root: str | None = None,
        size: int | None = None,
        batch_size: int = 16,
        max_words: int | None = None,
        max_objects: int = 12,
        max_boxes: int = 32,
        val_share: float = 0.05,
        test_share: float = 0.05,
        test_root: str | None = None,
        index: str | None = None,
        limit_test: int | None = None,
        test_prompts: str | None = None,
        min_confidence: float = 0.3,
        max_bad_share: float = 0.5,
        max_outage: float = 300.0,
        rasterizer: Rasterizer | None = None,
        num_workers: int = 0,
        pin_memory: bool = False,
        seed: int = 0,
        source: SampleSource | None = None,
        test_source: SampleSource | None = None,
        resize: Resize = "stretch",
        latents: bool = False,
        buckets: AspectBuckets | None = None,
        keep_in_memory: int = 0,
    ) -> None:
        super().__init__()
        size = _SIZE if size is None else size
        max_words = _MAX_WORDS if max_words is None else max_words
        check_whole("size", size, 1, MOST_SIDE)
        check_whole("batch_size", batch_size, 1, MOST_IN_BATCH)
        for name, value in (("max_words", max_words), ("max_objects", max_objects), ("max_boxes", max_boxes)):
            check_whole(name, value, 1, MOST_PHRASES)
        _at_least(0, num_workers=num_workers, keep_in_memory=keep_in_memory)
        if limit_test is not None:
            _at_least(1, limit_test=limit_test)
        check_resize(resize)
        check_share("val_share", val_share)
        check_share("test_share", test_share)
        tested_apart = test_root is not None or test_source is not None
        if val_share == 0 or (test_share == 0 and not tested_apart) or val_share + test_share >= 1:
            raise ValueError(
                f"val_share={val_share} and test_share={test_share}: each must be above 0, and the sum below 1"
            )
        self.root = root
        self.size = size
        self.batch_size = batch_size
        self.max_words = max_words
        self.max_objects = max_objects
        self.max_boxes = max_boxes
        self.val_share = val_share
        self.test_share = test_share
        self.test_root = test_root
        self.index = index
        self.limit_test = limit_test
        self.test_prompts = None if test_prompts is None else find_config(test_prompts)
        self.min_confidence = min_confidence
        self.max_bad_share = max_bad_share
        self.max_outage = max_outage
        self.rasterizer = rasterizer or Rasterizer()
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.seed = seed
        self.keep_in_memory = keep_in_memory
        self.resize: Resize = resize
        self.latents = latents
        if latents and self.batch_class is not Batch:
            raise ValueError(f"latents is true; {type(self).__name__} reads more of the pictures than cached latents")
        if buckets is not None and latents:
            raise ValueError(f"buckets is {buckets} and latents true; cached latents are those of squares")
        self.buckets = buckets
        self.frames: tuple[Frame, ...] = ((size, size),) if buckets is None else buckets.frames(size)
        self._bucketed: dict[SampleOrder, SampleOrder] = {}
        if root is None and test_root is None:
            self._check_idle()
        self.source = self._source("root", root, "source", source, index)
        self.test_source = self._source("test_root", test_root, "test_source", test_source) if tested_apart else None
        self._sets: dict[str, MarioDataset] = {}
        self._memory = SampleMemory(keep_in_memory)
        self._resumed: dict[str, int] | None = None
        self._reported: set[str] = set()
        self._asked: set[str] | None = None
        self.preparation: Preparation | None = None

    @property
    def broken(self) -> tuple[str, ...]:
        """Keys of the samples that turned out to be broken when they were read."""
        return tuple(sorted({key for data in self._sets.values() for key in data.broken}))

    def setup(self, stage: str | None = None) -> None:
        """Set up and split the sources, once; all splits are made at every stage, so that errors show early.

        Raises:
            FileNotFoundError, DataOutageError: as the sources' ``setup``.
            ValueError: likewise, if a source holds no sample, or if ``latents`` is set and there are none that fit.
        """
        if stage == "fit":  # a checkpoint is loaded after this
            self._resumed = None
        if self._sets:
            return
        tested = self.source if self.test_source is None else self.test_source
        for source in {id(source): source for source in (self.source, tested)}.values():
            source.setup()
            if not len(source):
                raise ValueError(f"{printable(source.name)} holds no sample")
        if self.latents and stage in (None, "fit", "validate"):  # a test reads the pictures
            self.source.check_latents({"data": self.drawing})
        test_share = self.test_share if self.test_source is None else 0.0
        train, val, test = split(self.source.positions(self.seed), self.val_share, test_share)
        if self.test_source is not None:
            test = in_hash_order(self.test_source.positions(self.seed))
        self._sets = {"train": self._dataset(self.source, train), "val": self._dataset(self.source, val)}
        self._sets["train"].memory = self._sets["val"].memory = self._memory
        self._sets["test"] = self._dataset(tested, test[: self.limit_test])

    def teardown(self, stage: str | None = None) -> None:
        """Warn about samples missing from a measurement; each process reports the ones it tried to read."""
        self.preparation, self._asked = None, None  # the next module sets its own
        self._memory.clear()  # it may read other fields
        for name in ("val", "test"):
            broken = self._sets[name].broken if name in self._sets else ()
            if new := [key for key in broken if key not in self._reported]:
                named = ", ".join(new[:_NAMED]) + (", ..." if len(new) > _NAMED else "")
                _log.warning(
                    "%d of the %d samples of the %s split could not be read and are missing in its results: %s",
                    len(broken),
                    len(self._sets[name]),
                    name,
                    named,
                )
                self._reported.update(new)

    def ask_for(self, *fields: str) -> None:
        """Build these costly fields of the batches; without any call, all are built.

        A module names in its ``setup`` those that it reads, perhaps none; a callback that reads more adds them in its
        own. It holds until :meth:`teardown`, for the loaders that are made after it.

        Args:
            fields: names in :data:`~vlad_lightning.types.COSTLY_FIELDS`, :data:`~vlad_lightning.types.LATENTS`, or
                :data:`~vlad_lightning.types.FRAMES` of who reads images that are no squares.

        Raises:
            ValueError: for another name, or for latents where ``latents`` is not set.
        """
        if LATENTS in fields and not self.latents:
            raise ValueError(f"fields has {LATENTS}; they are read where data.latents is true")
        if unknown := set(fields) - {*COSTLY_FIELDS, LATENTS, FRAMES}:
            raise ValueError(f"fields has {', '.join(sorted(unknown))}; allowed: {', '.join(COSTLY_FIELDS)}")
        self._asked = (self._asked or set()).union(fields)

    def captions(self, most: int | None = None) -> list[str]:
        """Return the training split's captions, with quotes around the words that are drawn.

        Images in a folder are not read. Captions that can no longer be read are left out.

        Args:
            most: at most so many, evenly spread over the split; None returns all.
        """
        self.setup()
        return list(self._sets["train"].captions(most))

    @property
    def drawing(self) -> Mapping[str, Any]:
        """The settings that decide how a sample's image and glyph map look; cached latents depend on them."""
        return {
            "size": self.size,
            "resize": self.resize,
            "max_boxes": self.max_boxes,
            "font": " ".join(filter(None, load_font(self.rasterizer.font, _FONT_SIZE).getname())),
        }

    def samples(self, indices: np.ndarray) -> MarioDataset:
        """Return samples of the source by their numbers (N,), as training reads them."""
        return self._dataset(self.source, indices)

    def train_dataloader(self) -> DataLoader[Sample]:
        """Return a loader shuffled by ``seed``; an incomplete global batch is dropped unless it is the only one.

        Raises:
            ValueError: if ``latents`` or ``buckets`` is set and the module does not read them.
        """
        if self.latents and self._asked is not None and LATENTS not in self._asked:
            raise ValueError("data.latents is true; this training reads no cached latents, only stage 2 does")
        if self.buckets is not None and self._asked is not None and FRAMES not in self._asked:
            raise ValueError(f"data.buckets is {self.buckets}; this training reads squares, only stage 2 reads others")
        order, train = self.order(), self._set("train")
        train.frames = None
        if isinstance(order, BucketedOrder):
            train.frames = torch.tensor(self.frames)[torch.from_numpy(order.buckets)]
        batches = GlobalBatchSampler(order, self._rank, self._position if self.trainer else None)
        numbered: Any = _Numbered(batches, self._step)
        return _ResumedLoader(
            _Replaced(train),
            batch_sampler=numbered,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=self.pin_memory,
            collate_fn=partial(_prepared_for, self.batch_class.collate, self.preparation),
            worker_init_fn=start_worker,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return a loader in a fixed order; the devices take batches in turn, so a limit takes the set's first ones."""
        return self._in_order("val", in_blocks=False)

    def test_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Any]]:
        """Return a loader in a fixed order; each device gets neighbouring batches, so gathering restores the order.

        With ``test_prompts`` a second loader follows, whose batches are
        :class:`~vlad_lightning.types.PromptBatch`.
        """
        samples = self._in_order("test", in_blocks=True)
        if self.test_prompts is None:
            return samples
        ranks = self.trainer.world_size if self.trainer else 1
        items = keyed_prompts(read_prompts(self.test_prompts))
        return [samples, shard_loader(BatchShard(items, self.batch_size, collate_prompts, ranks, self._rank))]

    def transfer_batch_to_device(
        self, batch: Batch | PromptBatch, device: torch.device, dataloader_idx: int
    ) -> Batch | PromptBatch:
        """Move a batch to the device, without blocking for a GPU (Lightning would block); prompts stay on the CPU."""
        if isinstance(batch, PromptBatch):  # stays on the CPU
            return batch
        return batch.to(device, non_blocking=device.type == "cuda")

    def order(self) -> SampleOrder:
        """Return the order in which the trainer's devices get the training samples; without a trainer, one device."""
        self.setup()
        trainer = self.trainer
        order = SampleOrder(
            len(self._sets["train"]),
            self.batch_size,
            trainer.world_size if trainer else 1,
            trainer.accumulate_grad_batches if trainer else 1,
            self.seed,
            shuffled=not getattr(trainer, "overfit_batches", 0),  # overfitting needs the same batches in every epoch
        )
        if self.buckets is None:
            return order
        if order not in self._bucketed:
            self._bucketed[order] = self._in_buckets(order)
        return self._bucketed[order]

    def _in_buckets(self, order: SampleOrder) -> SampleOrder:
        """Return the order with steps of one frame each; the same one if all samples have the square."""
        proportions = self.source.proportions()[self._sets["train"].indices.numpy()]
        numbers = nearest_frames(proportions, self.frames, order.step_size)
        counts = np.bincount(numbers, minlength=len(self.frames)).tolist()
        used = [
            f"  {height} x {width}: {n:,} samples" for (height, width), n in zip(self.frames, counts, strict=True) if n
        ]
        rank_zero_info("\n".join(["frames, height x width:", *used]))
        return BucketedOrder(**vars(order), buckets=numbers) if numbers.any() else order

    @property
    def resumed_at(self) -> int | None:
        """The position in the order at which the loaded checkpoint resumes; None if none was loaded."""
        return None if self._resumed is None else self._resumed["samples"]

    def batches_an_epoch(self) -> int:
        """Return the number of training batches per device and epoch, within ``trainer.limit_train_batches``."""
        order = self.order()
        limit = self.trainer.limit_train_batches if self.trainer else None
        batches = order.steps * order.parts
        return batches if limit is None else min(batches, limit if isinstance(limit, int) else int(batches * limit))

    def batches_before(self, position: int) -> int:
        """Return the number of a device's training batches in the epoch before a position in the order."""
        return self.order().steps_before(position) * self.order().parts

    def content(self) -> dict[str, str]:
        """Return the fingerprint of the source's content; empty if the source has none."""
        self.setup()
        return dict(self.source.content())

    def changed_since(self, checkpoint: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Return which content of the source has changed since a checkpoint was saved.

        Returns:
            :data:`~vlad_lightning.data.content.NAMES` if the samples differ, else the names of the changed files; empty
            for a source without a fingerprint; None if the checkpoint has none.
        """
        now = self.content()
        if not now:
            return ()
        return differing(then, now) if (then := checkpoint.get(type(self).__qualname__, {}).get("content")) else None

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the order after the last optimizer step, that step, and the data's fingerprint.

        Batches that were read ahead, or accumulated for the next step, do not count.
        """
        if self.trainer is None or self.trainer.state.fn != "fit":
            return {}
        position, size = self._position(), self.order().samples
        return {"samples": position, "step": self.trainer.global_step, "of": size, "content": self.content()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume where a checkpoint was saved; warn if the size of the training split has changed since."""
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return  # a test's folder or limits may differ
        now = self.order().samples
        if (then := int(state_dict["of"])) != now:
            rank_zero_warn(f"the training split had {then} samples and has {now}: the order changes from here on")
        self._resumed = {"samples": int(state_dict["samples"]), "step": int(state_dict["step"])}

    def resume_at(self, step: int) -> None:
        """Resume as if ``step`` optimizer steps with this global batch had been made."""
        self._resumed = {"samples": self._after(0, step), "step": step}

    def _step(self) -> int:
        return self.trainer.global_step if self.trainer else 0

    def _position(self) -> int:
        """Return the position in the order at which the next optimizer step reads."""
        start = self._resumed or {"samples": 0, "step": 0}
        return self._after(start["samples"], max(0, self._step() - start["step"]))

    def _after(self, position: int, steps: int) -> int:
        return self.order().after(position, steps, math.ceil(self.batches_an_epoch() / self.order().parts))

    @property
    def _rank(self) -> int:
        return self.trainer.global_rank if self.trainer else 0

    def _in_order(self, name: str, in_blocks: bool) -> DataLoader[Batch]:
        self.setup()
        ranks = self.trainer.world_size if self.trainer else 1
        collate = partial(_prepared, self.batch_class.collate, self.preparation, None)
        shard = BatchShard(_Measured(self._set(name)), self.batch_size, collate, ranks, self._rank, in_blocks)
        return shard_loader(shard, self.num_workers, self.pin_memory)

    def _set(self, name: str) -> MarioDataset:
        """Return a split, of which the fields are built that were asked for."""
        found = self._sets[name]
        every = (*COSTLY_FIELDS, *([LATENTS] if self.latents and found.source is self.source else []))
        found.built = every if self._asked is None else frozenset(self._asked)
        return found

    def _dataset(self, source: SampleSource, indices: np.ndarray) -> MarioDataset:
        words, boxes, objects = self.max_words, self.max_boxes, self.max_objects
        return self.dataset_class(source, self.size, words, boxes, self.rasterizer, objects, indices, self.resize)

    def _check_idle(self) -> None:
        """Refuse settings of a folder if no folder is given."""
        defaults = signature(MarioFolder).parameters
        for name in ("min_confidence", "max_bad_share", "max_outage"):
            if (value := getattr(self, name)) != defaults[name].default:
                raise ValueError(f"{name} is {value}; it is a setting of a folder, and no root is given")

    def _source(
        self, root_name: str, root: str | None, source_name: str, source: SampleSource | None, index: str | None = None
    ) -> SampleSource:
        """Return the given source, or the source of the given folder."""
        if (root is None) == (source is None):
            raise ValueError(f"{root_name} is {root!r} and {source_name} {source!r}; one of them is needed, not both")
        if source is None:
            return self._prepared(str(root), index) if is_prepared(str(root)) else self._folder(str(root), index)
        if index is not None:
            raise ValueError(f"index is {index!r}; it lists samples of root, and source is given")
        return source

    def _prepared(self, root: str, index: str | None) -> PreparedSource:
        defaults = signature(MarioFolder).parameters
        for name in ("min_confidence", "max_bad_share"):
            if (value := getattr(self, name)) != defaults[name].default:
                raise ValueError(
                    f"{name} is {value}; {root!r} is a prepared data set, of which unusable samples and words are left "
                    f"out already: vlad-cli prepare --{_PREPARED_AS[name]}"
                )
        return PreparedSource(root, self.max_outage, index)

    def _folder(self, root: str, index: str | None = None) -> MarioFolder:
        return MarioFolder(root, index, self.min_confidence, self.max_bad_share, self.max_outage, self.max_words)


class _Replaced(Dataset[Sample]):
    """A data set indexed by draws of a :class:`~vlad_lightning.data.order.SampleOrder`: each gives a good sample."""

    def __init__(self, samples: MarioDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, draw: Draw) -> Sample:
        frame = self.samples.frame(draw[0])  # that of the step, whatever replaces the sample
        found = (self.samples.read(index, frame) for index in draw)
        good = next((sample for sample in found if sample is not None), None)
        return self.samples[draw[0]] if good is None else good  # the next good one may be of the same step

    def __getitems__(self, numbered: tuple[int, list[Draw]]) -> tuple[int, list[Sample]]:
        """Return a whole batch, with the number of its step; PyTorch calls this method if it exists."""
        step, generators = numbered
        return step, [self[draw] for draw in generators]


class _Numbered(Sampler[tuple[int, list[Draw]]]):
    """The batches of a sampler, each with the number of the optimizer step that uses it.

    Args:
        batches: the sampler.
        step: returns the step of the first batch; called when an iteration starts.
    """

    def __init__(self, batches: GlobalBatchSampler, step: Callable[[], int]) -> None:
        self.batches = batches
        self._step = step

    @property
    def batch_size(self) -> int:
        """Samples per batch."""
        return self.batches.batch_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, list[Draw]]]:
        first = self._step()
        for number, generators in enumerate(self.batches):
            yield first + number // self.batches.order.parts, generators


def _prepared(
    collate: Callable[[Sequence[Any]], Any], preparation: Preparation | None, step: int | None, samples: Sequence[Any]
) -> Any:
    batch = collate(samples)
    return batch if preparation is None else preparation(batch, step)


def _prepared_for(
    collate: Callable[[Sequence[Any]], Any],
    preparation: Preparation | None,
    numbered: tuple[int, Sequence[Any]],
) -> Any:
    step, samples = numbered
    return _prepared(collate, preparation, step, samples)


class _Measured:
    """A data set that does not replace broken samples: None for a sample that cannot be read."""

    def __init__(self, samples: MarioDataset) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample | None:
        return self.samples.read(index)


class _ResumedLoader(Loader[Sample]):
    """A loader whose position the data module stores; its empty state makes Lightning treat it as resumable."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Start reading only when the first batch is requested.

        Lightning creates the iterator before it has restored a checkpoint's step; under a strategy that shards the
        weights, even before it has restored the data module's state.
        """
        yield from super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: the sampler asks the data module for the position."""


def _at_least(least: int, **values: float) -> None:
    for name, value in values.items():
        if not value >= least:  # also refuses nan
            raise ValueError(f"{name}={value}: must be at least {least}")
