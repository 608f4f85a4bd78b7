from __future__ import annotations

import json
from pathlib import Path

import pytest
from raters import draw_systems

from vlad_lightning.cli.launcher import main
from vlad_lightning.studio.study_answers import Answers
from vlad_lightning.studio.study_folder import read_study

ODD = ["50%_a|b & #1", "x~^{y}$"]


def answered(folder: Path, *options: str) -> Path:
    """Draw a study and let two raters answer; the first system of the design gets less."""
    study = folder / "study"
    systems = draw_systems(folder, ODD, 12)
    assert main(["study", "make", *systems, *options, "--checks", "0", "--out", str(study)]) == 0
    store = Answers(study, read_study(study))
    for turn in range(2):
        token = store.enrol(consented=True)
        while (rater := store.rater(token)) is not None and rater.answered < rater.total:
            item, _ = store.item(rater, rater.answered)
            score = 2 + item.shown[0] + turn
            value = [score, score, 3] if item.kind == "rate" else [int(item.shown[1] == 1)]
            store.save(rater, rater.answered, value, 7.0)
    store.close()
    return study


def report(study: Path, out: Path, *options: str) -> int:
    return main(
        ["study", "report", str(study), "--out", str(out), "--least_seconds", "0", "--resamples", "100", *options]
    )


def test_names_are_written_as_text_in_each_format(tmp_path: Path) -> None:
    study = answered(tmp_path, "--items", "6", "--pairs", "4")
    assert report(study, tmp_path / "report") == 0
    table = (tmp_path / "report" / "table.tex").read_text()
    assert r"50\%\_a|b \& \#1 & " in table
    assert r"x\textasciitilde{}\textasciicircum{}\{y\}\$ & " in table
    assert table.count("{") == table.count("}")
    assert [line.count(" & ") for line in table.splitlines() if line.endswith(r"\\")] == [3, 3, 3]
    page = (tmp_path / "report" / "report.md").read_text()
    assert r"| 50%\_a\|b & \#1 |" in page
    assert set(json.loads((tmp_path / "report" / "results.json").read_text())["results"]["means"]) == set(ODD)


def test_the_better_mean_is_bold_and_last(tmp_path: Path) -> None:
    study = answered(tmp_path, "--items", "6", "--pairs", "0")
    assert report(study, tmp_path / "report") == 0
    worse, better = read_study(study).systems
    results = json.loads((tmp_path / "report" / "results.json").read_text())["results"]
    assert results["means"][worse]["Image quality"]["value"] == pytest.approx(2.5)
    assert results["means"][better]["Image quality"]["value"] == pytest.approx(3.5)
    assert [d["value"] for d in results["differences"] if d["criterion"] == "Image quality"] == pytest.approx([-1.0])
    assert "bradley_terry" not in results
    lines = (tmp_path / "report" / "table.tex").read_text().splitlines()
    assert r"\textbf{3.50}" in lines[-4]
    assert r"\textbf{2.50}" not in lines[-5]
    page = (tmp_path / "report" / "report.md").read_text()
    assert " | +1.00" in page
    assert "## Choices between two images" not in page


def test_choices_alone_make_a_table_of_shares(tmp_path: Path) -> None:
    study = answered(tmp_path, "--items", "0", "--pairs", "10")
    assert report(study, tmp_path / "report", "--most_same", "1") == 0
    assert r"Method & Share won \\" in (tmp_path / "report" / "table.tex").read_text()
    results = json.loads((tmp_path / "report" / "results.json").read_text())["results"]
    worse, better = read_study(study).systems
    assert results["wins"] == {worse: {better: 0}, better: {worse: 20}}
    assert results["won_share"][better]["value"] == 1
    assert results["choice_agreement"] is None  # nobody ever chose the other system
    assert "## Mean scores" not in (tmp_path / "report" / "report.md").read_text()


def test_reports_are_repeatable_and_settings_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = answered(tmp_path, "--items", "6", "--pairs", "4")
    for out in ("one", "two"):
        assert report(study, tmp_path / out, "--seed", "3") == 0
    one, two = (json.loads((tmp_path / out / "results.json").read_text()) for out in ("one", "two"))
    assert one["results"] == two["results"]
    capsys.readouterr()
    for options, message in (
        (["--resamples", "10"], "--resamples is 10; it must be a whole number from 100"),
        (["--most_failed", "2"], "--most_failed=2.0: must lie in [0, 1]"),
        (["--least_seconds", "1e9"], "STUDY has 20 answers, of which none counts; excluded raters: 2"),
    ):
        assert report(study, tmp_path / "three", *options) == 2
        assert capsys.readouterr().err.startswith(f"vlad-cli study: {message}")
    assert not (tmp_path / "three").exists()
