"""What is known about a generated image, and the text of its PNG (:mod:`~vlad_lightning.layout.picture_text`).

Paths are not stored, since they are private: of files that an image depends on, there are name and hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.fonts import FAMILIES
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.layout.picture_text import SAMPLER_SETTINGS, picture_facts, picture_text


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
        height: the height that was asked for; None if it was not.
        width: likewise.
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
    height: int | None = None
    width: int | None = None
    upscale: int | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    layout: LayoutFile | None = None
    layout_given: bool = False
    layout_path: Path | None = None
    sheet: int = 0

    def text(self) -> dict[str, str]:
        """Return the text of a PNG by keyword."""
        told = picture_facts(
            self.prompt,
            self.seed,
            {name: getattr(self.sampler, name) for name in SAMPLER_SETTINGS},
            self.size,
            self.model,
            self.model_hash,
            self.device,
            self.negative_prompt,
        )
        told |= {"height": self.height, "width": self.width, "upscale": self.upscale or None}
        told |= self.files
        if self.layout is not None:
            told |= self._layout_text(self.layout)
        if self.sheet:
            told["sheet"] = self.sheet
        return picture_text(told)

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
