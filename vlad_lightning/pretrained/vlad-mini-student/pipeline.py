"""For plain diffusers: `DiffusionPipeline.from_pretrained(folder, trust_remote_code=True)`."""

from vlad_lightning.pipeline import VLADPipeline

__all__ = ["VLADPipeline"]
