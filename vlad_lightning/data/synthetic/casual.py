"""Captions as people type them: a list or a line without articles, in lower case, with short words."""

from __future__ import annotations

import numpy as np

from vlad_lightning.data.synthetic.scene import Background, Phrase
from vlad_lightning.data.synthetic.sentences import (
    ADJECTIVES,
    COLOUR_ENDINGS,
    NUMBERS,
    Ground,
    at_region,
    ending_of,
    joined,
    letters_of,
    told_style,
)
from vlad_lightning.data.synthetic.telling import CaptionContent, NamedObject, pick

MEDIA = ("poster", "pic", "picture", "sign", "card", "banner", "flyer")
SAYING = ("saying", "that says", "with text", "says")
GROUNDS = ("background", "bg")
_TEXTURE_ODDS = 0.7  # probability that a texture or a gradient is mentioned
_BARE_COLOUR = 0.15  # probability that the background's phrase is its colour alone


def casual(content: CaptionContent, ground: Ground | None, rng: np.random.Generator) -> str:
    """Write ``red star, blue background, SALE top left`` or ``poster saying SALE with red star on blue bg``.

    Args:
        content: the content of the caption.
        ground: what is said of the background; None if it is not mentioned.
        rng: picks the form.
    """
    return _list(content, ground, rng) if rng.random() < 0.6 else _line(content, ground, rng)


def ground_of(background: Background, rng: np.random.Generator) -> Ground:
    """Write what a caption says of a background: ``blue bg with white frame``, ``blue sky with green ground``."""
    if background.kind == "landscape":
        return Ground(f"{background.told_colour} sky", f" with {background.accent} ground", "against")
    phrase = _background_phrase(background, rng)
    return Ground(phrase, f" with {background.accent} frame") if background.accent else Ground(phrase)


def _background_phrase(background: Background, rng: np.random.Generator) -> str:
    """Write ``blue background``, ``striped blue bg``, ``blue gradient bg``, or the colour alone."""
    if rng.random() < _BARE_COLOUR:
        return background.told_colour
    names_texture = rng.random() < _TEXTURE_ODDS
    before = f"{background.kind} " if names_texture and background.kind in ADJECTIVES else ""
    after = " gradient" if names_texture and background.kind == "gradient" else ""
    return f"{before}{background.told_colour}{after} {pick(rng, GROUNDS)}"


def _list(content: CaptionContent, ground: Ground | None, rng: np.random.Generator) -> str:
    parts = [_object(named, rng) for named in content.objects]
    if ground:
        parts.append(ground.phrase + ground.rest)
    parts = [parts[i] for i in rng.permutation(len(parts))]
    texts = [_phrase(phrase, content.tells_places, rng) for phrase in content.phrases]
    form = rng.random()
    if len(texts) == 1 and form < 0.3:
        parts.insert(0, f"{content.phrases[0].text} {medium_of(content, rng)}")
    elif form < 0.5 and not content.tells_ground:
        parts += texts
    elif form < 0.7 and not content.tells_ground:
        parts = texts + parts
    else:
        saying = f" {pick(rng, SAYING)} {joined(texts)}" if texts else ""
        parts.insert(0, medium_of(content, rng) + saying)
    return ", ".join(parts)


def _line(content: CaptionContent, ground: Ground | None, rng: np.random.Generator) -> str:
    objects = joined([_object(named, rng) for named in content.objects])
    text = joined([_phrase(phrase, content.tells_places, rng) for phrase in content.phrases])
    under = ground.text if ground else ""
    says = f"{pick(rng, SAYING)} {text}" if text else ""
    shown = f"with {objects}" if objects else ""
    medium = medium_of(content, rng)
    if objects and rng.random() < 0.5 and not content.tells_ground:
        return " ".join(filter(None, (objects, under, says)))
    return " ".join(filter(None, (medium, *((says, shown) if rng.random() < 0.5 else (shown, says)), under)))


def _object(named: NamedObject, rng: np.random.Generator) -> str:
    region = named.region if rng.random() < 0.6 else None
    return object_phrase(named) + (f" {_at_region(region, rng, bare_sides=False)}" if region else "")


def object_phrase(named: NamedObject) -> str:
    """Write ``red car`` or ``two red cars``."""
    return named.name if named.count == 1 else f"{NUMBERS[named.count]} {named.name}"


def medium_of(content: CaptionContent, rng: np.random.Generator) -> str:
    """Return what a caption calls the poster: ``poster``, ``pic``, ``travel brochure``."""
    return content.medium or pick(rng, MEDIA)


def _phrase(phrase: Phrase, tells_place: bool, rng: np.random.Generator) -> str:
    names_position = rng.random() < 0.65 and tells_place
    where = f" {_at_region(phrase.region, rng, bare_sides=True)}" if names_position else ""
    names_colour = rng.random() < 0.25
    look = letters_of(phrase, told_style([phrase], rng), names_colour)
    return phrase.text + where + ending_of(look, phrase, COLOUR_ENDINGS[0])


def _at_region(region: str, rng: np.random.Generator, bare_sides: bool) -> str:
    """Write ``top left``, ``on the right``, ``at bottom``; one word alone, as in ``SALE top``, only for drawn words."""
    form = rng.random()
    if form < 0.4:
        return at_region(region, rng)
    if form < 0.7 and (" " in region or bare_sides):
        return region
    return f"{'on' if region in ('left', 'right') else 'in' if region == 'center' else 'at'} {region}"
