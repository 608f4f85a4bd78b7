from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from raters import draw_systems

from vlad_lightning.cli.launcher import main
from vlad_lightning.studio.study_folder import read_study

NAMES = ["zebrasystem", "quokkasystem", "ibexsystem"]


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    return draw_systems(tmp_path, NAMES, 12)


def test_a_study_is_drawn_by_its_seed(tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("one", "two"):
        command = [
            "study",
            "make",
            *options,
            "--items",
            "6",
            "--pairs",
            "3",
            "--seed",
            "5",
            "--out",
            str(tmp_path / out),
        ]
        assert main(command) == 0
    assert "balanced for a multiple of 6 raters" in capsys.readouterr().out
    one, two = (read_study(tmp_path / out) for out in ("one", "two"))
    assert [prompt.key for prompt in one.rated + one.compared] == [prompt.key for prompt in two.rated + two.compared]
    assert one.systems == two.systems
    assert one.tokens().isdisjoint(two.tokens())  # who knows the seed must not know the names
    assert len({prompt.key for prompt in one.rated + one.compared}) == 9
    assert set(one.systems) == set(NAMES)
    assert len(one.checks) == 2


def test_images_are_copied_without_a_trace_of_their_system(tmp_path: Path, options: list[str]) -> None:
    out = tmp_path / "study"
    assert main(["study", "make", *options, "--items", "6", "--pairs", "3", "--out", str(out)]) == 0
    study = read_study(out)
    for prompt in study.rated + study.compared:
        for system, token in zip(study.systems, prompt.images, strict=True):
            with Image.open(out / "images" / f"{token}.png") as image:
                assert image.info == {}
                pixel = image.getpixel((0, 0))
            assert pixel == (40 * NAMES.index(system), int(prompt.key[-3:]), 99)
            assert prompt.text == f"prompt number {int(prompt.key[-3:])}"
    assert {path.stem for path in (out / "images").iterdir()} == study.tokens()
    assert not any(name.encode() in path.read_bytes() for name in NAMES for path in (out / "images").iterdir())
    assert sorted(path.name for path in out.iterdir()) == ["consent.txt", "images", "instructions.txt", "study.json"]


def test_prompts_come_from_a_list(tmp_path: Path, options: list[str]) -> None:
    listed = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"key": f"part/{number:03d}", "prompt": f"listed {number}"}) for number in range(12)]
    listed.write_text("\n".join([*lines, ""]))
    assert main(["study", "make", *options, "--prompts", str(listed), "--out", str(tmp_path / "study")]) == 0
    study = read_study(tmp_path / "study")
    assert (len(study.rated), len(study.compared)) == (
        6,
        6,
    )  # of 12 prompts, eight could be rated: two of three systems
    assert all(prompt.text == f"listed {int(prompt.key[-3:])}" for prompt in study.rated + study.compared)


def test_prompts_come_from_the_layout_file_beside_an_image(tmp_path: Path) -> None:
    names = ["one", "two"]
    for name in names:
        (tmp_path / name).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"prompt_{number}.png")
            (tmp_path / name / f"prompt_{number}.json").write_text(json.dumps({"prompt": f"words {number}", "size": 8}))
    options = [word for name in names for word in ("--system", f"{name}={tmp_path / name}")]
    assert main(["study", "make", *options, "--items", "2", "--out", str(tmp_path / "study")]) == 0
    assert {prompt.text for prompt in read_study(tmp_path / "study").rated} == {"words 0", "words 1"}


def test_images_of_different_sizes_are_noticed(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    larger = draw_systems(tmp_path, ["larger"], 12, side=16)
    assert main(["study", "make", *options, "--out", str(tmp_path / "one")]) == 0
    assert "notice" not in capsys.readouterr().out
    assert main(["study", "make", *options, *larger, "--items", "8", "--out", str(tmp_path / "two")]) == 0
    told = capsys.readouterr().out
    assert "notice: the systems' images differ in size, by which raters may tell the systems apart" in told
    assert "no pairs: they need 6 prompts" in told


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["study", "make", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    return told.removeprefix("vlad-cli study: ")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--items", "7"], "--items is 7; it must be a multiple of the 3 systems, such as 6 or 9"),
        (["--pairs", "4"], "--pairs is 4; it must be a multiple of the 3 pairs of systems, such as 3 or 6"),
        (["--items", "9", "--pairs", "6"], "--items 9 and --pairs 6 need 15 prompts; there are 12"),
        (["--items", "-3"], "--items is -3; it must be a whole number from 0 to 1,000"),
        (["--seed", "-1"], "--seed is -1"),
        (["--checks", "1001"], "--checks is 1001"),
        (["--system", "x"], "--system is 'x'; it must be NAME=DIR"),
        (["--system", "ibexsystem=."], "--system ibexsystem is given twice"),
        (["--system", "x=/nowhere"], "--system x: /nowhere is no folder"),
        (["--items", "0", "--pairs", "0"], "--system: 12 prompts are too few"),
    ],
)
def test_bad_arguments_are_refused_in_one_line(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert refused(capsys, *options, *more, "--out", str(tmp_path / "study")).startswith(message)
    assert not (tmp_path / "study").exists()


def test_images_that_form_no_study_are_refused(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "study")]
    assert "--system is given 1 times" in refused(capsys, *options[:2], *out)
    plain = Image.new("RGB", (8, 8))
    extra = tmp_path / "ibexsystem" / "part" / "012.png"
    plain.save(extra)
    assert "has no image part/012 as ibexsystem has (1 such)" in refused(capsys, *options, *out)
    extra.unlink()
    listed = tmp_path / "prompts.jsonl"
    listed.write_text('{"key": "part/000", "prompt": "a"}\n')
    assert "--prompts has no prompt for 'part/" in refused(capsys, *options, "--prompts", str(listed), *out)
    listed.write_text('{"key": "part/000"}\n')
    assert "prompts.jsonl, line 1: " in refused(capsys, *options, "--prompts", str(listed), *out)
    ibex = tmp_path / "ibexsystem" / "part"
    (ibex / "000.png").replace(ibex / "swapped")
    (ibex / "001.png").replace(ibex / "000.png")
    (ibex / "swapped").replace(ibex / "001.png")
    assert "must have the same prompt" in refused(capsys, *options, "--items", "12", *out)
    for name in NAMES:
        for number in (0, 1):
            plain.save(tmp_path / name / "part" / f"00{number}.png")
    assert "has no text `prompt`, nor has a JSON beside it; give --prompts FILE" in refused(
        capsys, *options, "--items", "12", *out
    )
    (tmp_path / "study").mkdir()
    assert "which exists; a study is drawn into a new folder" in refused(capsys, *options, *out)
    assert [*(tmp_path / "study").iterdir()] == []
