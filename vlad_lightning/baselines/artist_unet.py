"""How one UNet listens to another: the features of its middle and up blocks, through convolutions that start at 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

_MASKED = -10_000.0  # what diffusers adds to the attention scores of masked tokens
_PLAIN = {  # settings of parts that :func:`run_unet` leaves out, and their values in a UNet without them
    "class_embed_type": None,
    "num_class_embeds": None,
    "addition_embed_type": None,
    "encoder_hid_dim": None,
    "encoder_hid_dim_type": None,
    "time_cond_proj_dim": None,
    "time_embedding_act_fn": None,
    "center_input_sample": False,
}


@dataclass(frozen=True)
class UNetRun:
    """The output of a UNet and the features on its way.

    Attributes:
        output: (B, C, h, w) float.
        features: the outputs of the middle block and of each up block, (B, C_i, h_i, w_i) float each.
    """

    output: Tensor
    features: tuple[Tensor, ...]


def check_plain(unet: UNet2DConditionModel, name: str) -> None:
    """Refuse a UNet with parts that :func:`run_unet` does not run.

    Args:
        unet: the network.
        name: its name in a configuration.

    Raises:
        ValueError: naming the setting.
    """
    for setting, plain in _PLAIN.items():
        if (value := unet.config[setting]) != plain:
            raise ValueError(f"{name}.{setting} is {value!r}; it must be {plain!r}: a UNet of time and tokens only")
    if unet.mid_block is None:
        raise ValueError(f"{name}.mid_block_type is None; the middle block's features are needed")


def feature_channels(unet: UNet2DConditionModel) -> tuple[int, ...]:
    """Return the channels of :attr:`UNetRun.features`."""
    widths = tuple(unet.config.block_out_channels)
    return (widths[-1], *reversed(widths))


def run_unet(
    unet: UNet2DConditionModel,
    sample: Tensor,
    timesteps: Tensor,
    tokens: Tensor,
    read_mask: Tensor | None = None,
    added: Sequence[Tensor] = (),
) -> UNetRun:
    """Run a UNet block by block: its own ``forward``, bit for bit, with the features on the way.

    The blocks are called as modules, so gradient checkpointing, compiled blocks and adapters work as usual.

    Args:
        unet: a plain one, see :func:`check_plain`.
        sample: (B, C, h, w) float; h and w are multiples of 2 to the number of its downsamplings.
        timesteps: (B,) int64.
        tokens: (B, L, D) float.
        read_mask: (B, L) bool, the tokens that are attended to; None means all.
        added: what is added to each of the features, of their shapes; empty adds nothing.

    Raises:
        ValueError: if the sides of ``sample`` do not fit.
    """
    multiple = 2**unet.num_upsamplers
    if any(side % multiple for side in sample.shape[-2:]):
        raise ValueError(f"the latent has the sides {tuple(sample.shape[-2:])}; they must be multiples of {multiple}")
    mask = None if read_mask is None else ((1 - read_mask.to(sample.dtype)) * _MASKED)[:, None]
    emb = unet.time_embedding(unet.get_time_embed(sample=sample, timestep=timesteps))
    attended = {"encoder_hidden_states": tokens, "encoder_attention_mask": mask}
    x = unet.conv_in(sample)
    skipped = (x,)
    for block in unet.down_blocks:
        x, outputs = block(hidden_states=x, temb=emb, **attended if _attends(block) else {})
        skipped += outputs
    x = unet.mid_block(x, emb, **attended if _attends(unet.mid_block) else {})
    features: list[Tensor] = []
    further = iter(added)
    x = _plus(x, further, features)
    for block in unet.up_blocks:
        count = len(block.resnets)
        skipped, taken = skipped[:-count], skipped[-count:]
        x = block(hidden_states=x, temb=emb, res_hidden_states_tuple=taken, **attended if _attends(block) else {})
        x = _plus(x, further, features)
    if unet.conv_norm_out is not None:
        x = unet.conv_act(unet.conv_norm_out(x))
    return UNetRun(unet.conv_out(x), tuple(features))


def _attends(block: nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))


def _plus(x: Tensor, further: Iterator[Tensor], features: list[Tensor]) -> Tensor:
    """Add the next of ``further`` if there is one, and keep the result among the features."""
    addend = next(further, None)
    x = x if addend is None else x + addend
    features.append(x)
    return x


class FeatureBridge(nn.Module):
    """A convolution for each feature, from the channels of one UNet to those of another; all start at zero.

    Args:
        sources: channels of the features that are read.
        targets: channels of the features to which they are added.
        kernel: side of the convolutions, odd.

    Raises:
        ValueError: if the UNets have different numbers of blocks, or ``kernel`` is not odd.
    """

    def __init__(self, sources: Sequence[int], targets: Sequence[int], kernel: int = 1) -> None:
        super().__init__()
        if len(sources) != len(targets):
            raise ValueError(
                f"the text module's UNet gives {len(sources)} features; the visual module's takes {len(targets)}"
            )
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"bridge_kernel is {kernel}; it must be odd and at least 1")
        self.convolutions = nn.ModuleList(
            nn.Conv2d(source, target, kernel, padding=kernel // 2)
            for source, target in zip(sources, targets, strict=True)
        )
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, features: Sequence[Tensor], heard: Tensor | None = None) -> tuple[Tensor, ...]:
        """Project the features.

        Args:
            features: (B, C_i, h_i, w_i) float each.
            heard: (B,) bool, rows whose features count; the others add exactly 0. None means all.

        Returns:
            (B, C'_i, h_i, w_i) float each.
        """
        projected = tuple(conv(x) for conv, x in zip(self.convolutions, features, strict=True))
        if heard is None:
            return projected
        return tuple(torch.where(heard.view(-1, 1, 1, 1), x, 0.0) for x in projected)
