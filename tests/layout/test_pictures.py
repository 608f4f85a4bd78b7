from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vlad_lightning.files import read_picture
from vlad_lightning.layout.pictures import (
    bounding_quad,
    from_pil,
    mask_tensor,
    picture_tensor,
    resized,
    stretched,
    to_bytes,
)
from vlad_lightning.types import MaskedImages


def test_every_value_of_a_picture_survives() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    tensor = picture_tensor(Image.fromarray(pixels))
    assert tensor.shape == (1, 3, 16, 16)
    assert torch.equal(to_bytes(tensor[0]).permute(1, 2, 0), torch.from_numpy(pixels))
    assert torch.equal(picture_tensor(tensor), tensor)
    assert torch.equal(picture_tensor(tensor[0]), tensor)


def test_values_are_rounded_to_the_nearest_byte_without_wrap_around() -> None:
    values = torch.tensor([-9.0, -1.3, -1.0, -1 + 0.9 / 127.5, 0.0, 1 - 0.9 / 127.5, 1.0, 1.3, 9.0])
    found = to_bytes(values.view(1, 1, 1, -1).expand(1, 3, 1, -1))
    assert found.dtype == torch.uint8
    assert found[0, 0, 0].tolist() == [0, 0, 0, 1, 128, 254, 255, 255, 255]


def test_a_picture_of_any_mode_is_read_and_stretched() -> None:
    grey = Image.linear_gradient("L").resize((20, 10))
    for mode in ("L", "RGB", "CMYK", "P", "LA", "RGBA", "YCbCr", "I;16"):
        picture = (
            grey.convert("I").point(lambda level: level * 257).convert(mode) if mode == "I;16" else grey.convert(mode)
        )
        found = from_pil(picture, (5, 8))
        assert (found.shape, found.dtype, found.is_contiguous()) == ((3, 5, 8), torch.float32, True)
        torch.testing.assert_close(found, from_pil(grey.convert("RGB"), (5, 8)), atol=0.02, rtol=0)


def test_transparent_pixels_become_white() -> None:
    assert picture_tensor(Image.new("RGBA", (4, 4), (200, 0, 0, 0))).eq(1).all()
    assert picture_tensor(Image.new("L", (4, 4), 0)).eq(-1).all()


def test_masks_of_every_kind_are_read() -> None:
    values = torch.zeros(4, 6, dtype=torch.bool)
    values[1:3, 2:5] = True
    image = Image.fromarray(values.numpy().astype(np.uint8) * 255)
    for mask in (values, values[None].float(), values[None, None], image, image.convert("1"), image.convert("RGB")):
        found = mask_tensor(mask, (4, 6))
        assert found.dtype == torch.bool
        assert torch.equal(found, values[None, None])


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tiff"])
def test_a_photo_from_a_file_is_turned_by_its_exif_block(tmp_path: Path, kind: str) -> None:
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(tmp_path / f"photo.{kind}", exif=exif)
    assert read_picture(tmp_path / f"photo.{kind}").size == (32, 64)  # the size that a layout saved beside it must give
    tensor = picture_tensor(read_picture(tmp_path / f"photo.{kind}"))
    assert tensor.shape == (1, 3, 64, 32)
    assert tensor[0, 2, :24].min() > 0.5
    assert tensor[0, 0, 40:].min() > 0.5


def test_sixteen_bits_of_grey_keep_their_levels() -> None:
    values = np.array([[0, 257 * 100], [257 * 200, 65535]], dtype=np.uint16)
    image = Image.fromarray(values)
    assert (picture_tensor(image)[0, 0] + 1).mul(127.5).round().tolist() == [[0, 100], [200, 255]]
    assert mask_tensor(image, (2, 2))[0, 0].tolist() == [[False, False], [True, True]]


def test_sixteen_bits_of_grey_become_the_nearest_level() -> None:
    values = np.array([[257 * 100 + 128, 257 * 100 + 129], [257 * 200 - 1, 65535 - 128]], dtype=np.uint16)
    tensor = picture_tensor(Image.fromarray(values))
    assert (tensor[0, 0] + 1).mul(127.5).round().tolist() == [[100, 101], [200, 255]]


@pytest.mark.parametrize(("mode", "value", "level"), [("I", 100_000, 255), ("I", -5, 0), ("F", 70_000.0, 255)])
def test_values_beyond_sixteen_bits_are_clipped(mode: str, value: float, level: int) -> None:
    tensor = picture_tensor(Image.new(mode, (2, 2), value))
    assert (tensor + 1).mul(127.5).round().eq(level).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: picture_tensor(torch.zeros(2, 3, 4, 4)), r"image has shape \(2, 3, 4, 4\); \(3, H, W\)"),
        (lambda: picture_tensor(torch.full((3, 4, 4), 255.0), "template"), "template has values up to 255; they must"),
        (lambda: picture_tensor(torch.full((3, 4, 4), float("nan"))), "image has values up to nan"),
        (lambda: mask_tensor(torch.ones(4, 4), (4, 5)), r"mask has shape \(4, 4\); one picture of 4 x 5 pixels"),
        (lambda: mask_tensor(torch.ones(2, 4, 4), (4, 4)), r"mask has shape \(2, 4, 4\)"),
        (lambda: mask_tensor(torch.zeros(4, 4), (4, 4)), "mask is empty"),
    ],
)
def test_unusable_pictures_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_pixel_that_is_masked_in_part_is_masked() -> None:
    masks = torch.zeros(1, 1, 30, 40, dtype=torch.bool)
    masks[..., 7, 33] = True
    small = resized(MaskedImages(torch.rand(1, 3, 30, 40), masks), (10, 10))
    assert small.images.shape == (1, 3, 10, 10)
    assert torch.nonzero(small.masks[0, 0]).tolist() == [[2, 8]]
    large = resized(small, (20, 20))
    assert large.masks.sum() == 4
    assert resized(small, (10, 10)) is small


def test_stretching_keeps_the_range() -> None:
    images = torch.rand(1, 3, 9, 9).round() * 2 - 1
    assert stretched(images, (20, 31)).shape == (1, 3, 20, 31)
    assert stretched(images, (20, 31)).abs().max() <= 1
    assert stretched(images, (9, 9)) is images


def test_the_bounding_box_of_a_mask_is_found() -> None:
    masks = torch.zeros(1, 1, 10, 20, dtype=torch.bool)
    masks[..., 2, 5] = masks[..., 6, 9] = True
    assert bounding_quad(masks).tolist() == [[0.25, 0.2], [0.5, 0.2], [0.5, 0.7], [0.25, 0.7]]
