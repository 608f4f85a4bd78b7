from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from vlad_lightning.studio.uploads import UPLOAD_BYTES, uploaded_layout, uploaded_picture

QUAD = [[10, 10], [90, 10], [90, 40], [10, 40]]


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_picture_is_read_upright_and_opaque(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    Image.new("RGB", (40, 20), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert uploaded_picture(tmp_path / "turned.jpg").size == (20, 40)
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    found = uploaded_picture(str(tmp_path / "clear.png"))
    assert (found.mode, found.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_pictures_of_other_kinds_are_refused_without_their_path(tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_text("no picture")
    Image.new("1", (5000, 4000)).save(tmp_path / "large.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "tiff.png", format="TIFF")
    (tmp_path / "heavy.png").open("wb").truncate(UPLOAD_BYTES + 1)
    (tmp_path / "page.svg").write_text("<svg/>")
    messages = {
        "damaged.png": "is no picture that can be read",
        "large.png": "5000 x 4000 pixels; at most 16,000,000 can be uploaded",
        "heavy.png": f"larger than {UPLOAD_BYTES:,} bytes",
        "page.svg": "is no picture; allowed are .png, .jpg, .jpeg, .webp",
    }
    for name, message in messages.items():
        with pytest.raises(ValueError, match=message) as error:
            uploaded_picture(tmp_path / name)
        assert str(error.value).startswith(name)
        assert str(tmp_path) not in str(error.value)


def test_a_layout_file_is_read(tmp_path: Path) -> None:
    word = {"text": "HI", "quad": QUAD, "font": "serif", "colour": "gold"}
    found = uploaded_layout(written(tmp_path / "a.json", {"size": 100, "font": "mono", "words": [word]}))
    assert (found.layout.words, found.layout.fonts, found.layout.colours) == (("HI",), ("serif",), ("gold",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file|Expecting"),
        ("[" * 100_000, "recursion|nested|Expecting"),
        ([], "the file is \\[\\]; it must be an object"),
        ({"size": 100, "words": "x"}, "words is 'x'; it must be a list"),
        ({"size": 100, "words": [], "font": "/etc/passwd"}, "font is '/etc/passwd'; allowed here are sans"),
        ({"size": 100, "words": [{"text": "A", "quad": QUAD, "font": "../a.ttf"}]}, "font is '../a.ttf'; allowed here"),
        ({"size": 100, "words": [{"text": "A", "quad": QUAD, "font": 3}]}, "font is 3; allowed here are"),
        ("x" * 1_000_001, "larger than 1,000,000 bytes"),
    ],
)
def test_a_layout_file_with_wrong_entries_is_refused_by_name(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        uploaded_layout(written(tmp_path / "a.json", content))
    assert str(error.value).startswith("a.json: ")
    assert str(tmp_path) not in str(error.value)
