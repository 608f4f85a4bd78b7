"""``vlad-cli generate``: generate images with a pipeline folder, with an optional layout, template or inpainting."""

from __future__ import annotations

import math
import secrets
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vlad_lightning.cli.generate_options import SAMPLER_OPTIONS, check, parse
from vlad_lightning.cli.image_text import FILES, check_model, restore, warn
from vlad_lightning.cli.prompt_sheet import draw_sheet, read_prompts
from vlad_lightning.files import PICTURE_PIXELS, public_path, read_picture, save_picture, told_at
from vlad_lightning.pretrained import SHIPPED_MODEL, find_weights

if TYPE_CHECKING:
    from PIL import Image

    from vlad_lightning.generation.image_sampler import ImageSampler
    from vlad_lightning.layout.layout_file import LayoutFile
    from vlad_lightning.pipeline import VLADOutput, VLADPipeline
    from vlad_lightning.types import Layout

_GAP = 1 / 16  # between the images of a sheet, in sides of an image


@dataclass(frozen=True)
class _Inputs:
    """What the files named on the command line hold; None for those that are not named."""

    layout: LayoutFile | None
    template: Image.Image | None
    image: Image.Image | None
    mask: Image.Image | None


def main(args: Sequence[str]) -> None:
    """Generate one or several images for a prompt, or an image for each prompt of a list.

    Args:
        args: the arguments after ``generate`` on the command line.

    Raises:
        FileNotFoundError: if there is no pipeline folder, or a named file does not exist.
        ValueError: if the arguments, a file or the prompt cannot be used.
    """
    options = parse(args)
    if options.source and options.prompts is None:
        restore(options)
    check(options)
    options.model = options.model or SHIPPED_MODEL
    folder = find_model(options.model)
    check_device(options.device)
    layout = _read_layout(options.layout) if options.layout else options.stored_layout
    pictures = {name: _read_picture(name, getattr(options, name)) for name in ("template", "image", "mask")}
    prompts = read_prompts(options.prompts) if options.prompts else None
    if options.seed is None:
        options.seed = secrets.randbelow(2**32)
    if prompts:
        _generate_sheet(options, folder, prompts)
    else:
        _generate(options, folder, _Inputs(layout, **pictures))


def find_model(name: str) -> Path:
    """Return the folder of ``--model``, found without loading anything.

    Raises:
        FileNotFoundError: if it is no pipeline folder.
    """
    try:
        folder = find_weights(name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"--model {error}") from error
    if not (folder / "model_index.json").is_file():
        raise FileNotFoundError(
            f"--model {name} is no pipeline folder; allowed are one that `make demo` or `vlad-cli export` wrote, and "
            f"the shipped {SHIPPED_MODEL}"
        )
    return folder


def check_device(name: str | None) -> None:
    """Refuse a device that this machine does not have, before anything is loaded."""
    if name is None:
        return
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        gpu = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        here = "cpu" if gpu is None else f"cpu and {gpu.type}"
        raise ValueError(f"--device {name} cannot be used here; allowed on this machine: {here}") from error


def _read_layout(path: Path) -> LayoutFile:
    from vlad_lightning.layout.layout_file import LayoutFile

    with told_at("--layout"):
        return LayoutFile.load(path)


