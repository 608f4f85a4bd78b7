"""The three stages as LightningModules, and the two samplers they share with the pipeline."""

from vlad_lightning.modules.alignment import AlignmentModule
from vlad_lightning.modules.layout_generator import LayoutGenerator
from vlad_lightning.modules.painter import Painter
from vlad_lightning.modules.tlg import TLGModule
from vlad_lightning.modules.vfe import VFEModule

__all__ = ["AlignmentModule", "LayoutGenerator", "Painter", "TLGModule", "VFEModule"]
