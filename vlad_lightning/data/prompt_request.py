"""A prompt with all that belongs to it, apart from the data modules, so that generating does not import Lightning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vlad_lightning.diffusion.generators import Key
from vlad_lightning.types import Layout


@dataclass(frozen=True)
class Request:
    """A prompt with its layout and pictures; of the pictures, only the headers have been read.

    Attributes:
        key: its name.
        source: where it was read, for errors.
        prompt: the prompt, completed by the layout file.
        layout: the layout; None if it is to be generated.
        image: path of the picture to generate into, or None.
        mask: path of the mask of its region, or None.
        size: height and width of the picture as stored in its file, or None.
        noise_key: the key of its noise.
    """

    key: str
    source: str
    prompt: str
    layout: Layout | None = None
    image: Path | None = None
    mask: Path | None = None
    size: tuple[int, int] | None = None
    noise_key: Key = ()
