"""``vlad-cli generate``: generate images with a pipeline folder, with an optional layout, template or inpainting."""

from __future__ import annotations

import math
import secrets
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning import __version__
from vlad_lightning.cli.generate_options import SAMPLER_OPTIONS, read_options
from vlad_lightning.cli.prompt_sheet import draw_sheet, read_prompts
from vlad_lightning.files import public_path, read_picture, save_picture
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
    options = read_options(args)
    folder = _find_model(options.model)
    _check_device(options.device)
    layout = _read_layout(options.layout) if options.layout else None
    pictures = {name: _read_picture(name, getattr(options, name)) for name in ("template", "image", "mask")}
    prompts = read_prompts(options.prompts) if options.prompts else None
    if options.seed is None:
        options.seed = secrets.randbelow(2**32)
    if prompts:
        _generate_sheet(options, folder, prompts)
    else:
        _generate(options, folder, _Inputs(layout, **pictures))


def _find_model(name: str) -> Path:
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


def _check_device(name: str | None) -> None:
    """Refuse a device that this machine does not have, before anything is loaded."""
    if name is None:
        return
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
        raise ValueError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from error


def _read_layout(path: Path) -> LayoutFile:
    from vlad_lightning.layout.layout_file import LayoutFile

    try:
        return LayoutFile.load(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"--layout {error}") from error


def _read_picture(name: str, path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        return read_picture(path)
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(f"--{name} {error}") from error


def _generate(options: Namespace, folder: Path, inputs: _Inputs) -> None:
    # imported here, so that wrong arguments and files are reported at once
    from vlad_lightning.layout.prompt_parser import drawn_words

    if not (options.layout or options.template or drawn_words(options.prompt)):
        print("notice: the prompt has no words to draw; put them in quotes, as in: a poster that says 'HELLO'")
    pipe = _open(options, folder)
    sampler = _sampler(options, pipe)
    layout = inputs.layout.layout if inputs.layout else None
    if inputs.template is not None:
        layout = pipe.read_layout(inputs.template)
    images = []
    for index in range(options.images):  # one by one, since the rounding of a batch would change single pixels
        seed = options.seed + index
        drawn = _drawn(options, pipe, sampler, seed, inputs, layout)
        images.append(drawn.images[0])
        _save(options, images[-1], _numbered(options.out, index, options.images), options.prompt, seed, sampler)
        if options.save_layout:
            side = pipe.config.image_size
            frame = (side, side) if inputs.image is None else inputs.image.size
            path = _numbered(options.save_layout, index, options.images)
            _save_layout(options, path, drawn.layouts[0], inputs.layout, frame)
    if options.grid:
        sheet = options.out.with_stem(f"{options.out.stem}_grid")
        _save(options, _grid(images), sheet, options.prompt, options.seed, sampler)


def _numbered(path: Path, index: int, count: int) -> Path:
    """Return the path of one of several files: the stem gets the index."""
    return path if count == 1 else path.with_stem(f"{path.stem}_{index}")


def _grid(images: Sequence[Image.Image]) -> Image.Image:
    """Set images in rows with white gaps, about as many rows as columns."""
    from torchvision.transforms.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import make_grid

    pixels = [pil_to_tensor(image) for image in images]
    gap = max(1, round(_GAP * images[0].width))
    sheet: Image.Image = to_pil_image(make_grid(pixels, math.ceil(math.sqrt(len(images))), padding=gap, pad_value=255))
    return sheet


def _generate_sheet(options: Namespace, folder: Path, prompts: Sequence[str]) -> None:
    pipe = _open(options, folder)
    sampler = _sampler(options, pipe)
    sheet = draw_sheet(pipe, prompts, sampler, options.seed)
    _save(options, sheet, options.out, "\n".join(prompts), options.seed, sampler)


def _open(options: Namespace, folder: Path) -> VLADPipeline:
    import torch

    from vlad_lightning.pipeline import VLADPipeline

    font = {"font": str(options.font)} if options.font else {}
    pipe: VLADPipeline = VLADPipeline.from_pretrained(folder, **font)
    pipe.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return pipe


def _sampler(options: Namespace, pipe: VLADPipeline) -> ImageSampler:
    """Return the pipeline's own settings, with those that the command line gives."""
    given = {name: getattr(options, name) for name in SAMPLER_OPTIONS}
    return replace(pipe.sampler, **{name: value for name, value in given.items() if value is not None})


def _save(options: Namespace, image: Image.Image, path: Path, prompt: str, seed: int, sampler: ImageSampler) -> None:
    """Write the image; a PNG's text says how it was made."""
    told = {
        "prompt": prompt,
        "seed": seed,
        "model": public_path(options.model),
        **{name: getattr(sampler, name) for name in SAMPLER_OPTIONS},
        "Software": f"vlad-lightning {__version__}",
    }
    save_picture(image, path, {keyword: str(value) for keyword, value in told.items()})
    print(f"wrote {path} (seed {seed})")


def _drawn(
    options: Namespace, pipe: VLADPipeline, sampler: ImageSampler, seed: int, inputs: _Inputs, layout: Layout | None
) -> VLADOutput:
    """Generate one image, with its layout if there is none."""
    from vlad_lightning.diffusion.generators import numbered, sampling_generators

    prompts = [inputs.layout.completed(options.prompt) if inputs.layout else options.prompt]
    call = pipe if inputs.image is None else partial(pipe.inpaint, image=inputs.image, mask=inputs.mask)
    return call(
        prompts,
        layouts=None if layout is None else [layout],
        sampler=sampler,
        generator=sampling_generators(seed, numbered(prompts)),
    )


def _save_layout(
    options: Namespace, path: Path, layout: Layout, given: LayoutFile | None, frame: tuple[int, int]
) -> None:
    """Write a layout that was drawn, with the frame of the layout file that was given."""
    from vlad_lightning.layout.layout_file import LayoutFile

    width, height = (given.width, given.height) if given else frame
    font = str(options.font) if options.font else None
    fonts = tuple(own or font for own in layout.fonts or (None,) * len(layout))
    LayoutFile(replace(layout, fonts=fonts), width, height, options.prompt).save(path)
    print(f"wrote {path}")
