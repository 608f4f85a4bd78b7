"""VLAD in PyTorch Lightning: text-to-image diffusion that draws legible words (arXiv 2501.00917)."""

__version__ = "0.1.0"
