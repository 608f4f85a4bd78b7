"""Stable Diffusion's UNet with settings per level; its own class's type hints allow configurations only one value."""

from __future__ import annotations

from diffusers import UNet2DConditionModel


def build_unet(
    sample_size: int = 96,
    latent_channels: int = 4,
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
    attention_layers: tuple[int, ...] = (1, 1, 1, 0),
    heads: tuple[int, ...] = (5, 10, 20, 20),
    text_width: int = 1024,
    added_text_width: int | None = None,
    layers_per_block: int = 2,
    norm_num_groups: int = 32,
    size_width: int = 256,
) -> UNet2DConditionModel:
    """Build a UNet of diffusers with random weights and linear projections around attention; the defaults are SD 2.1's.

    Args:
        sample_size: side of the latents it was trained on.
        latent_channels: C_z.
        block_out_channels: channels of each level.
        attention_layers: transformer layers of an attention block, for each level; 0 is a level without attention. The
            middle block has as many as the last level, and at least one.
        heads: attention heads of each level.
        text_width: D of the token states.
        added_text_width: E of the text embedding that SDXL adds to its time embedding, with six sizes; None adds none.
        layers_per_block: residual layers per level.
        norm_num_groups: groups of the group norms.
        size_width: width of the embedding of each size, if there is ``added_text_width``.

    Raises:
        ValueError: if the numbers of levels differ.
    """
    counts = {len(block_out_channels), len(attention_layers), len(heads)}
    if len(counts) > 1:
        raise ValueError(
            f"block_out_channels, attention_layers and heads have {sorted(counts)} entries; each needs one per level"
        )
    attends = [n > 0 for n in attention_layers]
    added = added_text_width is not None
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=block_out_channels,
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attends)),
        transformer_layers_per_block=_collapsed(attention_layers),
        layers_per_block=layers_per_block,
        norm_num_groups=norm_num_groups,
        cross_attention_dim=text_width,
        attention_head_dim=list(heads),
        use_linear_projection=True,
        addition_embed_type="text_time" if added else None,
        addition_time_embed_dim=size_width if added else None,
        projection_class_embeddings_input_dim=(added_text_width or 0) + 6 * size_width if added else None,
    )


def _collapsed(layers: tuple[int, ...]) -> int | list[int]:
    """Write counts as published configs do: one number if all levels have it, and 1 for a level without layers."""
    counts = [max(n, 1) for n in layers]
    return counts[0] if len(set(counts)) == 1 else counts
