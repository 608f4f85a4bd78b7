"""The two generators of Eq. 1, prompts to layouts and layouts to images, and how they are sampled."""

from vlad_lightning.generation.image_generator import ImageGenerator
from vlad_lightning.generation.layout_generator import LayoutGenerator

__all__ = ["ImageGenerator", "LayoutGenerator"]
