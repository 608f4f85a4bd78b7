"""The literal world: the rich one, in which a poster shows nothing that its caption leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vlad_lightning.data.synthetic.captions import Caption
from vlad_lightning.data.synthetic.combinations import is_colour_held_out
from vlad_lightning.data.synthetic.composition import best_colour
from vlad_lightning.data.synthetic.scene import Background, PlacedObject, Scene
from vlad_lightning.data.synthetic.telling import CaptionOdds
from vlad_lightning.layout.colours import PALETTE, is_far
from vlad_lightning.layout.lettering_requests import lettering_of
from vlad_lightning.layout.prompt_parser import quote_words
from vlad_lightning.layout.usual_ground import USUAL, usual_ground

ODDS = CaptionOdds(
    untold_background=0.3,
    untold_objects=0.1,
    untold_colour=0.3,
    undrawn=0.15,
    medium=0.4,
    qualifier=0.4,
    beside=0.5,
    coloured_medium=0.4,
    untold_places=0.45,
)
"""Captions leave out more than in the rich world, and have more words for which there is nothing, as people's do."""

_INKS = ("black", "white", "gray")


def shows_what_is_told(scene: Scene, caption: Caption, held_out: bool) -> tuple[Scene, Caption] | None:
    """Leave out of a scene what its caption leaves out.

    Objects without a phrase are not there. A background without one is white, or black where something is hard to see
    on white. Words whose colour is not told have the one that is read best on the background. An object whose colour is
    not told is black, or white or gray where that is hard to see or, unless ``held_out``, a combination that is kept
    for evaluation.

    Returns:
        The scene, and the caption with phrases for its objects; None if there are no such colours.
    """
    told = [(thing, phrase) for thing, phrase in zip(scene.objects, caption.phrases, strict=True) if phrase is not None]
    named = _named_colours(scene, caption)
    background = scene.background if caption.background is not None else _ground(named, told)
    if background is None:
        return None
    words = tuple(
        replace(word, colour=colour or best_colour(background)) for word, colour in zip(scene.words, named, strict=True)
    )
    objects = []
    for thing, phrase in told:
        if not _is_told(thing, phrase):
            colour = _ink(thing, background, held_out)
            if colour is None:
                return None
            thing = replace(thing, colour=colour, shade=None)
        objects.append(thing)
    phrases = tuple(phrase for _, phrase in told)
    shown = replace(scene, background=background, objects=tuple(objects), words=words)
    return shown, replace(caption, phrases=phrases)


def _is_told(thing: PlacedObject, phrase: str) -> bool:
    return f" {thing.told_colour} " in f" {phrase.casefold()} "


def _named_colours(scene: Scene, caption: Caption) -> tuple[str | None, ...]:
    """Return the colour of each word that the caption tells, as prompts are read; None for the others."""
    words = tuple(word.text for word in scene.words)
    quads = [word.quad() for word in scene.words]
    return tuple(said.colour for said in lettering_of(words, quote_words(caption.text, words, quads)))


def _ground(colours: Sequence[str | None], told: list[tuple[PlacedObject, str]]) -> Background | None:
    """Return a solid background on which words in these colours, and objects whose colour is told, can be seen."""
    words = [PALETTE[colour] for colour in colours if colour is not None]
    objects = [thing.rgb for thing, phrase in told if _is_told(thing, phrase)]
    colour = usual_ground(words, objects, USUAL)
    return None if colour is None else Background(colour, "solid", (PALETTE[colour], PALETTE[colour]))


def _ink(thing: PlacedObject, background: Background, held_out: bool) -> str | None:
    """Return the colour of an object whose colour is not told."""
    for name in _INKS:
        if is_far(PALETTE[name], background.shades) and (held_out or not is_colour_held_out(thing.shape, name)):
            return name
    return None
