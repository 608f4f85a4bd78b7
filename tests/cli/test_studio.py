from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vlad_lightning.cli.launcher import main


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--model", "nowhere"], "--model nowhere is no pipeline folder; allowed are one that"),
        (["--port", "0"], "--port is 0; it must be a whole number from 1 to 65,535"),
        (["--port", "x"], "--port: invalid int value: 'x'; see vlad-cli studio --help"),
        (["--host", "no.such.host.invalid"], "--host no.such.host.invalid is no address of this machine"),
        (["--device", "tpu9"], "--device tpu9 cannot be used here; allowed on this machine: cpu"),
        (["--share"], "there is no option --share"),
    ],
)
def test_bad_input_is_one_line(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = [] if "--port" in args else ["--port", str(_free_port())]
    assert main(["studio", *args, *port]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vlad-cli studio: {message}")


def test_a_port_in_use_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["studio", "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vlad-cli studio: --port {port} on 127.0.0.1 cannot be used (")


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found = importlib.util.find_spec

    def without(name: str, *args: Any) -> Any:
        return None if name == "gradio" else found(name, *args)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert main(["studio"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line
        == "vlad-cli studio: the studio needs gradio: pip install 'vlad-lightning[studio]', or '.[studio]' in a clone"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_its_temporary_folder_is_removed(ending: int, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vlad_lightning", "studio", "--device", "cpu", "--port", str(_free_port())]
    started = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert started.stdout is not None
    assert "the studio is at http://127.0.0.1:" in started.stdout.readline()
    assert len(list(tmp_path.glob("vlad-studio-*"))) == 1
    started.send_signal(ending)
    assert started.wait(120) == code
    assert list(tmp_path.glob("vlad-studio-*")) == []


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
