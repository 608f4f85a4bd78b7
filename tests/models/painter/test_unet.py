from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from vlad_lightning.models.painter.unet import build_unet
from vlad_lightning.models.published_settings import compare_settings

# from the hub: the keys of unet/config.json that differ from the class's defaults
SD21: dict[str, Any] = {
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
XL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "attention_layers": (0, 2, 10),
    "heads": (5, 10, 20),
    "text_width": 2048,
    "added_text_width": 1280,
}


@pytest.mark.parametrize(("settings", "published", "size"), [({}, SD21, 865_910_724), (XL, SDXL, 2_567_463_684)])
def test_it_equals_the_published_network(settings: dict[str, Any], published: dict[str, Any], size: int) -> None:
    with torch.device("meta"):
        built, expected = build_unet(**settings), UNet2DConditionModel(**published)
    compare_settings(built, expected.config)
    shapes = [{k: v.shape for k, v in network.state_dict().items()} for network in (built, expected)]
    assert shapes[0] == shapes[1]
    assert sum(p.numel() for p in built.parameters()) == size


def test_levels_that_differ_in_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"have \[3, 4\] entries"):
        build_unet(heads=(5, 10, 20))
