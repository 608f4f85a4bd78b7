"""Networks that judge: what the CLIP score and the distances ask of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class ImageEmbedder(Protocol):
    """Turns images into vectors.

    Attributes:
        name: stands in the name or the details of every result.
        sha256: of its weights; stands in the details.
    """

    name: str
    sha256: str

    def embed_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] -> (B, D) float."""
        ...


@runtime_checkable
class Embedder(ImageEmbedder, Protocol):
    """Turns images and texts into vectors of one space."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """B texts -> (B, D) float; a text that is too long is cut."""
        ...


Network = TypeVar("Network", bound=ImageEmbedder)


class Held(Generic[Network]):
    """Keeps a network out of the metric that uses it.

    A metric is part of a LightningModule: its sub-modules would be saved in every checkpoint, and trained with it. A
    evaluation encoder's weights are frozen and belong in neither; so it is only moved along to where the images are. It
    judges in float32, whatever the precision of the system that it judges: autocast is off within.

    Args:
        network: the evaluation encoder; put into evaluation mode, without gradients.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        if isinstance(network, nn.Module):
            network.requires_grad_(False).eval()

    @torch.no_grad()
    def images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) float in [-1, 1] -> (B, D) float, on the images' device.

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
        """B texts -> (B, D) float on ``device``, where the network is moved."""
        if isinstance(self.network, nn.Module):
            self.network.to(device)
        with torch.autocast(device.type, enabled=False):
            return self.network.embed_texts(texts).to(device).float()
