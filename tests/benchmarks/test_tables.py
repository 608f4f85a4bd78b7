from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tables import PUBLISHED, TABLES, main

from vlad_lightning.files import save_picture


def result(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 60, "details": {}}


def write(out: Path, folder: str, share: float) -> None:
    """Write the test of a system that reads the word of about ``share`` of 60 images."""
    rng = random.Random(folder)
    rows = {f"{i}": [int(rng.random() < share), 1] for i in range(60)}
    names = ("word_accuracy", "mario_precision", "mario_recall", "mario_accuracy")
    (out / folder / "images").mkdir(parents=True)
    results = {name: result(share) for name in (*names, "mario_f", "frechet_distance_any", "human_word_accuracy")}
    (out / folder / "results.json").write_text(json.dumps({folder: results}))
    (out / folder / "per_image.json").write_text(json.dumps({folder: dict.fromkeys(names, rows)}))
    for i in range(2):
        save_picture(Image.new("RGB", (8, 8), "red"), out / folder / "images" / f"{i}.png", {"prompt": "a red poster"})


def row(text: str, name: str, nth: int = 0) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(f"| {name} |")][nth].strip("| ").split(" | ")


def test_a_table_of_the_systems_that_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, share in (("vlad", 0.9), ("sd", 0.1), ("controlnet", 0.85)):
        write(tmp_path, folder, share)
    compute = {"training": 2e12, "share": 0.5, "image": 3e9, "parameters": 5_500_000, "trained": 4_000_000}
    (tmp_path / "compute.json").write_text(json.dumps({"sd": compute}))
    main(["1", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert text.rstrip() == (tmp_path / "table1.md").read_text().rstrip()
    sd = row(text, "SD")
    assert sd[1:3] == ["1", "0.100 (0.000 to 0.200)"]
    assert sd[-5:] == ["2.0", "0.50", "3.0", "5.5", "4.0"]
    assert row(text, "VLAD")[-5:] == ["-"] * 5
    missing = "Fine-tuned SD, Fine-tuned SD, wider, ControlNet, true layouts, DeepFloyd, TextDiffuser, ARTIST"
    assert f"Missing, not tested yet: {missing}, ARTIST, narrower." in text
    assert "over 6 tests" in text  # two systems, and the three results that have rows of images
    low, near = row(text, "SD", 1), row(text, "ControlNet", 1)
    assert low[1].endswith("*")
    assert low[1].startswith("-0.")
    assert not near[1].endswith("*")
    assert [cell for cell in low if cell == "-"] == ["-", "-"]
    with Image.open(tmp_path / "table1.png") as grid:
        assert np.asarray(grid.convert("RGB")).reshape(-1, 3).tolist().count([255, 0, 0]) > 1000


def test_nothing_to_compare_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["2", "--out", str(tmp_path)])
    text = capsys.readouterr().out
    assert "Missing, not tested yet: w/o CCM, w/o hierarchical guidance, VLAD." in text
    assert "No system can be compared with VLAD yet." in text
    assert not (tmp_path / "table2.png").exists()


def test_published_figures_are_those_of_the_systems_in_the_tables() -> None:
    tables = json.loads(PUBLISHED.read_text())
    for number, folders in TABLES.items():
        assert set(tables[f"vlad_table{number}"]["rows"]) <= set(folders)
    first = tables["vlad_table1"]["rows"]["VLAD"]
    assert first["f"] == tables["vlad_table2"]["rows"]["VLAD"]["f"]
    for table in (name for name in tables if name != "vlad_table2"):
        for figures in tables[table]["rows"].values():
            harmonic = 2 * figures["p"] * figures["r"] / (figures["p"] + figures["r"])
            assert figures["f"] == pytest.approx(harmonic, abs=0.002)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["1", "--out", str(tmp_path / "missing")])
    assert "missing', which is no folder" in capsys.readouterr().err
    assert not (tmp_path / "missing").exists()
