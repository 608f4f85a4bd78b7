"""What a stage has the data loader's processes make of a batch, so that the training process need not."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning.pytorch import LightningModule

from vlad_lightning.data.datamodule import MarioDataModule, Preparation
from vlad_lightning.models.text.parser import PromptParser
from vlad_lightning.types import Batch


@dataclass(frozen=True)
class ParsedTexts:
    """Parses the prompts of a batch.

    Attributes:
        parser: of the prompt encoder that is to read them, whose tokenizer may come later.
    """

    parser: PromptParser

    def __call__(self, batch: Batch, step: int | None = None) -> Batch:
        """The batch with its prompts parsed; without a tokenizer as it is: the encoder says that it has none."""
        return batch if self.parser.tokenizer is None else replace(batch, parsed=self.parser(batch.prompts))


def prepare_in_loader(module: LightningModule, preparation: Preparation) -> None:
    """Have the data module prepare each batch; where there is none, the module does it when it needs it."""
    data = getattr(module.trainer, "datamodule", None)
    if isinstance(data, MarioDataModule):
        data.preparation = preparation
