"""The whole system at a size at which a training step takes milliseconds: width 32, one layer, 32 px."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, UNet2DConditionModel
from lightning.pytorch import LightningModule, Trainer, seed_everything

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.generation import ImageGenerator, LayoutGenerator
from vlad_lightning.generation.masking import Masking
from vlad_lightning.models.autoencoder import SpaceToDepth
from vlad_lightning.models.image_encoder import ImageEncoder, build_vision_tower
from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.fusion import InpaintingFusion, LatentFusion
from vlad_lightning.models.painter.layout_skip import LayoutSkip
from vlad_lightning.models.painter.phrase_map import PhraseMap
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.text.ccm import CCM, IdentityComposition
from vlad_lightning.models.text.encoder import CharacterEncoder, TextEncoder, build_text_tower, train_tokenizer
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.tlg import TLG
from vlad_lightning.modules import AlignmentModule, TLGModule, VFEModule
from vlad_lightning.modules.optimization import Optimization

WIDTH, SIZE, LATENT = 32, 32, 12
FAST = Optimization(lr=3e-3, warmup_steps=5, schedule="constant_with_warmup")
LORA = Lora(rank=2, alpha=4)
CAPTIONS = ['a red circle on a blue background, with the text "HELLO" at the top', 'a green square and "SALE 50"'] * 20


def prompt_encoder(lora: Lora | None = None, ccm: bool = True, tokenizer: bool = True) -> PromptEncoder:
    tower = build_text_tower(width=WIDTH, layers=1, heads=2, vocabulary=400)
    encoder = TextEncoder(tower, CharacterEncoder(WIDTH), max_words=4, max_objects=8, lora=lora)
    if tokenizer:
        encoder.tokenizer = train_tokenizer(CAPTIONS, 400)
    composition = CCM(WIDTH, max_phrases=12, layers=1, heads=2) if ccm else IdentityComposition()
    return PromptEncoder(encoder, composition)


def image_encoder() -> ImageEncoder:
    return ImageEncoder(build_vision_tower(SIZE, patch_size=8, width=WIDTH, layers=1, heads=2, projection=WIDTH))


def schedule(prediction: str = "sample", betas: str = "squaredcos_cap_v2") -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule=betas,
        prediction_type=prediction,
        rescale_betas_zero_snr=prediction != "epsilon",
        timestep_spacing="trailing",
        clip_sample=False,
    )


def layout_generator(ccm: bool = True) -> LayoutGenerator:
    return LayoutGenerator(
        prompt_encoder(ccm=ccm), TLG(WIDTH, max_words=4, width=WIDTH, layers=1, heads=2, max_objects=8), schedule()
    )


def unet(in_channels: int = 16) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // 2,
        in_channels=in_channels,
        out_channels=LATENT,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=8,
    )


def transformer(in_channels: int = 16) -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=SIZE // 2,
        patch_size=2,
        in_channels=in_channels,
        out_channels=LATENT,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=WIDTH,
        pos_embed_max_size=SIZE // 4,
    )


def flow_image_generator() -> ImageGenerator:
    """Build a transformer trained by flow matching."""
    fusion = LatentFusion(LATENT, LATENT, WIDTH, LATENT + 4, time_width=16)
    network = VFE(fusion, transformer=transformer(LATENT + 4))
    return ImageGenerator(prompt_encoder(), network, SpaceToDepth(2), FlowMatchEulerDiscreteScheduler(), SIZE)


def image_generator(
    lora: Lora | None = None,
    ccm: bool = True,
    hierarchical: bool = True,
    extra_channels: int = 4,
    size: int = SIZE,
    inpaints: bool = False,
    grounded: bool = True,
    map_channels: int = 4,
    word_colours: bool = False,
    named_colours: bool = False,
    skips: bool = False,
    coloured_letters: bool = False,
    named_patterns: bool = False,
    usual_grounds: bool = False,
) -> ImageGenerator:
    stamps: dict[str, Any] = {"channels": map_channels}
    if named_colours or coloured_letters or named_patterns or usual_grounds:
        stamps = {
            "picture": True,
            "named_colours": named_colours,
            "coloured_letters": coloured_letters,
            "named_patterns": named_patterns,
            "usual_grounds": usual_grounds,
        }
    phrases = PhraseMap(WIDTH, side=4, width=16, **stamps) if hierarchical and grounded else None
    layout = (LATENT if hierarchical else 0) + (phrases.encoded_channels(LATENT) if phrases else 0) + 4 * word_colours
    fusion = LatentFusion(LATENT, layout, WIDTH, LATENT + extra_channels, time_width=16)
    network = VFE(fusion, unet(LATENT + extra_channels), phrase_map=phrases)
    if inpaints:  # made last, so that the other weights are drawn as without it
        network.inpainting = InpaintingFusion(LATENT, LATENT + extra_channels, time_width=16)
    if skips:
        network.layout_skip = LayoutSkip(LATENT, layout, width=8)
    return ImageGenerator(
        prompt_encoder(lora, ccm), network, SpaceToDepth(2), schedule(), size, word_colours=word_colours
    )


def alignment(ccm: bool = True, tokenizer: bool = True, **changes: Any) -> AlignmentModule:
    return AlignmentModule(prompt_encoder(ccm=ccm, tokenizer=tokenizer), image_encoder(), FAST, **changes)


def tlg(ccm: bool = True, **changes: Any) -> TLGModule:
    return TLGModule(layout_generator(ccm), FAST, **changes)


def vfe(
    ccm: bool = True,
    hierarchical: bool = True,
    lora: Lora | None = LORA,
    inpaints: bool = False,
    map_channels: int = 4,
    word_colours: bool = False,
    skips: bool = False,
    **changes: Any,
) -> VFEModule:
    layouts = layout_generator(ccm) if hierarchical else None
    if inpaints:
        changes = {"masking": Masking()} | changes
    whole = image_generator(
        lora, ccm, hierarchical, inpaints=inpaints, map_channels=map_channels, word_colours=word_colours, skips=skips
    )
    return VFEModule(whole, image_encoder(), layouts, optimization=FAST, **changes)


STAGES: dict[str, Callable[..., LightningModule]] = {"alignment": alignment, "tlg": tlg, "vfe": vfe}


def stage(name: str, seed: int = 0, **changes: Any) -> LightningModule:
    """Build a stage whose weights come from ``seed``."""
    seed_everything(seed)
    return STAGES[name](**changes)


def data(root: Path, size: int = SIZE, batch_size: int = 8, **changes: Any) -> MarioDataModule:
    return MarioDataModule(
        str(root), size=size, batch_size=batch_size, max_objects=8, val_share=0.2, test_share=0.2, **changes
    )


def trainer(steps: int = 1, **changes: Any) -> Trainer:
    """Build a silent trainer on the CPU that writes nothing by default."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "max_steps": steps,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
    }
    return Trainer(**quiet | changes)
