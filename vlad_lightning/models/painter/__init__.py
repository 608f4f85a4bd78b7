"""The denoising networks: the VFE, and the networks of diffusers that it holds."""
