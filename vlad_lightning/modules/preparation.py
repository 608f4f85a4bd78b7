"""What a stage tells the data module: which fields of a batch it reads, and what the loader's processes prepare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from lightning.pytorch import LightningModule

from vlad_lightning.data.datamodule import MarioDataModule, Preparation
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.types import Batch, ParsedPrompts


@dataclass(frozen=True)
class ParsedTexts:
    """Parser of a batch's prompts.

    Attributes:
        parser: parser of the prompt encoder that will read them; its tokenizer may be set later.
        cut_padding: whether the module ignores the states of padding, so that less of it is enough.
    """

    parser: PromptParser
    cut_padding: bool

    def __call__(self, batch: Batch, step: int | None = None) -> Batch:
        """Return the batch with its prompts parsed, or unchanged without a tokenizer: the encoder raises that error."""
        if self.parser.tokenizer is None:
            return batch
        return replace(batch, parsed=self.parser(batch.prompts, self.cut_padding))

    def texts(self, batch: Batch, device: torch.device) -> ParsedPrompts:
        """Return the parsed prompts of a batch, on ``device``; parse them here if the loader has not.

        Raises:
            RuntimeError: if there is no tokenizer yet.
        """
        if batch.parsed is not None:
            return batch.parsed
        return self.parser(batch.prompts, self.cut_padding).to(device, non_blocking=True)


def prepare_in_loader(module: LightningModule, preparation: Preparation, reads: Sequence[str]) -> None:
    """Make the data module prepare each batch, and build only the costly fields that the module reads.

    Without a data module, the module prepares a batch on demand.

    Args:
        module: the module that is trained, validated or tested.
        preparation: the conversion of a batch.
        reads: the module's fields among :data:`~vlad_lightning.types.COSTLY_FIELDS`.
    """
    data = getattr(module.trainer, "datamodule", None)
    if isinstance(data, MarioDataModule):
        data.preparation = preparation
        data.ask_for(*reads)
