"""The output of the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from vlad_lightning.types import Layout

OutputType = Literal["pil", "np", "pt", "latent"]

_PROCESSOR = VaeImageProcessor()


@dataclass
class VLADOutput(BaseOutput):
    """The output of a call of the pipeline.

    Attributes:
        images: by ``output_type``: B PIL images (``pil``); an array (B, H, W, 3) (``np``) or a tensor (B, 3, H, W)
            (``pt``), both float32 in [0, 1]; or the latents, (B, C_z, h, w) float32 (``latent``).
        layouts: the layout of each image.
    """

    images: list[Image.Image] | np.ndarray[Any, Any] | Tensor
    layouts: list[Layout]


def check_output_type(output_type: str, allowed: Sequence[str] = get_args(OutputType)) -> None:
    """Refuse an unknown output type.

    Raises:
        ValueError: naming the value.
    """
    if output_type not in allowed:
        raise ValueError(f"output_type is {output_type!r}; allowed are {', '.join(map(repr, allowed))}")


def output(images: Tensor, layouts: Sequence[Layout], output_type: str, return_dict: bool = True) -> VLADOutput:
    """Return the output in the requested type.

    Args:
        images: (B, 3, H, W) float in [-1, 1], or latents.
        layouts: B layouts.
        output_type: see :class:`VLADOutput`.
        return_dict: False returns the tuple of its attributes, which has no type of its own here.
    """
    made = VLADOutput(images=_PROCESSOR.postprocess(images, output_type), layouts=list(layouts))
    return made if return_dict else cast(VLADOutput, made.to_tuple())
