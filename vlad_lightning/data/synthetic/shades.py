"""Colours with names beyond the palette's, as people ask for them: ``a gold star``, ``a navy background``."""

from __future__ import annotations

from vlad_lightning.layout.colours import RGB, rgb_named

SHADES: dict[str, tuple[str, ...]] = {
    "red": ("crimson", "maroon", "dark red", "tomato"),
    "orange": ("dark orange", "coral"),
    "yellow": ("gold", "khaki"),
    "green": ("dark green", "light green", "forest green", "olive", "lime", "teal", "turquoise"),
    "blue": ("navy", "dark blue", "light blue", "sky blue", "royal blue", "steel blue", "cyan", "aqua"),
    "purple": ("indigo", "violet", "orchid", "magenta"),
    "pink": ("hot pink", "light pink", "salmon", "plum"),
    "brown": ("chocolate", "sienna", "tan"),
    "black": (),
    "gray": ("silver", "dark gray", "light gray", "slate gray"),
    "white": ("ivory", "beige", "lavender"),
}
"""For each colour of the palette, names that CSS has for what people would call shades of it."""


def rgb_of(name: str) -> RGB:
    """Return a colour of the palette or a shade by its name, sRGB bytes."""
    rgb = rgb_named(name)
    assert rgb is not None, name
    return rgb
