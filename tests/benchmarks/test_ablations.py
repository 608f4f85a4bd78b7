from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ablations
import pytest


def write(folder: Path, system: str, right: list[int], per_image: bool = True) -> str:
    folder.mkdir()
    share: dict[str, Any] = {"value": sum(right) / len(right), "low": 0.1, "high": 0.9, "n": len(right)}
    results = {"word_accuracy": share, "text_probe_all_text": share, "val_distance": share | {"low": None}}
    (folder / "results.json").write_text(json.dumps({system: results}))
    if per_image:
        rows = {"word_accuracy": {str(i): [one, 1] for i, one in enumerate(right)}}
        (folder / "per_image.json").write_text(json.dumps({system: rows}))
    return str(folder)


def test_runs_are_columns_and_differences_follow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, without = write(tmp_path / "a", "vlad", [1] * 30), write(tmp_path / "b", "wo_ccm", [1] * 20 + [0] * 10)
    ablations.main([whole, without])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | vlad | wo_ccm |"
    assert lines[2] == "| word_accuracy | 1.000 (0.100 to 0.900) | 0.667 (0.100 to 0.900) |"
    assert [line.split(" | ")[0] for line in lines[3:5]] == ["| text_probe_all_text", "| val_distance"]
    assert "Minus vlad, on the same images:" in lines
    assert lines[-1].startswith("| word_accuracy | -0.333 (-0.500 to -0.1")
    assert "p = 0.00" in lines[-1]
    assert lines[-1].endswith("n = 30 |")


def test_without_per_image_rows_there_are_no_differences(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablations.main([write(tmp_path / "a", "vlad", [1, 0], per_image=False), write(tmp_path / "b", "wo_ccm", [1, 1])])
    assert "Minus" not in capsys.readouterr().out
