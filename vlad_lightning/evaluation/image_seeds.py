"""The seed of each image: it follows from the prompt's key, so that no image depends on another or on its place."""

from __future__ import annotations

import hashlib

SEED_RULE = "int(sha256('{seed}/{key}/{number}')[:12], 16), of the text in UTF-8 and the hash in hex"
"""The rule in words, for ``generation.json``."""


def image_seed(seed: int, key: str, number: int) -> int:
    """Return the seed of an image: 48 bits, which every program holds exactly.

    Args:
        seed: the seed of the whole generation.
        key: the prompt's key.
        number: which of the prompt's images it is.

    Example:
        >>> image_seed(0, "animals/3", 1)
        165264579155293
    """
    digest = hashlib.sha256(f"{seed}/{key}/{number}".encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[:12], 16)
