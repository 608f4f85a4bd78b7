from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from vlad_lightning.files import (
    as_rgb,
    check_stored,
    new_folder,
    read_picture,
    read_text,
    read_utf8,
    write_file,
    write_text,
)


def test_a_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "results.json"
    seen: list[Path] = []

    def write(path: Path) -> None:
        assert not target.exists()
        seen.append(path)
        path.write_text("new")

    write_file(target, write)
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]
    assert (seen[0].parent, seen[0].suffix) == (target.parent, ".json")  # one file system; a suffix to save by


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old, and longer")
    write_file(target, lambda path: path.write_text("new"))
    assert target.read_text() == "new"


def test_a_failing_writer_leaves_only_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("half of")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_file(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "a.txt", lambda path: None)
    assert not list(tmp_path.iterdir())


def test_a_picture_can_be_used_after_its_file_is_closed(tmp_path: Path) -> None:
    frames = [Image.new("P", (9, 7), i) for i in range(3)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_picture(tmp_path / "a.gif").convert("RGB").size == (9, 7)


@pytest.mark.parametrize("side", [9_000, 20_000])  # the second is beyond Pillow's limit
def test_a_picture_of_too_many_pixels_is_refused(tmp_path: Path, side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT")
    with pytest.raises(ValueError, match=r"a.png: more than 50,000,000 pixels"):
        read_picture(tmp_path / "a.png")


def test_a_pipe_and_a_device_are_refused_and_a_link_to_a_file_is_not(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        for read in (read_picture, read_text, lambda path: read_utf8(path, 10)):
            with pytest.raises(ValueError, match=f"{name}: no regular file"):
                read(tmp_path / name)
    (tmp_path / "file").write_bytes(b"a\r\nb\rc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_utf8(tmp_path / "link", 10) == "a\nb\nc"
    with pytest.raises(ValueError, match="link: larger than 5 bytes"):
        read_utf8(tmp_path / "link", 5)


def test_no_program_is_run_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript, eps = tmp_path / "gs", tmp_path / "image.jpg"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    eps.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n%%EOF\n")
    with pytest.raises(ValueError, match=r"image.jpg is no picture that can be read"):
        read_picture(eps)
    assert not (tmp_path / "ran").exists()


def test_an_icon_is_refused_because_its_header_may_give_another_size(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64)).save(tmp_path / "image.jpg", "ICO")
    with pytest.raises(ValueError, match=r"image.jpg is no picture that can be read"):
        read_picture(tmp_path / "image.jpg")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_white_in_a_picture_of_any_height(mode: str) -> None:
    layers = Image.linear_gradient("L").resize((5, 600))
    image = Image.merge("RGBA", [layers.rotate(180), layers, layers.rotate(180), layers]).convert(mode)
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    assert as_rgb(image).tobytes() == whole.tobytes()
    assert len(set(as_rgb(image).getdata())) > 50


def test_a_folder_is_renamed_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "made" / "out"
    for content in ("first", "second"):
        with new_folder(target) as beside:
            (beside / "a.txt").write_text(content)
            (beside / content).mkdir()
            assert beside.parent == target.parent
        assert sorted(path.name for path in target.iterdir()) == sorted(["a.txt", content])
    with pytest.raises(FileNotFoundError), new_folder(target) as beside:
        (beside / "a.txt").rename(beside / "missing" / "a.txt")
    assert (target / "a.txt").read_text() == "second"
    assert [path.name for path in target.parent.iterdir()] == ["out"]


def test_a_picture_that_is_upright_and_rgb_is_not_copied() -> None:
    image = Image.new("RGB", (8, 8), "red")
    assert as_rgb(image) is image


@pytest.mark.filterwarnings("error")
def test_nan_becomes_black(tmp_path: Path) -> None:
    values = np.full((8, 8), np.nan, dtype=np.float32)
    values[0] = 65535
    assert np.asarray(as_rgb(Image.fromarray(values)))[:2, 0].tolist() == [[255] * 3, [0] * 3]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the memory")
@pytest.mark.parametrize("mode", ["RGBA", "I;16"])
def test_a_picture_is_in_memory_twice_at_most(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new(mode, (4_000, 4_000)).save(tmp_path / "x.png", exif=exif, compress_level=1)
    script = f"""
import re
import numpy as np
from pathlib import Path
from vlad_lightning.files import as_rgb, open_picture
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
with open_picture(Path({str(tmp_path / "x.png")!r})) as picture:
    before = peak()
    as_rgb(picture, in_place=True)
print(peak() - before)
"""
    grown = int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)
    assert grown < 2.5 * 4 * 4_000 * 4_000  # Pillow has four bytes for each pixel in colour


@pytest.mark.parametrize("name", ["tokenizer_config.json", "model.safetensors"])
def test_a_pipe_among_stored_weights_and_settings_is_refused(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name}: no regular file"):
        check_stored(tmp_path)


def test_endless_settings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"config\.json: no regular file"):
        check_stored(tmp_path)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(10**12)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json: larger than"):
        check_stored(tmp_path)


def test_a_device_or_a_pipe_is_never_replaced(tmp_path: Path) -> None:
    """As root, a rename would make a regular file of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(ValueError, match=f"{name}: neither a regular file nor a folder"):
            write_text(tmp_path / name, "x")
        with (
            pytest.raises(ValueError, match=f"{name}: neither a regular file nor a folder"),
            new_folder(tmp_path / name),
        ):
            pass
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]
