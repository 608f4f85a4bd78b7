"""The content of a caption, before it is put into words: all of it is true of the scene."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vlad_lightning.data.synthetic.scene import Background, Phrase, PlacedObject, Scene
from vlad_lightning.layout.nouns import plural_of

RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}


@dataclass(frozen=True)
class CaptionOdds:
    """How often a caption leaves something out, or has words for which the poster shows nothing.

    Attributes:
        untold_background: share of the captions without the background.
        untold_objects: share of the captions without the objects.
        untold_colour: share of the objects whose colour is left out, if no other has its shape.
        undrawn: share of the captions that name an object of a kind that posters cannot show.
        medium: share of the captions that call the poster something else, as ``a travel brochure``.
        qualifier: share of the objects with a word before them that changes nothing, as ``a merry red star``.
        beside: share of the captions of one phrase that say where an object is relative to it.
        coloured_medium: share of the captions of a solid background that give its colour to the poster, as ``a blue
            sign``.
        untold_places: share of the captions that do not say where anything is.
    """

    untold_background: float = 0.15
    untold_objects: float = 0.05
    untold_colour: float = 0.05
    undrawn: float = 0.0
    medium: float = 0.0
    qualifier: float = 0.0
    beside: float = 0.0
    coloured_medium: float = 0.0
    untold_places: float = 0.0


@dataclass(frozen=True)
class NamedObject:
    """An object, or a row of objects that are alike, and the noun phrase for it, without an article.

    Attributes:
        row: the object, or the objects of the row; none for what the poster does not show.
        name: ``red car``; of a row, without its number, ``red cars``.
        said_region: the region that is said of what the poster does not show.
        tells_place: whether captions may say where it is.
    """

    row: tuple[PlacedObject, ...]
    name: str
    said_region: str | None = None
    tells_place: bool = True

    @property
    def count(self) -> int:
        """How many objects the phrase is about: one for what the poster does not show."""
        return max(1, len(self.row))

    @property
    def region(self) -> str | None:
        """The ninth of the frame it lies in; None where objects of a row lie in several, and where none may be told."""
        if not self.tells_place:
            return None
        if not self.row:
            return self.said_region
        regions = {thing.region for thing in self.row}
        return regions.pop() if len(regions) == 1 else None


@dataclass(frozen=True)
class CaptionContent:
    """The content of a caption: at least one of the first three, or a medium that tells the background.

    Attributes:
        background: the scene's background; None if the caption does not mention it.
        objects: all objects of the scene, or none; and perhaps something that is not there.
        phrases: all phrases of the scene.
        medium: what the poster is called, without an article; None for one of the usual names.
        tells_ground: whether ``medium`` tells the background's colour, so that no form may leave it out.
        tells_places: whether forms may say where things are.
    """

    background: Background | None
    objects: tuple[NamedObject, ...]
    phrases: tuple[Phrase, ...]
    medium: str | None = None
    tells_ground: bool = False
    tells_places: bool = True


def choose(scene: Scene, rng: np.random.Generator, odds: CaptionOdds = CaptionOdds()) -> CaptionContent:
    """Choose a caption's content, mostly all; an object's colour is omitted only if no other has its shape."""
    objects = scene.objects if rng.random() >= odds.untold_objects else ()
    background = scene.background if rng.random() >= odds.untold_background else None
    if not objects and not scene.words:
        background = scene.background
    rows = scene.rows if objects else ()
    shapes = Counter(row[0].shape for row in rows)
    named = []
    for row in rows:
        noun = row[0].shape if len(row) == 1 else plural_of(row[0].shape)
        silent = shapes[row[0].shape] == 1 and rng.random() < odds.untold_colour
        named.append(NamedObject(row, noun if silent else f"{row[0].told_colour} {noun}"))
    return CaptionContent(background, tuple(named), scene.phrases)


def with_coloured_medium(
    content: CaptionContent, media: Sequence[str], rng: np.random.Generator, odds: CaptionOdds
) -> CaptionContent:
    """Give the colour of a solid background to the poster: ``a blue sign`` in the place of ``a sign on blue``.

    Args:
        content: what the poster shows.
        media: names for a poster where the content has none, without an article.
        rng: picks the name.
        odds: how often it is done.
    """
    ground = content.background
    if ground is None or ground.kind != "solid" or ground.accent or rng.random() >= odds.coloured_medium:
        return content
    medium = content.medium or pick(rng, media)
    return replace(content, background=None, medium=f"{ground.told_colour} {medium}", tells_ground=True)


def without_places(content: CaptionContent) -> CaptionContent:
    """Return a content of which no form says where anything is."""
    objects = tuple(replace(named, tells_place=False) for named in content.objects)
    return replace(content, objects=objects, tells_places=False)


def relation_between(first: NamedObject, second: NamedObject) -> str | None:
    """Return where ``first`` is relative to ``second``; None where that is not clear for all of their objects."""
    if not (first.tells_place and second.tells_place):
        return None
    relations = {relation_of(a, b) for a in first.row for b in second.row}
    return relations.pop() if len(relations) == 1 else None


def relation_of(a: PlacedObject, b: PlacedObject) -> str | None:
    """Return where ``a`` is relative to ``b``: ``left``, ``right``, ``above``, ``below``; None if none is clear."""
    return relation_of_points((a.x, a.y), (b.x, b.y))


def relation_of_points(a: tuple[float, float], b: tuple[float, float]) -> str | None:
    """Return where the point ``a`` is relative to ``b``, as :func:`relation_of` does."""
    dx, dy = a[0] - b[0], a[1] - b[1]
    if abs(dx) >= 1.3 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) >= 1.3 * abs(dx):
        return "above" if dy < 0 else "below"
    return None


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """Pick one of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]
