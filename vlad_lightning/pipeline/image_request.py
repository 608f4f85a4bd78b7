"""One image to generate, as ``vlad-cli generate`` and the studio ask for it: the same request, the same image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from PIL import Image

from vlad_lightning.diffusion.generators import numbered, sampling_generators
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.pipeline.call_arguments import StepCallback
from vlad_lightning.pipeline.output import VLADOutput
from vlad_lightning.pipeline.pipeline import VLADPipeline


@dataclass(frozen=True)
class ImageRequest:
    """What to generate.

    Attributes:
        prompt: the words to draw are in quotes; the layout's colours and objects complete it.
        seed: the seed of the noise, together with the completed prompt.
        sampler: all settings of the image diffusion.
        negative_prompt: what guidance leads away from; None is the empty prompt.
        layout: words and boxes to draw; None generates them.
        image: the picture to inpaint; None generates a whole image.
        mask: a mask of its size, white in the region to generate; None is around the layout's words.
        height: of the image in pixels, or of the frame in which a region is generated; None is the pipeline's.
        width: likewise.
    """

    prompt: str
    seed: int
    sampler: ImageSampler
    negative_prompt: str | None = None
    layout: LayoutFile | None = None
    image: Image.Image | None = None
    mask: Image.Image | None = None
    height: int | None = None
    width: int | None = None

    def draw(self, pipe: VLADPipeline, callback: StepCallback | None = None) -> VLADOutput:
        """Generate the image, with its layout if none is given.

        Images are generated one by one, since the rounding of a batch would change single pixels.

        Args:
            pipe: the pipeline.
            callback: called after each step, see :meth:`VLADPipeline.__call__`.

        Raises:
            ValueError: see :meth:`VLADPipeline.__call__` and :meth:`VLADPipeline.inpaint`.
        """
        prompts = [self.layout.completed(self.prompt) if self.layout else self.prompt]
        call = pipe if self.image is None else partial(pipe.inpaint, image=self.image, mask=self.mask)
        return call(
            prompts,
            layouts=[self.layout.layout] if self.layout else None,
            sampler=self.sampler,
            generator=sampling_generators(self.seed, numbered(prompts)),
            negative_prompt=self.negative_prompt,
            height=self.height,
            width=self.width,
            callback_on_step_end=callback,
        )
