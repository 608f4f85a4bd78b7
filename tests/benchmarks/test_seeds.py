from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import ablations
import pytest
import seeds
import tables


def write(run: Path, system: str, share: float) -> None:
    """Write the test of a system that reads the word of about ``share`` of 60 images."""
    folder = run / system
    (folder / "images").mkdir(parents=True)
    rng = random.Random(str(folder.relative_to(run.parent)))
    rows = {f"{i}": [int(rng.random() < share), 1] for i in range(60)}
    read = sum(part for part, _ in rows.values()) / len(rows)
    result: dict[str, Any] = {"value": read, "low": 0.0, "high": 1.0, "n": 60, "details": {"engine": "any"}}
    distance = {"value": 1 - share, "low": None, "high": None, "n": 60, "details": {}}
    (folder / "results.json").write_text(
        json.dumps({system: {"word_accuracy": result, "frechet_distance_any": distance}})
    )
    (folder / "per_image.json").write_text(json.dumps({system: {"word_accuracy": rows}}))
    (folder / "images" / "0.png").write_bytes(b"picture")


def read(path: Path) -> Any:
    return next(iter(json.loads(path.read_text()).values()))


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    for seed, share in enumerate((0.9, 0.8, 0.7)):
        run = tmp_path / f"run{seed}"
        write(run, "vlad", share)
        write(run, "wo_ccm", share - 0.3)
    write(tmp_path / "run0", "sd", 0.0)
    (tmp_path / "run0" / "compute.json").write_text("{}")
    return [str(tmp_path / f"run{seed}") for seed in range(3)]


def test_figures_are_means_over_the_seeds_and_so_are_rows(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all"
    seeds.main([*runs, "--out", str(out)])
    said = capsys.readouterr().out
    assert f"{out / 'vlad'}: 3 of 3 runs" in said
    assert f"{out / 'sd'}: 1 of 3 runs" in said
    results = read(out / "vlad" / "results.json")
    each = [read(Path(run, "vlad", "results.json"))["word_accuracy"]["value"] for run in runs]
    assert results["word_accuracy"]["seeds"] == each
    assert results["word_accuracy"]["value"] == pytest.approx(sum(each) / 3)
    assert results["word_accuracy"]["n"] == 180
    assert results["frechet_distance_any"]["seeds"] == pytest.approx([0.1, 0.2, 0.3])
    rows = read(out / "vlad" / "per_image.json")["word_accuracy"]
    assert sum(part for part, _ in rows.values()) == pytest.approx(60 * sum(each) / 3)
    assert {whole for _, whole in rows.values()} == {1}
    assert (out / "vlad" / "images" / "0.png").read_bytes() == b"picture"
    assert (out / "compute.json").exists()
    assert len(read(out / "sd" / "results.json")["word_accuracy"]["seeds"]) == 1


def test_tables_show_the_spread_over_the_seeds(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "all"
    seeds.main([*runs, "--out", str(out)])
    for folder in ("vlad", "wo_ccm"):
        (out / folder / "images" / "0.png").unlink()
    capsys.readouterr()
    tables.main(["2", "--out", str(out)])
    lines = capsys.readouterr().out.splitlines()
    vlad = next(line for line in lines if line.startswith("| VLAD |"))
    assert vlad.startswith("| VLAD | 3 | 0.200 ± 0.100 |")  # of 0.1, 0.2 and 0.3
    paired = [line for line in lines if line.startswith("| w/o CCM |")][1]
    assert "*" in paired
    ablations.main([str(out / "vlad"), str(out / "wo_ccm")])
    lines = capsys.readouterr().out.splitlines()
    assert "±" in lines[2]
    assert lines[-1].endswith("n = 60 |")  # images, with their three seeds together


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["missing", "--out", "all"], "'missing' is no folder"),
        (["run0", "--out", "run0"], "which is one of the runs"),
        (["empty", "--out", "all"], "nothing was tested in empty"),
    ],
)
def test_folders_that_cannot_be_put_together_are_refused(
    args: list[str],
    message: str,
    runs: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        seeds.main(args)
    assert message in capsys.readouterr().err
    assert not (tmp_path / "all").exists()
