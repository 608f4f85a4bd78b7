from __future__ import annotations

import pytest
import tiny_system as tiny
from diffusers import UNet2DConditionModel

from vlad_lightning.models.painter.backbone import TransformerBackbone, UNetBackbone


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
    with pytest.raises(ValueError, match="cache_interval is 2; it must be 1 for a UNet of a single level"):
        UNetBackbone(flat).check(2)
    with pytest.raises(ValueError, match="cache_interval is 2; it must be 1 for a transformer"):
        TransformerBackbone(tiny.transformer()).check(2)


def test_channels_are_those_of_the_network() -> None:
    assert UNetBackbone(tiny.unet(7)).in_channels == 7
    assert TransformerBackbone(tiny.transformer(7)).in_channels == 7
