from __future__ import annotations

from pathlib import Path

import pytest

from vlad_lightning.evaluation.row_file import IMAGE_COLUMNS, RowFile, open_rows, read_rows

COLUMNS = [*IMAGE_COLUMNS, "wanted"]
MADE_OF = {"suite": "prompts", "reader": {"engine": "a reader"}}


def row(key: str, lines: str = '["one, \\"two\\""]') -> dict[str, object]:
    return {**dict.fromkeys(COLUMNS, ""), "key": key, "number": 0, "lines": lines, "wanted": 1.0}


def write(path: Path, *keys: str) -> None:
    with open_rows(path, COLUMNS, MADE_OF) as rows:
        for key in keys:
            rows.append(row(key))


def test_rows_are_kept_and_read_back(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "b", "a")
    write(tmp_path / "a.csv", "c")
    found = read_rows(tmp_path / "a.csv")
    assert [entry["key"] for entry in found] == ["b", "a", "c"]
    assert found[0]["lines"] == '["one, \\"two\\""]'


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_row_that_was_cut_off_is_removed(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.csv"
    write(path, "a", "b")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    write(path, "b")
    assert path.read_bytes() == whole


def test_a_tail_that_is_no_row_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, "a")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 30 + b"\n")
    write(path)
    assert path.read_bytes() == whole
    path.write_bytes(whole + "caf\u00e9".encode()[:-1])  # within a character
    write(path)
    assert path.read_bytes() == whole


def test_damage_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    write(path, "a", "b")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "a,b\n" + lines[2])
    with pytest.raises(ValueError, match="damaged in line 2: it has 2 cells"):
        write(path)
    path.write_text(lines[0] + lines[1] + lines[1])
    with pytest.raises(ValueError, match="an image occurs twice"):
        write(path)


def test_rows_of_something_else_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "a")
    with pytest.raises(ValueError, match="rows with another suite and reader; name another --out"):
        RowFile(tmp_path / "a.csv", COLUMNS, {"suite": "other", "reader": {}})


def test_two_writers_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with open_rows(tmp_path / "a.csv", COLUMNS, MADE_OF), pytest.raises(BlockingIOError, match="another process"):
        RowFile(tmp_path / "a.csv", COLUMNS, MADE_OF)


def test_sorted_rows_do_not_tell_their_order(tmp_path: Path) -> None:
    order = {("a", "0"): 0, ("b", "0"): 1}
    for name, keys in (("x.csv", "ab"), ("y.csv", "ba")):
        with open_rows(tmp_path / name, COLUMNS, MADE_OF) as rows:
            for key in keys:
                rows.append(row(key))
            rows.sort(order)
    assert (tmp_path / "x.csv").read_bytes() == (tmp_path / "y.csv").read_bytes()
