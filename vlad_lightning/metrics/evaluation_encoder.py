"""A stage-0 run as an evaluation encoder for the CLIP score, the distances and the alignment probe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vlad_lightning.metrics.evaluation_weights import ENCODER, read_weights
from vlad_lightning.models.contrastive import agreement
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.models.lora import load_plain
from vlad_lightning.models.text.prompt_encoder import PromptEncoder


class EvaluationEncoder(nn.Module):
    """The frozen encoder of a stage-0 run; use a run with another seed than the one the system was trained on.

    Args:
        checkpoint: the ``.ckpt`` of an :class:`~vlad_lightning.modules.AlignmentModule`, a file or a folder; or a
            folder that ``vlad-cli export --evaluation`` wrote, or the shipped ``vlad-mini-evaluation``.
        prompt_encoder: a prompt encoder with the checkpoint's architecture; its weights are replaced.
        image_encoder: an image encoder with the checkpoint's architecture; its weights are replaced.

    Raises:
        FileNotFoundError: where there is no such checkpoint.
        ValueError: where it does not fit or is damaged.
    """

    def __init__(self, checkpoint: str, prompt_encoder: PromptEncoder, image_encoder: ImageEncoder) -> None:
        super().__init__()
        weights = read_weights(checkpoint, ENCODER)
        for name, part in (("prompt_encoder", prompt_encoder), ("image_encoder", image_encoder)):
            try:
                load_plain(part, weights.states[name])
            except RuntimeError as error:
                raise ValueError(f"{weights.path} does not fit the {name} of this configuration: {error}") from error
        self.local = weights.local
        self.sha256 = weights.sha256
        self.name = f"stage0-{self.sha256[:8]}"
        self.prompt_encoder, self.image_encoder = prompt_encoder, image_encoder
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, D) float."""
        return self.image_encoder(images).float()

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed B texts as (B, D) float."""
        return self.prompt_encoder(texts).pooled.float()

    @torch.no_grad()
    def score(self, images: Tensor, texts: Sequence[str], of: Sequence[int] | None = None) -> Tensor:
        """Score how well texts match images, with patches if the run trained them.

        The score is that of :func:`~vlad_lightning.models.contrastive.agreement`.

        Args:
            images: (B, 3, H, W) float in [-1, 1]; the evaluation encoder is moved to their device and runs in float32.
            texts: T texts.
            of: which image each text is about; None means one text per image, in the same order.

        Returns:
            (T,) float32.
        """
        self.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            return agreement(self.prompt_encoder, self.image_encoder, images.float(), texts, of, self.local)
