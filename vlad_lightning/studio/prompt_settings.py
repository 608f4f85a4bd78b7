"""The settings that all tabs share: the prompt, and how it is sampled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.limits import check_prompts, check_whole
from vlad_lightning.pipeline.notices import unlearned, unquoted
from vlad_lightning.studio.engine import LARGEST_SEED, Engine, new_seed

MOST_STEPS = 100
"""The most steps that the page offers; ``vlad-cli generate`` takes more."""

EXAMPLES = (
    "a blue sky with green ground, a red house and 'HOME'",
    "'HAPPY BDAY' and a pink cake, purple background",
    "shop sign 'OPEN' in white letters on a red background",
    "a yellow background, a green tree and the text 'PARK'",
    "'LIVE MUSIC' at the top, a black guitar, orange background",
    "a white star on a blue background and the word 'NIGHT'",
)
"""Prompts with words, colours and things that the shipped model knows."""

_LARGEST_SCALE = 15.0


@dataclass(frozen=True)
class Controls:
    """The components of the settings, in the order in which :class:`Asked` takes their values."""

    prompt: gr.Textbox
    negative: gr.Textbox
    steps: gr.Slider
    guidance_scale: gr.Slider
    layout_scale: gr.Slider

    @property
    def inputs(self) -> list[Any]:
        """The components, as inputs of an event."""
        return [self.prompt, self.negative, self.steps, self.guidance_scale, self.layout_scale]


@dataclass(frozen=True)
class Asked:
    """The values of the settings, checked.

    Attributes:
        prompt: the prompt.
        negative: what guidance leads away from; None if nothing is given.
        sampler: how images are sampled.
    """

    prompt: str
    negative: str | None
    sampler: ImageSampler

    @classmethod
    def read(cls, engine: Engine, values: tuple[Any, ...]) -> Asked:
        """Check the values of :attr:`Controls.inputs`.

        Raises:
            ValueError: naming the setting.
        """
        prompt, negative, steps, guidance_scale, layout_scale = values
        check_prompts([prompt, negative or ""])
        if not prompt.strip():
            raise ValueError("the prompt is empty; it must say what to draw, such as: a sign that says 'HELLO'")
        sampler = engine.sampler(int(steps), float(guidance_scale), float(layout_scale))
        return cls(prompt.strip(), (negative or "").strip() or None, sampler)

    def notice(self, engine: Engine) -> str:
        """Return what the user may have overlooked; empty if nothing."""
        told = unquoted(self.prompt), unlearned(engine.pipe, [self.prompt])
        return " ".join(f"{notice[0].upper()}{notice[1:]}." for notice in told if notice)


def build_settings(engine: Engine) -> Controls:
    """Build the components of the settings, with the pipeline's own as defaults."""
    own = engine.pipe.sampler
    prompt = gr.Textbox(
        EXAMPLES[0], label="Prompt", info="Words to draw are in quotes", lines=3, max_lines=6, elem_id="prompt"
    )
    rows = [[example] for example in EXAMPLES]
    gr.Examples(rows, [prompt], label="Examples", examples_per_page=len(rows), elem_id="examples")
    with gr.Accordion("Settings", open=False):
        steps = gr.Slider(1, max(MOST_STEPS, own.steps), own.steps, step=1, label="Steps", elem_id="steps")
        guidance_scale = gr.Slider(
            0, _LARGEST_SCALE, own.guidance_scale, step=0.1, label="Guidance scale of the text", elem_id="text_scale"
        )
        layout_scale = gr.Slider(
            0,
            _LARGEST_SCALE,
            own.layout_scale,
            step=0.1,
            label="Guidance scale of the layout",
            interactive=engine.follows_layouts,
            elem_id="layout_scale",
        )
        negative = gr.Textbox(label="Negative prompt", info="What guidance leads away from", elem_id="negative")
    return Controls(prompt, negative, steps, guidance_scale, layout_scale)


def build_seed(name: str, random: bool) -> tuple[gr.Number, gr.Checkbox]:
    """Build the components of a seed, for a row.

    Args:
        name: beginning of the components' ids.
        random: whether a new seed is drawn for each image, unless the user says otherwise.
    """
    seed = gr.Number(
        0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED, min_width=120, scale=2, elem_id=f"{name}_seed"
    )
    again = gr.Checkbox(random, label="New seed each time", min_width=150, scale=1, elem_id=f"{name}_random")
    return seed, again


def chosen_seed(seed: float | None, random: bool) -> int:
    """Return a new seed, or the given one.

    Raises:
        ValueError: if it is no whole number in its range.
    """
    if random:
        return new_seed()
    number = -1 if seed is None or seed != int(seed) else int(seed)
    check_whole("seed", number if number >= 0 else seed, 0, LARGEST_SEED)
    return number
