"""The families of text towers: how the states of each are read, and what each requires of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Qwen2_5_VLTextModel,
    Qwen3VLTextModel,
    Siglip2TextModel,
    SiglipTextModel,
)


@dataclass(frozen=True)
class TowerStates:
    """The output of a tower for ``B`` sequences of ``L`` tokens.

    Attributes:
        tokens: (B, L, W) float, the token states that an image generator of its family attends to.
        pooled: (B, P) float, the embedding of each sequence.
        text_embeds: (B, E) float, the embedding that SDXL's UNet adds to its time embedding; None for other towers.
    """

    tokens: Tensor
    pooled: Tensor
    text_embeds: Tensor | None = None


class DualTower(ModelMixin, ConfigMixin):
    """SDXL's two CLIP text towers, which read the same tokens (arXiv 2307.01952); the defaults are SDXL's.

    The token states are those before the last layer of each tower, not normalised, side by side; the embedding is the
    second tower's.

    Args:
        widths: widths of the two towers.
        layers: transformer layers of the two.
        heads: attention heads of the two.
        activations: activations of their MLPs.
        projection: width of the second tower's embedding.
        vocabulary: rows of the token embeddings.
        context: L, tokens per sequence.
        end_token: the id at whose first position the embedding is read.
        second_pad: the padding id of the second tower's tokenizer, which otherwise equals the first.
    """

    @register_to_config
    def __init__(
        self,
        *,  # diffusers takes positional arguments for defaults, and does not load them
        widths: tuple[int, int] = (768, 1280),
        layers: tuple[int, int] = (12, 32),
        heads: tuple[int, int] = (12, 20),
        activations: tuple[str, str] = ("quick_gelu", "gelu"),
        projection: int = 1280,
        vocabulary: int = 49408,
        context: int = 77,
        end_token: int = 49407,
        second_pad: int = 0,
    ) -> None:
        super().__init__()
        configs = [
            CLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                intermediate_size=4 * width,
                projection_dim=projection,
                num_hidden_layers=depth,
                num_attention_heads=count,
                max_position_embeddings=context,
                hidden_act=activation,
                eos_token_id=end_token,
                bos_token_id=None,
                pad_token_id=None,
            )
            for width, depth, count, activation in zip(widths, layers, heads, activations, strict=True)
        ]
        self.first = CLIPTextModel(configs[0])
        self.second = CLIPTextModelWithProjection(configs[1])

    def freeze_unread(self) -> None:
        """Freeze the first tower's last layer and final norm: the token states are those of the layer before."""
        layers = next(part for part in self.first.modules() if isinstance(part, nn.ModuleList))
        layers[-1].requires_grad_(False)
        for name, part in self.first.named_modules():
            if name.endswith("final_layer_norm"):
                part.requires_grad_(False)

    def forward(self, ids: Tensor, mask: Tensor) -> TowerStates:
        """Read (B, L) int64 tokens; ``mask`` (B, L) bool is False at the padding."""
        first = self.first(input_ids=ids, output_hidden_states=True)
        second = self.second(input_ids=ids.masked_fill(~mask, self.config.second_pad), output_hidden_states=True)
        tokens = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        return TowerStates(tokens, second.text_embeds, second.text_embeds)


TextTower = (
    CLIPTextModelWithProjection
    | CLIPTextModel
    | DualTower
    | SiglipTextModel
    | Siglip2TextModel
    | Qwen2_5_VLTextModel
    | Qwen3VLTextModel
)
"""The classes that :func:`reader_of` knows."""


class TowerReader(Protocol):
    """A reader of the towers of one family.

    Attributes:
        masked: True if padding is hidden from the tower and from the readers of its states; False if padding is part of
            the sequence, as in the training of the tower and the image generator.
        causal: True if no token's state depends on later ones, hence none on the padding after a prompt.
        lora_targets: the layers that get an adapter unless a configuration says otherwise.
    """

    masked: bool
    causal: bool
    lora_targets: tuple[str, ...]

    def widths(self, tower: Any) -> tuple[int, int]:
        """Return (W, P) of :class:`TowerStates`."""

    def context(self, tower: Any) -> int:
        """Return the most tokens of a sequence."""

    def vocabulary(self, tower: Any) -> int:
        """Return the number of rows of the token embedding."""

    def end_token(self, tower: Any) -> int | None:
        """Return the id at which the embedding is read; None if it is read by position."""

    def read(self, tower: Any, ids: Tensor, mask: Tensor, skip_layers: int) -> TowerStates:
        """Return the states of (B, L) int64 tokens; ``mask`` (B, L) bool is False at the padding."""


class CLIPReader:
    """The reader of CLIP and OpenCLIP: no mask, as in Stable Diffusion; padding states attend to the prompt."""

    masked = False
    causal = True
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")

    def widths(self, tower: CLIPTextModel | CLIPTextModelWithProjection) -> tuple[int, int]:
        """Return (W, P); without a projection, the embedding is the state at the end token."""
        config = tower.config
        return config.hidden_size, _projected(tower)

    def context(self, tower: CLIPTextModel | CLIPTextModelWithProjection) -> int:
        """Return the config's value, 77 in every published tower."""
        return int(tower.config.max_position_embeddings)

    def vocabulary(self, tower: CLIPTextModel | CLIPTextModelWithProjection) -> int:
        """Return the config's value, 49408 in every published tower."""
        return int(tower.config.vocab_size)

    def end_token(self, tower: CLIPTextModel | CLIPTextModelWithProjection) -> int | None:
        """Return the config's value; for 2, in older configs, return the largest id, as transformers does."""
        end: Any = tower.config.eos_token_id
        return self.vocabulary(tower) - 1 if end == 2 else int(end)

    def read(
        self, tower: CLIPTextModel | CLIPTextModelWithProjection, ids: Tensor, mask: Tensor, skip_layers: int
    ) -> TowerStates:
        """Return the last states, normalised; skip ``skip_layers`` from the top, as Stable Diffusion 2 does."""
        said = tower(input_ids=ids, output_hidden_states=skip_layers > 0)
        tokens = said.last_hidden_state
        if skip_layers:
            base = tower.text_model if isinstance(tower, CLIPTextModelWithProjection) else tower
            tokens = base.final_layer_norm(said.hidden_states[-1 - skip_layers])
        return TowerStates(tokens, said.text_embeds if "text_embeds" in said else said.pooler_output)


