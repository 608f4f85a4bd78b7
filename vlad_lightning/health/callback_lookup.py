"""Callbacks that read what another one knows."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, Trainer

_C = TypeVar("_C", bound=Callback)


def get_callback(trainer: Trainer, kind: type[_C]) -> _C | None:
    """The trainer's first callback of a kind; None where it has none."""
    callbacks: list[Callback] = cast(Any, trainer).callbacks  # an attribute mypy does not see
    return next((c for c in callbacks if isinstance(c, kind)), None)
