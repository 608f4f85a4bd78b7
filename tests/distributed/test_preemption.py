"""A signal that one rank alone gets, in the middle of a validation, while the others gather weights from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from distributed.processes import run_processes

from vlad_lightning.checkpoint_folder import read_checkpoint

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
