"""The images and layouts that the studio has made, as files in its temporary folder; the oldest are removed."""

from __future__ import annotations

import secrets
from collections import deque
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from vlad_lightning.files import save_picture
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.studio.engine import Drawn

_MOST_FILES = 400
_PREVIEW_SIDE = 1024  # pixels: of an uploaded picture, as it is shown


class Storage:
    """A folder of files that the browser may read.

    Args:
        folder: below gradio's temporary folder; created.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._kept: deque[Path] = deque()

    def image(self, drawn: Drawn) -> Path:
        """Store a finished image as PNG, with the text of ``vlad-cli generate``."""
        path = self._new(f"seed_{drawn.request.seed}.png")
        save_picture(drawn.image, path, drawn.told)
        return path

    def shown(self, picture: Image.Image) -> Path:
        """Store a picture as it is shown behind the boxes, of at most 1024 pixels a side."""
        path = self._new("picture.png")
        small = picture.copy()
        small.thumbnail((_PREVIEW_SIDE, _PREVIEW_SIDE))
        save_picture(small, path, {})
        return path

    def mask(self, mask: Image.Image) -> Path:
        """Store a mask."""
        path = self._new("mask.png")
        save_picture(mask, path, {})
        return path

    def layout(self, layout: LayoutFile) -> Path:
        """Store a layout file."""
        path = self._new("layout.json")
        layout.save(path)
        return path

    def _new(self, name: str) -> Path:
        """Return a path in a new folder with a random name, so that nobody guesses the files of another browser."""
        path = self._folder / secrets.token_urlsafe(16) / name
        path.parent.mkdir()
        self._kept.append(path)
        while len(self._kept) > _MOST_FILES:
            old = self._kept.popleft()
            old.unlink(missing_ok=True)
            old.parent.rmdir()
        return path


def address(path: Path) -> str:
    """Return a file's address for the browser, relative to the page's."""
    return f"gradio_api/file={quote(str(path))}"
