"""Stage 0: align the vision-language encoder and the CCM by Eq. 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from vlad_lightning.layout.caption_edits import WORDS
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.metrics.alignment_probe import AlignmentProbe
from vlad_lightning.models.contrastive import agreement, retrieval_at_1
from vlad_lightning.models.fsdp import is_sharded
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.text.encoder import train_tokenizer
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.modules.alignment_terms import AlignmentTerms, ContrastedTexts
from vlad_lightning.modules.contrastive import align, check_widths, gather_uneven
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm, logged_batch_size
from vlad_lightning.modules.preparation import prepare_in_loader
from vlad_lightning.modules.settings import check_same, check_size, check_tokenizer
from vlad_lightning.strategies import shard_module
from vlad_lightning.types import Batch, Negatives

_LEAST_TEMPERATURE = 0.01

_MOST_CAPTIONS = 20_000  # read for the tokenizer and for the words of edits: more would hardly change either


class AlignmentModule(LightningModule):
    """Contrastive alignment of images with the pooled t.

    Args:
        prompt_encoder: text encoder and composition. Without a tokenizer it learns one from the training captions.
        image_encoder: the vision tower.
        optimization: learning rate and schedule.
        temperature: tau of Eq. 3 at the start; it is learned, and kept at 0.01 or above.
        symmetric: see :func:`~vlad_lightning.models.contrastive.info_nce`.
        freeze_image_encoder: True keeps the vision tower frozen.
        terms: further loss terms beside Eq. 3.

    Raises:
        ValueError: where ``temperature`` is below 0.01, the encoders' widths differ, or ``terms.edits`` is set and
            ``symmetric`` is False, which leaves out the softmax over texts.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        image_encoder: ImageEncoder,
        optimization: Optimization = Optimization(),
        temperature: float = 0.07,
        symmetric: bool = True,
        freeze_image_encoder: bool = False,
        terms: AlignmentTerms = AlignmentTerms(),
    ) -> None:
        super().__init__()
        if temperature < _LEAST_TEMPERATURE:
            raise ValueError(f"temperature is {temperature}; it must be at least {_LEAST_TEMPERATURE}")
        if terms.edits and not symmetric:
            raise ValueError(f"terms.edits is {terms.edits}; it must be 0 with symmetric=False: no softmax over texts")
        check_widths(prompt_encoder, image_encoder)
        prompt_encoder.composition.freeze_unread(pooled=True, tokens=False)
        self.prompt_encoder = prompt_encoder
        self.image_encoder = image_encoder
        self.optimization = optimization
        self.symmetric = symmetric
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        if freeze_image_encoder:
            self.image_encoder.requires_grad_(False)
        self.terms = terms
        self.probe = AlignmentProbe(self.score)
        self._words: tuple[str, ...] = WORDS
        self._embedded: list[tuple[Tensor, Tensor]] = []

    @property
    def temperature(self) -> Tensor:
        """Temperature tau, () float."""
        return self.log_temperature.exp()

    def setup(self, stage: str) -> None:
        """Train a tokenizer if there is none, and collect the words that an edited caption may use.

        Raises:
            ValueError: if the data's images are too small, or its boxes are for another number of phrases than the
                encoder reads.
        """
        encoder = self.prompt_encoder.text_encoder
        check_size(self, "model.image_encoder.tower.image_size", self.image_encoder.image_size)
        if self.terms.region_weight:
            check_same(self, "max_words", "model.prompt_encoder.text_encoder.max_words", encoder.max_words)
            check_same(self, "max_objects", "model.prompt_encoder.text_encoder.max_objects", encoder.max_objects)
        if stage == "fit" and (encoder.tokenizer is None or self.terms.edits):
            captions = self.trainer.datamodule.captions(_MOST_CAPTIONS)  # type: ignore[attr-defined]
            if encoder.tokenizer is None:
                encoder.tokenizer = train_tokenizer(captions, encoder.reader.vocabulary(encoder.tower))
            self._words = tuple(sorted({word for caption in captions for word in drawn_words(caption)})) or WORDS
        prepare_in_loader(self, ContrastedTexts(encoder.parser, self.terms, self._words), reads=["images"])

    def on_train_start(self) -> None:
        """Refuse a text encoder that has no tokenizer by now.

        Raises:
            ValueError: naming the text encoder.
        """
        check_tokenizer(self.prompt_encoder, "model.prompt_encoder.text_encoder")

    # before these, a checkpoint has been loaded; before on_fit_start, not always
    on_validation_start = on_test_start = on_predict_start = on_train_start

    def configure_model(self) -> None:
        """Shard the module if the strategy is sharded."""
        shard_module(self, "the alignment probe")

    def score(self, images: Tensor, texts: Sequence[str], of: Sequence[int] | None = None) -> Tensor:
        """Score how well texts match images, (T,) float; see :func:`~vlad_lightning.models.contrastive.agreement`."""
        return agreement(self.prompt_encoder, self.image_encoder, images, texts, of, self.terms.local)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return L_align of one batch plus the further terms."""
        negatives = self._negatives(batch)
        texts = self.prompt_encoder(negatives.parsed)
        seen = self.image_encoder.look(batch.images) if self.terms.local else None
        pooled = self.image_encoder(batch.images) if seen is None else seen.pooled
        untrue = texts.pooled[len(batch) :].unflatten(0, (len(batch), -1)) if negatives.texts else None
        loss = align(self, pooled, texts.pooled[: len(batch)], self.temperature, self.symmetric, edited=untrue)
        losses = {"loss": loss}
        if seen is not None:
            losses |= self.terms.losses(negatives, seen, texts, self.temperature)
        logged = {f"train/{name}": value for name, value in losses.items()}
        self.log_dict({"train/temperature": self.temperature} | logged, batch_size=logged_batch_size(self, batch))
        return torch.stack(list(losses.values())).sum()

    def _negatives(self, batch: Batch) -> Negatives:
        """Return the loader's negatives; draw them here if there are none or they are for another step."""
        if batch.negatives is not None and batch.negatives.step == self.global_step:
            return batch.negatives
        parser = self.prompt_encoder.parser
        return self.terms.negatives(parser, batch, self.global_step, self._words).to(self.device)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Clamp tau from below after the step: a clamp in the forward pass would have no gradient below the bound."""
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(_LEAST_TEMPERATURE))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log L_align, keep the embeddings for R@1 over the whole set, and update the probe."""
        images, texts = self.image_encoder(batch.images), self.prompt_encoder(batch.texts).pooled
        loss = align(self, images, texts, self.temperature, self.symmetric, everywhere=False)
        self.log("val/loss", loss, prog_bar=True, batch_size=logged_batch_size(self, batch), sync_dist=True)
        counted = batch.counted
        self._embedded.append((images[:counted].float(), texts[:counted].float()))
        if not is_sharded(self):  # every rank must gather equally often, and the ranks have different edits
            self.probe.update(batch.images[:counted], batch.prompts[:counted], batch.keys[:counted])

    def on_validation_epoch_end(self) -> None:
        """Log R@1 and the probe over the whole set and all ranks; nothing if validation stopped before a batch."""
        if not self._embedded:
            return
        images, texts = (gather_uneven(self, torch.cat(x)) for x in zip(*self._embedded, strict=True))
        self._embedded.clear()
        image_to_text, text_to_image = retrieval_at_1(images, texts)
        self.log_dict({"val/r1_image_to_text": image_to_text, "val/r1_text_to_image": text_to_image}, prog_bar=True)
        results = self.probe.compute()
        self.probe.reset()
        self.log_dict({f"val/probe_{name.removeprefix('alignment_probe_')}": f.value for name, f in results.items()})

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save how texts are scored, and the adapters' scale, which folding needs and B A does not contain."""
        checkpoint["local_score"] = self.terms.local
        checkpoint["lora_scale"] = self.prompt_encoder.text_encoder.lora_scale

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse adapters that were trained at another scale.

        Raises:
            ValueError: naming both scales.
        """
        own = self.prompt_encoder.text_encoder.lora_scale
        saved = checkpoint["lora_scale"]
        if saved != own:
            raise ValueError(f"the checkpoint's adapters have alpha / rank {saved}; this config has {own}")

    configure_gradient_clipping = clip_by_measured_norm

    def configure_optimizers(self) -> Any:
        """Return AdamW over the parameters that are not frozen, and its schedule."""
        return self.optimization.of_module(self)
