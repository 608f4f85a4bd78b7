"""Samples kept in memory, for the next epochs."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vlad_lightning.layout.pictures import from_bytes, to_bytes
from vlad_lightning.types import Sample

_OVERHEAD = 3_500  # bytes of a sample beside its tensors, as measured
_FIRST, _SLAB = 16, 2_000_000  # rows of the first block of memory for a kind of tensor, and bytes of the largest one


class SampleMemory:
    """Samples as they were built, kept until they fill a number of bytes.

    The first ones stay: in a shuffled order each sample comes once an epoch, and no other choice is found more often.
    Images are kept as 8 bits a channel, which is what they were read as, so a kept sample equals the one that was put.

    Args:
        megabytes: how much is kept; 0 keeps nothing.
    """

    def __init__(self, megabytes: int) -> None:
        self._bytes = megabytes * 1_000_000
        self._kept: dict[Hashable, _Record] = {}
        self._slabs: dict[tuple[torch.Size, torch.dtype], _Slab] = {}  # of each kind of tensor the one that is filled
        self.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Sample | None:
        """Return the sample that was put under this key; None if there is none."""
        record = self._kept.get(key)
        if record is None:
            return None
        sample: Sample = _restored(record)
        return replace(sample, image=from_bytes(sample.image)) if isinstance(sample.image, Tensor) else sample

    def put(self, key: Hashable, sample: Sample) -> None:
        """Keep a sample, if there is room."""
        if self._free > 0:
            if isinstance(sample.image, Tensor):
                sample = replace(sample, image=to_bytes(sample.image))
            self._kept[key] = self._stored(sample)
            self._free -= _OVERHEAD

    def clear(self) -> None:
        """Keep nothing of what was put so far."""
        self._kept.clear()
        self._slabs.clear()
        self._free = self._bytes

    def _stored(self, value: Any) -> Any:
        """Return a record of a dataclass and a row of a tensor; other values as they are."""
        if isinstance(value, Tensor):
            self._free -= value.nbytes
            return self._row(value)
        if is_dataclass(value):
            return _Record(type(value), {f.name: self._stored(getattr(value, f.name)) for f in fields(value)})
        return value

    def _row(self, tensor: Tensor) -> _Row:
        """Copy a tensor into a block of many: between single ones, malloc leaves gaps of several times their size."""
        kind = tensor.shape, tensor.dtype
        slab = self._slabs.get(kind)
        if slab is None or slab.used == len(slab.rows):
            count = _FIRST if slab is None else min(2 * len(slab.rows), max(_FIRST, _SLAB // max(1, tensor.nbytes)))
            slab = self._slabs[kind] = _Slab(tensor.new_empty(count, *tensor.shape))
        slab.rows[slab.used] = tensor
        slab.used += 1
        return _Row(slab.rows, slab.used - 1)


class _Slab:
    """A block of tensors of one kind, and how many of its rows are used."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.used = 0


class _Row(NamedTuple):
    rows: Tensor
    number: int


class _Record(NamedTuple):
    of: type[Any]
    values: dict[str, Any]


def _restored(value: Any) -> Any:
    if isinstance(value, _Row):
        return value.rows[value.number].clone()  # a process that reads would share the whole block
    if isinstance(value, _Record):
        return value.of(**{name: _restored(entry) for name, entry in value.values.items()})
    return value
