"""Explicit randomness: a generator is a function of what it is for."""

from __future__ import annotations

import hashlib

import torch


def generator_for(device: torch.device | str, *key: int | str) -> torch.Generator:
    """A generator seeded by ``key`` alone, so that a resumed run draws what an undisturbed one would have.

    Args:
        device: where the generator lives.
        key: whatever tells this use from every other: a seed, a purpose, a step, a rank.
    """
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
