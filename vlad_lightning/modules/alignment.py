"""Stage 0: align the vision-language encoder and the CCM by Eq. 3."""

from __future__ import annotations

import math
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from vlad_lightning.losses import retrieval_at_1
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.prompt_encoder import PromptEncoder
from vlad_lightning.models.text_encoder import train_tokenizer
from vlad_lightning.modules.contrast import align, check_widths, gather_uneven
from vlad_lightning.modules.optimization import Optimization
from vlad_lightning.modules.step_draws import Stage
from vlad_lightning.modules.weight import weight_of
from vlad_lightning.strategies import shard_module
from vlad_lightning.types import Batch

_LEAST_TEMPERATURE = 0.01


class AlignmentModule(LightningModule):
    """Contrastive alignment of images with the pooled t.

    Args:
        prompt_encoder: text encoder and composition. Without a tokenizer it learns one from the training captions.
        image_encoder: the vision tower.
        optimization: learning rate and schedule.
        temperature: tau of Eq. 3 at the start; it is learned, and kept at 0.01 or above.
        symmetric: see :func:`~vlad_lightning.losses.info_nce`.
        freeze_image_encoder: True leaves the vision tower as it is.

    Raises:
        ValueError: where ``temperature`` is below 0.01, or the encoders' widths differ.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        image_encoder: ImageEncoder,
        optimization: Optimization = Optimization(),
        temperature: float = 0.07,
        symmetric: bool = True,
        freeze_image_encoder: bool = False,
    ) -> None:
        super().__init__()
        if temperature < _LEAST_TEMPERATURE:
            raise ValueError(f"temperature is {temperature}; it must be at least {_LEAST_TEMPERATURE}")
        check_widths(prompt_encoder, image_encoder)
        prompt_encoder.composition.freeze_unread(pooled=True, tokens=False)
        self.prompt_encoder = prompt_encoder
        self.image_encoder = image_encoder
        self.optimization = optimization
        self.symmetric = symmetric
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        if freeze_image_encoder:
            self.image_encoder.requires_grad_(False)
        self._embedded: list[tuple[Tensor, Tensor]] = []

    @property
    def temperature(self) -> Tensor:
        """tau, () float."""
        return self.log_temperature.exp()

    def setup(self, stage: str) -> None:
        """Learn a tokenizer where there is none."""
        encoder = self.prompt_encoder.text_encoder
        if stage == "fit" and encoder.tokenizer is None:
            captions = self.trainer.datamodule.captions()  # type: ignore[attr-defined]
            encoder.tokenizer = train_tokenizer(captions, encoder.reader.vocabulary(encoder.tower))

    def configure_model(self) -> None:
        """Shard, where the strategy does."""
        shard_module(self)

    def _step(self, batch: Batch, stage: Stage) -> tuple[Tensor, Tensor, Tensor]:
        images = self.image_encoder(batch.images)
        texts = self.prompt_encoder(batch.prompts).pooled
        loss = align(self, images, texts, self.temperature, self.symmetric, everywhere=stage == "train")
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=weight_of(self, batch), sync_dist=stage != "train")
        return loss, images.float(), texts.float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """L_align of one batch."""
        self.log("train/temperature", self.temperature, batch_size=len(batch))
        return self._step(batch, "train")[0]

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Keep tau at its bound or above; clamping it where it is used would leave it there without a gradient."""
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(_LEAST_TEMPERATURE))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect the embeddings for R@1 over the whole set."""
        _, images, texts = self._step(batch, "val")
        self._embedded.append((images[: batch.counted], texts[: batch.counted]))

    def on_validation_epoch_end(self) -> None:
        """R@1 over the whole validation set, of every rank; nothing where it was left before its first batch."""
        if not self._embedded:
            return
        images, texts = (gather_uneven(self, torch.cat(x)) for x in zip(*self._embedded, strict=True))
        self._embedded.clear()
        image_to_text, text_to_image = retrieval_at_1(images, texts)
        self.log_dict({"val/r1_image_to_text": image_to_text, "val/r1_text_to_image": text_to_image}, prog_bar=True)

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what is needed to fold the adapters: B A alone does not say its scale."""
        checkpoint["lora_scale"] = self.prompt_encoder.text_encoder.lora_scale

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse adapters that were trained at another scale.

        Raises:
            ValueError: naming both.
        """
        own = self.prompt_encoder.text_encoder.lora_scale
        saved = checkpoint.get("lora_scale", own)
        if saved != own:
            raise ValueError(f"the checkpoint's adapters have alpha / rank {saved}; this config has {own}")

    def configure_optimizers(self) -> Any:
        """AdamW over what is not frozen."""
        return self.optimization.of_module(self)
