"""Pictures and masks: converted to tensors, resized, and converted to bytes."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from vlad_lightning.files import as_grey, as_rgb
from vlad_lightning.types import Layout, MaskedImages


@runtime_checkable
class TextLocator(Protocol):
    """An engine that locates text, such as those of ``vlad_lightning.metrics.ocr_engine``."""

    def locate(self, images: Tensor) -> list[Layout]:
        """Find the lines of text on each picture with their boxes, in reading order.

        Args:
            images: (B, 3, H, W) float in [-1, 1], RGB.
        """
        ...


def from_pil(image: Image.Image, size: tuple[int, int] | None = None) -> Tensor:
    """Convert a PIL image to an input of networks; the only conversion from Pillow to a tensor.

    Args:
        image: an image of any mode; it is turned upright as its EXIF block says, 16 bits per pixel become the nearest
            8, and transparent pixels become white.
        size: height and width to stretch it to, bicubic and antialiased; None keeps its size.

    Returns:
        (3, H, W) float32 in [-1, 1].
    """
    image = as_rgb(image)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return from_bytes(torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous())


def from_bytes(images: Tensor) -> Tensor:
    """Convert (..., H, W) uint8 to float32 in [-1, 1]; :func:`to_bytes` of the result is exact."""
    return images.float().div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """Convert (..., H, W) float in [-1, 1] to the nearest uint8; values out of range become 0 or 255."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def read_template(template: Image.Image | Tensor, engine: TextLocator, argument: str = "template") -> Layout:
    """Read the layout of a picture of text: one box per line that the engine reads.

    Args:
        template: see :func:`picture_tensor`.
        engine: reads the text.
        argument: the name of ``template`` in error messages.

    Raises:
        ValueError: if no text is read, or see :func:`picture_tensor`.
    """
    layout = engine.locate(picture_tensor(template, argument))[0]
    if not len(layout):
        raise ValueError(f"no text is read on {argument}; give a clearer picture, or a layout")
    return layout


def picture_tensor(image: Image.Image | Tensor, argument: str = "image") -> Tensor:
    """Convert one picture to a batch of one.

    Args:
        image: a PIL image of any mode, or (3, H, W) or (1, 3, H, W) float in [-1, 1].
        argument: the name of ``image`` in error messages.

    Returns:
        (1, 3, H, W) float32 in [-1, 1], on the CPU; transparent pixels are white.

    Raises:
        ValueError: for a tensor of another shape or range.
    """
    if isinstance(image, Image.Image):
        return from_pil(image)[None]
    picture = image.detach().to("cpu", torch.float32)
    picture = picture[None] if picture.ndim == 3 else picture
    if picture.ndim != 4 or picture.shape[:2] != (1, 3):
        raise ValueError(f"{argument} has shape {tuple(image.shape)}; (3, H, W) or (1, 3, H, W) is needed")
    if not picture.abs().max() <= 1:
        raise ValueError(f"{argument} has values up to {picture.abs().max():.4g}; they must lie in [-1, 1]")
    return picture


def mask_tensor(mask: Image.Image | Tensor, size: tuple[int, int]) -> Tensor:
    """Convert a mask to the region that is generated.

    Args:
        mask: a PIL image, white where the picture is generated and black where it is kept; or (H, W), (1, H, W) or
            (1, 1, H, W), bool or float in [0, 1], likewise. Pixels of at least 0.5 are generated.
        size: height and width of the picture.

    Returns:
        (1, 1, H, W) bool on the CPU.

    Raises:
        ValueError: for a mask of another size, or one that is empty.
    """
    if isinstance(mask, Image.Image):
        values = torch.from_numpy(np.array(as_grey(mask))).float() / 255
    else:
        values = mask.detach().to("cpu", torch.float32)
    if tuple(values.shape[-2:]) != size or values.numel() != size[0] * size[1]:
        raise ValueError(f"mask has shape {tuple(values.shape)}; one picture of {size[0]} x {size[1]} pixels is masked")
    generated = values.view(1, 1, *size) >= 0.5
    if not generated.any():
        raise ValueError("mask is empty: it has no pixel to generate; white is generated, black is kept")
    return generated


def resized(region: MaskedImages, size: tuple[int, int]) -> MaskedImages:
    """Stretch a region to a height and width; a pixel of which any part is generated is generated."""
    if region.images.shape[-2:] == size:
        return region
    return MaskedImages(stretched(region.images, size), resized_masks(region.masks, size))


def resized_masks(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize masks (B, 1, H, W) bool to a height and width: True where any part of the pixel is True."""
    return F.adaptive_max_pool2d(masks.float(), size) > 0


def stretched(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, 3, H, W) in [-1, 1], bicubic and antialiased."""
    if images.shape[-2:] == size:
        return images
    return resize(images, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(-1, 1)


def bounding_quad(mask: Tensor) -> Tensor:
    """Return corners (4, 2) float64 of the upright box around a mask (..., H, W) bool, in fractions of the frame."""
    height, width = mask.shape[-2:]
    rows, columns = torch.nonzero(mask.reshape(-1, height, width).any(dim=0), as_tuple=True)
    left, right = int(columns.min()) / width, (int(columns.max()) + 1) / width
    top, bottom = int(rows.min()) / height, (int(rows.max()) + 1) / height
    return torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=torch.float64)
