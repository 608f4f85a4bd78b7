"""Lists of prompts for ``vlad-cli generate --prompts``, and their sheet: an image for each with the prompt beneath."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.files import read_prompt_lines, told_at
from vlad_lightning.limits import MOST_IMAGES, check_prompts, check_whole

if TYPE_CHECKING:
    from PIL import Image

    from vlad_lightning.generation.image_sampler import ImageSampler
    from vlad_lightning.pipeline import VLADPipeline

_BATCH = 16
_COLUMNS = 4


def read_prompts(path: Path) -> list[str]:
    """Read a text file in UTF-8 with one prompt a line; blank lines are skipped.

    Args:
        path: the file, or the name of a shipped one, such as ``demo_prompts.txt``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not in UTF-8, or has no prompt, too many, or too long ones.
    """
    with told_at(f"--prompts {path}"):
        prompts = read_prompt_lines(path)
        check_whole("the number of prompts", len(prompts), 1, MOST_IMAGES)
        check_prompts(prompts)
    return prompts


def draw_sheet(
    pipe: VLADPipeline, prompts: Sequence[str], sampler: ImageSampler, seed: int, negative_prompt: str | None = None
) -> Image.Image:
    """Generate an image for each prompt, the same as for that prompt alone with this seed, and set them in a grid."""
    import torch
    from PIL import Image

    from vlad_lightning.callbacks.grid import sample_grid
    from vlad_lightning.diffusion.generators import numbered, sampling_generators

    generators = sampling_generators(seed, numbered(prompts))
    images = []
    for start in range(0, len(prompts), _BATCH):
        part = slice(start, start + _BATCH)
        drawn = pipe(
            prompts[part],
            sampler=sampler,
            generator=generators[part],
            output_type="pt",
            negative_prompt=negative_prompt,
        )
        images.append(torch.as_tensor(drawn.images) * 2 - 1)
    page = io.BytesIO()
    sample_grid(torch.cat(images), prompts, _COLUMNS).savefig(page, format="png")
    return Image.open(page).convert("RGB")
