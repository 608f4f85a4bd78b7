"""The output of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import to_pil_image

from vlad_lightning.layout.pictures import to_bytes
from vlad_lightning.types import Layout


@dataclass
class VLADOutput(BaseOutput):
    """The output of a call of the pipeline.

    Attributes:
        images: PIL images, or a tensor (B, 3, H, W) float32 in [-1, 1] for ``output_type="pt"``.
        layouts: the layout of each image.
    """

    images: list[Image.Image] | Tensor
    layouts: list[Layout]


def check_output_type(output_type: str) -> None:
    """Refuse an output type other than ``pil`` and ``pt``.

    Raises:
        ValueError: naming the value.
    """
    if output_type not in ("pil", "pt"):
        raise ValueError(f"output_type is {output_type!r}; allowed are 'pil' and 'pt'")


def output(images: Tensor, layouts: Sequence[Layout], output_type: str) -> VLADOutput:
    """Return the output for B images, (B, 3, H, W) float in [-1, 1], in the requested type."""
    pictures = images if output_type == "pt" else [to_pil_image(image) for image in to_bytes(images)]
    return VLADOutput(images=pictures, layouts=list(layouts))
