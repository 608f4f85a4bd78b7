"""``vlad-cli generate``: paint prompts with a pipeline folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

DEFAULT_MODEL = Path("runs/demo/pipeline")  # what `make demo` leaves


def main(args: Sequence[str]) -> None:
    """Paint one prompt or several.

    Args:
        args: what follows ``generate`` on the command line.

    Raises:
        FileNotFoundError: where there is no pipeline folder, or no layout file.
        ValueError: where the arguments or the prompt cannot be used.
    """
    options = _parser().parse_args(args)
    if not (options.model / "model_index.json").is_file():
        raise FileNotFoundError(f"--model {options.model} is no pipeline folder; train one (make demo) or name another")
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise ValueError(f"--out {options.out}: it must end in .png, .jpg, .jpeg or .webp")
    layout = _read_layout(options.layout) if options.layout else None
    _paint(options, layout)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("vlad-cli generate", description="Paint prompts; words to draw stand in quotes.")
    parser.add_argument("prompt", help="such as: a poster that says 'HELLO'")
    parser.add_argument("--out", type=Path, default=Path("out.png"), help="image file (default: %(default)s)")
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="pipeline folder (default: %(default)s)")
    parser.add_argument("--layout", type=Path, help='JSON list of {"text": .., "quad": [[x, y] * 4]}, in fractions')
    parser.add_argument("--images", type=int, default=1, help="how many, side by side (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=20, help="sampling steps (default: %(default)s)")
    parser.add_argument("--guidance_scale", type=float, default=2.5, help="of the text (default: %(default)s)")
    parser.add_argument("--layout_scale", type=float, default=1.0, help="of the layout (default: %(default)s)")
    parser.add_argument("--solver", choices=("ddim", "dpmsolver++"), default="ddim", help="(default: %(default)s)")
    parser.add_argument("--cache_interval", type=int, default=1, help="run a UNet's deep blocks every N steps only")
    parser.add_argument("--fuse_qkv", action="store_true", help="queries, keys and values by one product")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same image (default: %(default)s)")
    parser.add_argument("--device", default=None, help="cpu, cuda, ... (default: a GPU where there is one)")
    return parser


def _read_layout(path: Path) -> list[tuple[str, list[list[float]]]]:
    """Words and quads of a layout file.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: where it does not hold such a list.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--layout {path} does not exist")
    try:
        words = [(str(w["text"]), [[float(x), float(y)] for x, y in w["quad"]]) for w in json.loads(path.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f'--layout {path}: not a JSON list of {{"text": .., "quad": [[x, y] * 4]}}: {error}'
        ) from error
    if wrong := [text for text, quad in words if len(quad) != 4]:
        raise ValueError(f"--layout {path}: the quad of {wrong[0]!r} must have 4 corners")
    return words


def _paint(options: argparse.Namespace, words: list[tuple[str, list[list[float]]]] | None) -> None:
    # imported here, so that wrong arguments are told at once
    import torch
    from torchvision.utils import save_image

    from vlad_lightning.diffusion.generators import generator_for
    from vlad_lightning.diffusion.sampler import Sampler
    from vlad_lightning.files import write_file
    from vlad_lightning.pipeline import VLADPipeline
    from vlad_lightning.types import Layout

    if options.images < 1:
        raise ValueError(f"--images is {options.images}; it must be at least 1")
    pipe = VLADPipeline.from_pretrained(options.model)
    pipe.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    layouts = None
    if words is not None:
        layout = Layout.from_quads([w for w, _ in words], torch.tensor([q for _, q in words]).view(-1, 4, 2))
        layouts = [layout] * options.images
    drawn = pipe(
        [options.prompt] * options.images,
        layouts=layouts,
        num_inference_steps=options.steps,
        guidance_scale=options.guidance_scale,
        layout_scale=options.layout_scale,
        sampler=Sampler(solver=options.solver, cache_interval=options.cache_interval, fuse_qkv=options.fuse_qkv),
        generator=generator_for("cpu", options.seed, "generate"),
        output_type="pt",
    )
    write_file(options.out, partial(save_image, drawn.images, nrow=8, padding=0, normalize=True, value_range=(-1, 1)))
    print(f"wrote {options.out}")
