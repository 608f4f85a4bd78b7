from __future__ import annotations

from pathlib import Path

import pytest

from vlad_lightning.files import write_file


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


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
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
