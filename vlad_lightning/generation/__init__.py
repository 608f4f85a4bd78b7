"""Prompts to layouts, and layouts to images: the two samplers of Eq. 1 and what they are asked."""

from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.layout_generator import LayoutGenerator

__all__ = ["ImageGenerator", "LayoutGenerator"]
