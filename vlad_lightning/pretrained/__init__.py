"""Weights that ship with the package: a folder for each name, ``vlad-mini`` and ``vlad-mini-evaluation``."""

from vlad_lightning.pretrained.shipped import SHIPPED_EVALUATION, SHIPPED_MODEL, find_weights

__all__ = ["SHIPPED_EVALUATION", "SHIPPED_MODEL", "find_weights"]
