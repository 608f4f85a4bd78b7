"""What a generated PNG says about itself: how it was made, for people, for other programs, and to make it again.

Each setting has a keyword, and ``parameters`` has them in one text as AUTOMATIC1111's web UI writes it, which many
programs show. Paths are not stored, since they are private: of files that an image depends on, there are name and hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlad_lightning import __version__
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.fonts import FAMILIES
from vlad_lightning.layout.layout_file import LayoutFile

SOFTWARE = "vlad-lightning"
"""How the keyword ``Software`` begins."""

TOLD_SETTINGS = (
    *("steps", "guidance_scale", "layout_scale", "guidance_interval", "guidance_rescale"),
    *("solver", "cache_interval", "fuse_qkv"),
)
"""The settings of the sampler that are stored, each under its own name."""

SHORT_HASH = 10
"""Digits of a hash in ``parameters``, as in AUTOMATIC1111's."""


@dataclass(frozen=True)
class ImageFacts:
    """What is known about an image.

    Attributes:
        prompt: its prompt as given, without what a layout adds.
        seed: its seed.
        sampler: the settings it was sampled with.
        size: width and height in pixels, before it is enlarged.
        model: the model's name.
        model_hash: SHA-256 of the model's weights.
        device: the kind of device it was made on.
        negative_prompt: what guidance led away from; None if nothing was given.
        upscale: how many times larger the stored image is; None if that was not asked for.
        files: :func:`named_file` of the files it depends on and does not contain, by the option that names them.
        layout: the layout file that it follows if it was given one, else its generated layout.
        layout_given: whether ``layout`` was given.
        layout_path: the file that ``layout`` was read from; it has to be named again if it names font files.
        sheet: the number of images if it is a sheet, else 0.
    """

    prompt: str
    seed: int
    sampler: ImageSampler
    size: tuple[int, int]
    model: str
    model_hash: str
    device: str
    negative_prompt: str | None = None
    upscale: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    layout: LayoutFile | None = None
    layout_given: bool = False
    layout_path: Path | None = None
    sheet: int = 0

    def text(self) -> dict[str, str]:
        """Return the text of a PNG by keyword."""
        settings = {name: getattr(self.sampler, name) for name in TOLD_SETTINGS}
        told = {
            "prompt": self.prompt,
            **({"negative_prompt": self.negative_prompt} if self.negative_prompt is not None else {}),
            "seed": self.seed,
            **settings,
            "guidance_interval": " ".join(map(str, settings["guidance_interval"])),
            "size": "x".join(map(str, self.size)),
            "model": self.model,
            "model_hash": self.model_hash,
            "device": self.device,
        }
        told |= {"upscale": self.upscale} if self.upscale else {}
        told |= self.files
        if self.layout is not None:
            told |= self._layout_text(self.layout)
        if self.sheet:
            told["sheet"] = self.sheet
        text = {keyword: str(value) for keyword, value in told.items()}
        return {"parameters": _parameters(text), **text, "Software": f"{SOFTWARE} {__version__}"}

    def _layout_text(self, layout: LayoutFile) -> dict[str, str]:
        """Return a layout and where it is from; font files are left out, and their layout file must be named again."""
        fonts = tuple(font if font in FAMILIES else None for font in layout.layout.fonts)
        plain = replace(layout, layout=replace(layout.layout, fonts=fonts if any(fonts) else ()))
        told = {"layout": plain.to_json(), "layout_origin": "given" if self.layout_given else "generated"}
        if fonts != layout.layout.fonts and self.layout_path:
            told["layout_file"] = named_file(self.layout_path)
        return told


def named_file(path: Path) -> str:
    """Return a file's name and its SHA-256."""
    with path.open("rb") as file:
        return f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _parameters(told: Mapping[str, str]) -> str:
    named = {
        "Steps": told["steps"],
        "Sampler": told["solver"],
        "CFG scale": told["guidance_scale"],
        "Layout scale": told["layout_scale"],
        "Seed": told["seed"],
        "Size": told["size"],
        "Model hash": told["model_hash"][:SHORT_HASH],
        "Model": told["model"],
        "Version": f"{SOFTWARE} {__version__}",
    }
    if "upscale" in told:
        named |= {"Postprocess upscale by": told["upscale"], "Postprocess upscaler": "Lanczos"}
    pairs = (f"{name}: {json.dumps(v) if set(',:') & set(v) else v}" for name, v in named.items())
    negative = f"Negative prompt: {told['negative_prompt']}\n" if "negative_prompt" in told else ""
    return f"{told['prompt']}\n{negative}{', '.join(pairs)}"
