"""Counts how often this process opens checkpoints to read them, and how many bytes it reads."""

from __future__ import annotations

import builtins
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import torch


@dataclass
class Reads:
    """The counts.

    Attributes:
        openings: number of opened files whose path contains ``.ckpt``, including those that torch maps into memory.
        size: bytes read, except from mapped files.
    """

    openings: int = 0
    size: int = 0


@contextmanager
def counted_reads() -> Iterator[Reads]:
    """Count inside the context."""
    reads, plain, mapped = Reads(), io.open, torch.UntypedStorage.from_file

    class Counted(io.FileIO):
        def readinto(self, buffer: Any) -> int | None:
            count = super().readinto(buffer)
            reads.size += count or 0
            return count

        def readall(self) -> bytes:
            return self.read()

        def read(self, size: int | None = -1) -> bytes:
            content = super().read(size)
            reads.size += len(content or b"")
            return content

    def opened(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        if ".ckpt" not in str(file) or mode != "rb":
            return plain(file, mode, buffering, *args, **kwargs)
        reads.openings += 1
        return Counted(file) if buffering == 0 else io.BufferedReader(Counted(file))

    def from_file(name: str, *args: Any) -> torch.UntypedStorage:
        reads.openings += ".ckpt" in name
        return mapped(name, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builtins, "open", opened)
        patch.setattr(io, "open", opened)
        patch.setattr(torch.UntypedStorage, "from_file", staticmethod(from_file))
        yield reads
