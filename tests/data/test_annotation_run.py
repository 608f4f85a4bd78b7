from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlad_lightning.data.annotation import AnnotationSettings, sample_name
from vlad_lightning.data.annotation_run import AnnotationReport, annotate
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.data.mario import list_samples, read_sample
from vlad_lightning.data.ocr_lines import OcrWord
from vlad_lightning.data.source import prompt_of
from vlad_lightning.layout.prompt_parser import drawn_words


def quad(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)


@dataclass(frozen=True)
class Told:
    """A reader that reads the words it is told, and ends its process at the picture of a colour, as a kill would."""

    words: tuple[str, ...] = ("BIG", "SALE")
    deadly: tuple[int, int, int] | None = None
    name: str = "told"

    def __call__(self, image: Image.Image) -> list[OcrWord]:
        if self.deadly and image.getpixel((2, 2)) == self.deadly:
            os._exit(9)
        return [OcrWord(word, quad(0.1 + 0.3 * i, 0.1, 0.35 + 0.3 * i, 0.3), 0.9) for i, word in enumerate(self.words)]


def picture(path: Path, colour: tuple[int, int, int] = (0, 0, 0), size: tuple[int, int] = (96, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def captioned(path: Path, caption: str, colour: tuple[int, int, int] = (0, 0, 0)) -> Path:
    picture(path, colour).with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def run(source: Path, out: Path, reader: Told | None = None, **settings: object) -> AnnotationReport:
    return annotate(source, out, AnnotationSettings(**settings), reader or Told())  # type: ignore[arg-type]


def captions(out: Path) -> list[str]:
    return sorted(read_sample(folder).caption for folder in list_samples(out))


def test_captions_beside_pictures_in_nested_folders(tmp_path: Path) -> None:
    captioned(tmp_path / "in" / "a.png", "a big sale\ntoday")
    picture(tmp_path / "in" / "deep" / "er" / "b.PNG", (9, 9, 9)).with_suffix(".caption").write_text("b")
    picture(tmp_path / "in" / ".hidden" / "c.png", (7, 7, 7)).with_suffix(".txt").write_text("c")
    report = run(tmp_path / "in", tmp_path / "out")
    assert (report.pictures, report.samples, report.words, report.quoted, report.unquoted) == (2, 2, 4, 2, 1)
    assert captions(tmp_path / "out") == ['a "big sale" today', "b"]


def test_a_sample_is_what_the_data_module_reads(tmp_path: Path) -> None:
    captioned(tmp_path / "in" / "a.png", "a big sale")
    run(tmp_path / "in", tmp_path / "out")
    (folder,) = list_samples(tmp_path / "out")
    assert (folder.parent.name, folder.name) == sample_name("a.png")
    sample = read_sample(folder)
    assert [word.text for word in sample.words] == ["BIG", "SALE"]
    np.testing.assert_allclose(sample.words[0].quad, quad(0.1, 0.1, 0.35, 0.3), atol=1 / 512)
    assert prompt_of(sample, sample.key) == sample.caption  # its quotes are those that reading would put
    data = MarioDataModule(str(tmp_path / "out"), size=32)
    with pytest.warns(UserWarning, match="the splits share samples"):
        data.setup()
    (batch,) = data.val_dataloader()
    assert batch.prompts == ('a "big sale"',)
    assert batch.word_mask.tolist() == [[True, True, False, False]]


def test_metadata_in_the_form_of_hugging_faces_imagefolder(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "train" / "a.png")
    picture(tmp_path / "in" / "train" / "more" / "b.png", (9, 9, 9))
    rows = [{"file_name": "a.png", "text": "a \u2028 sale"}, {"file_name": "more/b.png", "text": "b", "label": 1}]
    rows.append({"file_name": "gone.png", "text": "c"})
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "in" / "train" / "metadata.jsonl").write_text(lines, encoding="utf-8")
    report = run(tmp_path / "in", tmp_path / "out")
    assert captions(tmp_path / "out") == ['a "sale"', "b"]
    assert report.dropped == {"no such file": 1}
    assert report.examples == {"no such file": ["train/gone.png"]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not JSON"),
        ('{"text": "a"}', "line 1 must be an object with"),
        ('{"file_name": "../a.png", "text": "a"}', "it must be in the folder of"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(tmp_path: Path, line: str, message: str) -> None:
    picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "in", tmp_path / "out")


def test_parquet_with_bytes_or_structs(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    contents = [picture(tmp_path / f"{i}.png", (i, i, i)).read_bytes() for i in range(3)]
    (tmp_path / "in").mkdir()
    structs = [{"bytes": content, "path": "x.png"} for content in contents[:2]] + [None]
    table = pyarrow.table({"image": structs, "caption": ["a sale", "b", "c"], "n": [1, 2, 3]})
    parquet.write_table(table, tmp_path / "in" / "0.parquet", row_group_size=2)
    parquet.write_table(pyarrow.table({"jpg": contents[2:], "words": ["d"]}), tmp_path / "1.parquet")
    report = run(tmp_path / "in", tmp_path / "out")
    assert captions(tmp_path / "out") == ['a "sale"', "b"]
    assert report.examples == {"no picture in its row": ["0.parquet#2"]}
    with pytest.raises(ValueError, match=r"text_column is 'text'; .* has these of its kind: jpg, words"):
        annotate(tmp_path / "1.parquet", tmp_path / "one", AnnotationSettings(), Told(), text_column="text")
    annotate(tmp_path / "1.parquet", tmp_path / "one", AnnotationSettings(), Told(), text_column="words")
    assert captions(tmp_path / "one") == ["d"]
    (tmp_path / "in" / "2.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"2\.parquet cannot be used"):
        run(tmp_path / "in", tmp_path / "out")


def test_what_cannot_be_used_is_dropped_and_counted(tmp_path: Path) -> None:
    source = tmp_path / "in"
    captioned(source / "a.png", "a")
    captioned(source / "b.png", "a copy of a")
    captioned(source / "c.png", "c", (1, 1, 1)).write_bytes(b"no picture")
    captioned(source / "d.png", "d", (2, 2, 2)).write_bytes((source / "a.png").read_bytes()[:60])
    picture(source / "e.png", (3, 3, 3), size=(200, 63)).with_suffix(".txt").write_text("e")
    picture(source / "f.png", (4, 4, 4))
    captioned(source / "g.png", " \n ", (5, 5, 5))
    (captioned(source / "h.png", "", (6, 6, 6)).with_suffix(".txt")).write_bytes(b"a\0b")
    captioned(source / "i.png", "x " * 800, (7, 7, 7))
    report = run(source, tmp_path / "out")
    assert report.dropped == {
        "no picture, or a damaged one": 2,
        "no caption": 2,
        "the same file as another picture": 1,
        "a side of less than 64 pixels": 1,
        "caption: no text": 1,
        "caption of more than 1,500 bytes": 1,
    }
    assert report.samples == 1
    assert report.examples["the same file as another picture"] == ["b.png"]
    assert captions(tmp_path / "out") == ["a"]
    stored = json.loads((tmp_path / "out" / "annotation.json").read_text())
    assert (stored["dropped"], stored["finished"], stored["engine"]) == (report.dropped, True, "told")


def test_a_caption_for_pictures_without_one_and_the_words_that_it_lacks(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    captioned(tmp_path / "in" / "b.png", "a big poster.", (9, 9, 9))
    captioned(tmp_path / "in" / "c.png", "with every word: BIG SALE", (8, 8, 8))
    run(tmp_path / "in", tmp_path / "out", caption="a poster", add_words=True)
    made = ['a "big" poster, with the words "SALE"', 'a poster, with the words "BIG SALE"']
    assert captions(tmp_path / "out") == [*made, 'with every word: "BIG SALE"']


@pytest.mark.parametrize("words", [("with", "the", "words"), ('say"so"', "THE"), ('5"x', "don't", "50%")])
def test_added_words_are_asked_for_once_and_keep_their_quotes(tmp_path: Path, words: tuple[str, ...]) -> None:
    picture(tmp_path / "in" / "a.png")
    run(tmp_path / "in", tmp_path / "out", Told(words), caption="a poster", add_words=True)
    (folder,) = list_samples(tmp_path / "out")
    sample = read_sample(folder)
    assert prompt_of(sample, sample.key) == sample.caption
    assert list(drawn_words(sample.caption)) == [word for word in words if '"' not in word]


def test_a_killed_run_is_continued(tmp_path: Path) -> None:
    for i in range(5):
        captioned(tmp_path / "in" / f"{i}.png", f"sale {i}", (i, 0, 0))
    killed = multiprocessing.get_context("fork").Process(
        target=run, args=(tmp_path / "in", tmp_path / "out", Told(deadly=(3, 0, 0)))
    )
    killed.start()
    killed.join()
    assert killed.exitcode == 9
    assert not json.loads((tmp_path / "out" / "annotation.json").read_text())["finished"]
    (tmp_path / "out" / ".unfinished" / "00000_000000000").mkdir(parents=True)  # killed while it wrote a sample
    report = run(tmp_path / "in", tmp_path / "out")
    assert (report.samples, report.kept) == (5, 3)
    assert captions(tmp_path / "out") == [f'"sale" {i}' for i in range(5)]
    assert not (tmp_path / "out" / ".unfinished").exists()


def test_a_second_run_follows_what_has_changed(tmp_path: Path) -> None:
    paths = [captioned(tmp_path / "in" / f"{i}.png", f"sale {i}", (i, 0, 0)) for i in range(4)]
    run(tmp_path / "in", tmp_path / "out")
    before = {folder.name: (folder / "image.jpg").stat().st_mtime_ns for folder in list_samples(tmp_path / "out")}
    paths[0].unlink()
    paths[1].with_suffix(".txt").write_text("new")
    picture(paths[2], (99, 0, 0))
    captioned(tmp_path / "in" / "4.png", "big", (4, 0, 0))
    report = run(tmp_path / "in", tmp_path / "out")
    assert (report.samples, report.kept) == (4, 1)
    assert captions(tmp_path / "out") == ['"big"', '"sale" 2', '"sale" 3', "new"]
    untouched = sample_name("3.png")[1]
    assert (list_samples_by_name(tmp_path / "out")[untouched] / "image.jpg").stat().st_mtime_ns == before[untouched]
    assert run(tmp_path / "in", tmp_path / "out", add_words=True).kept == 0  # other settings, other samples


def list_samples_by_name(out: Path) -> dict[str, Path]:
    return {folder.name: folder for folder in list_samples(out)}


def test_pictures_are_shrunk_and_turned_upright(tmp_path: Path) -> None:
    tall = Image.new("RGB", (300, 100), "white")
    exif = tall.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to show it
    (tmp_path / "in").mkdir()
    tall.save(tmp_path / "in" / "a.jpg", exif=exif)
    run(tmp_path / "in", tmp_path / "out", caption="a", max_side=150)
    (folder,) = list_samples(tmp_path / "out")
    assert read_sample(folder).image.size == (50, 150)


def test_the_page_shows_samples_with_their_boxes(tmp_path: Path) -> None:
    captioned(tmp_path / "in" / "a.png", "a *sale*")
    run(tmp_path / "in", tmp_path / "out")
    page = (tmp_path / "out" / "annotation.md").read_text()
    assert "- 1 pictures: 1 samples are written" in page
    assert '    a *"sale"*' in page
    shown = Image.open(tmp_path / "out" / "annotation_pictures" / "00.png")
    assert shown.size == (384, 320)
    assert shown.getpixel((round(0.2 * 384), round(0.1 * 320))) == (255, 0, 144)  # the upper edge of BIG


def test_arguments_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    with pytest.raises(FileNotFoundError, match=r"DIR is .* which does not exist"):
        run(source, out)
    source.mkdir()
    with pytest.raises(ValueError, match=r"holds no picture; expected a\.jpg with a\.txt or a\.caption"):
        run(source, out)
    captioned(source / "a.png", "a")
    with pytest.raises(ValueError, match="which is a file"):
        run(source / "a.png", out)
    with pytest.raises(ValueError, match="name a folder elsewhere"):
        run(source, source / "out")
    picture(tmp_path / "full" / "x.png")
    with pytest.raises(FileExistsError, match="was not written by annotate"):
        run(source, tmp_path / "full")
    run(source, out)
    captioned(tmp_path / "other" / "a.png", "a")
    with pytest.raises(FileExistsError, match="which holds the pictures of"):
        run(tmp_path / "other", out)
    with pytest.raises(ValueError, match="caption is ' '"):
        run(source, out, caption=" ")
    with pytest.raises(ValueError, match="min_side is 2000; it must be a whole number from 8 to 1,024"):
        run(source, out, min_side=2000)
