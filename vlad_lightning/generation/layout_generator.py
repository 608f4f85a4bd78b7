"""P(Z_T | T) of Eq. 1: prompts in, layouts out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor, nn

from vlad_lightning.diffusion.generators import SampleGenerators
from vlad_lightning.diffusion.noising import Noised
from vlad_lightning.diffusion.objective import Schedule, check_schedule, objective_for
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.layout.frames import into_frame
from vlad_lightning.layout.lettering_requests import lettering_spans, with_lettering
from vlad_lightning.layout.masks import FRAME, fills_frame
from vlad_lightning.layout.object_requests import requested_objects, unlearned_objects
from vlad_lightning.layout.object_rows import in_proportion
from vlad_lightning.layout.overlaps import resolve_overlaps
from vlad_lightning.layout.prompt_parser import Phrase, drawn_words
from vlad_lightning.layout.typesetting import typeset
from vlad_lightning.layout.unquoted_words import with_quotes
from vlad_lightning.models.text.prompt_encoder import PromptEncoder
from vlad_lightning.models.tlg import TLG, TOKEN_WIDTH, decode_boxes, encode_boxes
from vlad_lightning.types import Batch, Conditioning, Layout

_MIDDLE = (0.5, 0.5, 0.4, 0.4, 0.0)  # the box of an object for which none is sampled


class LayoutGenerator(nn.Module):
    """The TLG with all it needs to turn prompts into layouts.

    It has its own prompt encoder: Eq. 1 factorises, so stage 2 can train its encoder without changing the layouts.

    Args:
        prompt_encoder: the encoder that the TLG is trained with.
        tlg: denoises layout tokens.
        schedule: the forward process of the layout tokens; its class decides between DDPM and flow matching.
        typesetting: whether sampled words are set in letters of one size on straight lines
            (:mod:`~vlad_lightning.layout.typesetting`); False leaves each word in its sampled box.
        nouns: the nouns of all objects that the training data show. A phrase for another object gets no box, since it
            would be filled with something else; a phrase for one of these gets one, in the middle if it is sampled
            without or as the whole frame. Empty if it is not known what they show.

    Raises:
        ValueError: where the widths, or the numbers of words or objects, differ, or the schedule cannot be trained on.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        tlg: TLG,
        schedule: Schedule,
        typesetting: bool = True,
        nouns: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_schedule(schedule)
        if tlg.config.text_width != prompt_encoder.width:
            raise ValueError(
                f"tlg.text_width is {tlg.config.text_width}; the encoder's width is {prompt_encoder.width}"
            )
        if tlg.config.max_words != prompt_encoder.max_words:
            raise ValueError(
                f"tlg.max_words is {tlg.config.max_words}; the text encoder's is {prompt_encoder.max_words}"
            )
        if tlg.config.max_objects not in (0, prompt_encoder.text_encoder.max_objects):
            raise ValueError(
                f"tlg.max_objects is {tlg.config.max_objects}; it must be the text encoder's, "
                f"{prompt_encoder.text_encoder.max_objects}, or 0, which places words only"
            )
        self.prompt_encoder = prompt_encoder
        self.tlg = tlg
        self.schedule = schedule
        self.typesetting = typesetting
        self.nouns = tuple(nouns)

    def check(self, prompts: Sequence[str]) -> None:
        """Refuse prompts with more words than a layout holds.

        Raises:
            ValueError: naming the prompt.
        """
        for prompt in prompts:
            words = drawn_words(with_quotes(prompt))
            if len(words) > self.prompt_encoder.max_words:
                raise ValueError(
                    f"prompt {prompt!r} asks for {len(words)} words; the layout holds at most "
                    f"{self.prompt_encoder.max_words}"
                )

    def tokens_of(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Encode the layouts of a batch as tokens of the TLG.

        Returns:
            (B, M, 6) float32 tokens; (B, M, 6) bool, which of their numbers are known and count in the loss; (B, M)
            bool, for which phrases the data do not say whether they have a box.
        """
        boxes, present = batch.word_boxes, batch.word_mask
        unknown = torch.zeros_like(present)
        if self.tlg.config.max_objects:
            boxes = torch.cat([boxes, batch.object_boxes], dim=1)
            present = torch.cat([present, batch.object_mask], dim=1)
            blind = ~batch.scene_known[:, None].expand_as(batch.object_mask)
            unknown = torch.cat([unknown, blind], dim=1)
        words = torch.arange(present.shape[1], device=present.device) < batch.word_mask.shape[1]
        cond = present[..., None].expand(-1, -1, 5)
        bit = ~unknown & ~words  # a word to draw always has a box: its bit has nothing to learn
        return encode_boxes(boxes, present | words), torch.cat([cond, bit[..., None]], dim=-1), unknown

    def noised(self, tokens: Tensor, generators: SampleGenerators) -> tuple[Tensor, Noised]:
        """Draw timesteps (B,) and noise the (B, M, 6) tokens by the forward process."""
        objective = objective_for(self.schedule)
        steps = objective.draw_timesteps(generators)
        noise = generators.normal(*tokens.shape[1:])
        return steps, objective.noised(tokens, noise, steps)

    def sample(
        self,
        prompts: Sequence[str],
        sampler: Sampler,
        generators: Sequence[torch.Generator],
        size: tuple[int, int] | None = None,
    ) -> tuple[Layout, ...]:
        """Sample a layout for each prompt; a prompt without words to draw and without objects gets an empty layout.

        Boxes that overlap are moved apart (:func:`~vlad_lightning.layout.overlaps.resolve_overlaps`), and counted in
        ``Layout.moved``. Objects get boxes only if some of the training data had known scenes.
        Words beyond the ``max_words`` of a layout are left out, as in training, since real captions may have more.
        Call :meth:`check` first for prompts that a user wrote.

        Args:
            prompts: B prompts.
            sampler: sampler of the tokens.
            generators: B generators, the only source of randomness; each layout depends only on its own.
            size: height and width of the frame; None is a square, for which all layouts are sampled. In another frame
                phrases and objects have the same places and proportions
                (:func:`~vlad_lightning.layout.frames.into_frame`).

        Raises:
            ValueError: where the sampled tokens are NaN or infinite because the weights are.
        """
        conditioning: Conditioning = self.prompt_encoder(prompts)
        cond = conditioning.pooled
        shape = (len(prompts), self.tlg.slots, TOKEN_WIDTH)
        noise = randn_tensor(shape, generator=list(generators), device=cond.device)
        words = torch.arange(self.tlg.slots, device=cond.device) < self.prompt_encoder.max_words
        unknown = (~words & ~self.tlg.taught_objects).expand(len(prompts), -1)
        tokens = sampler.draw(
            lambda x, t: self.tlg(x.to(cond), t, conditioning, unknown), noise, self.schedule, generators
        )
        if not tokens.isfinite().all():  # resolve_overlaps would turn them into finite numbers
            raise ValueError("the generated layouts hold NaN or infinite values: the weights are damaged")
        boxes, present = (x.cpu() for x in decode_boxes(tokens.float()))
        rows = zip(prompts, boxes, present & ~unknown.cpu(), strict=True)
        return tuple(self._laid_out(*row, size or (1, 1)) for row in rows)

    def _laid_out(self, prompt: str, boxes: Tensor, present: Tensor, size: tuple[int, int]) -> Layout:
        """Build the layout of one prompt from its phrases' boxes (M, 5) and which of them have one, (M,) bool."""
        text = self.prompt_encoder.text_encoder
        parts = text.decompose(prompt)
        words = tuple(word.text for word in parts.words[: text.max_words])
        phrases = parts.objects[: self.tlg.config.max_objects]
        boxes, present = self._with_learned(phrases, boxes, present)
        letters = lettering_spans(prompt)  # `in red` behind quotes is no background
        unlearned = unlearned_objects(prompt, self.nouns) if self.nouns else ()
        placed = [
            i
            for i, phrase in enumerate(phrases)
            if present[text.max_words + i]
            and phrase.text not in unlearned
            and not any(start <= phrase.start < end for start, end in letters)
        ]
        object_boxes = boxes[[text.max_words + i for i in placed]]
        object_boxes = torch.where(fills_frame(object_boxes)[:, None], object_boxes.new_tensor(FRAME), object_boxes)
        objects = tuple(phrases[i].text for i in placed)
        word_boxes, groups, moved = boxes[: len(words)], parts.groups[: len(words)], 0
        if self.typesetting:
            object_boxes = in_proportion(objects, object_boxes)
            fonts = with_lettering(Layout(words, word_boxes), prompt).fonts
            word_boxes, moved = typeset(words, word_boxes, groups, fonts)
        apart = resolve_overlaps(word_boxes, groups, object_boxes)
        layout = Layout(words, apart.boxes, (), objects, apart.objects, moved + apart.moved)
        return into_frame(layout, groups, size)

    def _with_learned(self, phrases: Sequence[Phrase], boxes: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Give each phrase for a learned object a box that is not the whole frame; return boxes (M, 5) and present."""
        if not self.nouns or not self.tlg.taught_objects:
            return boxes, present
        boxes, present = boxes.clone(), present.clone()
        for i, phrase in enumerate(phrases, start=self.prompt_encoder.text_encoder.max_words):
            if requested_objects(phrase.text, self.nouns):
                if not present[i] or fills_frame(boxes[i]):
                    boxes[i] = boxes.new_tensor(_MIDDLE)
                present[i] = True
        return boxes, present
