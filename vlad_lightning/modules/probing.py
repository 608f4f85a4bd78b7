"""Text probe: how much the system's first guess of an image changes when one thing in the prompt changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from vlad_lightning.diffusion.generators import SampleGenerators, generator_for
from vlad_lightning.diffusion.objective import objective_for
from vlad_lightning.diffusion.sampler import Sampler
from vlad_lightning.generation.image_generator import ImageGenerator, phrase_slots
from vlad_lightning.generation.layout_generator import LayoutGenerator
from vlad_lightning.layout.caption_edits import KINDS, edit_caption
from vlad_lightning.layout.glyphs import glyph_images
from vlad_lightning.layout.lettering_requests import with_lettering
from vlad_lightning.metrics.paired import PerImage
from vlad_lightning.metrics.text_probe import TextProbeMetric, rms_change
from vlad_lightning.models.painter.phrase_map import Grounding
from vlad_lightning.types import Conditioning, Layout, MetricResult

WHOLE_TEXT = ("all_text", "tokens_only")
PROBES = (*KINDS, *WHOLE_TEXT)
"""The kinds of edits; ``all_text``: no text at all; ``tokens_only``: only the pooled t is the empty prompt's."""


@dataclass(frozen=True)
class Heard:
    """How much the predicted x0 changes, for ``B`` prompts.

    Attributes:
        changes: (B, K) float32: root mean square change of the predicted x0 at the noisiest timestep, one column for
            each of :data:`PROBES`, in units of the autoencoder's latents.
        known: (B, K) bool: whether the kind of change applies to the prompt.
    """

    changes: Tensor
    known: Tensor


