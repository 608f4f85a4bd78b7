"""Script of test_saves.py for every rank: two sharded fits whose disk fails, `python save_process.py POSTERS OUT`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import tiny_system as tiny
from lightning.pytorch import Callback, Trainer
from torch.distributed.checkpoint.filesystem import FileSystem

from vlad_lightning.checkpoints import Checkpoints, DurableCheckpointIO
from vlad_lightning.checkpoints import folder as checkpoint_folder
from vlad_lightning.checkpoints.fit_lock import NAME
from vlad_lightning.checkpoints.loop_counters import ExactResume
from vlad_lightning.strategies import ShardedStrategy

Fault = AbstractContextManager[object]
streams = FileSystem.create_stream


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@contextmanager
def patched(owner: object, name: str, replacement: object) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, replacement)
        yield


def full_stream(rank: int) -> Fault:
    """Make the second process' shard hit a full disk."""
    replacement = lambda self, path, mode: streams(self, "/dev/full", mode)  # noqa: E731
    return patched(FileSystem, "create_stream", replacement) if rank == 1 else nullcontext()


def no_folder(rank: int) -> Fault:
    """Make the first process unable to create the folder."""
    return patched(checkpoint_folder, "_recreate", full) if rank == 0 else nullcontext()


def own_disk(rank: int) -> Fault:
    """Put the second process' folder on a separate disk."""

    def elsewhere(self: FileSystem, path: Any, mode: str) -> Any:
        own = Path(path).parents[2] / "own" / Path(path).name
        own.parent.mkdir(exist_ok=True)
        return streams(self, own, mode)

    return patched(FileSystem, "create_stream", elsewhere) if rank == 1 else nullcontext()


def no_name(rank: int) -> Fault:
    """Make the first process unable to rename the finished folder."""
    return patched(checkpoint_folder, "publish", full) if rank == 0 else nullcontext()


class Faults(Callback):
    """Breaks the saves of some steps, and records the content of the folder before the next step."""

    def __init__(self, folder: Path, faults: dict[int, Callable[[int], Fault]]) -> None:
        self.folder, self.faults = folder, faults
        self.broken = ExitStack()
        self.seen: dict[int, list[str]] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step in self.faults:
            self.broken.enter_context(self.faults[trainer.global_step](trainer.global_rank))

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.broken.close()
        if trainer.global_step:
            self.seen[trainer.global_step] = sorted(path.name for path in self.folder.iterdir() if path.name != NAME)


def fit(posters: Path, folder: Path, steps: int, faults: dict[int, Callable[[int], Fault]]) -> Faults:
    watch = Faults(folder, faults)
    trainer = tiny.trainer(
        steps,
        callbacks=[Checkpoints(str(folder), every_n_steps=1), watch, ExactResume()],
        devices=2,
        strategy=ShardedStrategy(save_distributed_checkpoint=True),
        use_distributed_sampler=False,
        enable_checkpointing=True,
        plugins=[DurableCheckpointIO()],
    )
    with watch.broken:
        trainer.fit(tiny.stage("tlg"), datamodule=tiny.data(posters, batch_size=2))
    return watch


def main(posters: Path, out: Path) -> None:
    rank = os.environ["RANK"]
    seen = fit(posters, out / "goes_on", 7, {2: full_stream, 3: no_folder, 4: own_disk, 5: no_name}).seen
    (out / f"seen{rank}.json").write_text(json.dumps(seen))
    try:
        fit(posters, out / "ends", 2, {2: full_stream})
    except OSError as error:
        (out / f"ended{rank}.txt").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
