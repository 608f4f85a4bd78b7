"""Stage 2: the Visual Feature Enhancer, L = L_align + lambda L_diff (Eq. 8), and the loss of the phrase map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.prompt_request import Request
from vlad_lightning.data.prompts import PromptDataModule
from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.files import told_at
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.generation.masking import Masking
from vlad_lightning.generation.prediction import check_masks, check_requests, generate_batch
from vlad_lightning.generation.system import SystemSampling, VLADSystem
from vlad_lightning.metrics.evaluation import Evaluation
from vlad_lightning.metrics.paired import PerImage
from vlad_lightning.models.fsdp import is_sharded
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.modules.contrastive import TEMPERATURE, align, check_alignment
from vlad_lightning.modules.diffusion_loss import DiffusionLoss
from vlad_lightning.modules.latents import LatentEncoder, check_latents, fields_read, reads_latents
from vlad_lightning.modules.optimization import Optimization, clip_by_measured_norm, logged_batch_size
from vlad_lightning.modules.preparation import ParsedTexts, prepare_in_loader
from vlad_lightning.modules.probing import ProbeMetrics
from vlad_lightning.modules.rng import Stage, generators_for
from vlad_lightning.modules.settings import LossSettings, check_same, check_size, check_tokenizer
from vlad_lightning.modules.system_module import SystemModule, noise_names
from vlad_lightning.strategies import shard_module
from vlad_lightning.types import Batch, GeneratedImages, MetricResult, PromptBatch


class VFEModule(SystemModule):
    """Diffusion of the image guided by the layout's latent; test and predict run the whole system.

    Args:
        image_generator: the model that is trained, with the prompt encoder of stage 0.
        image_encoder: the frozen vision tower of stage 0, for L_align. None leaves L_align out, and ``loss_align`` is
            not logged: a departure from Eq. 8, for fine-tuning a finished system, of which an exported pipeline has no
            image encoder.
        layout_generator: stage 1, frozen; None without hierarchical guidance.
        training: settings of the loss.
        optimization: learning rate and schedule.
        sampler: sampler of the images; a run-time setting.
        layout_sampler: sampler of the layouts; a run-time setting.
        sampling_seed: seed of the noise of layouts and images; a run-time setting.
        evaluation: the metrics of ``test``; None measures nothing.
        temperature: tau of L_align.
        seed: seed of every draw in training, of the validation loss and of the text probe.
        text_probe: how many samples per device the text probe takes in validation and test
            (:class:`~vlad_lightning.modules.probing.TextProbe`), for the whole system and for the image generator alone
            with unchanged layouts; 0 turns it off. Under a strategy that shards the weights it is off.
        masking: regions that inpainting is trained on; None trains on whole images only.
        freeze_text_tower: False trains all weights of the image generator's text tower, for one that is not pretrained;
            with adapters, only these are trained.
        adapters_only: True trains the denoising network's adapters and nothing else, so that these alone, exported, are
            all that a training changed.

    Raises:
        ValueError: where ``temperature`` is not positive, or set without an image encoder, ``text_probe`` is negative,
            the encoders' widths differ, a sampler does not fit its generator, a setting of ``training`` has no effect
            on this image generator, only one of ``masking`` and ``image_generator.vfe.inpainting`` is given,
            ``layout_sampler`` is set without a layout generator, or ``adapters_only`` without ``vfe.lora``.
    """

    def __init__(
        self,
        image_generator: ImageGenerator,
        image_encoder: ImageEncoder | None,
        layout_generator: LayoutGenerator | None = None,
        training: LossSettings = LossSettings(),
        optimization: Optimization = Optimization(),
        sampler: ImageSampler = ImageSampler(guidance_scale=2.5),
        layout_sampler: Sampler = Sampler(),
        sampling_seed: int = 0,
        evaluation: Evaluation | None = None,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        masking: Masking | None = None,
        freeze_text_tower: bool = True,
        text_probe: int = 64,
        adapters_only: bool = False,
    ) -> None:
        super().__init__(sampling_seed, evaluation)
        check_alignment(image_generator.prompt_encoder, image_encoder, temperature)
        if text_probe < 0:
            raise ValueError(f"text_probe is {text_probe}; it must be at least 0")
        training.check(image_generator)
        image_generator.check(sampler)
        if layout_generator is not None:
            layout_sampler.check(layout_generator.schedule)
        elif layout_sampler != Sampler():
            raise ValueError(f"layout_sampler is {layout_sampler}; it is needed with a layout_generator only")
        if (masking is not None) != image_generator.inpaints:
            raise ValueError(
                f"masking is {masking}; it is needed where image_generator.vfe.inpainting is given, and only there"
            )
        self.image_generator = image_generator
        self.image_encoder = image_encoder.requires_grad_(False) if image_encoder else None
        self.layout_generator = layout_generator.requires_grad_(False) if layout_generator else None
        self._own_nouns = layout_generator.nouns if layout_generator else ()
        self.known_nouns: tuple[str, ...] = ()  # of the pipeline it started from
        if image_generator.prompt_encoder.text_encoder.lora is None and freeze_text_tower:
            image_generator.prompt_encoder.text_encoder.tower.requires_grad_(False)
        if training.diffusion_weight == 0:
            vfe = image_generator.vfe
            for part in (vfe.network, vfe.fusion, vfe.inpainting, vfe.layout_skip):
                if part is not None:
                    part.requires_grad_(False)
            image_generator.prompt_encoder.composition.freeze_unread(pooled=image_encoder is not None, tokens=False)
        if adapters_only:
            _freeze_but_adapters(image_generator)
        self.settings = training
        self.optimization = optimization
        self.sampler, self.layout_sampler = sampler, layout_sampler
        self.temperature = temperature
        self.seed = seed
        self.masking = masking
        self.text_probe = text_probe
        self.heard = ProbeMetrics()
        self._latents_checked = False

    def configure_model(self) -> None:
        """Shard the module if the strategy is sharded, and check that the sampler works with shards."""
        shard_module(self, "the text probe" if self.text_probe else None)
        self.image_generator.check(self.sampler)

    @property
    def preparation(self) -> ParsedTexts:
        """The parser of the loader; a denoising network that attends to padding gets all of it."""
        parser = self.image_generator.prompt_encoder.parser
        return ParsedTexts(parser, cut_padding=parser.hides_padding)

    def _step(self, batch: Batch, stage: Stage, batch_idx: int) -> Tensor:
        generators = generators_for(self, batch, stage, batch_idx, self.seed, "vfe")
        cond = self.image_generator.prompt_encoder(self.preparation.texts(batch, self.device))
        aligned = self._alignment(batch, cond.pooled, everywhere=stage == "train")
        diffusion, mapping = self.diffusion_loss(batch, cond, generators)
        denoising = self.settings.diffusion_weight * diffusion
        loss = (denoising if aligned is None else aligned + denoising) + self.settings.map_weight * mapping
        values = {"loss": loss, "loss_diffusion": diffusion, "loss_map": mapping}
        values |= {} if aligned is None else {"loss_align": aligned}
        values = {f"{stage}/{name}": value for name, value in values.items()}
        self.log_dict(values, prog_bar=True, batch_size=logged_batch_size(self, batch), sync_dist=stage != "train")
        return loss

    @property
    def diffusion_loss(self) -> DiffusionLoss:
        """L_diff and L_map of the image generator."""
        return DiffusionLoss(self.image_generator, self.settings, self.masking)

    def _alignment(self, batch: Batch, texts: Tensor, everywhere: bool) -> Tensor | None:
        """Return L_align, Eq. 3, with the negatives of all ranks or, if not ``everywhere``, of this batch.

        It is None without an image encoder.
        """
        if self.image_encoder is None:
            return None
        if batch.latents is not None and batch.latents.embeddings is not None:
            embedded = batch.latents.embeddings.to(texts.dtype)
        else:
            with torch.no_grad():
                embedded = self.image_encoder(batch.images)
        return align(self, embedded, texts, self.temperature, everywhere=everywhere)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of Eq. 8 of one batch."""
        return self._step(batch, "train", batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Log the loss of Eq. 8 at fixed noise, and update the text probe."""
        self._step(batch, "val", batch_idx)
        self.probe(batch, batch_idx)

    def probe(self, batch: Batch, batch_idx: int) -> None:
        """Probe the first samples of each device; none with sharded weights, which all ranks must gather in step."""
        left = 0 if is_sharded(self) else min(self.text_probe - batch_idx * len(batch), batch.counted)
        if left > 0:
            rows = batch.prompts[:left], batch.layouts[:left], batch.keys[:left]
            self.heard.update(self.image_generator, self.layout_generator, self.layout_sampler, self.seed, *rows)

    def probed(self) -> tuple[dict[str, PerImage], dict[str, MetricResult]]:
        """Return the text probe's rows and results, and reset."""
        return self.heard.per_image(), self.heard.compute()

    def on_validation_epoch_end(self) -> None:
        """Log the probes."""
        self.log_dict({f"val/{name}": result.value for name, result in self.heard.compute().items()})

    @property
    def sampling(self) -> SystemSampling:
        """Sampling settings of the whole system."""
        return SystemSampling(self.sampler, self.layout_sampler)

    @property
    def system(self) -> VLADSystem:
        """The whole system: image generator and layout generator."""
        return VLADSystem(self.image_generator, self.layout_generator)

    def check_sampler(self, sampler: ImageSampler) -> None:
        """Refuse settings that do not suit the image generator."""
        self.image_generator.check(sampler)

    def check_prompt(self, prompt: str) -> None:
        """Refuse a prompt that the system cannot generate."""
        check_requests([Request("", "prompt", prompt)], self.system)

    def generate_prompts(self, batch: PromptBatch) -> GeneratedImages:
        """Generate a batch of prompts, with their layouts and pictures if they have any."""
        generators = sampling_generators(self.sampling_seed, noise_names(batch))
        return generate_batch(batch, self.system, self.sampling, generators)

    def setup(self, stage: str) -> None:
        """Refuse data that do not fit the system, and prompts that it cannot generate, before the first one.

        Raises:
            ValueError: naming a setting of the data and the system's, or the prompt.
        """
        self._latents_checked = False
        if stage != "predict":
            self._check_data()
            if self.masking is not None and reads_latents(self, stage):
                raise ValueError(
                    "data.latents is true, and model.masking trains inpainting, which encodes a part of each picture; "
                    "set data.latents to false"
                )
            prepare_in_loader(self, self.preparation, reads=fields_read(self, stage))
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, MarioDataModule) and self.layout_generator is not None:
            self.layout_generator.nouns = self._learned(data.source.nouns)
        if isinstance(data, PromptDataModule) and stage == "predict":
            check_requests(data.requests(), self.system)

    def _learned(self, shown: tuple[str, ...]) -> tuple[str, ...]:
        """Return the objects that are learned from data that show these; empty if that is not known."""
        return shown or self._own_nouns

    def on_train_start(self) -> None:
        """Refuse a text encoder that has no tokenizer by now, and cached latents of other networks.

        Raises:
            ValueError: naming the text encoder, or what differs.
        """
        for name, part in (("image_generator", self.image_generator), ("layout_generator", self.layout_generator)):
            if part is not None:
                check_tokenizer(part.prompt_encoder, f"model.{name}.prompt_encoder.text_encoder")
        if not self._latents_checked:  # once: it reads all weights of the frozen networks
            check_latents(self, LatentEncoder(self.image_generator, self.image_encoder))
            self._latents_checked = True

    # before these, a checkpoint has been loaded; before on_fit_start, not always
    on_validation_start = on_test_start = on_predict_start = on_train_start

    def _check_data(self) -> None:
        """Refuse data with images of another size, or boxes for another number of phrases than the system reads."""
        text = self.image_generator.prompt_encoder.text_encoder
        check_same(self, "size", "model.image_generator.image_size", self.image_generator.image_size)
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, MarioDataModule) and data.buckets is not None:
            with told_at(f"data.buckets is {data.buckets}"):
                for height, width in data.frames:
                    self.image_generator.check_size(height, width)
        if self.image_encoder is not None:
            check_size(self, "model.image_encoder.tower.image_size", self.image_encoder.image_size)
        check_same(self, "max_words", "model.image_generator.prompt_encoder.text_encoder.max_words", text.max_words)
        if self.layout_generator is not None:
            layouts = self.layout_generator.tlg.config
            check_same(self, "max_words", "model.layout_generator.tlg.max_words", layouts.max_words)
        if self.image_generator.vfe.phrase_map is not None:
            check_same(
                self, "max_objects", "model.image_generator.prompt_encoder.text_encoder.max_objects", text.max_objects
            )

    def predict_step(self, batch: PromptBatch, batch_idx: int) -> GeneratedImages:
        """Generate a batch of prompts; :class:`~vlad_lightning.callbacks.ImageWriter` writes the images."""
        check_masks(batch, self.image_generator)
        return self.generate_prompts(batch)

    @property
    def lora_scales(self) -> dict[str, float]:
        """Alpha / rank of the adapters, by the name of the part that has them."""
        encoder, vfe = self.image_generator.prompt_encoder.text_encoder, self.image_generator.vfe
        scales = {
            "image_generator.prompt_encoder.text_encoder": encoder.lora,
            f"image_generator.vfe.{vfe.network_name}": vfe.lora,
        }
        return {part: lora.scale for part, lora in scales.items() if lora is not None}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the adapters' scales, which B A does not contain, and the objects that were learned."""
        checkpoint["lora_scales"] = self.lora_scales
        if self.layout_generator is not None:
            checkpoint["nouns"] = list(self.layout_generator.nouns)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse adapters that were trained at another scale, and restore the objects that were learned.

        Raises:
            ValueError: naming the parts and both scales.
        """
        if self.layout_generator is not None:
            self.layout_generator.nouns = tuple(checkpoint.get("nouns", self.layout_generator.nouns))
        saved = checkpoint["lora_scales"]
        if saved != self.lora_scales:
            raise ValueError(f"the checkpoint's adapters have alpha / rank {saved}; this config has {self.lora_scales}")

    configure_gradient_clipping = clip_by_measured_norm

    def configure_optimizers(self) -> Any:
        """Return AdamW over the trained parameters; prompt encoder and phrase map may have their own learning rates."""
        return self.optimization.of_module(
            self, self.image_generator.prompt_encoder, self.image_generator.vfe.phrase_map
        )


def _freeze_but_adapters(image_generator: ImageGenerator) -> None:
    if image_generator.vfe.lora is None:
        raise ValueError("adapters_only is True; it needs adapters, image_generator.vfe.lora")
    image_generator.requires_grad_(False)
    for name, weight in image_generator.vfe.network.named_parameters():
        weight.requires_grad_("lora_" in name)
