"""The studio's model: one open pipeline that generates one image at a time, and says how far it is."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from vlad_lightning.files import public_path
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.limits import check_whole
from vlad_lightning.pipeline import VLADOutput, VLADPipeline
from vlad_lightning.pipeline.image_facts import ImageFacts
from vlad_lightning.pipeline.image_request import ImageRequest
from vlad_lightning.pipeline.model_index import weights_hash
from vlad_lightning.pipeline.output import output

LARGEST_SEED = 2**32 - 1
"""The largest seed: browsers compute with whole numbers up to 2**53."""

LARGEST_FRAME = 4
"""The most sides of the model's images that the page offers along a side; ``vlad-cli generate`` takes more."""

WORKER = "studio-worker"
"""The name of the thread in which an image is generated."""

_PREVIEWS = 5  # of an image


@dataclass(frozen=True)
class Preview:
    """An image that is being generated.

    Attributes:
        step: how many steps of the diffusion are done.
        steps: how many there are.
        image: the latents so far, decoded; None in most steps.
    """

    step: int
    steps: int
    image: Image.Image | None


@dataclass(frozen=True)
class Drawn:
    """An image that is finished.

    Attributes:
        request: what was asked for.
        image: the image.
        layout: its layout, given or generated.
        told: what its PNG says.
    """

    request: ImageRequest
    image: Image.Image
    layout: LayoutFile
    told: Mapping[str, str]


class Engine:
    """One pipeline for everybody who uses the studio.

    Args:
        pipe: the pipeline, on its device.
        name: the model's name, for people and in the text of a PNG.
        model_hash: the SHA-256 of its weights.
    """

    def __init__(self, pipe: VLADPipeline, name: str, model_hash: str) -> None:
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.name = name
        self._hash = model_hash
        self._lock = threading.Lock()  # a pipeline holds the state of one call
        self._closed = threading.Event()

    @classmethod
    def open(cls, name: str, folder: Path, device: str) -> Engine:
        """Load a pipeline folder.

        Args:
            name: as the user named it.
            folder: the pipeline's folder.
            device: the device to generate on.

        Raises:
            ValueError: if a file of the folder cannot be used.
        """
        pipe = VLADPipeline.from_pretrained(folder)
        pipe.to(device)
        return cls(pipe, public_path(name), weights_hash(folder))

    @property
    def side(self) -> int:
        """Width and height of the generated images in pixels."""
        return int(self.pipe.config.image_size)

    def sized(self, request: ImageRequest, width: float | None, height: float | None) -> ImageRequest:
        """Return a request with a size of its image; where that is None or the model's own, the request says nothing.

        Raises:
            ValueError: for a size that cannot be generated, or a side above :data:`LARGEST_FRAME` of the model's.
        """
        down, across = (self.side if given is None else int(given) for given in (height, width))
        for name, side in (("height", down), ("width", across)):
            check_whole(name, side, 1, LARGEST_FRAME * self.side)
        self.pipe.image_generator.check_size(down, across)
        told = [None if side == self.side else side for side in (down, across)]
        return replace(request, height=told[0], width=told[1])

    def framed(self, request: ImageRequest, layout: LayoutFile) -> ImageRequest:
        """Return a request with the size of a layout's frame, or, where no image has it, with its proportions."""
        try:
            return self.sized(request, layout.width, layout.height)
        except ValueError:  # of a picture that was uploaded
            height, width = self.pipe.image_generator.frame_for(layout.height, layout.width)
            return self.sized(request, width, height)

    @property
    def follows_layouts(self) -> bool:
        """Whether the model is guided by a layout."""
        return self.pipe.image_generator.hierarchical

    @property
    def takes_objects(self) -> bool:
        """Whether a layout may have objects."""
        return self.pipe.phrase_map is not None

    def sampler(self, steps: int, guidance_scale: float, layout_scale: float) -> ImageSampler:
        """Return the pipeline's sampler with these settings.

        Raises:
            ValueError: naming a setting that is out of its range.
        """
        return self.pipe.sampler.changed(
            {"steps": steps, "guidance_scale": guidance_scale, "layout_scale": layout_scale}
        )

    def draw(
        self,
        request: ImageRequest,
        files: Mapping[str, str] | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Preview | Drawn]:
        """Generate one image: yield a preview after each step, and the image at last.

        If ``stop`` returns True, the caller closes the iterator, or the engine is closed, the generation ends with its
        current step, and there is no image. The next one waits until that step is done.

        Args:
            request: what to generate.
            files: :func:`~vlad_lightning.pipeline.image_facts.named_file` of the files that the image depends on.
            stop: called after each step, in a thread of its own.

        Raises:
            ValueError: as the pipeline does.
        """
        entries: queue.Queue[Preview | VLADOutput | BaseException | None] = queue.Queue()
        left = threading.Event()

        def stopped() -> bool:
            return left.is_set() or self._closed.is_set() or stop()

        def work() -> None:
            try:
                entries.put(self._made(request, entries.put, stopped))
            except BaseException as error:
                entries.put(error)

        threading.Thread(target=work, name=WORKER, daemon=True).start()
        try:
            while isinstance(entry := entries.get(), Preview):
                yield entry
        finally:
            left.set()  # without waiting: gradio closes iterators in the thread that answers all requests
        if isinstance(entry, BaseException):
            raise entry
        if entry is not None:
            yield self._drawn(request, entry, files or {})

    def _made(
        self, request: ImageRequest, show: Callable[[Preview], None], stopped: Callable[[], bool]
    ) -> VLADOutput | None:
        """Return the generated image; None if it was stopped."""

        def on_step(pipe: Any, step: int, timestep: Tensor, given: dict[str, Tensor]) -> None:
            pipe._interrupt = stopped()
            if not pipe._interrupt:
                show(self._preview(step + 1, request.sampler.steps, given["latents"]))

        with self._lock:
            if stopped():
                return None
            made = request.draw(self.pipe, on_step)
            return None if self.pipe.interrupt else made

    def close(self) -> None:
        """End the generation that runs, and wait for its last step; later ones end at once."""
        self._closed.set()
        with self._lock:
            pass

    def _preview(self, step: int, steps: int, latents: Tensor) -> Preview:
        if step == steps or step % max(1, steps // _PREVIEWS):
            return Preview(step, steps, None)
        autoencoder = self.pipe.autoencoder
        weight = self.pipe.fusion.weight
        decoded = autoencoder.decode_latents(latents.to(weight.device, weight.dtype)).float().clamp(-1, 1)
        images: Any = output(decoded.cpu(), (), "pil").images
        return Preview(step, steps, images[0])

    def _drawn(self, request: ImageRequest, made: VLADOutput, files: Mapping[str, str]) -> Drawn:
        images: Any = made.images
        layout = request.layout or LayoutFile(made.layouts[0], *images[0].size)
        size = images[0].size
        facts = ImageFacts(
            prompt=request.prompt,
            seed=request.seed,
            sampler=request.sampler,
            size=size,
            model=self.name,
            model_hash=self._hash,
            device=self.pipe.device.type,
            negative_prompt=request.negative_prompt,
            height=request.height,
            width=request.width,
            files=files,
            layout=layout,
            layout_given=request.layout is not None,
        )
        return Drawn(request, images[0], layout, facts.text())


def new_seed() -> int:
    """Return a random seed."""
    return secrets.randbelow(LARGEST_SEED + 1)
