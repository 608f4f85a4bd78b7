"""Interfaces of the networks that compute embeddings for the CLIP score and the distances."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class ImageEmbedder(Protocol):
    """A network that embeds images.

    Attributes:
        name: part of the name or the details of every result.
        sha256: hash of the weights, in the details of every result.
    """

    name: str
    sha256: str

    def embed_images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, D) float."""
        ...


@runtime_checkable
class Embedder(ImageEmbedder, Protocol):
    """A network that embeds images and texts in the same space."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed B texts as (B, D) float; a text that is too long is truncated."""
        ...


Network = TypeVar("Network", bound=ImageEmbedder)


class Held(Generic[Network]):
    """Holder of an evaluation network that is no sub-module of the metric that uses it.

    A metric is part of a LightningModule, so its sub-modules would be saved in every checkpoint and trained. Neither
    must happen to the frozen evaluation network; it is only moved to the images' device. It runs in float32 with
    autocast off, whatever the precision of the evaluated system.

    Args:
        network: the evaluation network; set to evaluation mode, without gradients.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        if isinstance(network, nn.Module):
            network.requires_grad_(False).eval()

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float images in [-1, 1] as (B, D) float, on the images' device.

        Raises:
            ValueError: if the network returns another shape.
        """
        if isinstance(self.network, nn.Module):
            self.network.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            features = self.network.embed_images(images.float())
        if features.ndim != 2 or len(features) != len(images):
            raise ValueError(
                f"{self.network.name} gives shape {tuple(features.shape)} for {len(images)} images; (B, D) is needed"
            )
        return features.to(images.device).float()

    @torch.no_grad()
    def texts(self: Held[Embedder], texts: Sequence[str], device: torch.device) -> Tensor:
        """Embed B texts as (B, D) float on ``device``, to which the network is moved."""
        if isinstance(self.network, nn.Module):
            self.network.to(device)
        with torch.autocast(device.type, enabled=False):
            return self.network.embed_texts(texts).to(device).float()
