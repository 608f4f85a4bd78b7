"""Cached latents: what frozen networks compute of a sample, by which networks, and whether they are a module's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.layout.glyphs import glyph_images, near_letters
from vlad_lightning.models.image_encoder import ImageEncoder
from vlad_lightning.types import COSTLY_FIELDS, FRAMES, LATENTS, Latents

_INCIDENTAL = ("architectures", "dtype", "torch_dtype", "transformers_version")  # of a configuration
_READING = ("fit", "validate")  # a test compares with the true pictures


@dataclass(frozen=True)
class LatentEncoder:
    """The frozen networks of stage 2 whose outputs can be cached.

    Attributes:
        image_generator: its autoencoder encodes images and glyph maps.
        image_encoder: computes the embeddings; None leaves them out.
        autocast: the format of numbers of a training in mixed precision, which is then used here as well.
    """

    image_generator: ImageGenerator
    image_encoder: ImageEncoder | None
    autocast: torch.dtype | None = None

    @property
    def key(self) -> dict[str, Any]:
        """The networks' classes, settings and weights, and which maps are encoded; it reads all of their weights."""
        found: dict[str, Any] = {"autoencoder": fingerprint(self.image_generator.autoencoder)}
        if self.image_generator.hierarchical:
            found["glyphs"] = "encoded"
        if self.image_encoder is not None:
            found["image_encoder"] = fingerprint(self.image_encoder)
        return found

    @torch.inference_mode()
    def __call__(self, images: Tensor, glyphs: Tensor) -> list[Latents]:
        """Compute the latents of B samples, on the networks' device.

        Args:
            images: (B, 3, H, W) float in [-1, 1].
            glyphs: (B, 1, H, W) uint8, drawn layouts.
        """
        drawn = glyph_images(glyphs)
        empty = self.no_glyphs(images)
        with self._precision(images):
            encoded = self.image_generator.autoencoder.encode_images(images)
            maps = None if empty is None else self.image_generator.autoencoder.encode_images(drawn)
            embedded = None if self.image_encoder is None else self.image_encoder(images)
        letters = near_letters(drawn, encoded.shape[-2:])
        return [
            Latents(
                encoded[row],
                None if maps is None else maps[row],
                empty,
                letters[row],
                None if embedded is None else embedded[row],
            )
            for row in range(len(images))
        ]

    @torch.inference_mode()
    def no_glyphs(self, like: Tensor) -> Tensor | None:
        """Return the latent of a glyph map without words, (C_z, h, w), of images (B, 3, H, W) as ``like``."""
        if not self.image_generator.hierarchical:
            return None
        with self._precision(like):
            return self.image_generator.autoencoder.encode_images(torch.full_like(like[:1], -1))[0]

    def _precision(self, images: Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, self.autocast, enabled=self.autocast is not None)


def fingerprint(network: nn.Module) -> dict[str, Any]:
    """Return a network's class, settings and the SHA-256 of its weights."""
    core = network.tower if isinstance(network, ImageEncoder) else network
    config: Any = core.config
    settings = dict(config.to_dict() if hasattr(config, "to_dict") else config)
    kept = {name: value for name, value in settings.items() if not name.startswith("_") and name not in _INCIDENTAL}
    return {"class": type(core).__name__, "settings": _plain(kept), "weights": weights_digest(network)}


def weights_digest(network: nn.Module) -> str:
    """Return the SHA-256 of a network's weights, with their names, shapes and dtypes."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fields_read(module: LightningModule, stage: str) -> tuple[str, ...]:
    """Return what stage 2 reads: images, of any frame, and glyph maps, or where there are any, their latents."""
    return (LATENTS,) if reads_latents(module, stage) else (*COSTLY_FIELDS, FRAMES)


def reads_latents(module: LightningModule, stage: str | None) -> bool:
    """Return whether a module's data are cached latents in this stage of its trainer."""
    data = getattr(module.trainer, "datamodule", None)
    return stage in _READING and isinstance(data, MarioDataModule) and data.latents


def check_latents(module: LightningModule, encoder: LatentEncoder) -> None:
    """Refuse cached latents that are not those of a module's own networks, once their weights are loaded.

    Raises:
        ValueError: naming what differs.
    """
    data = getattr(module.trainer, "datamodule", None)
    if reads_latents(module, module.trainer.state.fn) and isinstance(data, MarioDataModule):
        data.source.check_latents({"data": data.drawing, **encoder.key})


def _plain(value: Any) -> Any:
    """Return a value as it is read back from JSON."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
