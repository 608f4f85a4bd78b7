"""The result of a scan of many samples is stored beside them, and used only while nothing has changed."""

import io
import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from vlad_lightning.data.content import NAMES, differing
from vlad_lightning.data.dataset import MarioDataset
from vlad_lightning.data.mario import list_samples
from vlad_lightning.data.mario_folder import MarioFolder
from vlad_lightning.data.scan import scan
from vlad_lightning.layout.glyphs import Rasterizer

MANY = 210  # more than a scan decodes


@pytest.fixture(autouse=True)
def _noted(monkeypatch):
    """Make a scan store its result for few samples; by default it does so from 2,000 samples on."""
    monkeypatch.setattr("vlad_lightning.data.scan._MANY", MANY)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Write samples, of which one has no words and one has no image."""
    root = tmp_path_factory.mktemp("many")
    for number in range(MANY):
        folder = root / "00000" / f"{number:09d}"
        folder.mkdir(parents=True)
        (folder / "caption.txt").write_text("a poster that says HELLO")
        (folder / "ocr.txt").write_text("HELLO 128,64,384,64,384,128,128,128 0.98\n")
        Image.new("RGB", (8, 8), (0, 0, 90)).save(folder / "image.jpg")
    (root / "00000" / f"{7:09d}" / "image.jpg").unlink()
    (root / "00000" / f"{9:09d}" / "ocr.txt").write_text("no quad\n")
    return root


@pytest.fixture
def root(many, tmp_path):
    copy = tmp_path / "posters"
    shutil.copytree(many, copy)
    return copy


def found(root: Path, max_words: int = 4):
    return scan(str(root), list_samples(root), 0.3, max_words)


def test_a_second_scan_has_the_same_result(root):
    usable, report = found(root)
    assert len(usable) == MANY - 1
    assert report.skipped == {"no image.jpg": 1}
    assert (root / ".scan.json").is_file()
    assert found(root) == (usable, report)


def test_a_second_scan_reads_no_sample(root):
    first = found(root)
    caption = root / "00000" / f"{0:09d}" / "caption.txt"
    before = caption.stat()
    caption.write_text(" " * before.st_size)  # an empty caption of the same size and time
    os.utime(caption, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(root) == first


def test_a_changed_sample_is_detected(root):
    found(root)
    (root / "00000" / f"{0:09d}" / "caption.txt").write_text("")
    Image.new("RGB", (8, 8)).save(root / "00000" / f"{7:09d}" / "image.jpg")
    assert found(root)[1].skipped == {"empty caption": 1}


def test_a_new_sample_and_another_setting_are_detected(root):
    assert found(root)[1].words_left_out == 0
    assert found(root, max_words=0)[1].words_left_out == MANY - 2
    shutil.copytree(root / "00000" / f"{0:09d}", root / "00001" / f"{0:09d}")
    assert len(found(root)[0]) == MANY


@pytest.mark.parametrize("content", ["", "[]", '{"fingerprint": 1}', "{"])
def test_a_broken_scan_note_is_ignored(root, content):
    expected = found(root)
    (root / ".scan.json").write_text(content)
    assert found(root) == expected


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_scanned_too(root):
    root.chmod(0o500)
    assert len(found(root)[0]) == MANY - 1
    assert not (root / ".scan.json").exists()


@pytest.mark.parametrize("change", ["list", "structure", "cut"])
def test_a_damaged_scan_note_is_set_aside_and_written_again(root, change):
    expected = found(root)
    note = root / ".scan.json"
    whole = note.read_text()
    kept = json.loads(whole)
    if change == "list":
        kept["found"]["left_out"] = [3]
    elif change == "structure":
        del kept["found"]["report"]
    note.write_text(whole[:-9] if change == "cut" else json.dumps(kept))
    with pytest.warns(UserWarning, match=r"\.scan\.json is damaged: it holds no scan"):
        assert found(root) == expected
    assert note.read_text() == whole
    assert (root / ".scan.json.damaged").is_file()


@pytest.mark.parametrize("number", [3, MANY])
def test_names_that_are_not_utf8_are_used_counted_and_printed(many, tmp_path, number):
    root = tmp_path / "posters"
    for source in sorted((many / "00000").iterdir())[-number:]:
        shutil.copytree(source, root / "00000" / source.name)
    good, bad = (root / "00000" / os.fsdecode(name) for name in (b"caf\xe9", b"no\xffimage"))
    for folder in (good, bad):
        shutil.copytree(source, folder)
    (bad / "image.jpg").unlink()
    first, second = found(root), found(root)
    assert first == second
    assert good in first[0]
    assert bad not in first[0]
    text = "\n".join(first[1].lines())
    assert "skipped: no image.jpg" in text
    assert f"{root}/00000/no\\xffimage)" in text
    assert f"1 samples have a name that is not UTF-8 ({root}/00000/caf\\xe9)" in text
    assert text.encode("utf-8")
    source = MarioFolder(str(root))
    source.setup()
    sample = MarioDataset(source, 8, 2, 8, Rasterizer(), indices=[source.folders.index(good)])[0]
    assert sample.key == "00000_caf\\xe9"


def contents(root: Path) -> dict[str, str]:
    return dict(found(root)[1].content)


@pytest.mark.parametrize("number", [5, MANY])
def test_the_fingerprint_depends_on_the_content_of_the_files(many, tmp_path, number):
    root = tmp_path / "posters"
    for source in sorted((many / "00000").iterdir())[-number:]:
        shutil.copytree(source, root / "00000" / source.name)
    files = sorted((root / "00000").iterdir())[3]
    (files / "image.jpg").write_bytes((files / "image.jpg").read_bytes().ljust(1000, b"\0"))
    first = contents(root)
    os.utime(files / "caption.txt")
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert contents(root) == contents(tmp_path / "copy") == first
    for name, content in {
        "caption.txt": b"a poster that says BYE",
        "ocr.txt": b"HELLO 128,64,384,64,384,128,128,128 0.97\n",
        "scene.json": b"{}",
        "image.jpg": other_picture(1000),
    }.items():
        (files / name).write_bytes(content)
        assert differing(first, contents(root)) == (name,)
        if name == "scene.json":
            (files / name).unlink()
        else:
            shutil.copyfile(tmp_path / "copy" / "00000" / files.name / name, files / name)
    assert contents(root) == first
    files.rename(files.with_name("000009999"))
    assert differing(first, contents(root)) == (NAMES,)


def other_picture(length: int) -> bytes:
    """Make a picture of another colour, padded."""
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (90, 0, 0)).save(data, "JPEG")
    return data.getvalue().ljust(length, b"\0")
