"""CLIP score (Hessel et al. 2021): how well an image matches its prompt according to an image-text encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPModel, CLIPProcessor

from vlad_lightning.files import check_stored, naming
from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.metrics.embedder import Embedder, Held
from vlad_lightning.metrics.per_image import PromptMetric, Share
from vlad_lightning.types import MetricResult

SCALINGS = {"clip_score_w1": 1.0, "clip_score_w2_5": 2.5}
"""The weights w of MARIO-Eval and of Hessel et al., by the names of the results."""


def clip_score(image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
    """Return max(cos, 0) of each image with its text, the score with weight 1.

    Args:
        image_embeds: (B, D) float, of any norm.
        text_embeds: (B, D) float, of any norm.

    Returns:
        (B,) float in [0, 1].
    """
    return F.cosine_similarity(image_embeds, text_embeds, dim=-1).clamp(0, 1)


class TransformersCLIP(nn.Module):
    """Any CLIP of ``transformers``; only safetensors are read.

    Args:
        model: a local folder, or a hub id such as ``openai/clip-vit-base-patch32``, MARIO-Eval's choice.
        revision: commit on the hub; required for a hub id, so that results are reproducible.

    Raises:
        ValueError: if a hub id has no revision, or a file is truncated or does not fit the others.
        OSError: if there are no safetensors weights.
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        super().__init__()
        local = Path(model).is_dir()
        if not local and revision is None:
            raise ValueError(f"revision is None; {model!r} is no local folder, and a hub id needs a commit")
        commit = revision or "main"  # ignored for a local folder
        if local:
            check_stored(Path(model))
        with naming(model):
            self.clip = CLIPModel.from_pretrained(model, revision=commit, use_safetensors=True, dtype=torch.float32)
            self.processor = CLIPProcessor.from_pretrained(model, revision=commit)
        self.name = f"clip {Path(model).name}" if local else f"clip {model}@{revision}"
        self.sha256 = weights_sha256(self.clip)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, D) float; the model's processor resizes and crops them."""
        pixels = to_bytes(images)
        inputs = self.processor.image_processor(images=list(pixels), return_tensors="pt")
        return self.clip.get_image_features(inputs["pixel_values"].to(self.clip.device)).pooler_output

    @torch.no_grad()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed B texts as (B, D) float; each is truncated to the model's length, 77 tokens for OpenAI's."""
        length = self.clip.text_model.config.max_position_embeddings
        tokenizer = self.processor.tokenizer
        inputs = tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
        return self.clip.get_text_features(**inputs.to(self.clip.device)).pooler_output


def weights_sha256(network: nn.Module) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and values of a network's weights, sorted by name.

    Of an entry that is no tensor, such as a tokenizer's JSON, it takes the name and the text.
    """
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        if not isinstance(value, Tensor):
            digest.update(f"{name} {value}\n".encode())
            continue
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class CLIPScore(PromptMetric):
    """``clip_score_w1`` and ``clip_score_w2_5``: the mean over pictures of w max(cos, 0).

    Args:
        embedder: computes the embeddings; its name and hash are in the results' details.
        prefix: put before every prompt, as Hessel et al. and MARIO-Eval do.
        seed: seed of the bootstrap.
    """

    columns = ("score",)

    def __init__(self, embedder: Embedder, prefix: str = "A photo depicts ", seed: int = 0) -> None:
        super().__init__(seed)
        self.prefix = prefix
        self._encoder = Held(embedder)

    def compare(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the scores, (B, 1)."""
        embeds = self._encoder.images(images)
        texts = self._encoder.texts([self.prefix + prompt for prompt in prompts], embeds.device)
        return clip_score(embeds, texts)[:, None]

    def shares(self, table: Mapping[str, NDArray[np.float64]]) -> dict[str, Share]:
        """Return the shares of both scalings by name."""
        scores = table["score"]
        return {name: Share(weight * scores, np.ones_like(scores), most=weight) for name, weight in SCALINGS.items()}

    def compute(self) -> dict[str, MetricResult]:
        """Return the results of both scalings by name, with the network in their details."""
        encoder = self._encoder.network
        details = {"network": encoder.name, "sha256": encoder.sha256, "prefix": self.prefix}
        return {
            name: replace(result, details=details | {"weight": SCALINGS[name]})
            for name, result in super().compute().items()
        }
