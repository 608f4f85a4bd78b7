"""The training and the test of any baseline: with VLAD's data, optimization, metrics and noise of every sample."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vlad_lightning.baselines.baseline import Baseline
from vlad_lightning.data.prompts import PromptDataModule
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.files import told_at
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.system import SystemSampling, generate_named
from vlad_lightning.layout.prompt_parser import drawn_words
from vlad_lightning.limits import check_prompts
from vlad_lightning.metrics.evaluation import Evaluation
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm, logged_batch_size
from vlad_lightning.modules.preparation import ParsedTexts, prepare_in_loader
from vlad_lightning.modules.rng import Stage, generators_for
from vlad_lightning.modules.settings import check_same, check_tokenizer
from vlad_lightning.modules.system_module import SystemModule, noise_names
from vlad_lightning.strategies import shard_module
from vlad_lightning.types import COSTLY_FIELDS, Batch, GeneratedImages, PromptBatch


class BaselineModule(SystemModule):
    """A :class:`~vlad_lightning.baselines.baseline.Baseline` that is trained, tested and used to predict.

    Args:
        baseline: the system; what of it trains is its own decision.
        optimization: learning rate and schedule.
        sampler: sampler of the images; a run-time setting.
        layout_sampler: sampler of the layouts; a run-time setting.
        sampling_seed: seed of the noise of layouts and images; a run-time setting.
        evaluation: the metrics of ``test``; None measures nothing.
        seed: seed of every draw in training and of the validation loss.
        oracle_layouts: True tests with the true layouts of the posters, in the place of generated ones; prompts without
            a poster still get generated ones.

    Raises:
        ValueError: where a sampler does not fit the system, ``layout_sampler`` is set without a layout generator, or
            ``oracle_layouts`` for a system without layouts.
    """

    def __init__(
        self,
        baseline: Baseline,
        optimization: Optimization = Optimization(),
        sampler: ImageSampler = ImageSampler(),
        layout_sampler: Sampler = Sampler(),
        sampling_seed: int = 0,
        evaluation: Evaluation | None = None,
        seed: int = 0,
        oracle_layouts: bool = False,
    ) -> None:
        super().__init__(sampling_seed, evaluation)
        baseline.check(sampler)
        if baseline.layout_generator is not None:
            layout_sampler.check(baseline.layout_generator.schedule)
        elif layout_sampler != Sampler():
            raise ValueError(f"layout_sampler is {layout_sampler}; it is needed with a layout_generator only")
        if oracle_layouts and not baseline.uses_layouts:
            raise ValueError(f"oracle_layouts is True; a {type(baseline).__name__} uses no layouts")
        self.baseline = baseline
        self.optimization = optimization
        self.sampler, self.layout_sampler = sampler, layout_sampler
        self.seed = seed
        self.oracle_layouts = oracle_layouts

    @property
    def system(self) -> Baseline:
        """The whole system."""
        return self.baseline

    @property
    def sampling(self) -> SystemSampling:
        """Sampling settings of the whole system."""
        return SystemSampling(self.sampler, self.layout_sampler)

    def configure_model(self) -> None:
        """Shard the module if the strategy is sharded."""
        shard_module(self)

    def _step(self, batch: Batch, stage: Stage, batch_idx: int) -> Tensor:
        generators = generators_for(self, batch, stage, batch_idx, self.seed, "baseline")
        losses = self.baseline.losses(batch, generators)
        values = {f"{stage}/{name}": value for name, value in losses.items()}
        self.log_dict(values, prog_bar=True, batch_size=logged_batch_size(self, batch), sync_dist=stage != "train")
        return losses["loss"]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        return self._step(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the losses at fixed noise."""
        self._step(batch, "val", batch_idx)

    def check_sampler(self, sampler: ImageSampler) -> None:
        """Refuse settings that do not suit the system."""
        self.baseline.check(sampler)

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that the system cannot generate."""
        check_prompts([prompt])
        self._check_request(prompt, has_layout=False, has_image=False)

    def draw_batch(self, batch: Batch) -> GeneratedImages:
        """Generate the prompts of a batch, with its own layouts if ``oracle_layouts`` is set."""
        layouts = batch.layouts if self.oracle_layouts else None
        return generate_named(self.system, batch.prompts, batch.keys, self.sampling, self.sampling_seed, layouts)

    def generate_prompts(self, batch: PromptBatch) -> GeneratedImages:
        """Generate a batch of prompts, with their layouts if they have any.

        Raises:
            ValueError: for a picture to inpaint.
        """
        if any(image is not None for image in batch.images):
            raise ValueError(f"image is given; a {type(self.baseline).__name__} has no inpainting")
        generators = sampling_generators(self.sampling_seed, noise_names(batch))
        return self.baseline.generate(batch.prompts, batch.layouts or None, self.sampling, generators).named(batch.keys)

    def setup(self, stage: str) -> None:
        """Refuse data that do not fit the system, and prompts that it cannot generate, before the first one.

        Raises:
            ValueError: naming a setting of the data and the system's, or the prompt.
        """
        if stage != "predict":
            check_same(self, "size", "model.baseline.image_size", self.baseline.image_size)
            for name, encoder in self.baseline.prompt_encoders.items():
                check_same(self, "max_words", f"model.baseline.{name}.text_encoder.max_words", encoder.max_words)
            if (parser := self.baseline.parser) is not None:
                prepare_in_loader(self, ParsedTexts(parser, cut_padding=parser.hides_padding), reads=COSTLY_FIELDS)
        data = getattr(self.trainer, "datamodule", None) if stage == "predict" else None
        for request in data.requests() if isinstance(data, PromptDataModule) else ():
            with told_at(request.source):
                self._check_request(request.prompt, request.layout is not None, request.image is not None)

    def _check_request(self, prompt: str, has_layout: bool, has_image: bool) -> None:
        name = f"a {type(self.baseline).__name__}"
        if has_image:
            raise ValueError(f"image is given; {name} has no inpainting")
        if has_layout and not self.baseline.uses_layouts:
            raise ValueError(f"a layout or template is given; {name} uses no layouts")
        if self.baseline.layout_generator is not None and not has_layout:
            self.baseline.layout_generator.check([prompt])
            self.baseline.rasterizer.check(drawn_words(prompt))

    def on_train_start(self) -> None:
        """Refuse a text encoder that has no tokenizer by now.

        Raises:
            ValueError: naming the text encoder.
        """
        for name, encoder in self.baseline.prompt_encoders.items():
            check_tokenizer(encoder, f"model.baseline.{name}.text_encoder")

    # before these, a checkpoint has been loaded; before on_fit_start, not always
    on_validation_start = on_test_start = on_predict_start = on_train_start

    def configure_optimizers(self) -> Any:
        """Return AdamW over the trained parameters; the system's encoder may have its own learning rate."""
        return self.optimization.of_module(self, self.baseline.encoder)

    configure_gradient_clipping = clip_by_measured_norm
