"""Draws docs/images/student.jpg: ``python docs/student.py [STUDENT]``; the shipped prompts, by teacher and student."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from matplotlib.figure import Figure

from vlad_lightning.diffusion.generators import sampling_generators
from vlad_lightning.files import find_config
from vlad_lightning.pipeline import VLADPipeline

COLUMNS, LETTERS = 8, 20
STEPS = {"vlad-mini": (20, 6, 2), "student": (4, 2, 1)}


def main() -> None:
    """Draw the picture: a row for each system and number of steps."""
    prompts = Path(find_config("demo_prompts.txt")).read_text(encoding="utf-8").splitlines()[:COLUMNS]
    folders = {"vlad-mini": "vlad-mini", "student": sys.argv[1] if len(sys.argv) > 1 else "vlad-mini-student"}
    figure = Figure(figsize=(11, 8.8), dpi=100, layout="constrained")
    axes = figure.subplots(sum(map(len, STEPS.values())), COLUMNS)
    row = 0
    for name, folder in folders.items():
        pipe = VLADPipeline.from_pretrained(folder)
        pipe.set_progress_bar_config(disable=True)
        for steps in STEPS[name]:
            generators = sampling_generators(0, [(prompt,) for prompt in prompts])
            images = pipe(prompts, num_inference_steps=steps, generator=generators).images
            for axis, image in zip(axes[row], images, strict=True):
                axis.imshow(image, interpolation="nearest")
                axis.set(xticks=[], yticks=[])
            axes[row, 0].set_ylabel(f"{name}, {steps} step{'s' * (steps > 1)}", fontsize=8)
            row += 1
    for axis, prompt in zip(axes[-1], prompts, strict=True):
        axis.set_xlabel(textwrap.fill(prompt, LETTERS), fontsize=7, parse_math=False)
    figure.savefig(Path(__file__).parent / "images" / "student.jpg", pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
