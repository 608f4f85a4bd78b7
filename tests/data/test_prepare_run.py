"""A whole data set prepared: killed at any moment, in parts, from hostile files, with more data later."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from kills import kill_when
from prepared_sets import jpeg, write_mario

from vlad_lightning.data import prepare_inputs
from vlad_lightning.data.own_pictures import file_portions
from vlad_lightning.data.prepare_inputs import folder_portions, picture_portions, short_key
from vlad_lightning.data.prepare_run import Preparation, PrepareReport, missing, prepare
from vlad_lightning.data.prepared_sample import PrepareSettings
from vlad_lightning.data.prepared_source import NOTE, SHARDS, PreparedSource, read_note


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_inputs, "PER_SHARD", 4)


def work(root: Path, out: Path, **changes: object) -> Preparation:
    return Preparation(str(root), folder_portions(root), out, **changes)  # type: ignore[arg-type]


def done(root: Path, out: Path, **changes: object) -> PrepareReport:
    report = prepare(work(root, out, **changes))
    assert report is not None
    return report


def opened(out: Path, index: str | None = None) -> PreparedSource:
    source = PreparedSource(str(out), index=index)
    source.setup()
    return source


def content(out: Path) -> Mapping[str, bytes]:
    """Return all that training reads; the notes of the shards also tell the time."""
    names = (path.relative_to(out) for path in out.rglob("*") if path.suffix in (".arrow", ".npy") or path.name == NOTE)
    shown = (name for name in names if not any(part.startswith(".") for part in name.parts))  # no half-written index
    return {name.as_posix(): (out / name).read_bytes() for name in shown}


@pytest.fixture
def mario(tmp_path: Path) -> Path:
    for number in range(20):
        write_mario(tmp_path / "mario", number, f"a big SALE {number}", shelf=number // 10)
    write_mario(tmp_path / "mario", 20, " ", shelf=2)
    write_mario(tmp_path / "mario", 21, "again", image=jpeg(3), shelf=2)
    return tmp_path / "mario"


def test_samples_become_a_source_and_the_report_counts_all(mario: Path, tmp_path: Path) -> None:
    report = done(mario, tmp_path / "out")
    assert (report.found, report.samples, report.quoted) == (22, 20, 20)
    assert report.dropped == {"the same picture as another sample's": 1, "empty caption": 1}
    assert report.examples["empty caption"] == ["00002/000000020"]
    assert report.examples["the same picture as another sample's"] == ["00002_000000021"]
    source = opened(tmp_path / "out")
    assert list(source.keys) == [f"{number // 10:05d}_{number:09d}" for number in range(20)]
    sample = source.read(13)
    assert (sample.key, sample.caption, sample.prompt) == ("00001_000000013", "a big SALE 13", 'a big "SALE" 13')
    assert [word.text for word in sample.words] == ["SALE"]
    assert source.read_texts(13).prompt == sample.prompt
    assert source.row(13)["image"] == jpeg(13)
    assert source.row(13)["name"] == "00001/000000013"


@pytest.mark.parametrize("moment", ["first shard", "second list", "last note", "index"])
def test_a_killed_run_goes_on_and_ends_as_an_undisturbed_one(mario: Path, tmp_path: Path, moment: str) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    done(mario, whole)

    def reached() -> bool:
        shards = out / "shards"
        names = [path.name for path in shards.iterdir()] if shards.exists() else []
        return {
            "first shard": bool(names),
            "second list": sum(name.endswith(".npy") for name in names) >= 2,
            "last note": sum(name.endswith(".json") for name in names) >= 7,
            "index": any(out.glob(".index_*")) or any(out.glob("index_*")),
        }[moment]

    kill_when(lambda: done(mario, out), reached)
    report = done(mario, out)
    assert content(out) == content(whole)
    assert (report.found, report.samples) == (22, 20)
    left = list(out.rglob(".*"))
    for path in left:
        os.utime(path, (0, 0))
    done(mario, out)
    assert not any(path.exists() for path in left)
    assert content(out) == content(whole)


def test_parts_in_any_order_end_as_one_run_and_the_index_can_be_made_again(mario: Path, tmp_path: Path) -> None:
    done(mario, tmp_path / "whole")
    out = tmp_path / "out"
    portions = len(work(mario, out).portions)
    assert portions == 7
    assert prepare(work(mario, out), part=(2, 3)) is None
    assert missing(work(mario, out)) == 5
    with pytest.raises(ValueError, match="is not finished; call the same vlad-cli prepare again"):
        opened(out)
    assert prepare(work(mario, out), part=(0, 3)) is None
    report = prepare(work(mario, out), part=(1, 3))
    assert report is not None
    assert content(out) == content(tmp_path / "whole")
    before = {path: path.stat().st_mtime_ns for path in out.glob("shards/*")}
    assert done(mario, out) == report
    assert content(out) == content(tmp_path / "whole")
    assert {path: path.stat().st_mtime_ns for path in out.glob("shards/*")} == before


def test_processes_write_the_same_as_one(mario: Path, tmp_path: Path) -> None:
    done(mario, tmp_path / "one")
    prepare(work(mario, tmp_path / "two"), workers=2)
    assert content(tmp_path / "two") == content(tmp_path / "one")


def test_more_data_moves_no_sample_and_only_its_shards_are_written(mario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(mario, out)
    source = opened(out)
    before = dict(zip(source.keys, source.positions(3).tolist(), strict=True))
    written = {path: path.stat().st_mtime_ns for path in out.glob("shards/*")}
    for number in range(30, 33):
        write_mario(mario, number, shelf=0)
    for number in range(40, 45):
        write_mario(mario, number, shelf=5)
    report = done(mario, out)
    source = opened(out)
    later = dict(zip(source.keys, source.positions(3).tolist(), strict=True))
    assert report.samples == len(later) == 28
    assert before == {key: later[key] for key in before}
    changed = [path for path, time in written.items() if path.exists() and path.stat().st_mtime_ns != time]
    assert sorted(path.suffix for path in changed) == [".arrow", ".json", ".npy"]  # of the shelf's last shard alone


def test_other_settings_make_all_shards_again_and_another_source_is_refused(mario: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done(mario, out)
    done(mario, out, settings=PrepareSettings(size=64))
    assert opened(out).read(0).image.size == (71, 64)
    with pytest.raises(FileExistsError, match=r"out is .*, which is prepared from .*mario; name another folder"):
        prepare(Preparation("elsewhere", folder_portions(mario), out))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="which is not empty; name another folder"):
        prepare(work(mario, tmp_path / "mine"))


def test_hostile_files_are_counted_named_and_never_waited_for(mario: Path, tmp_path: Path) -> None:
    def replaced(number: int, name: str = "image.jpg") -> Path:
        path = write_mario(mario, number, f"hostile {number}", shelf=7) / name
        path.unlink()
        return path

    os.mkfifo(replaced(100))
    replaced(101).symlink_to("/dev/zero")
    (looped := replaced(102)).symlink_to(looped)
    replaced(103).mkdir()
    replaced(104).write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\2\0\0\0" + b"\0" * 99)
    replaced(105).write_bytes(jpeg(105)[:300])
    os.mkfifo(replaced(106, "ocr.txt"))
    replaced(107, "caption.txt").write_bytes(b"a\0b")
    replaced(108)
    with replaced(109).open("wb") as file:
        file.truncate(300_000_000)
    report = done(mario, tmp_path / "out")
    assert (report.found, report.samples) == (32, 20)
    expected = {
        "image.jpg: no regular file": 2,
        "image.jpg: a link to itself": 1,
        "unreadable image.jpg": 1,
        "no picture, or a damaged one": 2,
        "ocr.txt: no regular file": 1,
        "caption.txt: no text": 1,
        "no image.jpg": 1,
        "image.jpg: larger than 256,000,000 bytes": 1,
    }
    assert {reason: report.dropped.get(reason) for reason in expected} == expected
    assert report.examples["image.jpg: a link to itself"] == ["00007/000000102"]


def test_too_many_unusable_samples_end_the_work_in_one_line(tmp_path: Path) -> None:
    for number in range(10):
        write_mario(tmp_path / "mario", number, "x" if number < 4 else "")
    message = r"^6 of 10 samples cannot be used, more than --max_bad 0.5 allows; 6 of them: empty caption$"
    with pytest.raises(ValueError, match=message):
        prepare(work(tmp_path / "mario", tmp_path / "out"))
    assert json.loads((tmp_path / "out" / NOTE).read_text())["finished"] is False
    assert done(tmp_path / "mario", tmp_path / "out", max_bad=0.6).samples == 4
    with pytest.raises(ValueError, match="max_bad=2: must lie in"):
        prepare(work(tmp_path / "mario", tmp_path / "out", max_bad=2))


@dataclass(frozen=True)
class Silent:
    """A reader that reads nothing."""

    name: str = "silent"

    def __call__(self, image: object) -> list[object]:
        return []


def test_own_pictures_are_named_by_their_path(tmp_path: Path) -> None:
    long = "deep/a longer name than sixteen.jpg"
    for name in ("a.jpg", "deep/b.jpg", long):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(len(name)))
        path.with_suffix(".txt").write_text(f"picture {name}")
    portions = picture_portions(file_portions(tmp_path / "in"))
    report = prepare(Preparation("in", portions, tmp_path / "out", reader=Silent()))  # type: ignore[arg-type]
    assert report is not None
    assert (report.samples, report.without_words) == (3, 3)
    source = opened(tmp_path / "out")
    assert set(source.keys) == {"a.jpg", "deep/b.jpg", short_key(long)}
    assert source.read(list(source.keys).index("deep/b.jpg")).caption == "picture deep/b.jpg"
    assert len(short_key(long)) == 16
    (tmp_path / "index.txt").write_text(f"{long}\n")
    chosen = opened(tmp_path / "out", index=str(tmp_path / "index.txt"))
    assert [chosen.read(i).caption for i in range(len(chosen))] == [f"picture {long}"]


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is no folder"):
        folder_portions(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no sample; expected folders like 00000/000000000"):
        folder_portions(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"which has no prepared.json; vlad-cli prepare writes such a folder"):
        read_note(tmp_path)
    (tmp_path / NOTE).write_text("[1")
    with pytest.raises(ValueError, match=r"prepared.json cannot be used"):
        read_note(tmp_path)
    (tmp_path / NOTE).write_text('{"version": 9, "finished": true}')
    with pytest.raises(ValueError, match=r"is prepared in version 9; this is version 2$"):
        read_note(tmp_path)


def test_a_set_of_an_older_version_is_prepared_again(tmp_path: Path) -> None:
    for number in range(3):
        write_mario(tmp_path / "mario", number)
    work = Preparation("x", folder_portions(tmp_path / "mario"), tmp_path / "out")
    prepare(work)
    new = {path: path.read_bytes() for path in (tmp_path / "out").glob("index_*/*")}
    listed = next((tmp_path / "out" / SHARDS).glob("*.npy"))
    np.save(listed, np.load(listed)[["key", "pixels", "mark"]])  # without the pictures' sides
    for note in (tmp_path / "out" / NOTE, listed.with_suffix(".json")):
        note.write_text(json.dumps(json.loads(note.read_text()) | {"version": 1}))
    with pytest.raises(ValueError, match="version 1; this is version 2; call the same vlad-cli prepare again"):
        read_note(tmp_path / "out")
    assert missing(work) == 1
    prepare(work)
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("index_*/*")} == new


def test_flat_folders_and_linked_shelves_are_found(tmp_path: Path) -> None:
    def names(root: Path) -> Iterator[str]:
        return (found.name for portion in folder_portions(root) for found in portion.read())

    folder = write_mario(tmp_path / "a", 1)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "mine").symlink_to(folder)
    (tmp_path / "flat" / "other").mkdir()
    (tmp_path / "flat" / "00009").symlink_to(folder.parent)
    assert sorted(names(tmp_path / "flat")) == ["00009/000000001", "mine"]
