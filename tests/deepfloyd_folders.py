"""Small random networks in the layout in which DeepFloyd IF and Stable Diffusion's x4 upscaler are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import published_folders
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    IFPipeline,
    IFSuperResolutionPipeline,
    StableDiffusionUpscalePipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

WIDTH, SMALL, LARGE = 16, 16, 32
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789'\"., "


def text_parts() -> dict[str, Any]:
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((c, -3.0) for c in LETTERS if c != " ")]
    config = T5Config(
        vocab_size=64, d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )
    return {"tokenizer": T5Tokenizer(vocab=vocab, extra_ids=0), "text_encoder": T5EncoderModel(config).eval()}


def unet(inputs: int, side: int, **changes: Any) -> UNet2DConditionModel:
    """Make a UNet with the kinds of blocks that IF has; it predicts the noise and its variance."""
    return UNet2DConditionModel(
        sample_size=side,
        in_channels=inputs,
        out_channels=6,
        block_out_channels=(8, 16),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        encoder_hid_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
        **changes,
    )


def schedule() -> DDPMScheduler:
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        variance_type="learned_range",
        clip_sample=True,
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
    )


def first_stage(folder: Path) -> None:
    none = {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    IFPipeline(**text_parts(), unet=unet(3, SMALL), scheduler=schedule(), **none).save_pretrained(folder)


def second_stage(folder: Path) -> None:
    none = {"safety_checker": None, "feature_extractor": None, "watermarker": None, "requires_safety_checker": False}
    parts = {"unet": unet(6, LARGE, class_embed_type="timestep"), "scheduler": schedule()}
    noising = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    IFSuperResolutionPipeline(**text_parts(), **parts, image_noising_scheduler=noising, **none).save_pretrained(folder)


def third_stage(folder: Path) -> None:
    network = published_folders.unet(
        in_channels=7, out_channels=4, sample_size=LARGE, num_class_embeds=1000, only_cross_attention=(True, False)
    )
    StableDiffusionUpscalePipeline(
        vae=published_folders.autoencoder(scaling_factor=0.08333),
        text_encoder=CLIPTextModel(published_folders.text_config()),
        tokenizer=published_folders.tokenizer(),
        unet=network,
        low_res_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", prediction_type="v_prediction"),
    ).save_pretrained(folder)


def cascade(folder: Path, seed: int = 0) -> Path:
    """Make the folder of all three, under the names that they have on the hub."""
    torch.manual_seed(seed)
    first_stage(folder / "IF-I-XL-v1.0")
    second_stage(folder / "IF-II-L-v1.0")
    third_stage(folder / "stable-diffusion-x4-upscaler")
    return folder
