"""LightningModules of the three stages."""

from vlad_lightning.modules.alignment import AlignmentModule
from vlad_lightning.modules.tlg import TLGModule
from vlad_lightning.modules.vfe import VFEModule

__all__ = ["AlignmentModule", "TLGModule", "VFEModule"]
