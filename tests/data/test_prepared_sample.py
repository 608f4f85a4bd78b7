"""One sample on its way into a prepared data set: what is mended, what is left out, what stays as it is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from prepared_sets import WORDS, jpeg

from vlad_lightning.data.ocr_lines import OcrWord, parse_ocr
from vlad_lightning.data.prepared_sample import FoundSample, Prepared, PrepareSettings, prepare_sample, with_symbols
from vlad_lightning.data.source import SkipSample

BOX = "{} 10,10,200,10,200,90,10,90 0.9\n"


def prepared(
    caption: str | None = "a big SALE",
    ocr: str | None = WORDS,
    image: bytes | None = None,
    scene: str = "",
    **settings: object,
) -> Prepared:
    found = FoundSample("key", "name", jpeg(0) if image is None else image, caption, ocr, scene)
    return prepare_sample(found, PrepareSettings(**settings))  # type: ignore[arg-type]


def encoded(image: Image.Image, kind: str, **settings: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **settings)
    return content.getvalue()


@pytest.mark.parametrize(
    ("caption", "read", "keep", "prompt"),
    [
        ("a big sale", ["SALE"], False, 'a big "sale"'),
        ("the 'Big Lie' of a \"sale\"", ["SALE"], False, 'the Big Lie of a "sale"'),
        ("the 'Big Lie' of a sale", ["SALE"], True, "the 'Big Lie' of a \"sale\""),
        ('"Little Joe - ""A La Guerra"""', ["guerra"], False, 'Little Joe - A La "Guerra"'),
        ("now 50% off", ["50", "OFF"], False, 'now "50% off"'),
        ("now 50% off", ["50%", "OFF"], False, 'now "50% off"'),
        ("join #art @home", ["art", "home"], False, 'join "#art @home"'),
        ("a sale, 20% or 20", ["20"], False, 'a sale, "20%" or 20'),
        ("salt & pepper", ["SALT", "pepper"], False, '"salt" & "pepper"'),
    ],
)
def test_captions_ask_for_the_words_that_were_read_with_their_symbols(
    caption: str, read: list[str], keep: bool, prompt: str
) -> None:
    lines = "".join(
        f"{text} {10 + 250 * i},10,{200 + 250 * i},10,{200 + 250 * i},90,{10 + 250 * i},90 0.9\n"
        for i, text in enumerate(read)
    )
    assert prepared(caption, lines, keep_quotes=keep).row.prompt == prompt


def test_a_symbol_is_given_to_as_many_words_as_the_caption_has_it() -> None:
    words = [OcrWord(text, np.zeros((4, 2))) for text in ("50", "50%", "50", "R&B")]
    found, changed = with_symbols("50% here, 50% there, R&B", words)
    assert ([word.text for word in found], changed) == (["50%", "50%", "50", "R&B"], 1)


def test_corners_beyond_the_frame_are_clipped_and_a_word_of_which_nothing_is_left_goes() -> None:
    lines = ("IN 10,10,600,10,600,90,10,90", "EDGE 511.7,10,700,10,700,90,511.7,90", "OUT 520,10,600,10,600,90,520,90")
    ocr = "".join(f"{line} 0.9\n" for line in lines)
    one = prepared("x", ocr)
    assert one.row.ocr == "IN 10,10,512,10,512,90,10,90 0.9"
    assert set(one.mended) == {"quad outside the frame", "corners outside of the frame", "degenerate quad"}
    assert [word.text for word in parse_ocr(one.row.ocr)[0]] == ["IN"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"caption": " \n"}, "empty caption"),
        ({"caption": None}, "no caption"),
        ({"caption": "x" * 1501}, "caption of more than 1,500 bytes"),
        ({"ocr": "\n".join([WORDS.strip()] * 1001)}, "ocr.txt: more than 1,000 lines"),
        ({"image": b"<html>"}, "no picture, or a damaged one"),
        ({"image": jpeg(0)[:-400]}, "no picture, or a damaged one"),
        ({"image": jpeg(0, (64, 56))}, "a side of less than 64 pixels"),
        ({"image": encoded(Image.new("1", (8000, 7000)), "PNG")}, "more than 50,000,000 pixels"),
    ],
)
def test_what_cannot_be_used_is_skipped_for_a_reason(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(SkipSample) as skipped:
        prepared(**changes)  # type: ignore[arg-type]
    assert skipped.value.reason == reason


def test_a_jpeg_that_needs_no_change_keeps_its_bytes_and_others_are_encoded() -> None:
    assert prepared(image=jpeg(0)).row.image == jpeg(0)
    turned = encoded(
        Image.new("RGB", (80, 70)),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )
    assert (prepared(image=turned).row.width, prepared(image=turned).row.height) == (70, 80)
    clear = prepared(image=encoded(Image.new("RGBA", (80, 72), (255, 0, 0, 0)), "PNG"))
    assert Image.open(io.BytesIO(clear.row.image)).convert("RGB").getpixel((9, 9)) == (255, 255, 255)
    padded = jpeg(0) + b"\0" * 100_000
    assert len(prepared(image=padded).row.image) < 50_000


def test_a_large_picture_is_shrunk_to_the_shorter_side_and_a_copy_of_its_pixels_is_known() -> None:
    ramp = np.add.outer(np.arange(600), np.arange(1200)) // 8 % 256
    image = Image.fromarray(np.repeat(ramp[..., None], 3, 2).astype(np.uint8))
    large = prepared(image=encoded(image, "PNG"), size=150)
    assert (large.row.width, large.row.height) == (300, 150)
    stored = np.array(Image.open(io.BytesIO(large.row.image)).convert("RGB"), dtype=float)
    whole = np.array(image.resize((300, 150), Image.Resampling.BOX), dtype=float)
    assert np.abs(stored - whole).mean() < 8
    drafted = prepared(image=encoded(image, "JPEG", quality=95), size=150)
    assert (drafted.row.width, drafted.row.height) == (300, 150)
    assert np.abs(np.array(Image.open(io.BytesIO(drafted.row.image)), dtype=float) - whole).mean() < 8
    again = prepared(image=encoded(image, "BMP"), size=150)
    assert again.pixels == large.pixels != drafted.pixels


def test_a_scene_is_kept_if_it_can_be_used() -> None:
    scene = '{"background": {"colour": "red", "kind": "solid", "phrase": null}, "words": [], "objects": []}'
    assert prepared(scene=scene).row.scene == scene
    broken = prepared(scene="[1")
    assert (broken.row.scene, broken.mended) == ("", ("scene.json that cannot be used",))
