"""Weights that ship with the package: a folder for each name.

``vlad-mini`` and ``vlad-mini-student`` are pipelines, ``vlad-mini-evaluation`` is an evaluation encoder and a detector.
"""

from vlad_lightning.pretrained.shipped import SHIPPED_EVALUATION, SHIPPED_MODEL, SHIPPED_STUDENT, find_weights

__all__ = ["SHIPPED_EVALUATION", "SHIPPED_MODEL", "SHIPPED_STUDENT", "find_weights"]
