"""What a stage tells the data module: which fields of a batch it reads, and what the loader's processes prepare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lightning.pytorch import LightningModule

from vlad_lightning.data.datamodule import MarioDataModule, Preparation
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.types import Batch


@dataclass(frozen=True)
class ParsedTexts:
    """Parser of a batch's prompts.

    Attributes:
        parser: parser of the prompt encoder that will read them; its tokenizer may be set later.
    """

    parser: PromptParser

    def __call__(self, batch: Batch, step: int | None = None) -> Batch:
        """Return the batch with its prompts parsed, or unchanged without a tokenizer: the encoder raises that error."""
        return batch if self.parser.tokenizer is None else replace(batch, parsed=self.parser(batch.prompts))


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
