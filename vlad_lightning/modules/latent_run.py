"""The latents of a whole prepared data set, shard by shard; a shard that is done is not computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.latent_cache import LatentNote, claim_cache, finish_cache, has_latents, write_latents
from vlad_lightning.data.prepared_source import SHARDS, PreparedSource
from vlad_lightning.data.progress import Shown
from vlad_lightning.data.remote_path import check_writable
from vlad_lightning.data.workers import start_worker
from vlad_lightning.files import printable
from vlad_lightning.limits import check_whole
from vlad_lightning.modules.latents import LatentEncoder
from vlad_lightning.types import COSTLY_FIELDS, Latents, Sample


@dataclass(frozen=True)
class CacheReport:
    """What has been cached.

    Attributes:
        samples: number of samples of this part that were computed now.
        unreadable: number of them that could not be read, and have no latents.
        left: number of shards that other parts have still to do; at 0 the cache is finished.
        nbytes: bytes of a sample's latents.
    """

    samples: int
    unreadable: int
    left: int
    nbytes: int


def fill_cache(
    data: MarioDataModule,
    encoder: LatentEncoder,
    dtype: str = "float16",
    part: tuple[int, int] = (0, 1),
    replaces: bool = False,
) -> CacheReport:
    """Compute and store the latents of the samples of a data module, or go on where an earlier run was stopped.

    Args:
        data: its source must be a prepared data set; its settings decide how images and glyph maps look, its
            ``batch_size`` and ``num_workers`` how many are computed and read at a time.
        encoder: the networks, on the device on which they compute.
        dtype: in which the latents are stored, one of :data:`~vlad_lightning.data.latent_cache.FORMATS`.
        part: ``(i, n)`` does only the ``i``-th of ``n`` parts of the shards, 0 the first.
        replaces: remove a cache that other networks or settings have made.

    Raises:
        ValueError: if the source is no prepared data set in a local folder, an argument is out of its range, or there
            is another cache.
        OSError: if nothing can be written.
    """
    check_whole("the number of parts in range", part[1], 1, 100_000)
    check_whole("the part in range", part[0], 0, part[1] - 1)
    source = data.source
    if not isinstance(source, PreparedSource):
        raise ValueError(
            f"latents are cached beside the shards of one prepared data set, and {printable(source.name)} is none; "
            "name each by itself: --data.source null --data.root SET"
        )
    if source.index is not None:
        raise ValueError(f"index is {source.index!r}; latents are cached of the whole set, which any index can read")
    check_writable("data.root", source.root)
    source.setup()
    job = _Job(source, data, encoder, _note(source, data, encoder, dtype))
    claim_cache(job.root, job.note, _on_cpu(encoder.no_glyphs(_blank(data, encoder)), dtype), replaces)
    job.run(part)
    left = sum(not job.is_done(number) for number in range(len(source.shards)))
    if not left:
        finish_cache(job.root, job.note, [name for name, _ in source.shards])
    sizes = {name: int(np.prod(shape)) for name, shape in job.note.shapes.items()}
    width = np.dtype(dtype).itemsize
    nbytes = sum(count * (1 if name == "letters" else width) for name, count in sizes.items())
    return CacheReport(job.samples, job.unreadable, left, nbytes)


class _Job:
    """The work of one process: counts the samples that it has computed."""

    def __init__(self, source: PreparedSource, data: MarioDataModule, encoder: LatentEncoder, note: LatentNote) -> None:
        self.source, self.data, self.encoder, self.note = source, data, encoder, note
        self.root = Path(source.root)
        self.samples = self.unreadable = 0

    def is_done(self, number: int) -> bool:
        """Return whether a shard, given its number, has its latents."""
        return has_latents(self.root, self.source.shards[number][0], self._state(number), self.note)

    def run(self, part: tuple[int, int]) -> None:
        """Compute the shards of a part that are not done."""
        todo = [number for number in range(part[0], len(self.source.shards), part[1]) if not self.is_done(number)]
        places = [self.source.samples_of(number) for number in todo]
        total = sum(len(indices) for indices, _ in places)
        with Shown("samples", total) as shown:
            computed = self._computed(np.concatenate([indices for indices, _ in places])) if total else iter(())
            for number, (_, rows) in zip(todo, places, strict=True):
                name, length = self.source.shards[number]
                write_latents(
                    self.root, name, self._state(number), self.note, _in_rows(computed, set(rows.tolist()), length)
                )
                shown(len(rows))

    def _computed(self, indices: np.ndarray) -> Iterator[Latents | None]:
        """Yield the latents of samples in their order; None for one that cannot be read."""
        samples = self.data.samples(indices)
        samples.built = COSTLY_FIELDS
        loader: DataLoader[Sample | None] = DataLoader(
            _Measured(samples),
            batch_size=self.data.batch_size,
            num_workers=self.data.num_workers,
            collate_fn=list,
            worker_init_fn=start_worker,
        )
        device = next(iter(self.encoder.image_generator.parameters())).device
        for batch in loader:
            good: Sequence[Sample] = [sample for sample in batch if sample is not None]
            self.samples += len(good)
            self.unreadable += len(batch) - len(good)
            found: Iterator[Latents] = iter(())
            if good:
                images, glyphs = torch.stack([s.image for s in good]), torch.stack([s.glyphs for s in good])
                found = iter(self.encoder(images.to(device), glyphs.to(device)))
            yield from (None if sample is None else next(found) for sample in batch)

    def _state(self, number: int) -> str:
        """Return a hash of a shard's samples, and of those among them that are in the set."""
        name = self.source.shards[number][0]
        listed = self.root / SHARDS / f"{name}.npy"
        digest = hashlib.sha256(listed.read_bytes() if listed.is_file() else b"")
        digest.update(self.source.samples_of(number)[1].astype(np.int64).tobytes())
        return digest.hexdigest()


class _Measured(Dataset["Sample | None"]):
    """A data set that does not replace samples that cannot be read."""

    def __init__(self, samples: MarioDataset) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample | None:
        return self._samples.read(index)


def _in_rows(computed: Iterator[Latents | None], rows: set[int], length: int) -> Iterator[Latents | None]:
    """Yield a shard's rows: the next of the computed latents where a row is in the set, elsewhere None."""
    return (next(computed) if row in rows else None for row in range(length))


def _note(source: PreparedSource, data: MarioDataModule, encoder: LatentEncoder, dtype: str) -> LatentNote:
    blank = _blank(data, encoder)
    (sample,) = encoder(blank, torch.zeros(1, 1, data.size, data.size, dtype=torch.uint8, device=blank.device))
    columns = {name: getattr(sample, name) for name in ("images", "glyphs", "letters", "embeddings")}
    shapes = {name: list(value.shape) for name, value in columns.items() if value is not None}
    autocast = "none" if encoder.autocast is None else str(encoder.autocast).removeprefix("torch.")
    key = {"data": dict(data.drawing), **encoder.key, "autocast": autocast, "dtype": dtype}
    return LatentNote(key, shapes, dict(source.content()))


def _blank(data: MarioDataModule, encoder: LatentEncoder) -> torch.Tensor:
    device = next(iter(encoder.image_generator.parameters())).device
    return torch.zeros(1, 3, data.size, data.size, device=device)


def _on_cpu(value: torch.Tensor | None, dtype: str) -> torch.Tensor | None:
    return None if value is None else value.cpu().to(getattr(torch, dtype))
