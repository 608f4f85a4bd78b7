from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vlad_lightning.metrics.ocr_engine import (
    OCREngine,
    OCRLocator,
    PaddleOCREngine,
    RapidOCREngine,
    bgr_pictures,
    build_ocr_engine,
    layout_of_lines,
)
from vlad_lightning.metrics.word_reader import WordReader


def written(lines: list[str], size: int, font_size: int) -> Tensor:
    """(1, 3, size, size) float in [-1, 1]: lines of text, black on a light yellow."""
    picture = Image.new("RGB", (size, size), (250, 240, 180))
    font = ImageFont.load_default(font_size)
    for i, line in enumerate(lines):
        ImageDraw.Draw(picture).text((4, 4 + 1.6 * i * font_size), line, fill=(10, 10, 10), font=font)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1


@pytest.fixture(scope="module")
def engine() -> OCREngine:
    return build_ocr_engine("rapidocr")


@pytest.mark.parametrize(("size", "font_size"), [(64, 15), (256, 60)])
def test_rapidocr_reads_lines_from_top_to_bottom(engine: OCREngine, size: int, font_size: int) -> None:
    assert engine.read(written(["HAPPY", "day"], size, font_size)) == [["HAPPY", "day"]]


def test_rapidocr_keeps_the_order_of_a_batch_and_finds_nothing_on_nothing(engine: OCREngine) -> None:
    batch = torch.cat([written(["WORD"], 64, 18), torch.zeros(1, 3, 64, 64), written(["NEXT"], 64, 18)])
    assert engine.read(batch) == [["WORD"], [], ["NEXT"]]
    assert engine.read(batch[:0]) == []


def test_pictures_that_are_read_side_by_side_are_read_as_one_by_one() -> None:
    words = [f"{word} {i}" for i in range(3) for word in ("LEMON", "OPEN", "night", "Sale")]
    batch = torch.cat([written([word], 128, 24) for word in words])
    alone, beside = RapidOCREngine(workers=1), RapidOCREngine(workers=3)
    read = alone.read(batch)
    assert sum(lines == [word] for lines, word in zip(read, words, strict=True)) > 8
    assert beside.read(batch) == read
    for one, other in zip(alone.read_lines(batch), beside.read_lines(batch), strict=True):
        assert [line.text for line in one] == [line.text for line in other]
        assert all(np.array_equal(a.quad, b.quad) for a, b in zip(one, other, strict=True))
    assert beside.name == alone.name  # a result does not say how many workers read


def test_an_error_in_a_worker_is_raised_and_the_engine_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RapidOCREngine(workers=2)
    batch = written(["WORD"], 64, 18).repeat(4, 1, 1, 1)

    def broken(*_: object, **__: object) -> None:
        raise OSError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(RapidOCREngine, "_page", broken)
        with pytest.raises(OSError, match="broken"):
            engine.read(batch)
    assert engine.read(batch) == [["WORD"]] * 4


def test_rapidocr_tells_where_it_reads_what(engine: OCRLocator) -> None:
    picture = Image.new("RGB", (300, 200), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(50)
    expected = []
    for word, place in (("HAPPY", (30, 20)), ("day", (120, 120))):
        draw.text(place, word, font=font, fill="black")
        left, top, right, bottom = draw.textbbox(place, word, font=font)
        expected.append([left / 300, top / 200, right / 300, bottom / 200])
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
    assert isinstance(engine, OCRLocator)
    for images in (pixels, pixels[..., ::2, ::2]):  # the smaller one is enlarged before it is read
        layout = engine.locate(images)[0]
        assert layout.words == ("HAPPY", "day")
        quads = layout.quads()
        found = torch.cat([quads[:, 0], quads[:, 2]], dim=1)
        assert (found - torch.tensor(expected)).abs().max() < 0.08  # a detector's boxes have a margin
    assert [len(layout) for layout in engine.locate(torch.zeros(2, 3, 64, 64))] == [0, 0]


def test_rapidocr_tells_where_each_word_of_a_line_is() -> None:
    image = Image.new("RGB", (400, 200), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(50)
    draw.text((30, 60), "BIG SALE", font=font, fill="black")
    starts = [30, 30 + font.getlength("BIG ")]
    ends = [30 + font.getlength("BIG"), 30 + font.getlength("BIG SALE")]
    words = WordReader()(image)
    assert [word.text for word in words] == ["BIG", "SALE"]
    assert all(0.9 < word.confidence <= 1 for word in words)
    for word, start, end in zip(words, starts, ends, strict=True):
        assert abs(word.quad[:, 0].min() * 400 - start) < 14  # a detector's boxes have a margin
        assert abs(word.quad[:, 0].max() * 400 - end) < 14
    assert WordReader()(Image.new("RGB", (64, 64))) == []
    assert "rapidocr" in WordReader().name


@pytest.mark.parametrize("off", [-0.45, 0.45])
def test_engines_see_the_nearest_bytes_as_bgr(off: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 12, 10, 3))
    images = torch.from_numpy((pixels + off) / 127.5 - 1).permute(0, 3, 1, 2).float()  # a little below 0 and above 255
    for found, expected in zip(bgr_pictures(images, 1), pixels, strict=True):
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected[..., ::-1])


