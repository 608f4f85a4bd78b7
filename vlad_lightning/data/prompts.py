"""Prompts without images, for ``predict``: from a list, a text file, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader

from vlad_lightning.data.batches import BatchShard, Items, shard_loader
from vlad_lightning.data.prompt_request import Request
from vlad_lightning.diffusion.generators import Key, numbered
from vlad_lightning.files import LIST_BYTES, read_utf8
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.layout.unquoted_words import with_quotes
from vlad_lightning.limits import MOST_IN_BATCH, check_prompts, check_whole
from vlad_lightning.types import PromptBatch

STDIN = "-"

KeyedPrompt = tuple[str, str, Key]
"""Key, prompt, and the key of its noise."""


class PromptDataModule(LightningDataModule):
    """Prompts in batches of :class:`~vlad_lightning.types.PromptBatch`; blank ones are skipped.

    The keys are ``prompt_00000``, ``prompt_00001``, ...

    Args:
        prompts: the prompts themselves.
        file: instead, a text file in UTF-8 with one prompt per line; ``-`` is standard input.
        batch_size: prompts per batch and device.

    Raises:
        ValueError: if not exactly one of ``prompts`` and ``file`` is given, or ``batch_size`` is out of its range.
        FileNotFoundError: if ``file`` is not a file.
    """

    def __init__(self, prompts: list[str] | None = None, file: str | None = None, batch_size: int = 8) -> None:
        super().__init__()
        if (prompts is None) == (file is None):
            given = "neither" if prompts is None else "both"
            raise ValueError(f"prompts and file: {given} given; give a list of prompts or a file, {STDIN!r} for stdin")
        if file not in (None, STDIN) and not Path(str(file)).is_file():
            raise FileNotFoundError(f"file={file!r} is not a file; give a text file with a prompt a line")
        check_whole("batch_size", batch_size, 1, MOST_IN_BATCH)
        self.prompts = prompts
        self.file = file
        self.batch_size = batch_size
        self._items: list[KeyedPrompt] = []

    def setup(self, stage: str | None = None) -> None:
        """Read the prompts, once.

        Raises:
            ValueError: if there is none, one is too long, the file is not in UTF-8, or several processes share standard
                input.
        """
        if self._items:
            return
        self._check_stdin()
        prompts = [prompt.strip() for prompt in self._read() if prompt.strip()]
        if not prompts:
            raise ValueError(f"{self._source()} holds no prompt; give at least one that is not blank")
        check_all(prompts, self._source())
        self._items = keyed_prompts(prompts)
        notice_without_words([(key, prompt) for key, prompt, _ in self._items])

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader in the order given; each device gets neighbouring batches."""
        return self._loader(self._items, collate_prompts)

    def requests(self) -> Sequence[Request]:
        """Return the requests of all prompts in order, also those of other devices; no picture is decoded."""
        return [Request(key, key, prompt, noise_key=noise) for key, prompt, noise in self._items]

    def _loader(self, items: Items, collate: Callable[[Sequence[Any]], PromptBatch]) -> DataLoader[PromptBatch]:
        ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        return shard_loader(BatchShard(items, self.batch_size, collate, ranks, rank))

    def transfer_batch_to_device(self, batch: PromptBatch, device: torch.device, dataloader_idx: int) -> PromptBatch:
        """Return the batch unchanged: its data stays on the CPU, and Lightning cannot move a frozen dataclass."""
        return batch

    def _check_stdin(self) -> None:
        """Refuse standard input on several devices: each would read a different part of it, or nothing."""
        if self.file == STDIN and self.trainer and self.trainer.world_size > 1:
            raise ValueError(f"file={STDIN!r} with {self.trainer.world_size} processes; give a file that all can read")

    def _read(self) -> Sequence[str]:
        if self.prompts is not None:
            return self.prompts
        if self.file == STDIN:
            return _lines(_read_stdin, self._source())
        return _lines(lambda: read_utf8(Path(str(self.file)), LIST_BYTES), self._source())

    def _source(self) -> str:
        return "prompts" if self.file is None else f"file={self.file!r}"


def read_prompts(path: Path) -> list[str]:
    """Read the prompts of a text file, one per line, without blank ones.

    Raises:
        ValueError: if it is not in UTF-8, there is none, or one is too long.
    """
    lines = _lines(lambda: read_utf8(path, LIST_BYTES), str(path))
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise ValueError(f"{path} holds no prompt; give at least one that is not blank")
    check_all(prompts, str(path))
    return prompts


def check_all(prompts: Sequence[str], source: str) -> None:
    """Refuse prompts that are too long.

    Raises:
        ValueError: names the source and the prompt.
    """
    try:
        check_prompts(prompts)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def keyed_prompts(prompts: Sequence[str]) -> list[KeyedPrompt]:
    """Return prompts with their keys, ``prompt_00000`` and so on, and the keys of their noise."""
    pairs = zip(prompts, numbered(prompts), strict=True)
    return [(f"prompt_{number:05d}", prompt, noise) for number, (prompt, noise) in enumerate(pairs)]


def notice_without_words(items: Sequence[tuple[str, str]]) -> None:
    """Log in one line how many prompts have no words to draw, if any; that is allowed, but seldom intended.

    Args:
        items: keys and prompts whose words are to be drawn.
    """
    without = [key for key, prompt in items if not drawn_words(with_quotes(prompt))]
    if without:
        rank_zero_info(
            f"notice: {len(without)} of {len(items)} prompts have no words to draw, {without[0]} for one; put such "
            "words in quotes, as in: a poster that says 'HELLO'"
        )


def collate_prompts(items: Sequence[KeyedPrompt]) -> PromptBatch:
    """Make a batch of prompts."""
    keys, prompts, noise_keys = zip(*items, strict=True)
    return PromptBatch(keys, prompts, noise_keys=noise_keys)


def _read_stdin() -> str:
    text = sys.stdin.read(LIST_BYTES)
    if len(text) == LIST_BYTES:
        raise ValueError(f"file={STDIN!r} has {LIST_BYTES:,} characters or more; give a shorter list of prompts")
    return text


def _lines(read: Callable[[], str], source: str) -> list[str]:
    try:
        return read().split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is not text in UTF-8: {error}") from error
