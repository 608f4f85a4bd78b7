"""LightningModules of the three stages, and of the distillation of guidance."""

from vlad_lightning.modules.alignment import AlignmentModule
from vlad_lightning.modules.distillation import DistillationModule
from vlad_lightning.modules.tlg import TLGModule
from vlad_lightning.modules.vfe import VFEModule

__all__ = ["AlignmentModule", "DistillationModule", "TLGModule", "VFEModule"]
