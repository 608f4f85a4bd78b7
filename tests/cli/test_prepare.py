"""``vlad-cli prepare`` and ``vlad-cli inspect``: what they write and print, and how they refuse arguments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prepared_sets import jpeg, write_mario

from vlad_lightning.cli.launcher import main
from vlad_lightning.data.prepared_source import PreparedSource


def test_a_folder_is_prepared_and_inspected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out, page = tmp_path / "mario", tmp_path / "set", tmp_path / "page.html"
    for number in range(9):
        write_mario(root, number, f"a big SALE <{number}>" if number else "")
    assert main(["prepare", "--folder", str(root), "--out", str(out), "--range", "0/1"]) == 0
    told = capsys.readouterr().out
    assert "9 samples found: 8 are prepared, 1 are left out" in told
    assert "1 left out: empty caption (00000/000000000)" in told
    assert f"--data.root {out}" in told
    report = (out / "report.html").read_text()
    assert report.count("<figure>") == 8
    assert "a big &#34;SALE&#34; &lt;3&gt;" in report
    assert "<td>1</td><td>empty caption</td><td>00000/000000000</td>" in report
    assert '<polygon points="1.95,1.95 39.06,1.95 39.06,17.58 1.95,17.58">' in report
    assert report.count("<svg ") == 8 + 5 + 1  # boxes, distributions, scripts
    for folder in (out, root):
        assert main(["inspect", str(folder), "--out", str(page), "--most", "4", "--pictures", "2"]) == 0
        told = capsys.readouterr().out
        assert "8 samples, of which 4 were read" in told
        assert "words a picture: median 1, 90 % from 1 to 1" in told
        assert "scripts of the words: Latin 100.0%" in told
        assert "pictures: 1 different sizes; the most frequent: 80 x 72 (4)" in told
        assert page.read_text().count("<figure>") == 2


def test_metadata_need_their_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta, images, out = tmp_path / "meta", tmp_path / "images", tmp_path / "set"
    images.mkdir()
    for number in range(4):
        (write_mario(meta, number) / "image.jpg").unlink()
        (images / f"00000_{number:09d}.jpg").write_bytes(jpeg(number))
    words = ["prepare", "--metadata", str(meta), "--images", str(images), "--match", "key", "--out", str(out)]
    assert main([*words, "--range", "0/2"]) == 0  # one portion, which is the first part's
    source = PreparedSource(str(out))
    source.setup()
    assert [source.row(i)["image"] for i in range(4)] == list(map(jpeg, range(4)))
    assert main([*words, "--range", "1/2"]) == 0
    assert json.loads((out / "report.json").read_text())["samples"] == 4
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "o"], "nothing is given; give one of --metadata, --folder and --pictures"),
        (["--folder", "a", "--pictures", "a", "--out", "o"], "folder, pictures is given; give one of"),
        (
            ["--metadata", "a", "--out", "o"],
            "--images says where the pictures of --metadata are; give both, or neither",
        ),
        (["--folder", "a", "--out", "s3://b/o"], "out is 's3://b/o', a URL; sets are written to a local folder only"),
        (["--folder", "none", "--out", "o"], "folder is 'none', which does not exist"),
        (["--folder", "a", "--out", "a/b"], "out is 'a/b', which is in 'a'; name a folder elsewhere"),
        (["--folder", "a", "--out", "o", "--range", "3/3"], "'3/3' is not i/n with i from 0 to n - 1, such as 0/16"),
        (["--folder", "a", "--out", "o", "--size", "4"], "size is 4; it must be a whole number from 8"),
        (["--folder", "a", "--out", "o", "--max_bad", "2"], "max_bad=2.0: must lie in [0, 1]"),
    ],
)
def test_a_wrong_argument_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_mario(tmp_path / "a", 0)
    assert main(["prepare", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_inspect_refuses_what_is_no_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert "holds no sample" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path), "--most", "0"]) == 2
    assert "most is 0; it must be a whole number from 1" in capsys.readouterr().err
