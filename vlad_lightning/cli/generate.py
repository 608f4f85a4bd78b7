"""``vlad-cli generate``: generate images with a pipeline folder, with an optional layout, template or inpainting."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vlad_lightning import __version__
from vlad_lightning.cli.prompt_sheet import draw_sheet, read_prompts
from vlad_lightning.files import public_path, read_picture, save_picture
from vlad_lightning.limits import MOST_IMAGES, MOST_STEPS, check_interval, check_prompts, check_share, check_whole
from vlad_lightning.pretrained import SHIPPED_MODEL, find_weights

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from vlad_lightning.generation.image_sampler import ImageSampler
    from vlad_lightning.layout.layout_file import LayoutFile
    from vlad_lightning.pipeline import VLADOutput, VLADPipeline
    from vlad_lightning.types import Layout

_SAMPLER_OPTIONS = (
    *("steps", "guidance_scale", "layout_scale", "guidance_interval", "guidance_rescale"),
    *("solver", "cache_interval", "fuse_qkv"),
)
_ONE_PROMPT = ("layout", "save_layout", "template", "image", "mask", "images")
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def main(args: Sequence[str]) -> None:
    """Generate one or several images for a prompt, or an image for each prompt of a list.

    Args:
        args: the arguments after ``generate`` on the command line.

    Raises:
        FileNotFoundError: if there is no pipeline folder, or a named file does not exist.
        ValueError: if the arguments, a file or the prompt cannot be used.
    """
    options = _parser().parse_args(args)
    folder = _find_model(options.model)
    _check(options)
    _check_device(options.device)
    layout = _read_layout(options.layout) if options.layout else None
    pictures = {name: _read_picture(name, getattr(options, name)) for name in ("template", "image", "mask")}
    prompts = read_prompts(options.prompts) if options.prompts else None
    if options.seed is None:
        options.seed = secrets.randbelow(2**32)
    if prompts:
        _generate_sheet(options, folder, prompts)
    else:
        _generate(options, folder, layout, pictures)


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "vlad-cli generate", description="Generate images; words to draw are in quotes.", allow_abbrev=False
    )
    parser.add_argument("prompt", nargs="?", help="such as: a poster that says 'HELLO'")
    parser.add_argument(
        "--prompts", type=Path, help="text file with one prompt a line, for a sheet of an image each with its prompt"
    )
    parser.add_argument("--out", type=Path, default=Path("out.png"), help="image file (default: %(default)s)")
    parser.add_argument(
        "--model", default=SHIPPED_MODEL, help="pipeline folder, or the name of a shipped one (default: %(default)s)"
    )
    parser.add_argument("--layout", type=Path, help="layout file with words and boxes (docs/layouts.md)")
    parser.add_argument("--save_layout", type=Path, help="write the layout that was drawn; _0, _1 with more --images")
    parser.add_argument("--template", type=Path, help="image of text: its words are read and drawn in their boxes")
    parser.add_argument("--image", type=Path, help="image to inpaint; needs --mask, --layout or --template")
    parser.add_argument("--mask", type=Path, help="image of the same size, white where --image is generated")
    parser.add_argument("--font", type=Path, help="font file of the layout (default: the pipeline's)")
    parser.add_argument("--images", type=int, default=1, help="number of images, side by side (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="sampling steps (default: what the pipeline was tested with)")
    parser.add_argument("--guidance_scale", type=float, help="guidance scale of the text (default: likewise)")
    parser.add_argument("--layout_scale", type=float, help="guidance scale of the layout (default: likewise)")
    parser.add_argument(
        "--guidance_interval",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="both scales act where LOW < t / T <= HIGH only; 1 is pure noise (default: likewise)",
    )
    parser.add_argument("--guidance_rescale", type=float, help="phi of rescaled guidance (default: likewise)")
    parser.add_argument("--solver", choices=("ddim", "dpmsolver++"), help="sampler's solver (default: likewise)")
    parser.add_argument(
        "--cache_interval", type=int, help="run a UNet's deep blocks every N steps only (default: likewise)"
    )
    parser.add_argument(
        "--fuse_qkv", action=argparse.BooleanOptionalAction, help="compute queries, keys and values by one product"
    )
    parser.add_argument(
        "--seed", type=int, help="same seed, same image (default: a random one, printed and stored in a PNG's text)"
    )
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: a GPU if there is one)")
    return parser


def _check(options: argparse.Namespace) -> None:
    """Refuse wrong or contradictory arguments, before any file is read."""
    if options.out.suffix.lower() not in _PICTURES:
        raise ValueError(f"--out {options.out}: it must end in .png, .jpg, .jpeg or .webp")
    check_whole("--images", options.images, 1, MOST_IMAGES)
    _check_sampling(options)
    _check_prompt(options)
    if options.template and options.layout:
        raise ValueError("--template and --layout both give the layout; give one of them")
    if options.mask and not options.image:
        raise ValueError("--mask is given without --image, the picture to generate into")
    if options.image and not (options.mask or options.layout or options.template):
        raise ValueError("--image needs --mask or --layout: which region of it is generated")
    if options.save_layout and options.save_layout.suffix.lower() != ".json":
        raise ValueError(f"--save_layout {options.save_layout}: it must end in .json")
    if options.font and not options.font.is_file():
        raise FileNotFoundError(f"--font {options.font} does not exist")


def _check_sampling(options: argparse.Namespace) -> None:
    """Refuse settings of the sampler that are out of range; those that are not given are None."""
    for name in ("steps", "cache_interval"):
        if getattr(options, name) is not None:
            check_whole(f"--{name}", getattr(options, name), 1, MOST_STEPS)
    if options.guidance_interval is not None:
        options.guidance_interval = tuple(options.guidance_interval)  # argparse makes a list
        check_interval("--guidance_interval", options.guidance_interval)
    if options.guidance_rescale is not None:
        check_share("--guidance_rescale", options.guidance_rescale)


def _check_prompt(options: argparse.Namespace) -> None:
    if (options.prompt is None) == (options.prompts is None):
        given = "neither is" if options.prompt is None else "both are"
        raise ValueError(f"a prompt or --prompts is needed, and {given} given")
    if options.prompt is not None:
        check_prompts([options.prompt])
    elif alone := [name for name in _ONE_PROMPT if getattr(options, name) not in (None, 1)]:
        raise ValueError(f"--{alone[0]} belongs to one prompt; leave it out, or --prompts")


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


def _generate(
    options: argparse.Namespace, folder: Path, layout: LayoutFile | None, pictures: dict[str, Image.Image | None]
) -> None:
    # imported here, so that wrong arguments and files are reported at once
    from torchvision.transforms.functional import to_pil_image
    from torchvision.utils import make_grid

    from vlad_lightning.layout.prompt_parser import drawn_words

    if not (options.layout or options.template or drawn_words(options.prompt)):
        print("notice: the prompt has no words to draw; put them in quotes, as in: a poster that says 'HELLO'")
    pipe = _open(options, folder)
    sampler = _sampler(options, pipe)
    drawn = _drawn(options, pipe, sampler, layout, pictures)
    image = to_pil_image(make_grid(cast("Tensor", drawn.images).mul(255).round().byte(), nrow=8, padding=0))
    _save(options, image, options.prompt, sampler)
    if options.save_layout:
        side = pipe.config.image_size
        picture = pictures["image"]
        _save_layouts(options, drawn.layouts, layout, (side, side) if picture is None else picture.size)


def _generate_sheet(options: argparse.Namespace, folder: Path, prompts: Sequence[str]) -> None:
    pipe = _open(options, folder)
    sampler = _sampler(options, pipe)
    _save(options, draw_sheet(pipe, prompts, sampler, options.seed), "\n".join(prompts), sampler)


def _open(options: argparse.Namespace, folder: Path) -> VLADPipeline:
    import torch

    from vlad_lightning.pipeline import VLADPipeline

    font = {"font": str(options.font)} if options.font else {}
    pipe: VLADPipeline = VLADPipeline.from_pretrained(folder, **font)
    pipe.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return pipe


def _sampler(options: argparse.Namespace, pipe: VLADPipeline) -> ImageSampler:
    """Return the pipeline's own settings, with those that the command line gives."""
    given = {name: getattr(options, name) for name in _SAMPLER_OPTIONS}
    return replace(pipe.sampler, **{name: value for name, value in given.items() if value is not None})


