"""A signal to one process of a group, through the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vlad_lightning.config_files import configs_folder
from vlad_lightning.exit_codes import PREEMPTED


@pytest.mark.slow
def test_a_signal_to_one_of_two_processes_stops_both_at_the_same_step(posters: Path, tmp_path: Path) -> None:
    config = ("--config", str(configs_folder() / "mini/stage0_align.yaml"), "--data.root", str(posters))
    two = ("--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp_find_unused_parameters_true")
    small = ("--data.batch_size=4", "--trainer.max_steps=1000", "--trainer.limit_val_batches=1")
    command = [sys.executable, "-m", "vlad_lightning", "fit", *config, *two, *small, "--out", str(tmp_path)]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as child:
        end = time.monotonic() + 250
        while not (tmp_path / "stage0" / "config.yaml").exists() and child.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        child.send_signal(signal.SIGUSR1)
        code = child.wait(timeout=250)
    said = (tmp_path / "log").read_text()
    assert code == PREEMPTED, said[-3000:]
    step = torch.load(tmp_path / "stage0" / "last.ckpt", weights_only=True)["global_step"]
    assert 0 < step < 1000
    assert f"preempted after {step} steps; the same command with --ckpt_path last goes on" in said
