# ruff: noqa: RUF001 (texts in other alphabets are what is tested)
from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad_lightning.data.mario import (
    check_header,
    key_of,
    list_samples,
    read_sample,
    write_sample,
)
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.source import RawSample, SkipSample
from vlad_lightning.layout.prompt_parser import quote_words

QUAD = np.array([[0.25, 0.5], [0.75, 0.5], [0.75, 0.625], [0.25, 0.625]], dtype=np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write a valid sample, for a test to spoil."""
    sample = RawSample(
        "06269_062690093", Image.new("RGB", (512, 512), "teal"), "A sale at the shop", (OcrWord("SALE", QUAD, 0.9),)
    )
    write_sample(tmp_path / "06269" / "062690093", sample, np.zeros((256, 256), dtype=np.int64))
    return tmp_path / "06269" / "062690093"


def reason(folder: Path) -> str:
    with pytest.raises(SkipSample, match=folder.name) as skip:
        read_sample(folder)
    return skip.value.reason


def test_a_written_sample_reads_back(folder):
    sample = read_sample(folder)
    assert (sample.key, sample.caption, sample.problems) == ("06269_062690093", "A sale at the shop", ())
    assert (sample.image.mode, sample.image.size) == ("RGB", (512, 512))
    assert np.abs(np.asarray(sample.image).astype(int) - (0, 128, 128)).max() <= 2
    (word,) = sample.words
    assert (word.text, word.confidence) == ("SALE", 0.9)
    np.testing.assert_array_equal(word.quad, QUAD)
    np.testing.assert_array_equal(np.load(folder / "charseg.npy"), np.zeros((256, 256)))


def test_the_files_have_marios_names(folder):
    assert {path.name for path in folder.iterdir()} == {
        "image.jpg",
        "caption.txt",
        "ocr.txt",
        "charseg.npy",
        "info.json",
    }
    assert (folder / "caption.txt").read_text() == "A sale at the shop"
    assert (folder / "ocr.txt").read_text() == "SALE 128,256,384,256,384,320,128,320 0.9\n"
    info = json.loads((folder / "info.json").read_text())
    assert (info["key"], info["width"], info["caption"]) == ("062690093", 512, "A sale at the shop")
    assert Image.open(folder / "image.jpg").format == "JPEG"


def test_a_sample_is_never_overwritten(folder):
    with pytest.raises(FileExistsError):
        write_sample(folder, read_sample(folder))


@pytest.mark.parametrize("name", ["image.jpg", "caption.txt", "ocr.txt"])
def test_a_missing_file_skips_the_sample(folder, name):
    (folder / name).unlink()
    assert reason(folder) == f"no {name}"


@pytest.mark.parametrize("name", ["caption.txt", "ocr.txt"])
def test_a_folder_in_place_of_a_text_skips_the_sample(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert reason(folder) == f"unreadable {name}"


def test_a_missing_folder_skips_the_sample(tmp_path):
    assert reason(tmp_path / "00000" / "000000000") == "no caption.txt"


@pytest.mark.parametrize("text", ["", "  \n\n"])
def test_an_empty_caption_skips_the_sample(folder, text):
    (folder / "caption.txt").write_text(text)
    assert reason(folder) == "empty caption"


def test_a_truncated_jpeg_skips_the_sample(folder):
    noise = np.random.default_rng(0).integers(256, size=(300, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "image.jpg")
    content = (folder / "image.jpg").read_bytes()
    (folder / "image.jpg").write_bytes(content[: len(content) // 2])
    assert reason(folder) == "broken image.jpg"


@pytest.mark.parametrize("content", [b"", b"<html>404</html>"])
def test_a_file_that_is_not_an_image_skips_the_sample(folder, content):
    (folder / "image.jpg").write_bytes(content)
    assert reason(folder) == "broken image.jpg"


def test_a_tracking_pixel_skips_the_sample(folder):
    Image.new("RGB", (1, 1)).save(folder / "image.jpg")
    assert reason(folder) == "image too small"


@pytest.mark.parametrize(
    ("mode", "colour", "kind", "rgb"),
    [
        ("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0)),
        ("L", 100, "JPEG", (100, 100, 100)),
        ("1", 1, "PNG", (255, 255, 255)),
        ("P", 0, "PNG", (0, 0, 0)),
        ("I;16", 25700, "PNG", (100, 100, 100)),
        ("RGBA", (255, 0, 0, 0), "PNG", (255, 255, 255)),
        ("LA", (10, 0), "PNG", (255, 255, 255)),
    ],
)
def test_other_modes_and_sizes_become_rgb(folder, mode, colour, kind, rgb):
    Image.new(mode, (64, 40), colour).save(folder / "image.jpg", kind)
    image = read_sample(folder).image
    assert (image.mode, image.size) == ("RGB", (64, 40))
    assert np.abs(np.asarray(image).astype(int) - rgb).max() <= 3


def test_the_size_in_info_json_is_not_trusted(folder):
    (folder / "info.json").write_text('{"width": 9999, "height": 1}')
    assert read_sample(folder).image.size == (512, 512)
    (folder / "info.json").write_text("{broken")
    assert read_sample(folder).words[0].text == "SALE"


def test_csv_doubled_quotes_end_as_one_pair_around_the_drawn_words(folder):
    (folder / "caption.txt").write_text('"Little Joe - ""A La Guerra"""')
    caption = read_sample(folder).caption
    assert quote_words(caption, ["GUERRA", "Joe"]) == 'Little "Joe" - "A La Guerra"'


def test_captions_in_other_encodings_and_on_several_lines_become_one_line(folder):
    for content in (
        "\ufeffCaf\u00e9\n at  noon\r\n".encode(),
        "Caf\u00e9 at noon".encode("cp1252"),
        "\ufeffCaf\u00e9 at\r\nnoon".encode("utf-16-le"),
        "\ufeffCaf\u00e9 at\nnoon".encode("utf-16-be"),
        "Caf\u00e9 at noon".encode("utf-32"),
    ):
        (folder / "caption.txt").write_bytes(content)
        assert read_sample(folder).caption == "Caf\u00e9 at noon"


@pytest.mark.parametrize("name", ["caption.txt", "ocr.txt"])
@pytest.mark.parametrize(
    "content",
    [
        "\ufeffCaf\u00e9".encode() + b"\xff",  # the byte order mark says UTF-8
        b"\xff\xfeA",  # here it says UTF-16
        b"caf\xe9 \x81",  # neither UTF-8 nor Windows-1252
        *(  # which decode as Windows-1252
            'плакат со словом "Привет"'.encode(encoding) for encoding in ("cp1251", "koi8-r", "iso8859-5", "cp866")
        ),
        "αφίσα".encode("cp1253"),
        "你好".encode("gb2312"),
        "Wałęsa".encode("cp1250"),
    ],
)
def test_a_text_in_an_unknown_encoding_skips_the_sample(folder, name, content):
    (folder / name).write_bytes(content)
    assert reason(folder) == f"{name}: in an unknown encoding"


@pytest.mark.parametrize("name", ["caption.txt", "ocr.txt"])
@pytest.mark.parametrize("content", ["Hello".encode("utf-16-le"), b"a poster\0"])
def test_a_binary_caption_skips_the_sample(folder, name, content):
    (folder / name).write_bytes(content)
    assert reason(folder) == f"{name}: no text"


@pytest.mark.parametrize(
    "caption", ["une idée créée à l´été, 5 m² d’œuvres", "«ØÅ…» – ¿qué?", "Grüße für 5€, 20 °C, ½ ©®", "»Ñandú«•••"]
)
def test_western_captions_are_read_in_windows_1252(folder, caption):
    (folder / "caption.txt").write_bytes(caption.encode("cp1252"))
    assert read_sample(folder).caption == caption


@pytest.mark.parametrize("name", ["image.jpg", "caption.txt", "ocr.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_an_endless_file_skips_the_sample(folder, name, kind):
    (folder / name).unlink()
    make(folder / name, kind)
    assert reason(folder).startswith(f"{name}: " + ("larger than" if kind == "sparse" else "no regular file"))


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse", "circle"])
def test_an_endless_file_is_not_a_scene(folder, kind):
    make(folder / "scene.json", kind)
    assert read_sample(folder).problems == ("broken scene.json",)


def make(path, kind):
    """Make something that hangs, or never ends, when it is read as a file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "circle":
        path.symlink_to(path.name)
    else:
        with path.open("wb") as file:
            file.truncate(20 * 2**30)


def test_endless_texts_skip_the_sample(folder):
    (folder / "ocr.txt").write_text("A 1,1,9,1,9,9,1,9 0.9\n" * 1001)
    assert reason(folder) == "ocr.txt: more than 1,000 lines"
    for end in "\f\x1e\u2028":  # these end a line too
        (folder / "ocr.txt").write_text(f"A 1,1,9,1,9,9,1,9 0.9{end}" * 1001, encoding="utf-8")
        assert reason(folder) == "ocr.txt: more than 1,000 lines"
    (folder / "ocr.txt").write_text("A 1,1,9,1,9,9,1,9 0.9\n" * 1_000_000)
    assert reason(folder) == "ocr.txt: larger than 1,000,000 bytes"
    (folder / "caption.txt").write_text("word " * 400)
    (folder / "ocr.txt").write_text("")
    assert reason(folder) == "caption of more than 1,500 bytes"
    (folder / "caption.txt").write_text("\U0001f600" * 376, encoding="utf-8")
    assert reason(folder) == "caption of more than 1,500 bytes"
    (folder / "caption.txt").write_text("\U0001f600" * 375, encoding="utf-8")
    assert len(read_sample(folder).caption) == 375


def test_quotes_around_words_to_draw_count_in_a_captions_length(folder):
    (folder / "caption.txt").write_text("A " * 600)
    (folder / "ocr.txt").write_text("")
    assert len(read_sample(folder).prompt) == 1_199
    (folder / "ocr.txt").write_text("A 1,1,9,1,9,9,1,9 0.9\n" * 600)  # all in one place: each gets separate quotes
    assert reason(folder) == "caption of more than 1,500 bytes"


@pytest.mark.parametrize("side", [8_000, 13_000, 20_000])  # the last one is beyond Pillow's own limit
def test_a_picture_of_too_many_pixels_skips_the_sample(folder, side):
    huge_png(folder / "image.jpg", side)
    assert reason(folder) == "image.jpg: more than 50,000,000 pixels"
    with pytest.raises(SkipSample, match="more than 50,000,000 pixels"):
        check_header(folder)


def huge_png(path, side):
    """Make the header of a huge picture, which is small on disk."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(bytes(64)), b"IEND"]
    parts = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_a_photo_is_turned_by_its_exif_block(folder):
    image = Image.new("RGB", (64, 32), "red")
    image.paste("blue", (0, 0, 32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    image.save(folder / "image.jpg", exif=exif)
    found = read_sample(folder).image
    assert found.size == (32, 64)
    assert found.getpixel((16, 8))[2] > 200
    assert found.getpixel((16, 56))[0] > 200


def test_a_damaged_exif_block_is_ignored(folder):
    Image.new("RGB", (64, 32), "red").save(folder / "image.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 9)
    assert read_sample(folder).image.size == (64, 32)


def test_bad_ocr_lines_are_counted_and_the_rest_is_used(folder):
    (folder / "ocr.txt").write_text(
        " 1,1,90,1,90,40,1,40 0.9\nNOISE 1,1,90,1,90,40,1,40 0.2\nnot a line\nOK 1,1,90,1,90,40,1,40 0.95"
    )
    sample = read_sample(folder, min_confidence=0.5)
    assert [word.text for word in sample.words] == ["OK"]
    assert sample.problems == ("empty text", "low confidence", "malformed line")


def test_an_image_without_words_is_a_sample(folder):
    (folder / "ocr.txt").write_text("")
    assert read_sample(folder).words == ()


def test_samples_are_listed_sorted_from_shelves_and_flat_folders(tmp_path):
    for name in ("00001/000010002", "00001/000010001", "00000/000000005", "000000007"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "my poster").mkdir()
    (tmp_path / "my poster" / "caption.txt").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "00001" / "list.txt").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in list_samples(tmp_path)]
    assert found == ["00000/000000005", "000000007", "00001/000010001", "00001/000010002", "my poster"]
    assert [key_of(tmp_path / name) for name in found] == [
        "00000_000000005",
        "000000007",
        "00001_000010001",
        "00001_000010002",
        "my poster",
    ]


def test_circular_links_are_not_samples(tmp_path):
    (tmp_path / "00000" / "000000001").mkdir(parents=True)
    for place in (tmp_path, tmp_path / "00000"):
        (place / "circle").symlink_to("circle")
        (place / "nothing").symlink_to("missing")
    (tmp_path / "00001").symlink_to("00001")
    (tmp_path / "00000" / "000000002").symlink_to("000000001")
    assert [path.name for path in list_samples(tmp_path)] == ["000000001", "000000002"]


def test_an_index_lists_its_samples_only_and_once(tmp_path, folder):
    index = tmp_path / "index.txt"
    index.write_text("06269_062690094\n\n06269_062690093\r\n06269_062690094 \n")
    assert list_samples(tmp_path, index) == [folder, folder.with_name("062690094")]


@pytest.mark.parametrize("line", ["06269/062690093", "6269_62690093", "../../etc", "06269_062690093.jpg"])
def test_a_malformed_index_line_is_named(tmp_path, folder, line):
    index = tmp_path / "index.txt"
    index.write_text(f"06269_062690093\n{line}\n")
    with pytest.raises(ValueError, match=r"line 2.*must look like 06269_062690093"):
        list_samples(tmp_path, index)


def test_a_missing_or_empty_root_or_index_is_a_clear_error(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"root is .*nowhere"):
        list_samples(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"root is .*caption.txt', which is a file"):
        list_samples(folder / "caption.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no sample"):
        list_samples(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"index is .*none.txt"):
        list_samples(tmp_path, tmp_path / "none.txt")
    (tmp_path / "blank.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"index .*blank.txt' holds no sample"):
        list_samples(tmp_path, tmp_path / "blank.txt")


@pytest.mark.parametrize("rows", [(), (0,), (255,), (0, 1, 7, 8, 9, 200), tuple(range(256))])
def test_charseg_has_the_bytes_that_numpy_writes(tmp_path, rows):
    classes = np.zeros((256, 256), dtype=np.int64)
    classes[list(rows), 3:9] = 95
    sample = RawSample("00000_000000000", Image.new("RGB", (8, 8)), "a caption", ())
    for name, array in (("rows", classes), ("columns", np.asfortranarray(classes))):
        write_sample(tmp_path / name, sample, array)
        np.save(tmp_path / "plain.npy", classes)
        assert (tmp_path / name / "charseg.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()
