"""Test lists of prompts with layouts, templates and pictures, as `predict` reads them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from vlad_lightning.data.requests import RequestDataModule
from vlad_lightning.layout.glyphs import Rasterizer
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.types import Layout, PromptBatch

LAYOUT = Layout(("SALE",), torch.tensor([[0.5, 0.25, 0.6, 0.2, 0.0]]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a layout file, a template, a picture of 20 x 10 pixels, and masks."""
    quad = [[20, 15], [80, 15], [80, 35], [20, 35]]
    words = [{"text": "SALE", "quad": quad, "colour": "red"}]
    (tmp_path / "a.json").write_text(json.dumps({"width": 100, "height": 100, "words": words}))
    to_pil_image(Rasterizer()(LAYOUT, (256, 256))).save(tmp_path / "menu.png")
    Image.new("RGB", (256, 256)).save(tmp_path / "blank.png")
    pixels = np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "shop.png")
    mask = np.zeros((10, 20), dtype=np.uint8)
    mask[2:8, 5:15] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.fromarray(mask[:, :10]).save(tmp_path / "narrow.png")
    Image.fromarray(np.zeros_like(mask)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("no picture")
    return tmp_path


def batches(folder: Path, *lines: Any, engine: Any = None, batch_size: int = 8) -> list[PromptBatch]:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    data = RequestDataModule(str(path), batch_size, engine)
    data.setup("predict")
    return list(data.predict_dataloader())


def test_a_list_may_mix_all_kinds(folder: Path) -> None:
    lines = [
        {"prompt": " a dog "},
        "",
        {"prompt": "a poster that says 'SALE'", "layout": "a.json"},
        {"prompt": "a menu", "template": "menu.png"},
        {"prompt": "a shop", "image": "shop.png", "mask": "mask.png"},
        {"prompt": "a shop", "image": "shop.png", "layout": "a.json"},
    ]
    first, second = batches(folder, *lines, engine=RapidOCREngine(), batch_size=3)
    assert first.keys + second.keys == tuple(f"prompt_0000{i}" for i in range(5))
    assert first.prompts == ("a dog", "a poster that says 'SALE' in red letters", "a menu")  # a colour is a phrase
    assert [source.rpartition(" ")[2] for source in first.sources + second.sources] == ["1", "3", "4", "5", "6"]
    generated, own, read = first.layouts
    assert generated is None
    assert own is not None
    assert read is not None
    assert own.words == read.words == ("SALE",)
    torch.testing.assert_close(own.boxes, LAYOUT.boxes)
    torch.testing.assert_close(read.boxes, LAYOUT.boxes, atol=0.12, rtol=0)  # a margin
    assert first.images == first.masks == (None, None, None)
    image, mask = second.images[0], second.masks[0]
    assert image is not None
    assert mask is not None
    pixels = np.asarray(Image.open(folder / "shop.png"))
    np.testing.assert_array_equal(((image + 1) * 127.5).round().permute(1, 2, 0).byte().numpy(), pixels)
    assert mask.shape == (1, 10, 20)
    assert mask.sum() == 6 * 10
    assert second.layouts[0] is None
    assert second.masks[1] is None
    assert second.layouts[1] is not None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not an object of JSON"),
        ('["a"]', "must be an object with prompt"),
        ({"prompt": "a", "maks": "mask.png"}, "unknown entry 'maks'; allowed are prompt, layout"),
        ({"layout": "a.json"}, "prompt is missing"),
        ({"prompt": " "}, "prompt is ' '"),
        ({"prompt": 3}, "prompt is 3; it must be a text"),
        ({"prompt": "a", "layout": "a.json", "template": "menu.png"}, "give one of them"),
        ({"prompt": "a", "mask": "mask.png"}, "mask is given without image"),
        ({"prompt": "a", "image": "shop.png"}, "image needs mask or layout"),
        ({"prompt": "a", "layout": "menu.png"}, "menu.png: not a JSON file"),
        ({"prompt": "a", "template": "menu.png"}, "needs an OCR engine; data.engine is null"),
        ({"prompt": "a", "image": "shop.png", "mask": "narrow.png"}, r"mask has shape \(10, 10\)"),
        ({"prompt": "a", "image": "shop.png", "mask": "black.png"}, "mask is empty"),
        ({"prompt": "a", "image": "text.png", "mask": "mask.png"}, "text.png is no picture that can be read"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(line: Any, message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=rf"prompts\.jsonl', line 3: .*{message}"):
        batches(folder, {"prompt": "a dog"}, "", line)


def test_the_mask_of_a_picture_turned_by_exif_matches_the_turned_picture(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: 10 x 20 pixels in the file are 20 x 10
    Image.new("RGB", (10, 20)).save(folder / "photo.jpg", exif=exif)
    (batch,) = batches(folder, {"prompt": "a", "image": "photo.jpg", "mask": "mask.png"})
    assert batch.images[0] is not None
    assert batch.images[0].shape == (3, 10, 20)


def test_a_template_without_text_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1: no text is read on template .*blank\.png"):
        batches(folder, {"prompt": "a", "template": "blank.png"}, engine=RapidOCREngine())


@pytest.mark.parametrize("name", ["layout", "template", "image", "mask"])
def test_a_missing_file_is_named_with_its_line(name: str, folder: Path) -> None:
    entry = {"prompt": "a", name: "nowhere.png"}
    if name == "mask":
        entry["image"] = "shop.png"
    if name == "image":
        entry["mask"] = "mask.png"
    with pytest.raises(FileNotFoundError, match=rf"line 1: {name} .*nowhere\.png does not exist"):
        batches(folder, entry)


def test_an_empty_file_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="holds no prompt"):
        batches(folder, "", " ")
    with pytest.raises(FileNotFoundError, match=r"missing\.jsonl"):
        RequestDataModule(str(folder / "missing.jsonl"))


def test_standard_input_names_files_of_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"prompt": "a", "layout": "a.json"}\n'))
    data = RequestDataModule("-")
    for _ in range(2):  # standard input is read once
        data.setup("predict")
        (batch,) = data.predict_dataloader()
        assert [layout.words for layout in batch.layouts] == [("SALE",)]
