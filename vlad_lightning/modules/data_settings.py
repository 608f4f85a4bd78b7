"""What a module and its data module are each told, and must be told alike."""

from __future__ import annotations

from lightning.pytorch import LightningModule


def check_same(module: LightningModule, name: str, own_name: str, own: int) -> None:
    """Refuse data of another setting than the module's, before any work is done.

    Args:
        module: its trainer knows the data module; data without that setting say nothing.
        name: of the data module's setting.
        own_name: of the module's setting, as it is typed on the command line.
        own: its value.

    Raises:
        ValueError: naming both settings with their values.
    """
    told = _told(module, name)
    if told not in (None, own):
        raise ValueError(f"data.{name} is {told} and {own_name} is {own}; they must be the same")


def check_size(module: LightningModule, own_name: str, own: int) -> None:
    """Refuse images that a network, which resizes them to its own frame, would have to enlarge.

    Args:
        module: likewise.
        own_name: of the setting of the network's frame.
        own: its side in pixels.

    Raises:
        ValueError: naming both settings with their values.
    """
    told = _told(module, "size")
    if told is not None and told < own:
        raise ValueError(f"data.size is {told} and {own_name} is {own}; images must be at least as large")


def _told(module: LightningModule, name: str) -> int | None:
    value: int | None = getattr(getattr(module.trainer, "datamodule", None), name, None)
    return value
