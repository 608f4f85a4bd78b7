"""Builders of text towers besides CLIP's, with random weights: SigLIP's, and the language model of Qwen2.5-VL."""

from __future__ import annotations

from typing import Any

from transformers import (
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipTextConfig,
    SiglipTextModel,
)


def build_siglip_text_tower(
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    vocabulary: int = 256000,
    context: int = 64,
    projection: int | None = None,
    intermediate: int | None = None,
) -> SiglipTextModel:
    """Build a SigLIP text tower of transformers; the defaults are those of SigLIP 2's base size.

    Args:
        width: W of the token states.
        layers: transformer layers.
        heads: attention heads.
        vocabulary: rows of the token embedding.
        context: L, tokens per prompt.
        projection: P of the embedding; None means ``width``.
        intermediate: width of the MLPs; None means 4 ``width``.
    """
    return SiglipTextModel(
        SiglipTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=intermediate or 4 * width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=context,
            projection_size=projection or width,
            pad_token_id=None,  # a row of the vocabulary like any other
            bos_token_id=None,
            eos_token_id=None,
        )
    )


def build_qwen2_5_vl_language_model(
    width: int = 2048,
    layers: int = 36,
    heads: int = 16,
    key_value_heads: int = 2,
    intermediate: int = 11008,
    vocabulary: int = 151936,
    context: int = 128000,
    rope_sections: tuple[int, int, int] = (16, 24, 24),
) -> Qwen2_5_VLTextModel:
    """Build the language model of Qwen2.5-VL (arXiv 2502.13923); the defaults are those of its 3B size.

    Args:
        width: W of the token states.
        layers: transformer layers.
        heads: attention heads.
        key_value_heads: heads of keys and values.
        intermediate: width of the MLPs.
        vocabulary: rows of the token embedding.
        context: the most tokens.
        rope_sections: how many pairs of a head's coordinates rotate with time, height and width; in text, all three are
            the token's position.
    """
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": list(rope_sections)}
    return Qwen2_5_VLTextModel(
        Qwen2_5_VLTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            max_position_embeddings=context,
            rms_norm_eps=1e-6,
            rope_parameters=rope,
        )
    )
