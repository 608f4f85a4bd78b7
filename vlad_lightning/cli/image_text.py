"""``generate --from``: the options that are read from the text of a PNG (``pipeline/image_facts.py`` writes it)."""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vlad_lightning.cli.generate_options import SETTINGS, parse
from vlad_lightning.files import read_picture, told_at
from vlad_lightning.layout.picture_text import SHORT_HASH, SOFTWARE

if TYPE_CHECKING:
    from vlad_lightning.layout.layout_file import LayoutFile

FILES = ("font", "image", "mask")
"""The options whose files an image depends on, and does not contain."""

_SPECIAL = ("guidance_interval", "fuse_qkv")  # settings that are not --NAME VALUE


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
        files = {name: told[name] for name in FILES if name in told}
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


def _check_file(option: str, stored: str, path: Path | None) -> None:
    name, _, _ = stored.rpartition(" ")
    if path is None:
        raise ValueError(f"it was made with --{option} {name}, which it does not contain; give --{option}, too")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != stored.rpartition(" ")[2]:
        warn(f"--{option} {path} is another file than the {name} that was used; the image will be another")
