"""Stage 1: the Text Layout Generator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.diffusion.generators import numbered, sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.metrics.layout import LayoutMetrics
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm, logged_batch_size
from vlad_lightning.modules.preparation import ParsedTexts, prepare_in_loader
from vlad_lightning.modules.rng import Stage, generators_for
from vlad_lightning.modules.settings import check_same, check_tokenizer
from vlad_lightning.strategies import shard_module
from vlad_lightning.types import Batch, Layout, MetricResult


class TLGModule(LightningModule):
    """Diffusion of layout tokens conditioned on t; the layout generator's prompt encoder is trained with it.

    Args:
        generator: the prompt encoder of stage 0 and the TLG.
        optimization: learning rate and schedule.
        sampler: sampler of the layouts in validation and test; a run-time setting.
        sampling_seed: seed of their noise; a run-time setting.
        freeze_text_tower: True freezes the text tower of stage 0 and trains only its composition.
        seed: seed of every draw in training and of the validation loss.

    Raises:
        ValueError: where the sampler does not fit the generator's schedule.
    """

    def __init__(
        self,
        generator: LayoutGenerator,
        optimization: Optimization = Optimization(),
        sampler: Sampler = Sampler(),
        sampling_seed: int = 0,
        freeze_text_tower: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sampler.check(generator.schedule)
        self.generator = generator
        if freeze_text_tower:
            generator.prompt_encoder.text_encoder.tower.requires_grad_(False)
        generator.prompt_encoder.composition.freeze_unread(pooled=False, tokens=False)
        self.optimization = optimization
        self.sampler = sampler
        self.sampling_seed = sampling_seed
        self.seed = seed
        self.layout_metrics = LayoutMetrics()
        self.results: dict[str, MetricResult] = {}

    def setup(self, stage: str) -> None:
        """Refuse data with boxes for another number of words or objects than the layouts have.

        Raises:
            ValueError: naming both settings.
        """
        layouts = self.generator.tlg.config
        check_same(self, "max_words", "model.generator.tlg.max_words", layouts.max_words)
        if layouts.max_objects:
            check_same(self, "max_objects", "model.generator.tlg.max_objects", layouts.max_objects)
        prepare_in_loader(self, self.preparation, reads=[])

    def on_train_start(self) -> None:
        """Refuse a text encoder that has no tokenizer by now.

        Raises:
            ValueError: naming the text encoder.
        """
        check_tokenizer(self.generator.prompt_encoder, "model.generator.prompt_encoder.text_encoder")

    # before these, a checkpoint has been loaded; before on_fit_start, not always
    on_validation_start = on_test_start = on_predict_start = on_train_start

    def configure_model(self) -> None:
        """Shard the module if the strategy is sharded."""
        shard_module(self)

    @property
    def preparation(self) -> ParsedTexts:
        """The parser of the loader; the layouts read composed phrases, which do not depend on padding."""
        return ParsedTexts(self.generator.prompt_encoder.parser, cut_padding=True)

    def _step(self, batch: Batch, stage: Stage, batch_idx: int) -> Tensor:
        generators = generators_for(self, batch, stage, batch_idx, self.seed, "tlg")
        if stage == "train":
            self.generator.tlg.taught_objects.logical_or_(batch.scene_known.any())
        tokens, known, unknown = self.generator.tokens_of(batch)
        steps, noised = self.generator.noised(tokens, generators)
        cond = self.generator.prompt_encoder(self.preparation.texts(batch, self.device))
        predicted = self.generator.tlg(noised.x_t, steps, cond, unknown).float()
        known = known & cond.phrase_mask[:, 1 : 1 + known.shape[1], None]
        numbers, ranks = known.sum(), 1
        if stage == "train":  # DDP averages over ranks; together with `ranks` this divides by the count of all ranks
            numbers, ranks = cast(Tensor, self.all_gather(numbers)).sum(), self.trainer.world_size
        weight = noised.loss_weight[:, None, None] * known
        loss = ranks * (weight * (predicted - noised.target).square()).sum() / numbers.clamp(min=1)
        self.log(
            f"{stage}/loss", loss, prog_bar=True, batch_size=logged_batch_size(self, batch), sync_dist=stage != "train"
        )
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the weighted error of one batch."""
        return self._step(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss at fixed noise, and update the metrics with sampled layouts."""
        self._step(batch, "val", batch_idx)
        layouts = self.draw(batch.prompts, batch.keys)
        if batch.counted:
            truth = (batch.word_boxes, batch.word_mask, batch.object_boxes, batch.object_mask)
            self.layout_metrics.update(layouts, batch.prompts, *truth)

    def draw(self, prompts: Sequence[str], keys: Sequence[str] = ()) -> tuple[Layout, ...]:
        """Sample layouts for B prompts; the noise depends on ``sampling_seed`` and the key, or else the prompt."""
        names = [(key,) for key in keys] or numbered(prompts)
        return self.generator.sample(prompts, self.sampler, sampling_generators(self.sampling_seed, names))

    def on_validation_epoch_end(self) -> None:
        """Log the layout metrics."""
        self.results = self.layout_metrics.compute()
        self.layout_metrics.reset()
        self.log_dict({f"val/{name}": f.value for name, f in self.results.items()})

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    configure_gradient_clipping = clip_by_measured_norm

    def configure_optimizers(self) -> Any:
        """Return AdamW over the parameters that are not frozen; the prompt encoder may have its own learning rate."""
        return self.optimization.of_module(self, self.generator.prompt_encoder)