def _read_picture(name: str, path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    with told_at(f"--{name}"):
        return read_picture(path)


def _generate(options: Namespace, folder: Path, inputs: _Inputs) -> None:
    # imported here, so that wrong arguments and files are reported at once
    from vlad_lightning.layout.layout_file import LayoutFile
    from vlad_lightning.pipeline.notices import unquoted

    if not (inputs.layout or inputs.template) and (notice := unquoted(options.prompt)):
        print(f"notice: {notice}")
    painter = _Painter.open(options, folder)
    painter.tell_unlearned([options.prompt])
    _follow_format(options, painter.pipe, inputs)
    width, height = painter.size if inputs.image is None else inputs.image.size
    _check_pixels(width, height, options.upscale or 1)
    given = inputs.layout
    if inputs.template is not None:
        given = LayoutFile(painter.pipe.read_layout(inputs.template), width, height)
    images = []
    for index in range(options.images):  # one by one, since the rounding of a batch would change single pixels
        seed = options.seed + index
        drawn = painter.draw(seed, inputs, given)
        images.append(_enlarged(cast("Image.Image", drawn.images[0]), options.upscale or 1))
        told = given or LayoutFile(drawn.layouts[0], width, height)
        path = _numbered(options.out, index, options.images)
        painter.save(images[-1], path, options.prompt, seed, (width, height), layout=told)
        if options.save_layout:
            frame = (width, height) if inputs.layout is None else (inputs.layout.width, inputs.layout.height)
            _save_layout(options, _numbered(options.save_layout, index, options.images), drawn.layouts[0], frame)
    if options.grid:
        path = options.out.with_stem(f"{options.out.stem}_grid")
        painter.save(_grid(images), path, options.prompt, options.seed, (width, height), sheet=len(images))


def _follow_format(options: Namespace, pipe: VLADPipeline, inputs: _Inputs) -> None:
    """Give a whole image the proportions of its layout file or template, unless the command line says otherwise."""
    if inputs.image is not None or options.height or options.width:
        return
    frame = (inputs.layout.width, inputs.layout.height) if inputs.layout else None
    frame = inputs.template.size if inputs.template else frame
    if frame is not None and frame[0] != frame[1]:
        options.height, options.width = pipe.image_generator.frame_for(frame[1], frame[0])


@dataclass(frozen=True)
class _Painter:
    """An open pipeline with the settings of the command line."""

    options: Namespace
    pipe: VLADPipeline
    sampler: ImageSampler
    model_hash: str

    @classmethod
    def open(cls, options: Namespace, folder: Path) -> _Painter:
        """Load the pipeline; the settings of the sampler that the command line does not give are the pipeline's."""
        from vlad_lightning.pipeline import VLADPipeline
        from vlad_lightning.pipeline.model_index import weights_hash

        model_hash = weights_hash(folder)
        check_model(options, model_hash)
        font = {"font": str(options.font)} if options.font else {}
        pipe: VLADPipeline = VLADPipeline.from_pretrained(folder, **font)
        pipe.to(_device(options))
        given = {name: getattr(options, name) for name in SAMPLER_OPTIONS}
        sampler = pipe.sampler.changed(given)
        return cls(options, pipe, sampler, model_hash)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of whole images in pixels."""
        side = int(self.pipe.config.image_size)
        return self.options.width or side, self.options.height or side

    def tell_unlearned(self, prompts: Sequence[str]) -> None:
        """Say what the prompts ask for that the model has not learned."""
        from vlad_lightning.pipeline.notices import unlearned

        if told := unlearned(self.pipe, prompts):
            print(f"notice: {told}")

    def draw(self, seed: int, inputs: _Inputs, given: LayoutFile | None) -> VLADOutput:
        """Generate one image, with its layout if none is given."""
        from vlad_lightning.pipeline.image_request import ImageRequest

        options = self.options
        request = ImageRequest(
            prompt=options.prompt,
            seed=seed,
            sampler=self.sampler,
            negative_prompt=options.negative_prompt,
            layout=given,
            image=inputs.image,
            mask=inputs.mask,
            height=options.height,
            width=options.width,
        )
        return request.draw(self.pipe)

    def save(
        self,
        image: Image.Image,
        path: Path,
        prompt: str,
        seed: int,
        size: tuple[int, int],
        layout: LayoutFile | None = None,
        sheet: int = 0,
    ) -> None:
        """Write an image of this size, or a sheet of so many; a PNG's text says how it was made."""
        from vlad_lightning.pipeline.image_facts import ImageFacts, named_file

        options = self.options
        facts = ImageFacts(
            prompt=prompt,
            seed=seed,
            sampler=self.sampler,
            size=size,
            model=public_path(options.model),
            model_hash=self.model_hash,
            device=self.pipe.device.type,
            negative_prompt=options.negative_prompt,
            height=options.height,
            width=options.width,
            upscale=options.upscale,
            files={name: named_file(file) for name in FILES if (file := getattr(options, name))},
            layout=layout,
            layout_given=bool(options.layout or options.template or options.stored_layout),
            layout_path=options.layout,
            sheet=sheet,
        )
        save_picture(image, path, facts.text())
        print(f"wrote {path} (seed {seed})")


def _device(options: Namespace) -> str:
    """Return the device to use: that of the command line, of the image of ``--from``, or a GPU if there is one."""
    import torch

    available = "cuda" if torch.cuda.is_available() else "cpu"
    if options.device or options.stored_device in (None, "cpu", available):
        return options.device or options.stored_device or available
    warn(f"{options.source} was made on the device {options.stored_device}; on {available}, pixels may differ a little")
    return available


def _numbered(path: Path, index: int, count: int) -> Path:
    """Return the path of one of several files: the stem gets the index."""
    return path if count == 1 else path.with_stem(f"{path.stem}_{index}")


def _check_pixels(width: int, height: int, factor: int) -> None:
    if width * height * factor**2 > PICTURE_PIXELS:
        raise ValueError(
            f"--upscale is {factor}; it would make {width * factor} x {height * factor} pixels of {width} x {height}, "
            f"and at most {PICTURE_PIXELS:,} are written"
        )


def _enlarged(image: Image.Image, factor: int) -> Image.Image:
    from PIL.Image import Resampling

    return image.resize((image.width * factor, image.height * factor), Resampling.LANCZOS) if factor > 1 else image


def _grid(images: Sequence[Image.Image]) -> Image.Image:
    """Set images in rows with white gaps, about as many rows as columns."""
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import make_grid

    pixels = [pil_to_tensor(image) for image in images]
    gap = max(1, round(_GAP * images[0].width))
    sheet: Image.Image = to_pil_image(make_grid(pixels, math.ceil(math.sqrt(len(images))), padding=gap, pad_value=255))
    return sheet


def _generate_sheet(options: Namespace, folder: Path, prompts: Sequence[str]) -> None:
    painter = _Painter.open(options, folder)
    painter.tell_unlearned(prompts)
    sheet = draw_sheet(painter.pipe, prompts, painter.sampler, options.seed, options.negative_prompt)
    painter.save(sheet, options.out, "\n".join(prompts), options.seed, painter.size, sheet=len(prompts))


def _save_layout(options: Namespace, path: Path, layout: Layout, frame: tuple[int, int]) -> None:
    """Write a layout that was drawn."""
    from vlad_lightning.layout.layout_file import LayoutFile

    font = str(options.font) if options.font else None
    fonts = tuple(own or font for own in layout.fonts or (None,) * len(layout))
    LayoutFile(replace(layout, fonts=fonts), *frame, options.prompt).save(path)
    print(f"wrote {path}")
