"""Prompts with templates, layout files, or pictures to generate into, for ``predict``: one JSON object per line.

{"prompt": "a poster that says 'SALE'"}
{"prompt": "a poster that says 'SALE'", "layout": "sale.json"}
{"prompt": "a menu", "template": "menu.png"}
{"prompt": "a shop that says 'OPEN'", "image": "shop.jpg", "mask": "region.png"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vlad_lightning.data.prompt_request import Request
from vlad_lightning.data.prompts import STDIN, PromptDataModule, notice_without_words
from vlad_lightning.diffusion.generators import numbered
from vlad_lightning.files import picture_size, read_picture, told_at
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.layout.pictures import TextLocator, mask_tensor, picture_tensor, read_template
from vlad_lightning.limits import check_prompts, shown
from vlad_lightning.types import Layout, PromptBatch

_KEYS = ("prompt", "layout", "template", "image", "mask")


class RequestDataModule(PromptDataModule):
    """Prompts of a JSON-lines file, in batches of :class:`~vlad_lightning.types.PromptBatch`; blank lines are skipped.

    A line has ``prompt`` and optionally ``layout`` or ``template`` (where each word is), and ``image`` with ``mask``,
    a layout, or both (a picture to generate into). Paths are relative to the file. Lines of all kinds may be mixed.
    The keys are ``prompt_00000``, ``prompt_00001``, ...

    Args:
        file: the file in UTF-8; ``-`` is standard input, whose paths are relative to the current folder.
        batch_size: prompts per batch and device.
        engine: the OCR engine that reads templates; None if no line has one.

    Raises:
        ValueError: if ``batch_size`` is out of its range.
        FileNotFoundError: if ``file`` is not a file.
    """

    def __init__(self, file: str, batch_size: int = 8, engine: TextLocator | None = None) -> None:
        super().__init__(file=file, batch_size=batch_size)
        self.engine = engine
        self._requests: list[Request] = []

    def setup(self, stage: str | None = None) -> None:
        """Read the lines, their layout files and templates, once.

        Only the headers of pictures to generate into and of their masks are read; they are decoded once, when their
        batch is read.

        Raises:
            ValueError: names the line that cannot be used; also if there is no line, or the file is not in UTF-8.
            FileNotFoundError: names the line whose file does not exist.
        """
        if self._requests:
            return
        self._check_stdin()
        lines = [(number, line) for number, line in enumerate(self._read(), 1) if line.strip()]
        if not lines:
            raise ValueError(f"{self._source()} holds no prompt; give at least one line that is not blank")
        requests = [self._request(f"prompt_{i:05d}", *line) for i, line in enumerate(lines)]
        names = numbered([request.prompt for request in requests])
        self._requests = [replace(one, noise_key=name) for one, name in zip(requests, names, strict=True)]
        notice_without_words([(request.key, request.prompt) for request in self._requests if request.layout is None])

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return a loader in the order given; each device gets neighbouring batches."""
        return self._loader(_Pictured(self._requests), _collate)

    def _request(self, key: str, number: int, line: str) -> Request:
        source = f"{self._source()}, line {number}"
        folder = Path() if self.file == STDIN else Path(str(self.file)).parent
        with told_at(source):
            entry = _parse(line)
            paths = {name: folder / value for name, value in entry.items() if name != "prompt"}
            for name, path in paths.items():
                if not path.is_file():
                    raise FileNotFoundError(f"{name} {path} does not exist")
            prompt, layout = entry["prompt"].strip(), None
            if "layout" in paths:
                layout_file = LayoutFile.load(paths["layout"])
                prompt, layout = layout_file.completed(prompt), layout_file.layout
            elif "template" in paths:
                layout = self._read_template(paths["template"])
            size = _size(paths)
            return Request(key, source, prompt, layout, paths.get("image"), paths.get("mask"), size)

    def requests(self) -> Sequence[Request]:
        """See the base class."""
        return self._requests

    def _read_template(self, path: Path) -> Layout:
        if self.engine is None:
            raise ValueError(f"template {path} needs an OCR engine; data.engine is null (see configs/template.yaml)")
        return read_template(read_picture(path), self.engine, f"template {path}")


class _Pictured(Dataset[tuple[Request, Tensor | None, Tensor | None]]):
    """Requests with their pictures, (3, H, W), and masks, (1, H, W)."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, index: int) -> tuple[Request, Tensor | None, Tensor | None]:
        request = self.requests[index]
        if request.image is None:
            return request, None, None
        with told_at(request.source):
            image = picture_tensor(read_picture(request.image))
            if request.mask is None:
                return request, image[0], None
            size = (image.shape[-2], image.shape[-1])
            return request, image[0], mask_tensor(read_picture(request.mask), size)[0]


def _size(paths: Mapping[str, Path]) -> tuple[int, int] | None:
    """Return height and width of a line's picture, from its file's header; None without a picture.

    Raises:
        ValueError: if the header of the picture or its mask is not one of a picture, or the mask has another size.
    """
    if "image" not in paths:
        return None
    height, width = picture_size(paths["image"])
    mask = picture_size(paths["mask"]) if "mask" in paths else (height, width)
    if sorted(mask) != sorted((height, width)):  # an EXIF block may turn one of them; mask_tensor sees them upright
        raise ValueError(f"mask has shape {mask}; one picture of {height} x {width} pixels is masked")
    return height, width


def _parse(line: str) -> dict[str, str]:
    """Parse a line into its entries; refuse entries that are not text or do not go together."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not an object of JSON: {error}") from error
    if not isinstance(entry, dict):
        raise ValueError(f"{shown(entry)} is given; it must be an object with {', '.join(_KEYS)}")
    if unknown := sorted(set(entry) - set(_KEYS)):
        raise ValueError(f"unknown entry {', '.join(map(shown, unknown))}; allowed are {', '.join(_KEYS)}")
    for name, value in entry.items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{name} is {shown(value)}; it must be a text that is not blank")
    if "prompt" not in entry:
        raise ValueError("prompt is missing")
    check_prompts([entry["prompt"]])
    if {"layout", "template"} <= set(entry):
        raise ValueError("layout and template both tell the layout; give one of them")
    if "mask" in entry and "image" not in entry:
        raise ValueError("mask is given without image, the picture to generate into")
    if "image" in entry and not {"mask", "layout", "template"} & set(entry):
        raise ValueError("image needs mask or layout: which region of it is generated")
    return entry


def _collate(items: Sequence[tuple[Request, Tensor | None, Tensor | None]]) -> PromptBatch:
    requests, images, masks = zip(*items, strict=True)
    return PromptBatch(
        keys=tuple(r.key for r in requests),
        prompts=tuple(r.prompt for r in requests),
        layouts=tuple(r.layout for r in requests),
        images=images,
        masks=masks,
        sources=tuple(r.source for r in requests),
        noise_keys=tuple(r.noise_key for r in requests),
    )
