from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from vlad_lightning.models.lora import Lora
from vlad_lightning.models.painter.fusion import LatentFusion
from vlad_lightning.models.painter.lora_file import save_unet_lora
from vlad_lightning.models.painter.vfe import VFE
from vlad_lightning.models.text.encoder import train_tokenizer

LORA = Lora(rank=2, alpha=6, targets=("to_q", "to_k", "to_v", "to_out.0"))


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()


def adapted() -> VFE:
    vfe = VFE(LatentFusion(4, 4, 16), unet(), lora=LORA)
    generators = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in vfe.unet.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=generators)
    return vfe


def pipeline(denoiser: UNet2DConditionModel) -> StableDiffusionPipeline:
    """Build Stable Diffusion's pipeline of small random parts."""
    torch.manual_seed(2)
    text = CLIPTextConfig(
        vocab_size=300,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=20,
        eos_token_id=3,
    )
    tokenizer = train_tokenizer(["a red circle"] * 30, 300)
    tokenizer.model_max_length = 20
    made = StableDiffusionPipeline(
        AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).eval(),
        CLIPTextModel(text).eval(),
        tokenizer,
        denoiser,
        DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def generated(pipe: StableDiffusionPipeline) -> Tensor:
    drawn = pipe(
        "a red circle", 8, 8, 3, guidance_scale=2.0, generator=torch.Generator().manual_seed(3), output_type="latent"
    )
    images: Tensor = drawn.images
    return images


def test_plain_stable_diffusion_generates_the_same_as_ours(tmp_path: Path) -> None:
    vfe = adapted()
    save_unet_lora(vfe, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch_lora_weights.safetensors"]
    plain = pipeline(unet())
    before = generated(plain)
    plain.load_lora_weights(tmp_path)
    assert plain.get_list_adapters() == {"unet": ["default_0"]}
    ours = generated(pipeline(vfe.unet))
    assert (before - ours).abs().max() > 0.01  # the adapters do something
    torch.testing.assert_close(generated(plain), ours, rtol=1e-4, atol=1e-5)
    plain.unload_lora_weights()
    torch.testing.assert_close(generated(plain), before)


def test_alpha_is_read_back(tmp_path: Path) -> None:
    save_unet_lora(adapted(), tmp_path)
    plain = pipeline(unet())
    plain.load_lora_weights(tmp_path)
    config = plain.unet.peft_config["default_0"]
    assert (config.r, config.lora_alpha) == (2, 6)


def test_unet_without_adapters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the unet has no adapters: vfe.lora is null"):
        save_unet_lora(VFE(LatentFusion(4, 4, 16), unet()), tmp_path)
