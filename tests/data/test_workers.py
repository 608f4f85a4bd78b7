from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from vlad_lightning.data.workers import outlive_signals


class Signalled(Dataset[int]):
    """Its items are the worker's process id; another process sends it signals on the way, as a scheduler does."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        for name in ("-USR1", "-TERM"):
            subprocess.run(["kill", name, str(os.getpid())], check=True)
        return os.getpid()


@pytest.mark.skipif(not Path("/proc").exists(), reason="signals with their sender are Linux's")
def test_a_worker_outlives_a_schedulers_signals_and_ends_with_its_loader() -> None:
    seen = {int(pid) for pid in DataLoader(Signalled(), num_workers=1, worker_init_fn=outlive_signals)}
    (worker,) = seen
    assert worker != os.getpid()
    assert not Path(f"/proc/{worker}").exists()


@pytest.mark.skipif(not Path("/proc").exists(), reason="signals with their sender are Linux's")
def test_without_it_the_training_process_fails() -> None:
    with pytest.raises(RuntimeError, match="worker"):
        list(DataLoader(Signalled(), num_workers=1))
