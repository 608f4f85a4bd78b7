"""Test a signal to one rank only: in training, and in a validation while the others gather weights from it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from distributed.processes import run_processes

from vlad_lightning.checkpoints.folder import read_checkpoint
from vlad_lightning.exit_codes import PREEMPTED
from vlad_lightning.files import configs_folder

SCRIPT = Path(__file__).with_name("preempted_process.py")


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_all_ranks_leave_a_validation_at_the_same_batch(strategy: str, posters: Path, tmp_path: Path) -> None:
    run_processes(2, SCRIPT, strategy, str(posters), str(tmp_path), limit=280)
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert first["step"] == 2
    assert first["validated"] == 3 < first["batches"]  # the flag of the third batch is read at the fourth
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 2


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
