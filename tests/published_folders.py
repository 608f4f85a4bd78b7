"""Small random networks in the layouts in which Stable Diffusion 1.5, 2.1 and XL are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WIDTH, SECOND, EMBEDDED = 16, 24, 12
START, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = ["!", *sorted(set(ByteLevel.alphabet()) - {"!"})]  # "!" has the id 0, as in CLIP's vocabulary
VOCABULARY = {token: i for i, token in enumerate([*LETTERS, *[f"{c}</w>" for c in LETTERS], START, END])}
BETAS: dict[str, Any] = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
CONTEXT = 40


def tokenizer(pad: str = END) -> CLIPTokenizer:
    """Make a tokenizer with one token per letter; the last letter of a word is a separate token, as in CLIP."""
    return CLIPTokenizer(vocab=VOCABULARY, merges=[], pad_token=pad, model_max_length=CONTEXT)


def text_config(width: int = WIDTH, layers: int = 2, **changes: Any) -> CLIPTextConfig:
    published: dict[str, Any] = {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1}  # as in the published folders
    return CLIPTextConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        **published | changes,
    )


def unet(**changes: Any) -> UNet2DConditionModel:
    settings: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (8, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**settings | changes)


def autoencoder(**changes: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
        **changes,
    )


def stable_diffusion_1(folder: Path, seed: int = 0) -> StableDiffusionPipeline:
    """Make a folder like Stable Diffusion 1.5: the text tower's last layer, epsilon."""
    torch.manual_seed(seed)
    schedule = PNDMScheduler(**BETAS, skip_prk_steps=True, steps_offset=1, set_alpha_to_one=False)
    return _published(folder, CLIPTextModel(text_config()), unet(), schedule, tokenizer())


def stable_diffusion_2(folder: Path, seed: int = 0) -> StableDiffusionPipeline:
    """Make a folder like Stable Diffusion 2.1: OpenCLIP without its last layer, linear projections, v-prediction."""
    torch.manual_seed(seed)
    schedule = DDIMScheduler(**BETAS, prediction_type="v_prediction", steps_offset=1, set_alpha_to_one=False)
    image_generator = unet(attention_head_dim=[2, 4], use_linear_projection=True)
    return _published(folder, CLIPTextModel(text_config(hidden_act="gelu")), image_generator, schedule, tokenizer("!"))


def stable_diffusion_xl(folder: Path, seed: int = 0) -> StableDiffusionXLPipeline:
    """Make a folder like SDXL: two towers, a text embedding and sizes added to the time embedding."""
    torch.manual_seed(seed)
    second = text_config(SECOND, 3, hidden_act="gelu", projection_dim=EMBEDDED)
    image_generator = unet(
        cross_attention_dim=WIDTH + SECOND,
        attention_head_dim=[2, 4],
        use_linear_projection=True,
        transformer_layers_per_block=[1, 2],
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=EMBEDDED + 6 * 8,
    )
    pipeline = StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(second),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer("!"),
        unet=image_generator,
        scheduler=EulerDiscreteScheduler(**BETAS, steps_offset=1),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    _as_published(folder / "tokenizer", END)
    _as_published(folder / "tokenizer_2", "!")
    return pipeline


def _published(
    folder: Path, tower: CLIPTextModel, image_generator: UNet2DConditionModel, schedule: Any, tokens: CLIPTokenizer
) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline(
        vae=autoencoder(),
        text_encoder=tower,
        tokenizer=tokens,
        unet=image_generator,
        scheduler=schedule,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    _as_published(folder / "tokenizer", tokens.pad_token)
    return pipeline


def _as_published(folder: Path, pad: str) -> None:
    """Write the four files of the published folders instead of today's single one."""
    for path in folder.iterdir():
        path.unlink()
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    settings = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT, "do_lower_case": True}
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
