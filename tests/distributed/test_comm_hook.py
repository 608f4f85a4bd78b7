"""Test the hook of ddp_bf16.yaml alone, because Lightning registers it on GPUs only."""

from __future__ import annotations

from pathlib import Path

import yaml
from distributed.processes import run_processes

from vlad_lightning.files import configs_folder


def test_gradients_sent_in_bfloat16_equal_float32_up_to_rounding() -> None:
    overlay = yaml.safe_load((configs_folder() / "cluster/ddp_bf16.yaml").read_text())
    hook = overlay["trainer"]["strategy"]["init_args"]["ddp_comm_hook"]
    run_processes(2, Path(__file__).with_name("comm_hook_process.py"), hook, limit=240)
