"""The script that test_resume.py runs on every rank: a fit resumes twice, the second time past a damaged checkpoint.

``python resume_process.py POSTERS OUT``
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch.distributed as dist
from checkpoint_reads import counted_reads

from vlad_lightning.cli import fit as cli


def command(posters: Path, out: Path, steps: int, devices: int) -> list[str]:
    """Return a command that fits a small stage 0 and saves every step."""
    strategy = "ddp_find_unused_parameters_true" if devices > 1 else "auto"
    changes = {
        "--config": "configs/mini/stage0_align.yaml",
        "--out": out,
        "--data.root": posters,
        "--data.batch_size": 4 // devices,
        "--data.num_workers": 0,
        "--data.val_share": 0.2,
        "--trainer.callbacks": "[]",
        "--trainer.limit_val_batches": 0,
        "--trainer.logger": "false",
        "--trainer.enable_progress_bar": "false",
        "--trainer.accelerator": "cpu",
        "--trainer.devices": devices,
        "--trainer.strategy": strategy,
        "--trainer.max_steps": steps,
        "--checkpoints.every_n_steps": 1,
        "--ckpt_path": "last",
        "--resume.allow_changes": "data.batch_size",
    }
    return ["fit", *(str(word) for pair in changes.items() for word in pair)]


def flip(path: Path) -> None:
    """Flip a bit in the middle of the weights."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        old = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([old ^ 1]))


def moments(trainer: Any) -> list[float]:
    """Sum each optimizer state, which DDP does not synchronise."""
    (optimizer,) = trainer.optimizers
    return [float(state["exp_avg"].double().sum()) for state in optimizer.state.values()]


def main(posters: Path, out: Path) -> None:
    """Resume at step 2, and at step 2 again after a bit of step 3's checkpoint was flipped."""
    rank = int(os.environ["RANK"])
    last = out / "stage0" / "last.ckpt"
    size = last.stat().st_size
    with counted_reads() as reads:
        cli.build(command(posters, out, 3, devices=2), run=True)
    dist.barrier()
    if rank == 0:
        flip(last)
    dist.barrier()
    found = cli.build(command(posters, out, 3, devices=2), run=True).trainer
    told = {"openings": reads.openings, "readings": reads.size / size, "from": Path(str(found.ckpt_path)).name}
    (out / f"{rank}.json").write_text(json.dumps(told | {"moments": moments(found)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
