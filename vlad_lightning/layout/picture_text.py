"""The text in a generated PNG: how it was made, for people, for other programs, and for making it again.

Each setting has a keyword, and ``parameters`` has them in one text as AUTOMATIC1111's web UI writes it, which many
programs show.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from vlad_lightning import __version__

SOFTWARE = "vlad-lightning"
"""The text ``Software`` begins with this."""

SAMPLER_SETTINGS = (
    *("steps", "guidance_scale", "layout_scale", "guidance_interval", "guidance_rescale"),
    *("solver", "cache_interval", "fuse_qkv"),
)
"""The settings of an image sampler that are stored."""

SHORT_HASH = 10
"""Digits of a hash in ``parameters``, as in AUTOMATIC1111's."""

_NAMES = {  # in `parameters`, by keyword
    "steps": "Steps",
    "solver": "Sampler",
    "guidance_scale": "CFG scale",
    "layout_scale": "Layout scale",
    "seed": "Seed",
    "size": "Size",
    "model_hash": "Model hash",
    "model": "Model",
}


def picture_facts(
    prompt: str,
    seed: int,
    settings: Mapping[str, object],
    size: tuple[int, int],
    model: str,
    model_hash: str,
    device: str,
    negative_prompt: str | None = None,
) -> dict[str, object]:
    """Return what every generated picture says of itself, by keyword.

    Args:
        prompt: its prompt.
        seed: its seed.
        settings: the settings it was sampled with.
        size: width and height in pixels, before it is enlarged.
        model: the model's name, without private folders.
        model_hash: SHA-256 of the model's weights.
        device: the kind of device it was made on.
        negative_prompt: what guidance led away from, if anything.
    """
    told: dict[str, object] = {"prompt": prompt}
    told |= {} if negative_prompt is None else {"negative_prompt": negative_prompt}
    told |= {"seed": seed, **settings}
    if isinstance(interval := settings.get("guidance_interval"), tuple):
        told["guidance_interval"] = " ".join(map(str, interval))
    told |= {"size": "x".join(map(str, size)), "model": model, "model_hash": model_hash, "device": device}
    return told


def picture_text(told: Mapping[str, object]) -> dict[str, str]:
    """Return the texts of a PNG by keyword: the facts, the same in ``parameters``, and ``Software``.

    Args:
        told: the facts of :func:`picture_facts`, and others; those that are None are left out.
    """
    text = {keyword: str(value) for keyword, value in told.items() if value is not None}
    return {"parameters": _parameters(text), **text, "Software": f"{SOFTWARE} {__version__}"}


def _parameters(told: Mapping[str, str]) -> str:
    shown = {**told, "model_hash": told["model_hash"][:SHORT_HASH]}
    named = {name: shown[keyword] for keyword, name in _NAMES.items() if keyword in shown}
    named["Version"] = f"{SOFTWARE} {__version__}"
    if "upscale" in told:
        named |= {"Postprocess upscale by": told["upscale"], "Postprocess upscaler": "Lanczos"}
    pairs = (f"{name}: {json.dumps(v) if set(',:') & set(v) else v}" for name, v in named.items())
    negative = f"Negative prompt: {told['negative_prompt']}\n" if "negative_prompt" in told else ""
    return f"{told['prompt']}\n{negative}{', '.join(pairs)}"