class DualReader:
    """The reader of SDXL's pair of CLIP towers."""

    masked = False
    causal = True
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")

    def widths(self, tower: DualTower) -> tuple[int, int]:
        """Return the sum of both widths, and the width of the second tower's projection."""
        return sum(tower.config.widths), tower.config.projection

    def context(self, tower: DualTower) -> int:
        """Return the config's value, the same for both towers."""
        return int(tower.config.context)

    def vocabulary(self, tower: DualTower) -> int:
        """Return the config's value, the same for both towers."""
        return int(tower.config.vocabulary)

    def end_token(self, tower: DualTower) -> int | None:
        """Return the config's value, the same for both towers."""
        return int(tower.config.end_token)

    def read(self, tower: DualTower, ids: Tensor, mask: Tensor, skip_layers: int) -> TowerStates:
        """Read the states, see :class:`DualTower`, whose layers are fixed; ignore ``skip_layers``."""
        return tower(ids, mask)


class SiglipReader:
    """The reader of SigLIP and SigLIP 2 (arXiv 2502.14786): always padded; padding is read like any token."""

    masked = False
    causal = False
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")

    def widths(self, tower: SiglipTextModel | Siglip2TextModel) -> tuple[int, int]:
        """Return the widths of the states and of the head."""
        return tower.config.hidden_size, tower.config.projection_size or tower.config.hidden_size

    def context(self, tower: SiglipTextModel | Siglip2TextModel) -> int:
        """Return the config's value, 64 in every published tower."""
        return int(tower.config.max_position_embeddings)

    def vocabulary(self, tower: SiglipTextModel | Siglip2TextModel) -> int:
        """Return the config's value."""
        return int(tower.config.vocab_size)

    def end_token(self, tower: SiglipTextModel | Siglip2TextModel) -> int | None:
        """Return None: the embedding is read at the last position, whatever the token."""
        return None

    def read(
        self, tower: SiglipTextModel | Siglip2TextModel, ids: Tensor, mask: Tensor, skip_layers: int
    ) -> TowerStates:
        """Return the last states, normalised; skip ``skip_layers`` from the top."""
        said = tower(input_ids=ids, output_hidden_states=skip_layers > 0)
        tokens = said.last_hidden_state
        if skip_layers:
            tokens = tower.final_layer_norm(said.hidden_states[-1 - skip_layers])
        return TowerStates(tokens, said.pooler_output)


class QwenReader:
    """The reader of the language model of Qwen2.5-VL or Qwen3-VL: causal, without padding, read at its last token."""

    masked = True
    causal = True
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj")

    def widths(self, tower: Qwen2_5_VLTextModel | Qwen3VLTextModel) -> tuple[int, int]:
        """Return the width twice, because the embedding is a state."""
        return tower.config.hidden_size, tower.config.hidden_size

    def context(self, tower: Qwen2_5_VLTextModel | Qwen3VLTextModel) -> int:
        """Return the config's value, far more than a prompt has."""
        return int(tower.config.max_position_embeddings)

    def vocabulary(self, tower: Qwen2_5_VLTextModel | Qwen3VLTextModel) -> int:
        """Return the config's value."""
        return int(tower.config.vocab_size)

    def end_token(self, tower: Qwen2_5_VLTextModel | Qwen3VLTextModel) -> int | None:
        """Return None: the embedding is read at the last position, whatever the token."""
        return None

    def read(
        self, tower: Qwen2_5_VLTextModel | Qwen3VLTextModel, ids: Tensor, mask: Tensor, skip_layers: int
    ) -> TowerStates:
        """Return the last states, normalised; skip ``skip_layers`` from the top.

        Padding is on the right, so that the positions of the tokens do not depend on the batch.
        """
        wanted = skip_layers > 0
        said = tower(input_ids=ids, attention_mask=mask.long(), use_cache=False, output_hidden_states=wanted)
        last = mask.sum(dim=1) - 1
        pooled = said.last_hidden_state[torch.arange(len(ids), device=ids.device), last]
        tokens = tower.norm(said.hidden_states[-1 - skip_layers]) if wanted else said.last_hidden_state
        return TowerStates(tokens, pooled)


def reader_of(tower: nn.Module) -> TowerReader:
    """Return the reader of a tower.

    Raises:
        TypeError: for a class outside :data:`TextTower`.
    """
    families: tuple[tuple[Any, TowerReader], ...] = (
        (CLIPTextModelWithProjection | CLIPTextModel, CLIPReader()),
        (DualTower, DualReader()),
        (SiglipTextModel | Siglip2TextModel, SiglipReader()),
        (Qwen2_5_VLTextModel | Qwen3VLTextModel, QwenReader()),
    )
    for classes, reader in families:
        if isinstance(tower, classes):
            return reader
    names = ", ".join(cls.__name__ for cls in TextTower.__args__)
    raise TypeError(f"tower is a {type(tower).__name__}; allowed are {names}")


def _projected(tower: CLIPTextModel | CLIPTextModelWithProjection) -> int:
    config: Any = tower.config
    return int(config.projection_dim if isinstance(tower, CLIPTextModelWithProjection) else config.hidden_size)
