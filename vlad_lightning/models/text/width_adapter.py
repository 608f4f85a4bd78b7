"""A learned projection from a tower's widths to the width that the image generator attends to."""

from __future__ import annotations

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn


class WidthAdapter(ModelMixin, ConfigMixin):
    """A projection of a tower's token states and embedding to ``width``; an input of that width passes unchanged.

    The projection of the embedding starts as the identity on the coordinates that both have, so that a wider ``width``
    leaves every cosine of a pretrained pair as it was.

    Args:
        token_width: width of the tower's token states.
        pooled_width: width of its embedding.
        width: D.
    """

    @register_to_config
    def __init__(self, token_width: int, pooled_width: int, width: int) -> None:
        super().__init__()
        self.tokens: nn.Module = nn.Identity()
        if token_width != width:
            self.tokens = nn.Sequential(nn.LayerNorm(token_width), nn.Linear(token_width, width))
        self.pooled: nn.Module = nn.Identity() if pooled_width == width else eye_linear(pooled_width, width)

    def forward(self, tokens: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Project (B, L, W), (B, P) float to (B, L, D), (B, D) float."""
        return self.tokens(tokens), self.pooled(pooled)


def eye_linear(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer without bias that starts as the identity on the coordinates that both sides have."""
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.eye_(layer.weight)
    return layer
