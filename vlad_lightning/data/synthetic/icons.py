"""The things of the rich posters as masks: solid icons of Font Awesome Free (icons CC BY 4.0, font OFL 1.1)."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vlad_lightning.layout.packaged import package_folder

CODES = {
    "anchor": 0xF13D,
    "apple": 0xF5D1,  # apple-whole
    "basket": 0xF291,  # basket-shopping
    "bed": 0xF236,
    "bell": 0xF0F3,
    "bicycle": 0xF206,
    "bird": 0xF4BA,  # dove
    "boat": 0xE445,  # sailboat
    "box": 0xF466,
    "bridge": 0xE4CE,  # bridge-water
    "broom": 0xF51A,
    "burger": 0xF805,
    "bus": 0xF55E,  # bus-simple
    "cake": 0xF1FD,  # cake-candles
    "calculator": 0xF1EC,
    "car": 0xF5DE,  # car-rear
    "caravan": 0xF8FF,
    "carrot": 0xF787,
    "cat": 0xF6BE,
    "chair": 0xF6C0,
    "church": 0xF51D,
    "clock": 0xF017,
    "cloud": 0xF0C2,
    "clover": 0xE139,
    "computer": 0xE4E5,
    "cookie": 0xF564,  # cookie-bite
    "couch": 0xF4B8,
    "door": 0xF52A,  # door-closed
    "dragon": 0xF6D5,
    "drum": 0xF569,
    "envelope": 0xF0E0,
    "fish": 0xF578,
    "flag": 0xF024,
    "frog": 0xF52E,
    "ghost": 0xF6E2,
    "gift": 0xF06B,
    "guitar": 0xF7A6,
    "hat": 0xF8C0,  # hat-cowboy
    "helicopter": 0xF533,
    "horse": 0xF6F0,
    "hotdog": 0xF80F,
    "house": 0xF015,
    "igloo": 0xF7AE,
    "key": 0xF084,
    "lightbulb": 0xF0EB,
    "lock": 0xF023,
    "medal": 0xF5A2,
    "microphone": 0xF130,
    "motorcycle": 0xF21C,
    "palette": 0xF53F,
    "paw": 0xF1B0,
    "pencil": 0xF303,
    "pig": 0xF4D3,  # piggy-bank
    "pizza": 0xF818,  # pizza-slice
    "plane": 0xF5B0,  # plane-departure
    "plant": 0xF4D8,  # seedling
    "plug": 0xF1E6,
    "radio": 0xF8D7,
    "rainbow": 0xF75B,
    "rocket": 0xF135,
    "satellite": 0xF7BF,
    "screwdriver": 0xF54A,
    "shirt": 0xF553,
    "skull": 0xF54C,
    "sleigh": 0xF7CC,
    "spider": 0xF717,
    "spoon": 0xF2E5,
    "stroller": 0xF77D,  # baby-carriage
    "suitcase": 0xF0F2,
    "sun": 0xF185,
    "tent": 0xE57D,
    "tooth": 0xF5C9,
    "tornado": 0xF76F,
    "tractor": 0xF722,
    "tree": 0xF1BB,
    "truck": 0xF0D1,
    "umbrella": 0xF0E9,
    "volcano": 0xF770,
    "wheelchair": 0xF193,
}
"""The code point of each of :data:`~vlad_lightning.layout.nouns.THINGS`, with the icon's name if it is another."""

TURNS = (-8, -4, 0, 4, 8)
"""By how many degrees, clockwise, an icon may be turned: few, so that most masks are found in the cache."""

_FONT = Path("static", "fontawesomefree", "webfonts", "fa-solid-900.ttf")
_FINE = 128  # the smallest font size at which an icon is drawn; larger ones are its double, and so on
_FINER = 1.5  # a mask is a copy of an icon that is larger by so much at least


def icon_sides(noun: str, turn: int) -> tuple[float, float]:
    """Return width and height of an icon's ink, as shares of the longer of the two."""
    width, height = _ink(noun, turn, _FINE).size
    return width / max(width, height), height / max(width, height)


@lru_cache(maxsize=4096)
def icon_mask(noun: str, turn: int, width: int, height: int) -> Image.Image:
    """Draw an icon whose ink fills a box, in mode ``L``, with smooth edges.

    Args:
        noun: one of :data:`~vlad_lightning.layout.nouns.THINGS`.
        turn: degrees, clockwise.
        width: width of the box in pixels.
        height: height of the box in pixels.
    """
    fine = _FINE
    while fine < _FINER * max(width, height):
        fine *= 2
    return _ink(noun, turn, fine).resize((width, height), Image.Resampling.BOX)


@lru_cache(maxsize=512)
def _ink(noun: str, turn: int, size: int) -> Image.Image:
    """Draw an icon's ink at a font size."""
    glyph, face = chr(CODES[noun]), _font(size)
    left, top, right, bottom = (int(v) for v in face.getbbox(glyph))
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), glyph, fill=255, font=face)
    if turn:
        image = image.rotate(-turn, Image.Resampling.BILINEAR, expand=True)
    return image.crop(image.point([0] * 128 + [255] * 128).getbbox())


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    path = package_folder("fontawesomefree", "fontawesomefree", "6.6.0") / _FONT
    return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
