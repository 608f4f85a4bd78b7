"""P(Z_T | T) of Eq. 1: prompts in, layouts out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from vlad_lightning.diffusion.draws import RowDraws
from vlad_lightning.diffusion.noising import Noised
from vlad_lightning.diffusion.objective import Schedule, objective_for
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.models.prompt_encoder import PromptEncoder
from vlad_lightning.models.prompts import drawn_words
from vlad_lightning.models.tlg import TLG, decode_boxes, encode_boxes
from vlad_lightning.types import Conditioning, Layout


class LayoutGenerator(nn.Module):
    """The TLG with all it needs to turn prompts into layouts.

    It has a prompt encoder of its own: Eq. 1 factorises, so stage 2 may go on training its encoder without moving the
    ground under the layouts.

    Args:
        prompt_encoder: the encoder the TLG was trained with.
        tlg: denoises layout tokens.
        schedule: the forward process of the layout tokens; its class decides between DDPM and flow matching.

    Raises:
        ValueError: where the widths or the numbers of words differ.
    """

    def __init__(self, prompt_encoder: PromptEncoder, tlg: TLG, schedule: Schedule) -> None:
        super().__init__()
        if tlg.config.text_width != prompt_encoder.width:
            raise ValueError(
                f"tlg.text_width is {tlg.config.text_width}; the encoder's width is {prompt_encoder.width}"
            )
        if tlg.config.max_words != prompt_encoder.max_words:
            raise ValueError(
                f"tlg.max_words is {tlg.config.max_words}; the text encoder's is {prompt_encoder.max_words}"
            )
        self.prompt_encoder = prompt_encoder
        self.tlg = tlg
        self.schedule = schedule

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts with more words than a layout holds.

        Raises:
            ValueError: naming the prompt.
        """
        for prompt in prompts:
            words = drawn_words(prompt)
            if len(words) > self.prompt_encoder.max_words:
                raise ValueError(
                    f"prompt {prompt!r} asks for {len(words)} words; the layout holds at most "
                    f"{self.prompt_encoder.max_words}"
                )

    def noised(self, boxes: Tensor, draws: RowDraws) -> tuple[Tensor, Noised]:
        """Timesteps (B,) and a draw of the forward process for (B, N, 5) boxes."""
        objective = objective_for(self.schedule)
        steps = objective.draw_timesteps(draws)
        noise = draws.normal(*boxes.shape[1:])
        return steps, objective.noised(encode_boxes(boxes), noise, steps)

    def sample(self, prompts: Sequence[str], sampler: Sampler, generator: torch.Generator) -> tuple[Layout, ...]:
        """Draw a layout for each prompt; one without words to draw gets an empty layout.

        Words beyond the ``max_words`` that a layout holds are left out, as in training: real captions have such.
        Where a person wrote the prompts, :meth:`check` them first.
        """
        conditioning: Conditioning = self.prompt_encoder(prompts)
        told = conditioning.pooled
        shape = (len(prompts), self.prompt_encoder.max_words, 5)
        noise = randn_tensor(shape, generator=generator, device=told.device)
        tokens = sampler.draw(lambda x, t: self.tlg(x.to(told), t, conditioning), noise, self.schedule, generator)
        boxes = decode_boxes(tokens).float().cpu()
        words = [drawn_words(p)[: self.prompt_encoder.max_words] for p in prompts]
        return tuple(Layout(w, b[: len(w)]) for w, b in zip(words, boxes, strict=True))
