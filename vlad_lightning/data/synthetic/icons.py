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
    "arrow": 0xF178,  # arrow-right-long
    "astronaut": 0xF4FB,  # user-astronaut
    "baby": 0xF77C,
    "bacon": 0xF7E5,
    "bag": 0xF290,  # bag-shopping
    "ball": 0xF1E3,  # futbol
    "bank": 0xF19C,  # building-columns
    "baseball": 0xF433,
    "basketball": 0xF434,
    "battery": 0xF240,  # battery-full
    "beer": 0xF0FC,  # beer-mug-empty
    "bin": 0xF2ED,  # trash-can
    "binoculars": 0xF1E5,
    "bomb": 0xF1E2,
    "bone": 0xF5D7,
    "bottle": 0xF72F,  # wine-bottle
    "brain": 0xF5DC,
    "bread": 0xF7EC,  # bread-slice
    "brush": 0xF1FC,  # paintbrush
    "bucket": 0xE4CF,
    "bug": 0xF188,
    "calendar": 0xF073,  # calendar-days
    "camera": 0xF030,
    "candy": 0xF786,  # candy-cane
    "cart": 0xF07A,  # cart-shopping
    "chain": 0xF0C1,  # link
    "cheese": 0xF7EF,
    "city": 0xF64F,
    "cocktail": 0xF561,  # martini-glass-citrus
    "coin": 0xF51E,  # coins
    "comet": 0xF753,  # meteor
    "compass": 0xF14E,
    "cow": 0xF6C8,
    "crow": 0xF520,
    "crown": 0xF521,
    "cup": 0xF0F4,  # mug-saucer
    "cyclist": 0xF84A,  # person-biking
    "dice": 0xF523,  # dice-five
    "dog": 0xF6D3,
    "drop": 0xF043,  # droplet
    "dumbbell": 0xF44B,
    "ear": 0xF2A2,  # ear-listen
    "egg": 0xF7FB,
    "eye": 0xF06E,
    "face": 0xF118,  # face-smile
    "factory": 0xF275,  # industry
    "fan": 0xF863,
    "faucet": 0xE005,
    "feather": 0xF56B,  # feather-pointed
    "fire": 0xF06D,
    "flask": 0xF0C3,
    "flower": 0xF5BB,  # spa
    "folder": 0xF07B,
    "football": 0xF44E,
    "gamepad": 0xF11B,
    "gate": 0xF6A1,  # torii-gate
    "gear": 0xF013,
    "gem": 0xF3A5,
    "glasses": 0xF530,
    "globe": 0xF57D,  # earth-americas
    "hammer": 0xF6E3,
    "hand": 0xF256,
    "headphones": 0xF025,
    "hippo": 0xF6ED,
    "holly": 0xF7AA,  # holly-berry
    "hospital": 0xF0F8,
    "hourglass": 0xF254,
    "jar": 0xE516,
    "jet": 0xF0FB,  # jet-fighter
    "keyboard": 0xF11C,
    "laptop": 0xF109,
    "leaf": 0xF06C,
    "lemon": 0xF094,
    "lightning": 0xE0B7,  # bolt-lightning
    "magnet": 0xF076,
    "map": 0xF279,
    "mask": 0xF630,  # masks-theater
    "megaphone": 0xF0A1,  # bullhorn
    "microscope": 0xF610,
    "mitten": 0xF7B5,
    "money": 0xF53A,  # money-bill-wave
    "moon": 0xF186,
    "mosque": 0xF678,
    "mosquito": 0xE52B,
    "mountain": 0xF6FC,
    "mouse": 0xF8CC,  # computer-mouse
    "mug": 0xF7B6,  # mug-hot
    "ninja": 0xF504,  # user-ninja
    "note": 0xF001,  # music
    "otter": 0xF700,
    "paperclip": 0xF0C6,
    "parachute": 0xF4CD,  # parachute-box
    "pepper": 0xF816,  # pepper-hot
    "person": 0xF183,
    "phone": 0xF095,
    "pill": 0xF46B,  # capsules
    "printer": 0xF02F,  # print
    "puzzle": 0xF12E,  # puzzle-piece
    "record": 0xF8D9,  # record-vinyl
    "ribbon": 0xF4D6,
    "road": 0xF018,
    "robot": 0xF544,
    "runner": 0xF70C,  # person-running
    "school": 0xF549,
    "scissors": 0xF0C4,
    "scroll": 0xF70E,
    "shield": 0xF3ED,  # shield-halved
    "ship": 0xF21A,
    "shower": 0xF2CC,
    "shrimp": 0xE448,
    "skier": 0xF7C9,  # person-skiing
    "snowflake": 0xF2DC,
    "snowman": 0xF7D0,
    "sock": 0xF696,  # socks
    "stairs": 0xE289,
    "stapler": 0xE5AF,
    "stopwatch": 0xF2F2,
    "store": 0xF54E,
    "swimmer": 0xF5C4,  # person-swimming
    "syringe": 0xF48E,
    "taxi": 0xF1BA,
    "television": 0xF26C,  # tv
    "thermometer": 0xF2C9,  # temperature-half
    "thumb": 0xF164,  # thumbs-up
    "toolbox": 0xF552,
    "tower": 0xE586,  # tower-observation
    "train": 0xF238,
    "trophy": 0xF091,
    "van": 0xF5B6,  # van-shuttle
    "volleyball": 0xF45F,
    "wallet": 0xF555,
    "wand": 0xF0D0,  # wand-magic
    "wave": 0xF773,  # water
    "wheel": 0xF655,  # dharmachakra
    "wrench": 0xF0AD,
}
"""The code point of each of :data:`~vlad_lightning.layout.nouns.THINGS`, then of the further things, with the icon's
name if it is another."""

TURNS = (-8, -4, 0, 4, 8)
"""By how many degrees, clockwise, an icon may be turned: few, so that most masks are found in the cache."""

_FONT = Path("static", "fontawesomefree", "webfonts", "fa-solid-900.ttf")
_FINE = 128  # the smallest font size at which an icon is drawn; larger ones are its double, and so on
_FINER = 1.5  # a mask is a copy of an icon that is larger by so much at least


def icon_sides(noun: str, turn: int) -> tuple[float, float]:
    """Return width and height of an icon's ink, as shares of the longer of the two."""
    width, height = _ink(noun, turn, _FINE).size
    return width / max(width, height), height / max(width, height)


@lru_cache(maxsize=16_384)
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


@lru_cache(maxsize=2048)
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
