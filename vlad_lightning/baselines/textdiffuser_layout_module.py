"""LightningModule that trains TextDiffuser's layout transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import LightningModule
from torch import Tensor

from vlad_lightning.baselines.textdiffuser_layout_generator import WordLayoutGenerator
from vlad_lightning.metrics.layout import LayoutMetrics
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm, logged_batch_size
from vlad_lightning.modules.preparation import ParsedTexts, prepare_in_loader
from vlad_lightning.modules.rng import Stage, generators_for
from vlad_lightning.modules.settings import check_same, check_tokenizer
from vlad_lightning.types import Batch, Layout, MetricResult


class TextDiffuserLayoutModule(LightningModule):
    """Training of a layout transformer by the mean absolute error of its boxes.

    Args:
        generator: the layout transformer and the frozen text encoder that it reads.
        optimization: learning rate and schedule.
        seed: seed of the changes of the words' widths in training.
    """

    def __init__(
        self, generator: WordLayoutGenerator, optimization: Optimization = Optimization(), seed: int = 0
    ) -> None:
        super().__init__()
        self.generator = generator
        self.optimization = optimization
        self.seed = seed
        self.layout_metrics = LayoutMetrics()
        self.results: dict[str, MetricResult] = {}

    def setup(self, stage: str) -> None:
        """Refuse data with boxes for another number of words than the layouts have.

        Raises:
            ValueError: naming both settings.
        """
        encoder = self.generator.prompt_encoder
        check_same(self, "max_words", "model.generator.prompt_encoder.text_encoder.max_words", encoder.max_words)
        prepare_in_loader(self, ParsedTexts(encoder.parser, cut_padding=False), reads=[])

    def on_train_start(self) -> None:
        """Refuse a text encoder that has no tokenizer by now.

        Raises:
            ValueError: naming the text encoder.
        """
        check_tokenizer(self.generator.prompt_encoder, "model.generator.prompt_encoder.text_encoder")

    # before these, a checkpoint has been loaded; before on_fit_start, not always
    on_validation_start = on_test_start = on_predict_start = on_train_start

    def _step(self, batch: Batch, stage: Stage, batch_idx: int) -> Tensor:
        drawn = generators_for(self, batch, stage, batch_idx, self.seed, "textdiffuser layout")
        loss = self.generator.loss(batch, drawn if stage == "train" else None)
        size = logged_batch_size(self, batch)
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=size, sync_dist=stage != "train")
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the error of one batch."""
        return self._step(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the error, and update the metrics with predicted layouts."""
        self._step(batch, "val", batch_idx)
        if batch.counted:
            layouts = self.draw(batch.prompts)
            self.layout_metrics.update(layouts, batch.prompts, batch.word_boxes, batch.word_mask)

    def draw(self, prompts: Sequence[str], keys: Sequence[str] = ()) -> tuple[Layout, ...]:
        """Predict layouts for B prompts; the keys are not used, as nothing is random."""
        return self.generator.sample(prompts)

    def on_validation_epoch_end(self) -> None:
        """Log the layout metrics."""
        self.results = self.layout_metrics.compute()
        self.layout_metrics.reset()
        self.log_dict({f"val/{name}": f.value for name, f in self.results.items()})

    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def configure_optimizers(self) -> Any:
        """Return AdamW over the layout transformer, and its schedule."""
        return self.optimization.of_module(self)

    configure_gradient_clipping = clip_by_measured_norm
