"""Run one rank of a stage-0 fit whose validation is interrupted: `python preempted_process.py STRATEGY ROOT FOLDER`."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import tiny_system as tiny
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy

from vlad_lightning.checkpoints import Checkpoints, DurableCheckpointIO
from vlad_lightning.data.datamodule import MarioDataModule
from vlad_lightning.health import Preempted, Preemption
from vlad_lightning.strategies import ShardedStrategy


class Signal(Callback):
    """Sends one signal, only to the second rank, after its second validation batch."""

    def __init__(self) -> None:
        self.validated = 0

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.validated += 1
        if trainer.global_rank == 1 and self.validated == 2:
            os.kill(os.getpid(), signal.SIGUSR1)


def main(strategy: str, root: str, folder: Path) -> None:
    counted = Signal()
    trainer = tiny.trainer(
        9,
        callbacks=[counted, Preemption(), Checkpoints(str(folder))],
        plugins=[DurableCheckpointIO()],
        devices=2,
        strategy=ShardedStrategy() if strategy == "fsdp" else DDPStrategy(find_unused_parameters=True),
        use_distributed_sampler=False,
        enable_checkpointing=True,
        limit_val_batches=1.0,
        val_check_interval=2,
        check_val_every_n_epoch=None,
    )
    data = MarioDataModule(root, size=tiny.SIZE, batch_size=1, val_share=0.5, test_share=0.1)
    try:
        trainer.fit(tiny.stage("alignment"), datamodule=data)
    except Preempted as stopped:
        seen = {"step": stopped.step, "validated": counted.validated, "batches": len(data.val_dataloader())}
        (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(seen))
        stopped.finish()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
