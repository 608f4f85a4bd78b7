"""The diffusers pipeline: its class, its components, its folder and its model card."""

from vlad_lightning.pipeline.output import VLADOutput
from vlad_lightning.pipeline.pipeline import VLADPipeline

__all__ = ["VLADOutput", "VLADPipeline"]
