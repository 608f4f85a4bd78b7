from __future__ import annotations

from typing import Any

import published_folders as published
import pytest
from diffusers import DDPMScheduler
from torch import nn
from transformers import CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from vlad_lightning.models.autoencoder import build_kl_autoencoder
from vlad_lightning.models.published_settings import (
    compare_schedules,
    compare_second_tokenizer,
    compare_settings,
    compare_tokenizer,
)
from vlad_lightning.models.text.encoder import build_text_tower, train_tokenizer
from vlad_lightning.models.text.towers import DualTower

LETTERS = len(published.VOCABULARY)


def settings(of: nn.Module) -> dict[str, Any]:
    config: Any = of.config
    return dict(config) if isinstance(config, dict) else config.to_dict()


def test_a_published_unet_matches_itself() -> None:
    compare_settings(published.unet(), settings(published.unet(sample_size=16, upcast_attention=True)))
    compare_settings(published.unet(), settings(published.unet(attention_head_dim=[2, 2])))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attention_head_dim": 4}, r"attention_head_dim is 4 there; this config has 2"),
        ({"attention_head_dim": [2, 4]}, r"attention_head_dim is .*2, 4.* there; this config has 2"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu' there; this config has 'silu'"),
        ({"norm_eps": 1e-6}, "norm_eps is 1e-06 there; this config has 1e-05"),
        ({"flip_sin_to_cos": False}, "flip_sin_to_cos is False there; this config has True"),
    ],
)
def test_different_unet_settings_are_refused_even_with_equal_shapes(change: dict[str, Any], said: str) -> None:
    other = published.unet(**change)
    own = published.unet()
    assert {k: v.shape for k, v in own.state_dict().items()} == {k: v.shape for k, v in other.state_dict().items()}
    with pytest.raises(ValueError, match=said):
        compare_settings(own, settings(other))


def test_another_scaling_factor_of_an_autoencoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scaling_factor is 0.13025 there"):
        compare_settings(
            build_kl_autoencoder((8, 16), 1, norm_num_groups=4, sample_size=16),
            settings(published.autoencoder(scaling_factor=0.13025)),
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu' there; this config has 'quick_gelu'"),
        ({"num_attention_heads": 4}, "num_attention_heads is 4 there; this config has 2"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06 there"),
    ],
)
def test_different_settings_of_a_text_tower_are_refused(change: dict[str, Any], said: str) -> None:
    own = CLIPTextModel(published.text_config())
    config = published.text_config()
    for name, value in change.items():
        setattr(config, name, value)
    with pytest.raises(ValueError, match=said):
        compare_settings(own, config.to_dict())
    compare_settings(own, published.text_config(eos_token_id=7).to_dict())  # the tokenizer determines where t_g is read


def test_different_settings_of_a_vision_tower_are_refused() -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    own = CLIPVisionModelWithProjection(CLIPVisionConfig(num_attention_heads=2, image_size=16, patch_size=8, **sizes))
    other = CLIPVisionConfig(num_attention_heads=4, image_size=16, patch_size=8, **sizes)
    with pytest.raises(ValueError, match="num_attention_heads is 4 there"):
        compare_settings(own, other.to_dict())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type is 'v_prediction' there; this config has 'epsilon'"),
        ({"beta_schedule": "linear"}, "beta_schedule is 'linear' there"),
        ({"beta_end": 0.02}, "beta_end is 0.02 there; this config has 0.012"),
        ({"num_train_timesteps": 500}, "num_train_timesteps is 500 there; this config has 1000"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is True there"),
    ],
)
def test_different_schedules_are_refused(change: dict[str, Any], said: str) -> None:
    own = DDPMScheduler(**published.BETAS)
    compare_schedules(own, DDPMScheduler(**published.BETAS, timestep_spacing="trailing", clip_sample=False))
    with pytest.raises(ValueError, match=said):
        compare_schedules(own, DDPMScheduler(**published.BETAS | change))


def test_a_tokenizer_that_does_not_fit_the_tower_is_refused() -> None:
    tokenizer = published.tokenizer()
    compare_tokenizer(tokenizer, build_text_tower(16, 1, 2, LETTERS, end_token=LETTERS - 1))
    compare_tokenizer(tokenizer, build_text_tower(16, 1, 2, LETTERS, end_token=2))  # the largest id, as old configs say
    with pytest.raises(ValueError, match=rf"the tokenizer has {LETTERS} tokens; the tower's vocabulary is 300"):
        compare_tokenizer(tokenizer, build_text_tower(16, 1, 2, 300, end_token=299))
    with pytest.raises(ValueError, match=rf"end token is {LETTERS - 1}; the tower reads t_g at 3"):
        compare_tokenizer(tokenizer, build_text_tower(16, 1, 2, LETTERS, end_token=3))


def test_the_second_tokenizer_of_sdxl_is_compared() -> None:
    tower = DualTower(
        widths=(16, 16), layers=(1, 1), heads=(2, 2), projection=16, vocabulary=LETTERS, end_token=LETTERS - 1
    )
    first, second = published.tokenizer(), published.tokenizer("!")
    compare_second_tokenizer(first, second, tower)
    with pytest.raises(ValueError, match="padding is 513"):
        compare_second_tokenizer(first, first, tower)
    with pytest.raises(ValueError, match="another vocabulary"):
        compare_second_tokenizer(first, train_tokenizer(["a"], 300), tower)
    with pytest.raises(ValueError, match="is for a DualTower"):
        compare_second_tokenizer(first, second, build_text_tower(16, 1, 2))
