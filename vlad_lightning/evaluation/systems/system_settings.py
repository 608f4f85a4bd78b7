"""How a system to evaluate is opened and samples."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from vlad_lightning.limits import MOST_STEPS, check_whole

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
"""The formats of weights by name."""


@dataclass(frozen=True)
class SystemSettings:
    """How a system is opened and samples; None leaves a setting to the system.

    Attributes:
        steps: sampling steps.
        guidance_scale: guidance scale of the text.
        layout_scale: guidance scale of the layout; only for systems of this project.
        device: where it runs; None is a GPU if there is one.
        dtype: the format of its weights, one of :data:`DTYPES`.
        controlnet: folder of a ControlNet for Canny edges that steers the model, a Stable Diffusion; None is none.
        layouts: a system of this project whose stage 1 places the words for the ControlNet.

    Raises:
        ValueError: naming the setting.
    """

    steps: int | None = None
    guidance_scale: float | None = None
    layout_scale: float | None = None
    device: str | None = None
    dtype: str = "float32"
    controlnet: str | None = None
    layouts: str | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_whole("--steps", self.steps, 1, MOST_STEPS)
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype is {self.dtype!r}; allowed are {', '.join(DTYPES)}")
        if (self.controlnet is None) != (self.layouts is None):
            raise ValueError(
                f"--controlnet is {self.controlnet} and --layouts {self.layouts}; both are needed, or neither: edges "
                "are those of words that stage 1 of a system of this project has placed"
            )
