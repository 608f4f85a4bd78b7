"""Noising, guidance and sampling over diffusers' schedulers; they take callables, not models."""
