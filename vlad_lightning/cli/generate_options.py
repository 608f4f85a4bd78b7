"""The options of ``vlad-cli generate``, and the checks that need neither a file nor the model."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from vlad_lightning.cli.arguments import Parser
from vlad_lightning.layout.picture_text import SAMPLER_SETTINGS
from vlad_lightning.limits import (
    MOST_IMAGES,
    MOST_SIDE,
    MOST_STEPS,
    check_interval,
    check_prompts,
    check_share,
    check_whole,
)
from vlad_lightning.pretrained import SHIPPED_MODEL

SAMPLER_OPTIONS = SAMPLER_SETTINGS
"""The options that are settings of the sampler; None is the pipeline's own."""

SETTINGS = ("prompt", "negative_prompt", "seed", *SAMPLER_OPTIONS, "height", "width", "upscale", "model")
"""The options that ``--from`` takes from an image unless they are given."""

_ONE_PROMPT = (
    *("layout", "save_layout", "template", "image", "mask", "images", "grid", "height", "width", "upscale", "source"),
)
_PICTURES = (".png", ".jpg", ".jpeg", ".webp")
_LARGEST_SEED = 2**63 - 1
_MOST_UPSCALE = 16
_EXAMPLE = "\"a sign that says 'HELLO'\""


def parse(args: Sequence[str]) -> argparse.Namespace:
    """Parse the arguments after ``generate``; those of :data:`SETTINGS` that are not given are None.

    Raises:
        ValueError: naming the argument.
    """
    options: argparse.Namespace = _parser().parse_args(args)
    if options.named_prompt is not None:
        if options.prompt is not None:
            raise ValueError("PROMPT and --prompt both say what to draw; give one of them")
        options.prompt = options.named_prompt
    options.stored_layout = options.stored_hash = options.stored_device = None  # those of --from
    return options


def _parser() -> Parser:
    parser = Parser("vlad-cli generate", description="Generate images; words to draw are in quotes.")
    parser.add_argument("prompt", nargs="?", help="such as: a poster that says 'HELLO'")
    parser.add_argument("--prompt", dest="named_prompt", metavar="PROMPT", help="the same, as an option")
    parser.add_argument("--negative_prompt", help="what guidance leads away from")
    parser.add_argument(
        "--prompts", type=Path, help="text file with one prompt a line, for a sheet of an image each with its prompt"
    )
    parser.add_argument("--out", type=Path, default=Path("out.png"), help="image file (default: %(default)s)")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="IMAGE",
        help="PNG that this command wrote: make it again, with the other options given changed",
    )
    parser.add_argument(
        "--model", help=f"pipeline folder, or the name of a shipped one (default: {SHIPPED_MODEL}, or that of --from)"
    )
    parser.add_argument("--layout", type=Path, help="layout file with words and boxes (docs/layouts.md)")
    parser.add_argument("--save_layout", type=Path, help="write the layout that was drawn; _0, _1 with more images")
    parser.add_argument("--template", type=Path, help="image of text: its words are read and drawn in their boxes")
    parser.add_argument("--image", type=Path, help="image to inpaint; needs --mask, --layout or --template")
    parser.add_argument("--mask", type=Path, help="image of the same size, white where --image is generated")
    parser.add_argument("--font", type=Path, help="font file of the layout (default: the pipeline's)")
    parser.add_argument(
        "-n",
        "--images",
        type=int,
        default=1,
        help="number of images: out_0.png with --seed, out_1.png with the next one, ... (default: %(default)s)",
    )
    parser.add_argument(
        "--height", type=int, help="height of the image in pixels; with --image, of the frame that it is generated in"
    )
    parser.add_argument("--width", type=int, help="width likewise (default: those of the training)")
    parser.add_argument("--upscale", type=int, help="write the image so many times larger, resampled by Lanczos")
    parser.add_argument("--grid", action="store_true", help="write a sheet of the --images, too: out_grid.png")
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


def check(options: argparse.Namespace) -> None:
    """Refuse wrong or contradictory options.

    Raises:
        FileNotFoundError: if there is no such font.
        ValueError: naming the option.
    """
    if options.out.suffix.lower() not in _PICTURES:
        raise ValueError(f"--out {options.out}: it must end in .png, .jpg, .jpeg or .webp")
    _check_numbers(options)
    _check_prompt(options)
    if options.source and options.source.resolve() == options.out.resolve():
        raise ValueError(f"--out {options.out} is the image of --from; name another file")
    if options.grid and options.images == 1:
        raise ValueError("--grid is a sheet of several images; give --images too, or leave it out")
    if options.template and options.layout:
        raise ValueError("--template and --layout both give the layout; give one of them")
    if options.mask and not options.image:
        raise ValueError("--mask is given without --image, the picture to generate into")
    if options.image and not (options.mask or options.layout or options.template or options.stored_layout):
        raise ValueError("--image needs --mask or --layout: which region of it is generated")
    if options.save_layout and options.save_layout.suffix.lower() != ".json":
        raise ValueError(f"--save_layout {options.save_layout}: it must end in .json")
    if options.font and not options.font.is_file():
        raise FileNotFoundError(f"--font {options.font} does not exist")


def _check_numbers(options: argparse.Namespace) -> None:
    """Refuse numbers out of range; settings that are not given are None."""
    ranges = {
        "images": (1, MOST_IMAGES),
        "seed": (0, _LARGEST_SEED),
        "height": (1, MOST_SIDE),
        "width": (1, MOST_SIDE),
        "upscale": (1, _MOST_UPSCALE),
        "steps": (1, MOST_STEPS),
        "cache_interval": (1, MOST_STEPS),
    }
    for name, (least, most) in ranges.items():
        if getattr(options, name) is not None:
            check_whole(f"--{name}", getattr(options, name), least, most)
    if options.guidance_interval is not None:
        options.guidance_interval = tuple(options.guidance_interval)  # argparse makes a list
        check_interval("--guidance_interval", options.guidance_interval)
    if options.guidance_rescale is not None:
        check_share("--guidance_rescale", options.guidance_rescale)


def _check_prompt(options: argparse.Namespace) -> None:
    if options.prompt is None and options.prompts is None:
        raise ValueError(f"a prompt is needed: {_EXAMPLE}, or a list of them with --prompts FILE")
    check_prompts([options.negative_prompt or ""])
    if options.prompts is None:
        check_prompts([options.prompt])
        if not options.prompt.strip():
            raise ValueError(f"the prompt is {options.prompt!r}; it must say what to draw: {_EXAMPLE}")
        return
    if options.prompt is not None:
        raise ValueError("PROMPT and --prompts both say what to draw; give one of them")
    if alone := [name for name in _ONE_PROMPT if getattr(options, name) not in (None, False, 1)]:
        name = "from" if alone[0] == "source" else alone[0]
        raise ValueError(f"--{name} belongs to one prompt; leave it out, or --prompts")
