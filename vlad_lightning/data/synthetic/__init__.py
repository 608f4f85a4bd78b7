"""Synthetic posters in MARIO's format, with captions that describe them."""
