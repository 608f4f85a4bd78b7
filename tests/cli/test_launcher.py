from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from vlad_lightning import __version__
from vlad_lightning.cli.launcher import main


def vlad_cli(*args: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vlad_lightning", *args],
        cwd=cwd,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("flag", ["--help", "-h", "help"])
def test_help_lists_every_command(flag: str) -> None:
    result = vlad_cli(flag)
    assert result.returncode == 0
    listed = {line.split()[0] for line in result.stdout.split("commands:\n")[1].split("\n\n")[0].splitlines()}
    assert listed == {
        "fit",
        "validate",
        "test",
        "predict",
        "run",
        "doctor",
        "annotate",
        "prepare",
        "cache",
        "inspect",
        "synth",
        "export",
        "generate",
        "studio",
        "study",
        "evaluate",
    }


def test_help_imports_the_standard_library_only() -> None:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vlad_lightning", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert "vlad_lightning" in imported
    assert imported.isdisjoint({"torch", "lightning", "numpy", "yaml", "jsonargparse"})


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("export", "--help"), 0),
        (("doctor", "--help"), 0),
        (("generate", "--help"), 0),
        (("run", "--help"), 0),
        (("synth", "--help"), 0),
        (("fit", "--config", "absent.yaml"), 2),
        (("export", "--config=absent.yaml", "--checkpoint", "x", "--folder", "y"), 2),
        (("doctor", "--config", "absent.yaml"), 2),
        (("export", "--checkpoint", "absent.ckpt", "--folder", "y"), 2),
    ],
)
def test_help_and_a_missing_file_import_no_torch(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "vlad_lightning", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    told = [line for line in result.stderr.splitlines() if not line.startswith("import time:")]
    imported = {line.rsplit("|", 1)[1].strip().partition(".")[0] for line in result.stderr.splitlines() if "|" in line}
    assert imported.isdisjoint({"torch", "lightning", "jsonargparse", "diffusers"})
    assert len(told) == (1 if code else 0)


def test_version_is_printed() -> None:
    assert vlad_cli("--version").stdout == f"vlad-cli {__version__}\n"


def test_no_command_prints_the_help_and_fails() -> None:
    result = vlad_cli()
    assert result.returncode == 2
    assert "usage: vlad-cli" in result.stdout


def test_unknown_command_is_one_line_with_the_nearest_name() -> None:
    result = vlad_cli("fti", "--config", "x.yaml")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "unknown command 'fti'; did you mean 'fit'?" in result.stderr


def test_bad_input_is_one_line_with_a_traceback_on_request(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.yaml")
    result = vlad_cli("run", "--config", missing)
    assert result.returncode == 2
    assert result.stderr.startswith(f"vlad-cli run: no configuration file {missing!r}")
    assert result.stderr.count("\n") == 1
    traced = vlad_cli("run", "--config", missing, VLAD_TRACEBACK="1")
    assert traced.returncode == 1
    assert "Traceback" in traced.stderr
    assert "FileNotFoundError" in traced.stderr


def test_main_returns_the_code_of_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--config", str(tmp_path / "missing.yaml")]) == 2
    assert "no configuration file" in capsys.readouterr().err
    assert main(["--version"]) == 0


def test_an_error_that_came_of_ctrl_c_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: list[str]) -> None:
        lock = threading.Lock()
        with lock:
            lock.release()  # as in Condition.wait: the context then releases it again, which is an error
            raise KeyboardInterrupt

    monkeypatch.setattr("vlad_lightning.cli.launcher._entry", lambda _: interrupted)
    assert main(["synth"]) == 130
    assert capsys.readouterr().err == "vlad-cli synth: interrupted\n"


@pytest.mark.parametrize("argument", ["--bogus", "--sample=3"])
def test_synth_refuses_an_unknown_option(argument: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["synth", "--out", str(tmp_path / "posters"), "--samples", "1", argument]) == 2
    assert argument.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "posters").exists()


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        (("generate", "a poster"), "--imag=3"),
        (("doctor",), "--data.roo=x"),
        (("validate", "--config", "mini/stage0_align.yaml"), "--ckpt_pat=x"),
    ],
)
def test_a_shortened_option_is_refused(
    command: tuple[str, ...], argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: Any = main([*command, argument])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert argument.partition("=")[0].lstrip("-") in capsys.readouterr().err


def test_synth_passes_every_option_on(tmp_path: Path) -> None:
    plain = ("--samples", "3", "--size", "48", "--workers", "1")
    assert main(["synth", "--out", str(tmp_path / "a"), *plain]) == 0
    assert main(["synth", "--out", str(tmp_path / "b"), *plain, "--seed", "1", "--charseg", "false"]) == 0
    assert main(["synth", "--out", str(tmp_path / "c"), *plain, "--split", "heldout"]) == 0
    images = {name: sorted((tmp_path / name).glob("*/*/image.jpg")) for name in "abc"}
    assert [len(found) for found in images.values()] == [3, 3, 3]
    content = {name: [path.read_bytes() for path in found] for name, found in images.items()}
    assert content["a"] != content["b"]  # another seed
    assert content["a"] != content["c"]  # another split
    assert len(list((tmp_path / "a").glob("*/*/charseg.npy"))) == 3
    assert not list((tmp_path / "b").glob("*/*/charseg.npy"))
