"""The nouns of the objects that posters show, captions name, prompts ask for and detectors find."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

# No cross: an OCR engine reads it as a plus sign.
SHAPES = ("circle", "square", "triangle", "star", "diamond", "ring", "heart")
"""Plain shapes: the objects of the plain posters."""

# No book, which begins "a book cover"; no two that look alike at 24 pixels (a bus and a train, a boat and a ship).
# Nothing that PP-OCR read as a letter in three of five drawings, or as any character in four: no dog (H), no moon (C).
THINGS = (
    *("anchor", "apple", "basket", "bed", "bell", "bicycle", "bird", "boat", "box", "bridge", "broom"),
    *("burger", "bus", "cake", "calculator", "car", "caravan", "carrot", "cat", "chair", "church", "clock"),
    *("cloud", "clover", "computer", "cookie", "couch", "door", "dragon", "drum", "envelope", "fish", "flag"),
    *("frog", "ghost", "gift", "guitar", "hat", "helicopter", "horse", "hotdog", "house", "igloo"),
    *("key", "lightbulb", "lock", "medal", "microphone", "motorcycle", "palette", "paw", "pencil", "pig"),
    *("pizza", "plane", "plant", "plug", "radio", "rainbow", "rocket", "satellite", "screwdriver", "shirt"),
    *("skull", "sleigh", "spider", "spoon", "stroller", "suitcase", "sun", "tent", "tooth", "tornado"),
    *("tractor", "tree", "truck", "umbrella", "volcano", "wheelchair"),
)
"""Things: objects of the rich posters, each with an icon."""

FURTHER_THINGS = (
    *("arrow", "astronaut", "baby", "bacon", "bag", "ball", "bank", "baseball", "basketball", "battery", "beer"),
    *("bin", "binoculars", "bomb", "bone", "bottle", "brain", "bread", "brush", "bucket", "bug", "calendar"),
    *("camera", "candy", "cart", "chain", "cheese", "city", "cocktail", "coin", "comet", "compass", "cow", "crow"),
    *("crown", "cup", "cyclist", "dice", "dog", "drop", "dumbbell", "ear", "egg", "eye", "face", "factory", "fan"),
    *("faucet", "feather", "fire", "flask", "flower", "folder", "football", "gamepad", "gate", "gear", "gem"),
    *("glasses", "globe", "hammer", "hand", "headphones", "hippo", "holly", "hospital", "hourglass", "jar", "jet"),
    *("keyboard", "laptop", "leaf", "lemon", "lightning", "magnet", "map", "mask", "megaphone", "microscope"),
    *("mitten", "money", "moon", "mosque", "mosquito", "mountain", "mouse", "mug", "ninja", "note", "otter"),
    *("paperclip", "parachute", "pepper", "person", "phone", "pill", "printer", "puzzle", "record", "ribbon", "road"),
    *("robot", "runner", "school", "scissors", "scroll", "shield", "ship", "shower", "shrimp", "skier", "snowflake"),
    *("snowman", "sock", "stairs", "stapler", "stopwatch", "store", "swimmer", "syringe", "taxi", "television"),
    *("thermometer", "thumb", "toolbox", "tower", "train", "trophy", "van", "volleyball", "wallet", "wand", "wave"),
    *("wheel", "wrench"),
)
"""Things that only the literal posters show besides: no detector knows them, and PP-OCR reads some as characters."""

NOUNS = (*SHAPES, *THINGS)
"""The nouns that the rich posters show, captions are tested on and the shipped detector knows."""

ALL_NOUNS = (*NOUNS, *FURTHER_THINGS)

_IRREGULAR = {
    **{noun: noun for noun in ("bacon", "bread", "fish", "lightning", "money", "shrimp")},  # spelt alike
    **{noun: noun for noun in ("binoculars", "dice", "glasses", "headphones", "scissors", "stairs")},
    **{"leaf": "leaves", "mouse": "mice", "person": "people", "tooth": "teeth"},
    **{"tornado": "tornadoes", "volcano": "volcanoes"},
}
_HISSING = ("s", "x", "ch", "sh")  # endings with the plural -es


def plural_of(noun: str) -> str:
    """Return the plural of a noun.

    Example:
        >>> plural_of("car"), plural_of("box"), plural_of("baby"), plural_of("tooth"), plural_of("fish")
        ('cars', 'boxes', 'babies', 'teeth', 'fish')
    """
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith(_HISSING):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def read_noun(word: str, nouns: Sequence[str] = NOUNS) -> tuple[str, bool | None] | None:
    """Return the noun that a word is a form of, and whether it is the plural; None if it is none of the nouns.

    Args:
        word: in lower case.
        nouns: the nouns in the singular.

    Returns:
        None in place of True or False where singular and plural are spelt alike.

    Example:
        >>> read_noun("teeth"), read_noun("bus"), read_noun("fish"), read_noun("grass")
        (('tooth', True), ('bus', False), ('fish', None), None)
    """
    return _forms(tuple(nouns)).get(word)


def alike(noun: str, nouns: Sequence[str]) -> tuple[str, ...]:
    """Return the other ``nouns`` of the same kind, shapes or things; all others if there is none of its kind.

    Example:
        >>> alike("cat", ("star", "cat", "dog")), alike("star", ("star", "cat"))
        (('dog',), ('cat',))
    """
    others = tuple(other for other in nouns if other != noun)
    return tuple(other for other in others if (other in SHAPES) == (noun in SHAPES)) or others


@cache
def _forms(nouns: tuple[str, ...]) -> dict[str, tuple[str, bool | None]]:
    forms: dict[str, tuple[str, bool | None]] = {plural_of(noun): (noun, True) for noun in nouns}
    return forms | {noun: (noun, None if plural_of(noun) == noun else False) for noun in nouns}
