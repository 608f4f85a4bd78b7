from __future__ import annotations

import pytest
import tiny_system as tiny
import torch
from device_traffic import Traffic
from diffusers import UNet2DConditionModel

from vlad_lightning.models.painter.backbone import TransformerBackbone, UNetBackbone
from vlad_lightning.types import Conditioning


def test_only_a_unet_of_several_levels_has_deep_blocks() -> None:
    flat = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        mid_block_type=None,
        cross_attention_dim=8,
        norm_num_groups=4,
    )
    UNetBackbone(flat).check(1)
    UNetBackbone(tiny.unet()).check(3)
    TransformerBackbone(tiny.transformer()).check(1)
    with pytest.raises(ValueError, match="cache_interval is 2"):
        UNetBackbone(flat).check(2)
    with pytest.raises(ValueError, match="cache_interval is 2"):
        TransformerBackbone(tiny.transformer()).check(2)


def test_channels_equal_those_of_the_network() -> None:
    assert UNetBackbone(tiny.unet(7)).in_channels == 7
    assert TransformerBackbone(tiny.transformer(7)).in_channels == 7


def test_sdxls_size_conditions_are_made_on_the_device() -> None:
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=16 + 6 * 4,
    )
    states, there = torch.zeros(2, 3, 8), torch.ones(2, 3, dtype=torch.bool)
    told = Conditioning(states[:, 0], states, there, states, there, states, there, text_embeds=torch.zeros(2, 16))
    given = torch.zeros(2, 4, 8, 8), torch.ones(2, dtype=torch.int64), told
    with Traffic(unet, given) as traffic:
        UNetBackbone(unet)(*given)
    assert traffic.found == []
