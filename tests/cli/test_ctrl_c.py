"""Test Ctrl-C in a terminal: SIGINT to all processes of a real fit, started by ``vlad-cli run``."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from vlad_lightning.exit_codes import PREEMPTED


@pytest.mark.slow
def test_ctrl_c_ends_a_run_with_a_checkpoint_and_the_line_that_goes_on(posters: Path, tmp_path: Path) -> None:
    args = ["--out", "{out}", "--data.root={data}", "--data.batch_size=4", "--data.num_workers=1"]
    args += ["--trainer.limit_val_batches=0", "--trainer.logger=false", "--trainer.callbacks=[]"]
    stage = {"name": "stage0", "command": "fit", "config": "mini/stage0_align.yaml", "args": args}
    path = tmp_path / "pipeline.yaml"
    path.write_text(yaml.safe_dump({"out": str(tmp_path), "data": {"train": "{out}/data"}, "stages": [stage]}))
    command = ["run", "--config", str(path), "--data", str(posters), "--trainer.max_steps", "100000"]
    log, last = tmp_path / "stage0" / "log.txt", tmp_path / "stage0" / "last.ckpt"
    # a shell's background jobs ignore SIGINT, and so would all their children
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        runner = subprocess.Popen(
            [sys.executable, "-m", "vlad_lightning", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        deadline = time.monotonic() + 300
        while "step 1/" not in (log.read_text() if log.exists() else "") and runner.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.killpg(runner.pid, signal.SIGINT)
        _, errors = runner.communicate(timeout=200)
    finally:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)
    told = log.read_text()
    assert runner.returncode == PREEMPTED, told
    assert torch.load(last, weights_only=True)["global_step"] > 0
    assert f"saved: {last}" in told
    assert "Ctrl-C: the fit saves and stops after this step" in told
    assert f"to go on: {shlex.join(['vlad-cli', *command])}\n" in errors