def test_what_an_image_generator_overshoots_is_black_and_white_and_the_shorter_side_decides() -> None:
    images = torch.tensor([-1.3, 1.3]).view(2, 1, 1, 1).expand(2, 3, 8, 32)
    black, white = bgr_pictures(images, 16)
    assert black.shape == white.shape == (16, 64, 3)
    assert (black.max(), white.min()) == (0, 255)


def test_a_line_without_letters_has_no_place_in_a_layout() -> None:
    corners = np.array([[0, 0], [40, 0], [40, 10], [0, 10]])
    layout = layout_of_lines(["", "TOP", " \u3000", "LOW"], [corners + 5 * i for i in range(4)], (50, 100))
    assert layout.words == ("TOP", "LOW")
    assert torch.allclose(layout.quads()[:, 0], torch.tensor([[0.05, 0.1], [0.15, 0.3]]))
    assert len(layout_of_lines([" "], [corners], (50, 100))) == len(layout_of_lines((), None, (50, 100))) == 0


def test_the_name_tells_the_version(engine: OCREngine) -> None:
    assert isinstance(engine, OCREngine)
    assert metadata.version("rapidocr") in engine.name
    assert "PP-OCR" in engine.name


def test_pictures_are_bgr_bytes_and_enlarged_only_where_small() -> None:
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1).expand(2, 3, 8, 16)
    same, large = bgr_pictures(red, 8), bgr_pictures(red, 32)
    assert (len(same), same[0].shape, same[0].dtype) == (2, (8, 16, 3), np.uint8)
    assert same[0][0, 0].tolist() == [0, 0, 255]
    assert large[0].shape == (32, 64, 3)
    assert large[0][5, 5].tolist() == [0, 0, 255]


def test_pictures_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\)"):
        bgr_pictures(torch.zeros(3, 8, 8), 8)


def test_an_unknown_engine_is_refused_with_those_allowed() -> None:
    with pytest.raises(ValueError, match="'tesseract'"):
        build_ocr_engine("tesseract")


@pytest.mark.parametrize("arguments", [{"min_side": 0}, {"threads": 0}, {"workers": 0}])
def test_numbers_below_one_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))} is 0"):
        RapidOCREngine(**arguments)


def paddle_is_missing() -> bool:
    try:
        return int(metadata.version("paddleocr").partition(".")[0]) < 3
    except metadata.PackageNotFoundError:
        return True


needs_paddle = pytest.mark.skipif(paddle_is_missing(), reason="paddleocr 3 is not installed")
Build = Callable[[], OCREngine]


@pytest.mark.skipif(not paddle_is_missing(), reason="paddleocr 3 is installed")
@pytest.mark.parametrize("build", [lambda: build_ocr_engine("paddleocr"), lambda: PaddleOCREngine("d", ".", "r", ".")])
def test_paddleocr_says_what_to_install(build: Build) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"needs paddleocr 3.*vlad-lightning\[paddle\]"):
        build()


@needs_paddle
def test_paddleocr_needs_both_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="detection_dir is None"):
        build_ocr_engine("paddleocr")
    with pytest.raises(FileNotFoundError, match=r"detection_dir is .* lacks inference.onnx and inference.yml"):
        build_ocr_engine("paddleocr", detection_dir=str(tmp_path), recognition_dir=str(tmp_path))


def test_paddleocr_refuses_a_side_below_one() -> None:
    with pytest.raises(ValueError, match="min_side is 0"):
        PaddleOCREngine("d", ".", "r", ".", min_side=0)
