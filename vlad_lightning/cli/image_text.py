"""The text in a PNG of ``vlad-cli generate``, and how ``generate --from`` reads it.

Each option has a keyword (:mod:`~vlad_lightning.layout.picture_text`). Paths are not stored, since they are private: of
files that an image depends on, there are name and hash.
"""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.cli.generate_options import SAMPLER_OPTIONS, SETTINGS, parse
from vlad_lightning.files import read_picture, told_at
from vlad_lightning.layout.picture_text import SHORT_HASH, SOFTWARE, picture_facts, picture_text

if TYPE_CHECKING:
    from vlad_lightning.generation.image_sampler import ImageSampler
    from vlad_lightning.layout.layout_file import LayoutFile

_FILES = ("font", "image", "mask")  # options whose files an image depends on, and does not contain
_SPECIAL = ("guidance_interval", "fuse_qkv")  # settings that are not --NAME VALUE


@dataclass(frozen=True)
class ImageFacts:
    """What is known about an image besides the command's options.

    Attributes:
        seed: its seed.
        sampler: the settings it was sampled with.
        size: width and height in pixels, before it is enlarged.
        model: the model's name.
        model_hash: SHA-256 of the model's weights.
        device: the kind of device it was made on.
        layout: the layout file that it follows if it was given one, else its generated layout.
        sheet: the number of images if it is a sheet, else 0.
    """

    seed: int
    sampler: ImageSampler
    size: tuple[int, int]
    model: str
    model_hash: str
    device: str
    layout: LayoutFile | None = None
    sheet: int = 0


def image_text(options: Namespace, prompt: str, facts: ImageFacts) -> dict[str, str]:
    """Return the text of a PNG by keyword.

    Args:
        options: the command's options.
        prompt: the image's prompt.
        facts: what else is known about the image.
    """
    settings = {name: getattr(facts.sampler, name) for name in SAMPLER_OPTIONS}
    told = picture_facts(
        prompt,
        facts.seed,
        settings,
        facts.size,
        facts.model,
        facts.model_hash,
        facts.device,
        options.negative_prompt,
    )
    told |= {"upscale": options.upscale} if options.upscale else {}
    told |= {name: _named(path) for name in _FILES if (path := getattr(options, name))}
    if facts.layout is not None:
        told |= _layout_text(options, facts.layout)
    if facts.sheet:
        told["sheet"] = facts.sheet
    return picture_text(told)


def _layout_text(options: Namespace, layout: LayoutFile) -> dict[str, object]:
    """Return a layout and where it is from; font files are left out, and their layout file must be named again."""
    from vlad_lightning.layout.fonts import FAMILIES

    fonts = tuple(font if font in FAMILIES else None for font in layout.layout.fonts)
    plain = replace(layout, layout=replace(layout.layout, fonts=fonts if any(fonts) else ()))
    given = options.layout or options.template or options.stored_layout
    told: dict[str, object] = {"layout": plain.to_json(), "layout_origin": "given" if given else "generated"}
    if fonts != layout.layout.fonts and options.layout:
        told["layout_file"] = _named(options.layout)
    return told


def restore(options: Namespace) -> None:
    """Fill in the options that are not given from the text of the image that ``--from`` names.

    Args:
        options: the options as given; ``stored_layout``, ``stored_hash`` and ``stored_device`` are set, too.

    Raises:
        FileNotFoundError: if there is no such image.
        ValueError: if it is not an image of ``vlad-cli generate``, or is a sheet, or a file must be named again.
    """
    with told_at(f"--from {options.source}"):
        told = _read(options.source)
        stored = parse(_as_arguments(told))
        for name in SETTINGS:
            if getattr(options, name) is None:
                setattr(options, name, getattr(stored, name))
        options.stored_hash, options.stored_device = told.get("model_hash"), told.get("device")
        files = {name: told[name] for name in _FILES if name in told}
        if told.get("layout_origin") == "given" and not (options.layout or options.template):
            options.stored_layout = _stored_layout(told["layout"])
            files |= {"layout": told["layout_file"]} if "layout_file" in told else {}
        for name, file in files.items():
            _check_file(name, file, getattr(options, name))


def check_model(options: Namespace, model_hash: str) -> None:
    """Warn if the image of ``--from`` was made with other weights."""
    if options.stored_hash and options.stored_hash != model_hash:
        made, here = options.stored_hash[:SHORT_HASH], model_hash[:SHORT_HASH]
        warn(
            f"the weights of {options.model} have the hash {here}, those that made {options.source} had {made}; the "
            "image will be another"
        )


def warn(message: str) -> None:
    """Print a warning in one line."""
    print(f"warning: {message}", file=sys.stderr)


def _read(path: Path) -> dict[str, str]:
    told = {str(name): text for name, text in read_picture(path).info.items() if isinstance(text, str)}
    if not told.get("Software", "").startswith(SOFTWARE) or not {"prompt", "seed"} <= told.keys():
        raise ValueError("its text does not say how it was made; allowed is a PNG that vlad-cli generate wrote")
    if "sheet" in told:
        raise ValueError("it is a sheet of several images; name a single image")
    return told


def _as_arguments(told: Mapping[str, str]) -> list[str]:
    """Return the stored settings as a command line, so that they are checked as one."""
    words = [f"--{name}={told[name]}" for name in SETTINGS if name in told and name not in _SPECIAL]
    if "guidance_interval" in told:
        words += ["--guidance_interval", *told["guidance_interval"].split()]
    if "fuse_qkv" in told:
        words.append("--fuse_qkv" if told["fuse_qkv"] == "True" else "--no-fuse_qkv")
    return words


def _stored_layout(text: str) -> LayoutFile:
    from vlad_lightning.layout.layout_file import LayoutFile

    return LayoutFile.from_json(text)


def _named(path: Path) -> str:
    """Return a file's name and its hash."""
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _check_file(option: str, stored: str, path: Path | None) -> None:
    name, _, _ = stored.rpartition(" ")
    if path is None:
        raise ValueError(f"it was made with --{option} {name}, which it does not contain; give --{option}, too")
    if _named(path).rpartition(" ")[2] != stored.rpartition(" ")[2]:
        warn(f"--{option} {path} is another file than the {name} that was used; the image will be another")
