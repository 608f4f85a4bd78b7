"""Downloaded pictures are found by address or name: in tars, parquet files and folders, as img2dataset writes them."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from prepared_sets import jpeg, write_mario
from pyarrow import parquet

from vlad_lightning.data.downloaded_pictures import DownloadedPictures
from vlad_lightning.data.prepare_inputs import folder_portions
from vlad_lightning.data.prepare_run import Preparation, claim, prepare
from vlad_lightning.data.prepared_source import PreparedSource


def url(number: int) -> str:
    return f"https://example.org/{number}.jpg?x=1"


def write_tar(path: Path, numbers: list[int]) -> None:
    with tarfile.open(path, "w") as tar:
        for place, number in enumerate(numbers):
            files = {"jpg": jpeg(number), "json": json.dumps({"url": url(number), "key": "x"}).encode(), "txt": b"alt"}
            for suffix, content in files.items():
                entry = tarfile.TarInfo(f"{place:09d}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))


def write_files(folder: Path, numbers: list[int]) -> None:
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{number:04d}.jpg").write_bytes(jpeg(number))
        (folder / f"{number:04d}.json").write_text(json.dumps({"url": url(number)}))


def write_table(path: Path, numbers: list[int]) -> None:
    columns = {"url": list(map(url, numbers)), "key": [str(n) for n in numbers], "jpg": list(map(jpeg, numbers))}
    parquet.write_table(pa.table(columns), path, row_group_size=2)


def built(root: Path, match: str = "url") -> DownloadedPictures:
    pictures = DownloadedPictures(root, root.parent / "index", match)  # type: ignore[arg-type]
    pictures.build()
    return pictures


def test_all_forms_are_found_by_their_address(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_files(root / "00007", [7, 8])
    write_tar(root / "00000.tar", [3, 1])
    write_tar(root / "00001.tar", [2])
    write_table(root / "00000.parquet", [99])  # beside tars these tables hold no pictures
    (root / "more").mkdir()
    write_table(root / "more" / "0.parquet", [4, 5, 6])
    pictures = pickle.loads(pickle.dumps(built(root)))
    for number in (1, 2, 3, 4, 5, 6, 7, 8):
        assert pictures.find(url(number)) == jpeg(number)
    assert pictures.find(url(99)) is None
    assert pictures.find("") is None


def test_names_find_them_too(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_files(root, [7])
    pictures = built(root, "key")
    assert pictures.find("0007") == jpeg(7)
    assert pictures.find(url(7)) is None


def test_more_pictures_are_added_to_the_index_and_other_archives_are_not_read_again(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    write_tar(root / "00000.tar", [1])
    first = built(root)
    parts = {path: path.stat().st_mtime_ns for path in (tmp_path / "index" / "parts").iterdir()}
    write_tar(root / "00001.tar", [2])
    second = built(root)
    assert (second.find(url(1)), second.find(url(2))) == (jpeg(1), jpeg(2))
    assert first.state != second.state
    assert all(path.stat().st_mtime_ns == time for path, time in parts.items())


def test_what_is_no_archive_is_refused_by_name(tmp_path: Path) -> None:
    root = tmp_path / "images"
    root.mkdir()
    with pytest.raises(ValueError, match=r"images is .*, which holds no picture with its url"):
        built(root)
    parquet.write_table(pa.table({"url": ["a"], "text": ["b"]}), root / "a.parquet")
    built(root)
    with pytest.raises(ValueError, match=r"a.parquet has no column jpg, png, webp or image"):
        built(root).find("a")
    (root / "b.tar").write_bytes(b"no tar" * 999)
    with pytest.raises(ValueError, match=r"b.tar is no tar that can be read"):
        built(root)


def test_metadata_get_their_pictures_and_those_that_are_downloaded_later(tmp_path: Path) -> None:
    meta, root, out = tmp_path / "meta", tmp_path / "images", tmp_path / "out"
    for number in range(6):
        folder = write_mario(meta, number)
        (folder / "image.jpg").unlink()
        (folder / "info.json").write_text(json.dumps({"url": url(number)}) if number < 5 else "{}")
    root.mkdir()
    write_tar(root / "00000.tar", [4, 2, 0])

    def done() -> tuple[int, dict[str, int]]:
        claim(out, "meta")
        pictures = DownloadedPictures(root, out / "images", "url")
        pictures.build()
        report = prepare(Preparation("meta", folder_portions(meta, pictures), out))
        assert report is not None
        return report.samples, dict(report.dropped)

    assert done() == (3, {"picture not downloaded": 2, "no url in info.json": 1})
    write_tar(root / "00001.tar", [1, 3])
    assert done() == (5, {"no url in info.json": 1})
    source = PreparedSource(str(out))
    source.setup()
    assert [source.row(i)["image"] for i in range(5)] == list(map(jpeg, range(5)))
