from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.framing import framed
from vlad_lightning.data.mario import write_sample
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.scene_file import ObjectFacts, SceneFacts, WordFacts, write_scene
from vlad_lightning.data.source import RawSample, prompt_of
from vlad_lightning.layout.glyphs import Rasterizer

WIDE = (200, 100)  # cropped to x from 50 to 150, padded to y from -50 to 150
BLACK = {
    "MIDDLE": (80, 40, 120, 60),
    "LEFT": (10, 40, 40, 60),
    "CUT": (35, 70, 75, 90),
}  # CUT loses 15 of its 40 pixels


def corners(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


def fractions(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    return left / 200, top / 100, right / 200, bottom / 100


def wide_sample(scene: SceneFacts | None = None) -> RawSample:
    """A picture of 200 x 100, white, with a black block for each word."""
    image = Image.new("RGB", WIDE, "white")
    for box in BLACK.values():
        ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill="black")
    words = tuple(OcrWord(word, corners(*fractions(*box)).astype(np.float32)) for word, box in BLACK.items())
    return RawSample("00000_000000000", image, "left, middle and cut", words, scene=scene)


def scene() -> SceneFacts:
    words = [
        WordFacts(word, tuple(map(tuple, corners(*fractions(*box)).tolist())), "center", "black", "x.ttf", group)
        for group, (word, box) in enumerate(BLACK.items())
    ]
    boxes = {"star": (130, 0, 160, 50), "heart": (140, 0, 180, 50), "ring": (60, 60, 90, 90)}  # x from 50 to 150
    objects = [ObjectFacts(name, "red", fractions(*box), "top", f"a red {name}") for name, box in boxes.items()]
    return SceneFacts("white", "solid", None, tuple(words), tuple(objects))


def test_stretching_and_squares_change_nothing() -> None:
    sample = wide_sample()
    assert framed(sample, "stretch", (64, 64)) is sample
    square = replace(sample, image=Image.new("RGB", (50, 50)))
    assert framed(square, "crop", (64, 64)) is square
    assert framed(square, "pad", (64, 64)) is square


def test_a_crop_moves_words_and_leaves_out_those_it_cuts() -> None:
    sample = framed(wide_sample(), "crop", (100, 100))
    assert sample.image.size == (100, 100)
    (word,) = sample.words
    assert word.text == "MIDDLE"
    np.testing.assert_allclose(word.quad, corners(0.3, 0.4, 0.7, 0.6), atol=1e-6)
    assert prompt_of(sample, sample.key) == 'left, "middle" and cut'


def test_padding_keeps_all_words() -> None:
    sample = framed(wide_sample(), "pad", (100, 100))
    assert sample.image.size == (100, 100)
    assert [word.text for word in sample.words] == list(BLACK)
    np.testing.assert_allclose(sample.words[0].quad, corners(0.4, 0.45, 0.6, 0.55), atol=1e-6)
    np.testing.assert_allclose(sample.words[1].quad, corners(0.05, 0.45, 0.2, 0.55), atol=1e-6)
    assert prompt_of(sample, sample.key) == '"left", "middle" and "cut"'
    assert sample.image.getpixel((50, 10)) == (255, 255, 255)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_words_stay_on_their_ink(resize: str, turned: bool) -> None:
    sample = wide_sample()
    if turned:  # a tall picture: x and y change places
        words = tuple(replace(word, quad=word.quad[:, ::-1].copy()) for word in sample.words)
        sample = replace(sample, image=sample.image.transpose(Image.Transpose.TRANSPOSE), words=words)
    moved = framed(sample, resize, (128, 128))  # type: ignore[arg-type]
    ink = np.asarray(moved.image.convert("L")) < 128
    boxes = np.zeros_like(ink)
    for word in moved.words:
        (left, top), (right, bottom) = np.rint([word.quad.min(axis=0) * 128, word.quad.max(axis=0) * 128]).astype(int)
        boxes[top:bottom, left:right] = True
    if resize == "crop":  # the rest of the word that is cut off is still on the picture
        ink &= boxes
    assert boxes.any()
    assert (ink & boxes).sum() > 0.97 * max(ink.sum(), boxes.sum())


def test_an_edge_of_the_picture_is_not_a_cut() -> None:
    """In MARIO, corners may lie outside of the picture; what was never visible is not lost."""
    low = OcrWord("LOW", corners(*fractions(80, 80, 120, 130)).astype(np.float32))
    assert [word.text for word in framed(replace(wide_sample(), words=(low,)), "crop", (64, 64)).words] == ["LOW"]


def test_a_crop_moves_the_scene() -> None:
    moved = framed(wide_sample(scene()), "crop", (100, 100)).scene
    assert moved is not None
    assert [entry.name for entry in moved.objects] == ["star", "ring"]  # three quarters of the heart are cut off
    np.testing.assert_allclose(moved.objects[0].box, (0.8, 0.0, 1.0, 0.5))  # it ends at the frame
    np.testing.assert_allclose(moved.objects[1].box, (0.1, 0.6, 0.4, 0.9))
    assert [entry.region for entry in moved.objects] == ["top right", "bottom left"]
    assert [(word.text, word.region) for word in moved.words] == [("MIDDLE", "center")]
    np.testing.assert_allclose(moved.words[0].quad, corners(0.3, 0.4, 0.7, 0.6))


def test_padding_moves_the_scene() -> None:
    moved = framed(wide_sample(scene()), "pad", (100, 100)).scene
    assert moved is not None
    assert len(moved.words) == len(moved.objects) == 3
    np.testing.assert_allclose(moved.objects[0].box, (0.65, 0.25, 0.8, 0.5))
    assert moved.words[1].region == "left"


def test_a_picture_of_extreme_proportions_costs_no_memory() -> None:
    sample = RawSample("x", Image.new("RGB", (400_000, 8)), "a line", ())
    assert framed(sample, "pad", (32, 32)).image.size == (32, 32)
    assert framed(sample, "crop", (32, 32)).image.size == (32, 32)


@pytest.mark.parametrize(("resize", "words"), [("stretch", 3), ("crop", 1), ("pad", 3)])
def test_images_layouts_and_glyphs_of_a_batch_agree(tmp_path: Path, resize: str, words: int) -> None:
    for number in range(3):
        folder = tmp_path / "00000" / f"{number:09d}"
        write_sample(folder, wide_sample())
        write_scene(folder, scene())
    data = MarioDataModule(str(tmp_path), size=64, resize=resize)  # type: ignore[arg-type]
    data.setup()
    (batch,) = data.val_dataloader()
    layout = batch.layouts[0]
    assert len(layout) == words
    assert torch.equal(batch.glyphs[0], Rasterizer()(layout, (64, 64)))
    assert batch.word_mask[0].sum() == words
    assert batch.scene_known.all()
    inked = (batch.images[0].mean(dim=0) < 0).float()
    middle = layout.quads()[layout.words.index("MIDDLE")]
    left, top, right, bottom = (*middle[0].mul(64).round().int().tolist(), *middle[2].mul(64).round().int().tolist())
    assert inked[top:bottom, left:right].mean() > 0.9
    assert (batch.glyphs[0, 0, top:bottom, left:right] > 0).any()


def test_another_way_is_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match="resize is 'squash'; allowed: stretch, crop, pad"):
        MarioDataModule("data", resize="squash")  # type: ignore[arg-type]
