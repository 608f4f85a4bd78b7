"""Pictures: from files of any kind into tensors, to a network's size, back into the original, and into bytes."""

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
    """Tells where text stands; the engines of ``vlad_lightning.metrics.ocr_engine`` do."""

    def locate(self, images: Tensor) -> list[Layout]:
        """The lines of text on each picture with their boxes, in reading order.

        Args:
            images: (B, 3, H, W) float in [-1, 1], RGB.
        """
        ...


def from_pil(image: Image.Image, size: tuple[int, int] | None = None) -> Tensor:
    """A picture as networks read it; the one way from Pillow to a tensor.

    Args:
        image: of any mode; it is turned upright as its EXIF block says, 16 bits a pixel become the nearest 8, and what
            is transparent becomes white.
        size: height and width to stretch it to, bicubic and antialiased; None leaves it as large as it is.

    Returns:
        (3, H, W) float32 in [-1, 1].
    """
    image = as_rgb(image)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)


def to_bytes(images: Tensor) -> Tensor:
    """(..., H, W) float in [-1, 1] -> the nearest uint8; what is beyond becomes 0 or 255."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def read_template(template: Image.Image | Tensor, engine: TextLocator, argument: str = "template") -> Layout:
    """The layout of a picture of text: a box a line that the engine reads.

    Args:
        template: see :func:`picture_tensor`.
        engine: reads it.
        argument: the name that an error gives it.

    Raises:
        ValueError: where no text is read, or as :func:`picture_tensor` does.
    """
    layout = engine.locate(picture_tensor(template, argument))[0]
    if not len(layout):
        raise ValueError(f"no text is read on {argument}; give a clearer picture, or a layout")
    return layout


def picture_tensor(image: Image.Image | Tensor, argument: str = "image") -> Tensor:
    """One picture.

    Args:
        image: a PIL image of any mode, or (3, H, W) or (1, 3, H, W) float in [-1, 1].
        argument: the name that an error gives it.

    Returns:
        (1, 3, H, W) float32 in [-1, 1], on the CPU; what is transparent is white.

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
    """The region that is generated.

    Args:
        mask: a PIL image, white where the picture is generated and black where it is kept; or (H, W), (1, H, W) or
            (1, 1, H, W), bool or float in [0, 1], likewise. From half on, a pixel is generated.
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


def resized(region: MaskedImages, side: int) -> MaskedImages:
    """A region stretched to ``side`` x ``side``; a pixel of which any part is generated is generated."""
    if region.images.shape[-2:] == (side, side):
        return region
    return MaskedImages(stretched(region.images, (side, side)), resized_masks(region.masks, side))


def resized_masks(masks: Tensor, side: int) -> Tensor:
    """(B, 1, H, W) bool at ``side`` x ``side``: True where any part of the pixel is."""
    return F.adaptive_max_pool2d(masks.float(), side) > 0


def stretched(images: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) in [-1, 1] at another size, bicubic and antialiased."""
    if images.shape[-2:] == size:
        return images
    return resize(images, list(size), interpolation=InterpolationMode.BICUBIC, antialias=True).clamp(-1, 1)


def bounding_quad(mask: Tensor) -> Tensor:
    """(4, 2) float64: the corners of the upright box around a mask (..., H, W) bool, in fractions of the frame."""
    height, width = mask.shape[-2:]
    rows, columns = torch.nonzero(mask.reshape(-1, height, width).any(dim=0), as_tuple=True)
    left, right = int(columns.min()) / width, (int(columns.max()) + 1) / width
    top, bottom = int(rows.min()) / height, (int(rows.max()) + 1) / height
    return torch.tensor([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=torch.float64)
