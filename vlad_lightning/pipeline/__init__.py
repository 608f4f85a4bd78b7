"""The pipeline of diffusers: its class, its parts, its folder and its model card."""

from vlad_lightning.pipeline.output import VLADOutput
from vlad_lightning.pipeline.pipeline import VLADPipeline

__all__ = ["VLADOutput", "VLADPipeline"]
