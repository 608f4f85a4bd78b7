"""A look-up with which a callback finds another one to read its state."""

from __future__ import annotations

from typing import Any, TypeVar, cast

from lightning.pytorch import Callback, Trainer

_C = TypeVar("_C", bound=Callback)


def get_callback(trainer: Trainer, kind: type[_C]) -> _C | None:
    """Return the trainer's first callback of a class, or None."""
    callbacks: list[Callback] = cast(Any, trainer).callbacks  # mypy does not see this attribute
    return next((c for c in callbacks if isinstance(c, kind)), None)
