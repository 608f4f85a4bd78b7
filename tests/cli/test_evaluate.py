from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from kills import kill_when
from signs import draw_sign, prompt_of, write_prompts

from vlad_lightning.cli.evaluate import main
from vlad_lightning.cli.launcher import main as launch
from vlad_lightning.pipeline import VLADPipeline

LETTERS = tuple("ABCDEFGHIJ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["socre"], "there is no step 'socre'; allowed are generate, score, report"),
        (["score", "--images", "x", "--out", "y"], "--suite NAME or --prompts FILE is needed"),
        (
            ["score", "--images", "x", "--out", "y", "--prompts", "none.txt"],
            "--prompts none.txt: no configuration file",
        ),
        (["score", "--prompts", "p.txt", "--out", "y"], "the following arguments are required: --images"),
        (["score", "--images", "none", "--out", "y", "--prompts", "p.txt"], "--images: none is no folder"),
        (["generate", "--model", "none", "--out", "y", "--prompts", "p.txt"], "--model none is no folder"),
        (["generate", "--model", "none", "--out", "y", "--prompts", "p.txt", "--shard", "2"], "--shard is '2'"),
        (["report", "none", "--out", "y"], "none has no results.json"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_prompts(Path("p.txt"))
    assert launch(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("y").exists()


def test_help_lists_the_steps(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    listed = re.findall(r"^  (\w+)", capsys.readouterr().out, flags=re.MULTILINE)
    assert listed == ["generate", "score", "report"]


def test_a_score_that_is_killed_goes_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """kill -9 after some of ten images; then the same rows as without the kill, no image twice."""
    for number, letter in enumerate(LETTERS):
        draw_sign(tmp_path / "images" / f"{number}.png", letter * 4, {"seed": "1", "prompt": prompt_of(letter * 4)})
    prompts = write_prompts(tmp_path / "p.txt", tuple(letter * 4 for letter in LETTERS))
    arguments = ["score", "--images", str(tmp_path / "images"), "--prompts", str(prompts), "--out"]
    rows = tmp_path / "killed" / "rows" / "rapidocr.csv"
    kill_when(
        lambda: main([*arguments, str(tmp_path / "killed")]),
        lambda: rows.exists() and len(rows.read_text().splitlines()) >= 4,
    )
    before = rows.read_text().splitlines()
    assert 4 <= len(before) < 11
    main([*arguments, str(tmp_path / "killed")])
    main([*arguments, str(tmp_path / "whole")])
    after = rows.read_text().splitlines()
    assert set(before[:-1]) <= set(after)
    assert (tmp_path / "whole" / "rows" / "rapidocr.csv").read_text().splitlines() == after
    assert len(after) == 11
    assert "wrote " in capfd.readouterr().out


def test_one_command_generates_scores_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    module: Any = tiny.stage("vfe")
    VLADPipeline.from_module(module).save_pretrained(tmp_path / "tiny")
    prompts = write_prompts(tmp_path / "p.txt", ("HI", "GO"))
    arguments = ["--model", str(tmp_path / "tiny"), "--prompts", str(prompts), "--steps", "1", "--device", "cpu"]
    out = tmp_path / "out"
    main([*arguments, "--out", str(out), "--images_per_prompt", "2", "--system", "tiny system"])
    printed = capsys.readouterr().out
    assert "wrote 4 images" in printed
    assert "# tiny system: prompts" in printed
    assert sorted(path.name for path in (out / "images").iterdir()) == ["0_0.png", "0_1.png", "1_0.png", "1_1.png"]
    assert "tiny system" in (out / "report" / "report.html").read_text()
    assert "## Reader rapidocr" in (out / "report" / "report.md").read_text()
    with pytest.raises(ValueError, match="several tasks make images here"):
        main([*arguments, "--out", str(tmp_path / "part"), "--shard", "0/2"])
