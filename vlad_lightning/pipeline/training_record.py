"""What a checkpoint records of its own training and of the stages before it: steps, batch, learning rates, data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlad_lightning.checkpoints.config_lock import RECORD
from vlad_lightning.checkpoints.folder import digest, read_header
from vlad_lightning.files import public_path

_RATES = ("lr", "encoder_lr", "map_lr")
ICONS = "Font Awesome Free 6 by Fonticons, Inc. (CC BY 4.0)"
"""Whom the licence of the rich world's icons says to name; the shipped model was trained on them."""


_WORLDS_OF_ICONS = {"rich", "literal"}


@dataclass(frozen=True)
class TrainedStage:
    """One training behind a checkpoint.

    Attributes:
        name: the folder of its checkpoint.
        module: the class that was trained; empty if it is not recorded, as for the next.
        steps: optimizer steps; None if the checkpoint is gone.
        batch: samples per step, on all devices.
        rates: learning rates by their settings' names.
        seed: ``seed_everything``.
        data: the data folder's last parts, or the class of the source with its arguments.
        credits: whom the data's licence says to name.
    """

    name: str
    module: str = ""
    steps: int | None = None
    batch: int | None = None
    rates: Mapping[str, float] | None = None
    seed: int | None = None
    data: str = ""
    credits: str = ""


def read_stages(checkpoint: Path, saved: Mapping[str, Any]) -> tuple[TrainedStage, ...]:
    """Follow a checkpoint to those that its parts were copied from, by the records of ``InitFrom``.

    Args:
        checkpoint: the checkpoint's path.
        saved: its content, with or without tensors.

    Returns:
        The stages, each once, the earliest first and the checkpoint's own last.
    """
    found: dict[str, TrainedStage] = {}
    _follow(checkpoint, saved, found)
    return tuple(found.values())


def _follow(checkpoint: Path, saved: Mapping[str, Any], found: dict[str, TrainedStage]) -> None:
    for path, sha256 in _origins(saved):
        if sha256 in found:
            continue
        if not path.exists() or digest(path) != sha256:  # removed, or trained again since
            found[sha256] = TrainedStage(path.parent.name)
        else:
            _follow(path, read_header(path), found)
    found[digest(checkpoint)] = _stage(checkpoint, saved)


def _origins(saved: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yield path and SHA-256 of the checkpoints that parts were copied from."""
    for key, state in saved.get("callbacks", {}).items():
        if key.startswith("InitFrom[") and state.get("sha256"):
            yield Path(state["checkpoint"]), state["sha256"]


def _stage(checkpoint: Path, saved: Mapping[str, Any]) -> TrainedStage:
    record = saved.get(RECORD, {})
    rates = {name: record.get(f"model.optimization.{name}") for name in _RATES}
    return TrainedStage(
        name=checkpoint.absolute().parent.name,
        module=_class(record.get("model.class_path")),
        steps=saved["global_step"],
        batch=_batch(record, saved.get("callbacks", {}).get("ConfigLock", {})),
        rates={name: rate for name, rate in rates.items() if rate is not None} or None,
        seed=record.get("seed_everything"),
        data=_data(record),
        credits=ICONS if _WORLDS_OF_ICONS & set(_worlds(record)) else "",
    )


def _worlds(record: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the worlds of the sources that were trained on, those of a mixture included."""
    return (value for key, value in record.items() if key.startswith("data.source.") and key.endswith(".world"))


def _batch(record: Mapping[str, Any], lock: Mapping[str, Any]) -> int | None:
    own = record.get("data.batch_size")
    accumulated = record.get("trainer.accumulate_grad_batches") or 1
    return None if own is None else int(own) * int(accumulated) * (lock.get("world_size") or 1)


def _data(record: Mapping[str, Any]) -> str:
    if root := record.get("data.root"):
        return public_path(str(root).removeprefix("{out}/"))
    name = _class(record.get("data.source.class_path"))
    settings = {key: value for key, value in record.items() if key.startswith("data.source.") and value is not None}
    given = [
        f"{key.removeprefix('data.source.').removeprefix('sources.')}={public_path(str(value))}"
        for key, value in settings.items()
        if not key.endswith("class_path")
    ]
    return f"{name}({', '.join(given)})" if name else ""


def _class(path: str | None) -> str:
    return (path or "").rpartition(".")[2]
