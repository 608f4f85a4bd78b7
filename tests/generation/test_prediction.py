"""Test all kinds of prompts in a real `Trainer.predict`, from the input files to the written files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_system as tiny
import torch
from PIL import Image, ImageFile
from torchvision.transforms.functional import to_pil_image

from vlad_lightning.callbacks import ImageWriter
from vlad_lightning.data.prompts import PromptDataModule
from vlad_lightning.data.requests import RequestDataModule
from vlad_lightning.generation.image_sampler import ImageSampler
from vlad_lightning.layout.glyphs import Rasterizer, glyph_images
from vlad_lightning.layout.layout_file import LayoutFile
from vlad_lightning.metrics.ocr_engine import RapidOCREngine
from vlad_lightning.modules import VFEModule
from vlad_lightning.types import GeneratedImages, Layout, PromptBatch

WIDTH, HEIGHT = 50, 40
LAYOUT = Layout(("SALE",), torch.tensor([[0.5, 0.25, 0.6, 0.2, 0.0]]))
PLAIN = {"prompt": 'a red circle and "HI"'}
TEMPLATE = {"prompt": 'a sign that says "SALE"', "template": "menu.png"}
OWN = {"prompt": 'a sign that says "SALE"', "layout": "a.json"}
MASKED = {"prompt": 'a shop that says "HI"', "image": "shop.png", "mask": "mask.png"}
AROUND = {"prompt": 'a shop that says "SALE"', "image": "shop.png", "layout": "a.json"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LayoutFile(LAYOUT, 100, 100).save(tmp_path / "a.json")
    LayoutFile(Layout(("FAR",), torch.tensor([[0.1, 0.9, 0.1, 0.1, 0.0]])), 100, 100).save(tmp_path / "far.json")
    LayoutFile(Layout(("FAR",), torch.tensor([[2.0, 0.9, 0.1, 0.1, 0.0]])), 100, 100).save(tmp_path / "beyond.json")
    (tmp_path / "text.png").write_text("no picture")
    to_pil_image(Rasterizer()(LAYOUT, (256, 256))).save(tmp_path / "menu.png")
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "shop.png")
    Image.fromarray(np.where(mask(), 255, 0).astype(np.uint8)).save(tmp_path / "mask.png")
    return tmp_path


def mask() -> np.ndarray:
    generated = np.zeros((HEIGHT, WIDTH), dtype=bool)
    generated[8:25, 10:45] = True
    return generated


def system(inpaints: bool = True, **changes: Any) -> VFEModule:
    module = tiny.stage("vfe", inpaints=inpaints, sampler=ImageSampler(steps=2), **changes)
    assert isinstance(module, VFEModule)
    torch.manual_seed(0)
    torch.nn.init.normal_(module.image_generator.vfe.fusion.weight, std=0.5)  # so that every input matters
    return module


def predicted(module: VFEModule, folder: Path, *lines: dict[str, str], **changes: Any) -> list[GeneratedImages]:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    data = RequestDataModule(str(path), **{"engine": RapidOCREngine()} | changes)
    trainer = tiny.trainer(callbacks=[ImageWriter(str(folder / "out"))])
    found: Any = trainer.predict(module, datamodule=data)
    return list(found)


def test_one_run_may_mix_all_kinds(folder: Path) -> None:
    module = system()
    [generated] = predicted(module, folder, PLAIN, TEMPLATE, OWN, MASKED, AROUND)
    assert [layout.words for layout in generated.layouts] == [("HI",), ("SALE",), ("SALE",), ("HI",), ("SALE",)]
    levels = [Rasterizer()(layout, (tiny.SIZE, tiny.SIZE)) for layout in (LAYOUT, generated.layouts[1])]
    drawn, own = glyph_images(torch.stack(levels))
    assert torch.equal(generated.glyphs[2], drawn)
    torch.testing.assert_close(
        generated.layouts[1].boxes, LAYOUT.boxes, atol=0.12, rtol=0
    )  # as the OCR engine reads it
    assert torch.equal(generated.glyphs[1], own)
    assert not torch.equal(generated.images[1], generated.images[2])

    shop = np.asarray(Image.open(folder / "shop.png"))
    for number in (3, 4):
        written = np.asarray(Image.open(folder / "out" / f"prompt_0000{number}.png"))
        assert written.shape == shop.shape
        kept = ~mask() if number == 3 else np.zeros_like(mask()) | (np.arange(HEIGHT) > 20)[:, None]
        np.testing.assert_array_equal(written[kept], shop[kept])
        assert (written != shop).mean() > 0.1
    for number in range(3):
        assert Image.open(folder / "out" / f"prompt_0000{number}.png").size == (tiny.SIZE, tiny.SIZE)

    again = LayoutFile.load(folder / "out" / "prompt_00004.json")
    assert (again.width, again.height) == (WIDTH, HEIGHT)
    assert again.layout.words == ("SALE",)
    assert torch.equal(generated.layouts[4].boxes, LayoutFile.load(folder / "a.json").layout.boxes)


def test_pictures_of_several_formats_are_each_generated_as_alone(folder: Path) -> None:
    for name, size in (("tall", (30, 60)), ("wide", (90, 30))):
        Image.open(folder / "shop.png").resize(size).save(folder / f"{name}.png")
        Image.open(folder / "mask.png").resize(size).save(folder / f"{name}_mask.png")
    tall, wide = (
        {"prompt": f'a {name} shop, "HI"', "image": f"{name}.png", "mask": f"{name}_mask.png"}
        for name in ("tall", "wide")
    )
    lines = [tall, PLAIN, wide, MASKED]
    [together] = predicted(system(), folder, *lines)
    assert [tuple(each.shape[1:]) for each in together.pictures] == [(60, 30), (32, 32), (30, 90), (HEIGHT, WIDTH)]
    assert together.images.shape == together.glyphs.shape == (4, 3, tiny.SIZE, tiny.SIZE)
    assert together.prompts == tuple(line["prompt"] for line in lines)
    for row, line in enumerate(lines):
        [alone] = predicted(system(), folder, line)
        picture = alone.pictures[0] if alone.pictures else alone.images[0]
        torch.testing.assert_close(together.pictures[row], picture, atol=1e-4, rtol=0)
        assert torch.equal(together.layouts[row].boxes, alone.layouts[0].boxes)
    [alone] = predicted(system(), folder, wide)
    assert alone.images.shape == (1, 3, 18, 56)  # the picture's proportions and about the training's area
    inside = np.asarray(Image.open(folder / "wide_mask.png")) >= 128
    original = torch.from_numpy(np.asarray(Image.open(folder / "wide.png")).copy()).permute(2, 0, 1) / 127.5 - 1
    torch.testing.assert_close(alone.pictures[0][:, ~inside], original[:, ~inside], atol=1e-6, rtol=0)


def test_words_without_a_layout_are_placed_in_the_region(folder: Path) -> None:
    [generated] = predicted(system(), folder, MASKED)
    quads = generated.layouts[0].quads()[0]
    assert (quads >= torch.tensor([10 / WIDTH, 8 / HEIGHT]) - 1e-3).all()
    assert (quads <= torch.tensor([45 / WIDTH, 25 / HEIGHT]) + 1e-3).all()


@pytest.mark.parametrize("inpaints", [False, True])
def test_prompts_alone_are_generated_like_those_of_a_text_file(inpaints: bool, folder: Path) -> None:
    module = system(inpaints)
    [listed] = predicted(module, folder, PLAIN, {"prompt": "no words"})
    plain: Any = tiny.trainer().predict(module, datamodule=PromptDataModule([PLAIN["prompt"], "no words"]))
    assert torch.equal(listed.images, plain[0].images)
    assert listed.pictures == ()


def test_the_pixels_in_the_region_are_never_used(folder: Path) -> None:
    first = predicted(system(), folder, MASKED)[0].pictures[0]
    pixels = np.asarray(Image.open(folder / "shop.png")).copy()
    pixels[12:20, 15:40] = 0  # well inside: stretching to the image generator's size mixes neighbours
    Image.fromarray(pixels).save(folder / "shop.png")
    assert torch.equal(first, predicted(system(), folder, MASKED)[0].pictures[0])


@pytest.mark.parametrize(
    ("system_of", "line", "message"),
    [
        ({"inpaints": False, "hierarchical": False}, OWN, "no hierarchical guidance"),
        ({}, {"prompt": '"one two" and "three four five"'}, "asks for 5 words; the layout holds at most 4"),
        ({}, {"prompt": "'中文'"}, "has no glyph"),
        ({}, MASKED | {"prompt": "'中文'"}, "has no glyph"),
        ({}, AROUND | {"layout": "beyond.json"}, r"words\[0\]\.quad is .*; it lies outside the frame"),
        ({}, MASKED | {"image": "text.png"}, "text.png is no picture that can be read"),
    ],
)
def test_a_bad_line_is_refused_before_the_first_is_generated(
    system_of: dict[str, Any], line: dict[str, str], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=rf"prompts\.jsonl', line 2: .*{message}"):
        predicted(system(**system_of), folder, PLAIN, line, batch_size=1)
    assert not (folder / "out").exists()


def test_a_mask_of_another_size_is_refused_before_the_first_is_generated(folder: Path) -> None:
    Image.new("L", (10, 10), 255).save(folder / "small.png")
    with pytest.raises(ValueError, match=r"line 2: mask has shape \(10, 10\)"):
        predicted(system(), folder, PLAIN, MASKED | {"mask": "small.png"}, batch_size=1)
    assert not (folder / "out").exists()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the name of a file each time Pillow decodes its pixels."""
    names: list[str] = []
    plain = ImageFile.ImageFile.load

    def load(image: ImageFile.ImageFile) -> Any:
        if image.tile:
            names.append(Path(str(image.filename or getattr(image.fp, "name", ""))).name)
        return plain(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    return names


def test_pictures_are_decoded_once_and_only_when_needed(folder: Path, decoded: list[str]) -> None:
    module, before = system(), []
    module.image_generator.vfe.register_forward_pre_hook(lambda *_: before.append(len(decoded)))
    predicted(module, folder, PLAIN, MASKED, AROUND, batch_size=1)
    assert decoded == ["shop.png", "mask.png", "shop.png"]
    assert sorted(set(before)) == [0, 2, 3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (MASKED | {"image": "cut.png"}, r"cut\.png is no picture that can be read: .*truncated"),
        (MASKED | {"mask": "black.png"}, "mask is empty"),
        (MASKED | {"layout": "far.json"}, "'FAR' outside the mask"),
    ],
)
def test_an_error_in_the_pixels_is_named_and_earlier_images_are_kept(
    line: dict[str, str], message: str, folder: Path
) -> None:
    whole = (folder / "shop.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "black.png")
    with pytest.raises(ValueError, match=rf"prompts\.jsonl', line 2: .*{message}"):
        predicted(system(), folder, PLAIN, line, MASKED, batch_size=1)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["prompt_00000.json", "prompt_00000.png"]


def test_a_batch_needs_as_many_layouts_as_prompts() -> None:
    with pytest.raises(ValueError, match="layouts has 1 entries"):
        PromptBatch(("a", "b"), ("x", "y"), layouts=(None,))


STARS = Layout(("SALE",), LAYOUT.boxes, (), ("a red star",), torch.tensor([[0.5, 0.7, 0.2, 0.2, 0.0]]))


def test_objects_of_a_layout_file_are_generated_and_written(folder: Path) -> None:
    LayoutFile(STARS, 100, 100).save(folder / "stars.json")
    line = OWN | {"layout": "stars.json"}
    [generated] = predicted(system(), folder, line)
    assert generated.layouts[0].objects == ("a red star",)
    assert generated.prompts[0] == 'a sign that says "SALE", with a red star'  # the file completes the prompt
    [without] = predicted(system(), folder, OWN)
    assert not torch.equal(generated.images, without.images)
    predicted(system(), folder, line)
    written = LayoutFile.load(folder / "out" / "prompt_00000.json").layout
    assert written.objects == ("a red star",)
    torch.testing.assert_close(written.object_boxes, STARS.object_boxes, atol=1e-3, rtol=0)


def test_objects_for_an_image_generator_that_draws_words_only_are_refused(folder: Path) -> None:
    LayoutFile(STARS, 100, 100).save(folder / "stars.json")
    module = system(inpaints=False)
    module.image_generator = tiny.image_generator(tiny.LORA, grounded=False)
    with pytest.raises(ValueError, match="line 1: the layout has the objects 'a red star'"):
        predicted(module, folder, OWN | {"layout": "stars.json"})
