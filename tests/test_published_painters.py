"""Stage 2 starts exactly as the published image generator: with fusion, CCM and LoRA, on diffusers' prompt states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import published_folders as published
import pytest
import tiny_system
import torch
from diffusers import DDPMScheduler
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import CLIPTextModel

from vlad_lightning.callbacks import FromPretrained, SameSchedule, TokenizerFromPretrained
from vlad_lightning.generation import ImageGenerator
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.models.autoencoder import KLAutoencoder, build_kl_autoencoder
from vlad_lightning.models.image_encoder import ImageEncoder, build_vision_tower
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.vfe import LORA_TARGETS, VFE
from vlad_lightning.models.text.ccm import CCM
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.text.towers import DualTower
from vlad_lightning.modules import VFEModule
from vlad_lightning.modules.settings import LossSettings
from vlad_lightning.pipeline import VLADPipeline
from vlad_lightning.pipeline.components import prepare_for_inference
from vlad_lightning.types import Conditioning, Layout

PROMPTS = ['a red "HI"', "a square", ""]
STEPS = torch.tensor([3, 500, 999])
LETTERS = len(published.VOCABULARY)
TOWER = "image_generator.prompt_encoder.text_encoder.tower"
SMALL: dict[str, Any] = {"width": published.WIDTH, "layers": 2, "heads": 2, "context": published.CONTEXT}
SMALL |= {"vocabulary": LETTERS, "end_token": LETTERS - 1}


def unprojected(activation: str) -> nn.Module:
    return CLIPTextModel(published.text_config(hidden_act=activation))


def dual() -> nn.Module:
    return DualTower(
        widths=(published.WIDTH, published.SECOND),
        layers=(2, 3),
        heads=(2, 2),
        projection=published.EMBEDDED,
        vocabulary=LETTERS,
        context=published.CONTEXT,
        end_token=LETTERS - 1,
    )


def autoencoder(scaling: float = 0.18215) -> KLAutoencoder:
    return build_kl_autoencoder((8, 16), 1, norm_num_groups=4, sample_size=16, scaling_factor=scaling)


class Stage(LightningModule):
    """An image generator, trained at rate zero."""

    def __init__(
        self,
        tower: Any,
        unet: Any,
        of: KLAutoencoder,
        prediction: str,
        width: int,
        fused: int = 4,
        lora: Lora | None = None,
    ) -> None:
        super().__init__()
        encoder = TextEncoder(tower, CharacterEncoder(width), 2, 3, Lora(2), width=width)
        prompts = PromptEncoder(encoder, CCM(width, max_phrases=5, layers=1, heads=2))
        schedule = DDPMScheduler(**published.BETAS, prediction_type=prediction, clip_sample=False)
        vfe = VFE(LatentFusion(4, 4, width, fused), unet, lora=lora)
        self.image_generator = ImageGenerator(prompts, vfe, of, schedule, image_size=64)
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.weight * 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.0)


def first(prediction: str, activation: str, image_generator: dict[str, Any], **changes: Any) -> Stage:
    torch.manual_seed(1)
    tower, unet = unprojected(activation), published.unet(**changes)
    return Stage(tower, unet, autoencoder(), prediction, published.WIDTH, **image_generator)


def stage_1(**image_generator: Any) -> Stage:
    return first("epsilon", "quick_gelu", image_generator)


def stage_2(**image_generator: Any) -> Stage:
    return first("v_prediction", "gelu", image_generator, attention_head_dim=[2, 4], use_linear_projection=True)


def stage_xl(**image_generator: Any) -> Stage:
    torch.manual_seed(1)
    width = published.WIDTH + published.SECOND
    unet = published.unet(
        cross_attention_dim=width,
        attention_head_dim=[2, 4],
        use_linear_projection=True,
        transformer_layers_per_block=[1, 2],
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=published.EMBEDDED + 6 * 8,
    )
    return Stage(dual(), unet, autoencoder(0.13025), "epsilon", width, **image_generator)


def callbacks(folder: Path, towers: dict[str, str], second: str | None = None) -> list[Any]:
    source = str(folder)
    return [
        FromPretrained("image_generator.vfe.unet", source, "unet"),
        FromPretrained("image_generator.autoencoder", source, "vae"),
        *[FromPretrained(part, source, subfolder) for part, subfolder in towers.items()],
        TokenizerFromPretrained(
            "image_generator.prompt_encoder.text_encoder", source, "tokenizer", second_subfolder=second
        ),
        SameSchedule("image_generator.schedule", source),
    ]


ONE, TWO = {TOWER: "text_encoder"}, {f"{TOWER}.first": "text_encoder", f"{TOWER}.second": "text_encoder_2"}
CASES: list[tuple[Callable[[Path], Any], Callable[..., Stage], dict[str, str], str | None]] = [
    (published.stable_diffusion_1, stage_1, ONE, None),
    (published.stable_diffusion_2, stage_2, ONE, None),
    (published.stable_diffusion_xl, stage_xl, TWO, "tokenizer_2"),
]


def fit(stage: Stage, of: list[Any]) -> ImageGenerator:
    tiny_system.trainer(callbacks=of).fit(stage, DataLoader(TensorDataset(torch.zeros(1))))
    return stage.image_generator.eval()


IMAGE_GENERATORS: dict[str, dict[str, Any]] = {
    "four channels": {},
    "widened": {"fused": 12},
    "widened, lora": {"fused": 12, "lora": Lora(2, 4, LORA_TARGETS)},
}


@torch.no_grad()
@pytest.mark.parametrize("changes", IMAGE_GENERATORS.values(), ids=IMAGE_GENERATORS)
@pytest.mark.parametrize(("write", "build", "towers", "second"), CASES, ids=["sd15", "sd21", "sdxl"])
def test_the_untrained_system_generates_as_the_published_pipeline(
    tmp_path: Path, write: Any, build: Any, towers: dict[str, str], second: str | None, changes: dict[str, Any]
) -> None:
    pipeline = write(tmp_path)
    with torch.enable_grad():
        image_generator = fit(build(**changes), callbacks(tmp_path, towers, second))
    x_t, z_t = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    said = pipeline.encode_prompt(PROMPTS, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    added, uncond = None, image_generator.uncond(3)
    if second is not None:
        assert torch.equal(uncond.text_embeds, said[3])
        size = torch.tensor([64.0, 64, 0, 0, 64, 64])
        added = {"text_embeds": said[2], "time_ids": size.expand(3, -1)}
    prepare_for_inference(image_generator.vfe)
    prepare_for_inference(pipeline.unet)
    expected = pipeline.unet(x_t, STEPS, encoder_hidden_states=said[0], added_cond_kwargs=added).sample
    told = image_generator.prompt_encoder(PROMPTS)
    assert torch.equal(told.tokens, said[0])
    assert torch.equal(uncond.tokens, said[1])
    assert torch.equal(image_generator.vfe(x_t, STEPS, z_t, told), expected)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    latents = pipeline.vae.encode(pixels).latent_dist.mode() * pipeline.vae.config.scaling_factor
    assert torch.equal(image_generator.autoencoder.encode_images(pixels), latents)


@torch.no_grad()
def test_leaving_out_the_last_layer_equals_a_tower_without_it() -> None:
    """OpenCLIP's whole tower, whose t_g is aligned with images, still serves Stable Diffusion 2."""
    torch.manual_seed(0)
    whole = build_text_tower(**SMALL | {"layers": 3}, activation="gelu")
    short = unprojected("gelu")
    state = {k.removeprefix("text_model."): v for k, v in whole.state_dict().items()}
    short.load_state_dict({k: state[k] for k in short.state_dict()}, strict=True)
    states = []
    for tower, skipped in ((whole, 1), (short, 0)):
        encoder = TextEncoder(tower, CharacterEncoder(published.WIDTH), skip_layers=skipped).eval()  # type: ignore[arg-type]
        encoder.tokenizer = published.tokenizer("!")
        states.append(encoder(PROMPTS))
    assert torch.equal(states[0].tokens, states[1].tokens)
    assert not torch.allclose(states[0].pooled, states[1].pooled)


