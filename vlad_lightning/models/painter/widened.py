"""Widening of a published network to further input channels: columns of zeros beside its first layer's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import SD3Transformer2DModel, UNet2DConditionModel
from torch import Tensor, nn

FURTHER = ".further"
"""The end of the names of added columns, which :func:`~vlad_lightning.models.lora.fold` joins."""


class WidenedConv2d(nn.Conv2d):
    """A convolution, plus one over further channels that starts at zero.

    The published columns keep their name, ``weight``, and are a separate parameter: they may be frozen while
    ``further`` trains. Two convolutions instead of one over all channels keep the result of the published layer bit for
    bit, whatever order a kernel adds in.

    Args:
        conv: the layer whose parameter objects are taken over, frozen or not.
        channels: input channels, more than the layer reads.
    """

    def __init__(self, conv: nn.Conv2d, channels: int) -> None:
        super().__init__(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            bias=conv.bias is not None,
            padding_mode=conv.padding_mode,
            device="meta",  # draws no random numbers
        )
        self.weight, self.bias = conv.weight, conv.bias
        shape = (conv.out_channels, channels - conv.in_channels, *conv.kernel_size)
        self.further = nn.Parameter(torch.zeros(shape, dtype=conv.weight.dtype, device=conv.weight.device))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, channels, h, w) float to (B, out_channels, h', w')."""
        own = super().forward(x[:, : self.in_channels])
        return own + self._conv_forward(x[:, self.in_channels :], self.further, None)


def widen(network: UNet2DConditionModel | SD3Transformer2DModel, channels: int) -> None:
    """Widen a network in place to ``channels`` input channels; the weights of further ones start at zero and train.

    Its ``config.in_channels`` is updated; what it computes is unchanged.

    Raises:
        ValueError: if it reads as many channels already, or its first layer is not a plain convolution, as under an
            adapter.
    """
    owner, name = (network, "conv_in") if isinstance(network, UNet2DConditionModel) else (network.pos_embed, "proj")
    conv: nn.Module = getattr(owner, name)
    if type(conv) is not nn.Conv2d:
        kind = f"{type(conv).__module__}.{type(conv).__name__}"
        raise ValueError(f"{name} is a {kind}; only a plain torch.nn.Conv2d is widened: leave it out of lora.targets")
    if channels <= conv.in_channels:
        raise ValueError(f"channels is {channels}; it must be above the {conv.in_channels} that {name} reads")
    setattr(owner, name, WidenedConv2d(conv, channels))
    network.register_to_config(in_channels=channels)


def joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of plain layers: further columns joined to the others, under the plain name."""
    plain = {k: v for k, v in state.items() if not k.endswith(FURTHER)}
    for key in state.keys() - plain.keys():
        name = f"{key.removesuffix(FURTHER)}.weight"
        plain[name] = torch.cat([state[name], state[key]], dim=1)
    return plain


def parted(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split a plain state for a network with the state ``own``: the reverse of :func:`joined` for widened layers.

    Further columns that the plain weights lack are taken from ``own``.
    """
    found = dict(state)
    for key in own:
        name = f"{key.removesuffix(FURTHER)}.weight"
        if not key.endswith(FURTHER) or name not in state:
            continue
        width = own[name].shape[1]
        found[name], further = state[name][:, :width], state[name][:, width:]
        found[key] = further if further.shape[1] else own[key]
    return found


def settings_once_widened(network: nn.Module, published: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return published settings with the ``in_channels`` of a widened network.

    Args:
        network: a network of diffusers or transformers, widened or not.
        published: the settings of its source.

    Raises:
        ValueError: if the source reads another number of channels than the network did before it was widened.
    """
    config: Any = network.config
    own = config.get("in_channels") if isinstance(config, Mapping) else None
    theirs = published.get("in_channels")
    before = next((m.in_channels for m in network.modules() if isinstance(m, WidenedConv2d)), own)
    if before != theirs:
        raise ValueError(
            f"in_channels is {theirs} there, {before} in this config; leave it as it was published: the vfe widens an "
            "image generator to fusion.out_channels"
        )
    return published if own == theirs else {**published, "in_channels": own}
