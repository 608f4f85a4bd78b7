"""Posters drawn in MARIO's format, with captions that tell what stands on them."""
