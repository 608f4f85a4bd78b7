"""Settings that make a denoiser cheaper to train without changing what it computes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.models.modeling_utils import ModelMixin

from vlad_lightning.lightning_internals import raise_recompile_limit


@dataclass(frozen=True)
class Acceleration:
    """Settings that trade memory for time or start-up for speed; the names in a ``state_dict`` stay as they are.

    Attributes:
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them: about a
            third more time, a fraction of the memory.
        channels_last: keep convolution weights, and with them the activations, in NHWC order.
        compile: compile the blocks that repeat, each kind once; needs a C++ compiler (and Triton on a GPU).
    """

    gradient_checkpointing: bool = False
    channels_last: bool = False
    compile: bool = False

    def apply(self, network: ModelMixin) -> None:
        """Set up a denoiser of diffusers in place.

        Raises:
            ValueError: if its class does not support a setting.
        """
        if self.gradient_checkpointing:
            network.enable_gradient_checkpointing()
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        if self.compile:
            # a UNet has its block at several widths, with and without gradients: the default of 8 variants is too few
            raise_recompile_limit(64)
            network.compile_repeated_blocks()