@torch.no_grad()
def test_sdxl_guides_and_generates(tmp_path: Path) -> None:
    """The added conditions match the branches of the guidance."""
    published.stable_diffusion_xl(tmp_path)
    with torch.enable_grad():
        image_generator = fit(stage_xl(), callbacks(tmp_path, TWO, "tokenizer_2"))
    sampler = ImageSampler(2, guidance_scale=2.0)
    generated = image_generator.generate(["a red square"], [Layout.empty()], sampler, [torch.Generator()])
    assert generated.images.shape == (1, 3, 64, 64)
    assert generated.images.isfinite().all()


def test_sdxl_trains_on_dropped_captions_like_the_published_one(tmp_path: Path, posters: Path) -> None:
    """A dropped caption has zero token states and a zero text embedding."""
    published.stable_diffusion_xl(tmp_path)
    image_generator = fit(stage_xl(), callbacks(tmp_path, TWO, "tokenizer_2"))
    vision = ImageEncoder(build_vision_tower(64, 8, 16, 1, 2, image_generator.prompt_encoder.width))
    training = LossSettings(caption_dropout=0.5, layout_dropout=0)
    module = VFEModule(image_generator, vision, training=training, text_probe=0)
    seen: list[Conditioning] = []
    image_generator.vfe.register_forward_pre_hook(lambda network, args: seen.append(args[3]))
    data = tiny_system.data(posters, size=64, batch_size=8, max_words=2)
    tiny_system.trainer(limit_val_batches=1).validate(module, datamodule=data, verbose=False)
    (told,) = seen
    silent = told.tokens.eq(0).flatten(1).all(1)
    assert 0 < int(silent.sum()) < 8
    assert told.text_embeds is not None
    assert torch.equal(told.text_embeds.eq(0).all(1), silent)


def test_a_unet_of_sdxl_needs_its_two_towers() -> None:
    unet = stage_xl().image_generator.vfe.unet
    with pytest.raises(ValueError, match="adds a text embedding of width 12"):
        Stage(unprojected("gelu"), unet, autoencoder(), "epsilon", published.WIDTH)


def test_a_unet_with_other_conditions_is_refused() -> None:
    unet = published.unet(addition_embed_type="text")
    with pytest.raises(ValueError, match="addition_embed_type is 'text'"):
        VFE(LatentFusion(4, 4, published.WIDTH), unet)


@torch.no_grad()
def test_a_pipeline_of_sdxl_is_saved_and_loaded(tmp_path: Path) -> None:
    published.stable_diffusion_xl(tmp_path / "published")
    with torch.enable_grad():
        image_generator = fit(stage_xl(), callbacks(tmp_path / "published", TWO, "tokenizer_2"))
    vision = ImageEncoder(build_vision_tower(16, 8, 16, 1, 2, image_generator.prompt_encoder.width))
    pipeline = VLADPipeline.from_module(VFEModule(image_generator, vision))
    pipeline.save_pretrained(tmp_path / "saved")
    loaded = VLADPipeline.from_pretrained(tmp_path / "saved")
    loaded.set_progress_bar_config(disable=True)
    pipeline.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"layouts": Layout.empty(), "num_inference_steps": 2, "output_type": "pt"}
    first, second = (
        pipe("a red square", generator=torch.Generator().manual_seed(0), **options).images
        for pipe in (loaded, pipeline)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
