"""Run the overlays by the command line: Lightning starts the second process, the next command reads the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlad_lightning.checkpoints.folder import is_folder_checkpoint, read_checkpoint
from vlad_lightning.files import configs_folder

CONFIGS = configs_folder()


def vlad_cli(*args: object) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "vlad_lightning", *map(str, args)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=280, env=environment
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.mark.slow
def test_next_stage_starts_from_a_sharded_one(posters: Path, tmp_path: Path) -> None:
    data = ("--data.root", posters, "--data.batch_size", 4, "--out", tmp_path)
    short = ("--trainer.max_steps", 2, "--trainer.limit_val_batches", 1, "--trainer.val_check_interval", 2)
    two = ("--config", CONFIGS / "cluster/fsdp.yaml", "--trainer.accelerator", "cpu", "--trainer.devices", 2)
    said = vlad_cli("fit", "--config", CONFIGS / "mini/stage0_align.yaml", *two, *data, *short)
    assert "collectives time out" not in said  # their time-out is longer than the watchdog's
    path = tmp_path / "stage0" / "last.ckpt"
    assert is_folder_checkpoint(path)
    assert read_checkpoint(path)["global_step"] == 2
    vlad_cli("fit", "--config", CONFIGS / "mini/stage1_tlg.yaml", *data, *short, "--model.sampler.steps", 2)
    started = read_checkpoint(tmp_path / "stage1" / "last.ckpt")["callbacks"]["InitFrom[generator.prompt_encoder]"]
    assert started["checkpoint"] == str(path)
    assert len(started["sha256"]) == 64
