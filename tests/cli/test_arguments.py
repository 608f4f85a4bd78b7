from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vlad_lightning.cli.arguments import Parser
from vlad_lightning.cli.launcher import main

PROMPT = "a sign that says 'HI'"
LARGEST = "9,223,372,036,854,775,807"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("generate", "a prompt is needed: \"a sign that says 'HELLO'\", or a list of them with --prompts FILE"),
        ("generate|a|sign", "unexpected words: sign; a text with spaces must be in quotation marks; see {} --help"),
        ("generate|", "the prompt is ''; it must say what to draw: \"a sign that says 'HELLO'\""),
        (f"generate|{PROMPT}|--modle|x", "there is no option --modle; did you mean --model?; see {} --help"),
        (f"generate|{PROMPT}|--size|64", "there is no option --size; see {} --help"),
        (f"generate|{PROMPT}|--zoom=64", "there is no option --zoom; see {} --help"),
        (f"generate|{PROMPT}|--steps|abc", "--steps: invalid int value: 'abc'; see {} --help"),
        (f"generate|{PROMPT}|--seed|abc", "--seed: invalid int value: 'abc'; see {} --help"),
        (f"generate|{PROMPT}|--seed|-1", f"--seed is -1; it must be a whole number from 0 to {LARGEST}"),
        (f"generate|{PROMPT}|--seed", "--seed: expected one argument; see {} --help"),
        (
            f"generate|{PROMPT}|--solver|euler_a",
            "--solver: invalid choice: 'euler_a' (choose from 'ddim', 'dpmsolver++'); see {} --help",
        ),
        ("run", "the following arguments are required: --config; see {} --help"),
        ("run|--confg|x.yaml", "there is no option --confg; did you mean --config?; see {} --help"),
        (
            "run|--config|pipeline_mini.yaml|--stage9|3",
            "unknown option --stage9; allowed are those of vlad-cli run --help, --seed_everything and dotted ones such "
            "as --trainer.max_steps",
        ),
        ("synth", "the following arguments are required: --out, --samples; see {} --help"),
        ("synth|--out|a|--sample|3", "there is no option --sample; did you mean --samples?; see {} --help"),
        ("synth|--out|a|--samples|abc", "--samples: invalid int value: 'abc'; see {} --help"),
        ("synth|--out|a|--samples|3|--sizes|3", "there is no option --sizes; did you mean --size?; see {} --help"),
        ("annotate", "the following arguments are required: DIR, --out; see {} --help"),
        ("annotate|a|--uot|b", "there is no option --uot; did you mean --out?; see {} --help"),
        ("export|--chekpoint|x.ckpt", "there is no option --chekpoint; did you mean --checkpoint?"),
        ("doctor|--jsn|x", "there is no option --jsn; did you mean --json?; see {} --help"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    command: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = command.split("|")
    assert main(words) == 2
    program = f"vlad-cli {words[0]}"
    assert capsys.readouterr().err == f"{program}: {message.format(program)}\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("device", ["gpu", "cudaa"])
def test_an_unknown_device_is_one_line(device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model_index.json").write_text("no pipeline at all")
    assert main(["generate", PROMPT, "--model", str(tmp_path), "--device", device]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"vlad-cli generate: --device {device} cannot be used here; allowed on this machine: cpu")


def test_a_process_answers_a_mistake_in_one_line() -> None:
    command = [sys.executable, "-m", "vlad_lightning", "synth", "--samples", "x"]
    ended = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "vlad-cli synth: --samples: invalid int value: 'x'; see vlad-cli synth --help\n"


def test_the_other_words_are_left_to_another_parser() -> None:
    parser = Parser("prog")
    parser.add_argument("--checkpoint")
    options, rest = parser.parse_known_args(["--checkpoint", "a", "--data.root", "b"])
    assert (options.checkpoint, rest) == ("a", ["--data.root", "b"])
    with pytest.raises(ValueError, match=r"there is no option --data\.root; see prog --help"):
        parser.refuse(rest)