class TextProbe:
    """Comparison of the first guesses for a prompt and for the prompt with one thing changed, from the same noise.

    With a layout generator, the whole system is probed: a layout is generated for each prompt, from the same noise.
    Without one, only the image generator is probed: both prompts have the same layout.

    Args:
        image_generator: the model that is probed.
        layouts: generates the layouts; None uses the given ones.
        sampler: sampler of the layouts.
        seed: seed of the edits and of the noise.
    """

    def __init__(
        self,
        image_generator: ImageGenerator,
        layouts: LayoutGenerator | None,
        sampler: Sampler = Sampler(),
        seed: int = 0,
    ) -> None:
        self.image_generator, self.layouts, self.sampler, self.seed = image_generator, layouts, sampler, seed

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], given: Sequence[Layout], keys: Sequence[str]) -> Heard:
        """Probe B prompts.

        Args:
            prompts: B prompts.
            given: their layouts, for a probe without a layout generator.
            keys: B names; noise and edits depend on the seed and on them.
        """
        device = self.image_generator.vfe.fusion.weight.device
        side = self.image_generator.autoencoder.encode_images(
            torch.zeros(1, 3, *[self.image_generator.image_size] * 2, device=device)
        )
        generators = SampleGenerators.of_samples(device, (self.seed, "text probe"), keys)
        x_t = generators.normal(*side.shape[1:])
        layouts = self._resolve_layouts(prompts, given, keys)
        cond, z = self._asked(prompts, layouts)
        before = self._x0(x_t, z, cond)
        uncond = self.image_generator.uncond(len(prompts))
        changes = {"all_text": uncond, "tokens_only": replace(cond, pooled=uncond.pooled)}
        columns = [self._edited(kind, prompts, layouts, keys, x_t, before) for kind in KINDS]
        everyone = torch.ones(len(prompts), dtype=torch.bool)
        columns += [(rms_change(before, self._x0(x_t, z, changes[name])).cpu(), everyone) for name in WHOLE_TEXT]
        heard, known = zip(*columns, strict=True)
        return Heard(torch.stack(heard, dim=1), torch.stack(known, dim=1))

    def _edited(
        self,
        kind: str,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        keys: Sequence[str],
        x_t: Tensor,
        before: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return the changes by one kind of edit, (B,), zero where there is none, and where there is one, (B,) bool."""
        pairs = zip(prompts, keys, strict=True)
        edits = [edit_caption(prompt, kind, random.Random(f"{self.seed} {kind} {key}")) for prompt, key in pairs]
        rows = [i for i, edit in enumerate(edits) if edit is not None]
        changes, known = torch.zeros(len(prompts)), torch.zeros(len(prompts), dtype=torch.bool)
        if rows:
            asked = [edits[i] or "" for i in rows]
            same = [self._renamed(layouts[i], prompts[i], edit) for i, edit in zip(rows, asked, strict=True)]
            cond, z = self._asked(asked, self._resolve_layouts(asked, same, [keys[i] for i in rows]))
            changes[rows] = rms_change(before[rows], self._x0(x_t[rows], z, cond)).cpu()
            known[rows] = True
        return changes, known

    def _renamed(self, layout: Layout, prompt: str, edit: str) -> Layout:
        """Rename the layout's objects as in the edited prompt; an edit keeps the number of phrases."""
        decompose = self.image_generator.prompt_encoder.text_encoder.decompose
        before, after = ([phrase.text for phrase in decompose(text).objects] for text in (prompt, edit))
        return replace(layout, objects=tuple(after[slot] for slot in phrase_slots(layout.objects, before)))

    def _resolve_layouts(
        self, prompts: Sequence[str], given: Sequence[Layout], keys: Sequence[str]
    ) -> Sequence[Layout]:
        """Return the given layouts, or generate one for each prompt from its key's noise."""
        if self.layouts is None:
            return given
        device = self.layouts.tlg.position_embedding.device
        generators = [generator_for(device, self.seed, "text probe layout", key) for key in keys]
        return self.layouts.sample(prompts, self.sampler, generators)

    def _asked(self, prompts: Sequence[str], layouts: Sequence[Layout]) -> tuple[Conditioning, Tensor | None]:
        """Encode B prompts and their layouts as t and z_t."""
        image_generator = self.image_generator
        cond = image_generator.prompt_encoder(prompts)
        weight = image_generator.vfe.fusion.weight
        layouts = [with_lettering(layout, prompt) for layout, prompt in zip(layouts, prompts, strict=True)]
        glyphs = glyph_images(image_generator.draw_glyphs(layouts).to(weight.device))
        grounding = self._grounding(prompts, layouts, cond)
        return cond, image_generator.encode_layout(glyphs.to(weight), grounding, layouts=layouts)

    def _grounding(self, prompts: Sequence[str], layouts: Sequence[Layout], cond: Conditioning) -> Grounding | None:
        if self.image_generator.vfe.phrase_map is None:
            return None
        return self.image_generator.ground(prompts, layouts, cond)

    def _x0(self, x_t: Tensor, z: Tensor | None, cond: Conditioning) -> Tensor:
        """Predict x0 at the last (noisiest) timestep, (B, C_z, h, w) float32."""
        objective = objective_for(self.image_generator.schedule)
        steps = objective.last_timesteps(len(x_t)).to(x_t.device)
        known = self.image_generator.masked_latents(None, len(x_t))
        return objective.x0_of(self.image_generator.vfe(x_t, steps, z, cond, known), x_t, steps)


class ProbeMetrics(nn.Module):
    """``text_probe_<kind>`` of the whole system, ``image_generator_probe_<kind>`` of the image generator alone.

    Both are in units of the autoencoder's latents.
    """

    def __init__(self) -> None:
        super().__init__()
        self.system, self.alone = TextProbeMetric(PROBES), TextProbeMetric(PROBES)

    def update(
        self,
        image_generator: ImageGenerator,
        generator: LayoutGenerator | None,
        sampler: Sampler,
        seed: int,
        prompts: Sequence[str],
        layouts: Sequence[Layout],
        keys: Sequence[str],
    ) -> None:
        """Probe B prompts; see :class:`TextProbe`."""
        for metric, of in ((self.system, generator), (self.alone, None)):
            heard = TextProbe(image_generator, of, sampler, seed)(prompts, layouts, keys)
            metric.update(heard.changes, heard.known, keys)

    def per_image(self) -> dict[str, PerImage]:
        """Return what each probed prompt adds to the results; call it before :meth:`compute`, which resets."""
        return self.system.per_image() | {
            _of_image_generator(name): rows for name, rows in self.alone.per_image().items()
        }

    def compute(self) -> dict[str, MetricResult]:
        """Return every result by name, and reset."""
        results = self.system.compute()
        results |= {_of_image_generator(name): result for name, result in self.alone.compute().items()}
        self.system.reset()
        self.alone.reset()
        return results


def _of_image_generator(name: str) -> str:
    return f"image_generator_probe{name.removeprefix('text_probe')}"