def _save(options: argparse.Namespace, image: Image.Image, prompt: str, sampler: ImageSampler) -> None:
    """Write the image; a PNG's text says how it was made."""
    told = {
        "prompt": prompt,
        "seed": options.seed,
        "model": public_path(options.model),
        **{name: getattr(sampler, name) for name in _SAMPLER_OPTIONS},
        "Software": f"vlad-lightning {__version__}",
    }
    save_picture(image, options.out, {keyword: str(value) for keyword, value in told.items()})
    print(f"wrote {options.out} (seed {options.seed})")


def _drawn(
    options: argparse.Namespace,
    pipe: VLADPipeline,
    sampler: ImageSampler,
    layout: LayoutFile | None,
    pictures: dict[str, Image.Image | None],
) -> VLADOutput:
    from vlad_lightning.diffusion.generators import numbered, sampling_generators

    layout_given = layout.layout if layout else None
    if pictures["template"] is not None:
        layout_given = pipe.read_layout(pictures["template"])
    prompts = [layout.completed(options.prompt) if layout else options.prompt] * options.images
    call = pipe if pictures["image"] is None else partial(pipe.inpaint, image=pictures["image"], mask=pictures["mask"])
    return call(
        prompts,
        layouts=None if layout_given is None else [layout_given] * options.images,
        sampler=sampler,
        generator=sampling_generators(options.seed, numbered(prompts)),
        output_type="pt",
    )


def _save_layouts(
    options: argparse.Namespace, layouts: Sequence[Layout], given: LayoutFile | None, frame: tuple[int, int]
) -> None:
    """Write the layouts that were drawn, with the frame of the layout file that was given."""
    from vlad_lightning.layout.layout_file import LayoutFile

    target: Path = options.save_layout
    width, height = (given.width, given.height) if given else frame
    font = str(options.font) if options.font else None
    for index, layout in enumerate(layouts):
        path = target if options.images == 1 else target.with_stem(f"{target.stem}_{index}")
        fonts = tuple(own or font for own in layout.fonts or (None,) * len(layout))
        LayoutFile(replace(layout, fonts=fonts), width, height, options.prompt).save(path)
        print(f"wrote {path}")
