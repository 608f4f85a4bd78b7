from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.cli.launcher import main
from vlad_lightning.data.mario import list_samples, read_sample


def poster(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (320, 200), "white")
    ImageDraw.Draw(image).text((20, 40), text, font=ImageFont.load_default(56), fill="black")
    image.save(path, quality=95)
    return path


@pytest.mark.slow
def test_pictures_become_a_data_folder_the_same_for_any_number_of_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poster(tmp_path / "in" / "a.jpg", "BIG SALE").with_suffix(".txt").write_text("a big sale on white")
    for number in range(17):  # more than one portion
        poster(tmp_path / "in" / "more" / f"{number}.jpg", str(1000 + number))
    arguments = [str(tmp_path / "in"), "--caption", "a number", "--add_words"]
    for workers, out in (("1", "one"), ("2", "two")):
        assert main(["annotate", *arguments, "--out", str(tmp_path / out), "--workers", workers]) == 0
    told = capsys.readouterr().out
    assert "18 pictures: 18 samples are written, 0 pictures are left out" in told
    assert "19 words were read; 19 are quoted in the captions" in told
    one, two = tmp_path / "one", tmp_path / "two"
    captions = sorted(read_sample(folder).caption for folder in list_samples(one))
    assert captions[0] == 'a "big sale" on white'
    assert captions[1] == 'a number, with the words "1000"'
    names = sorted(path.relative_to(one) for path in one.rglob("*.*") if path.is_file() and path.parent != one)
    assert len(names) == 18 * 5 + 9
    assert [(two / name).read_bytes() for name in names] == [(one / name).read_bytes() for name in names]


def test_a_wrong_argument_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("vlad-cli annotate: DIR is ")
    assert main(["annotate", str(tmp_path), "--out", str(tmp_path / "out"), "--max_side", "0"]) == 2
    assert "max_side is 0; it must be a whole number from 8" in capsys.readouterr().err
