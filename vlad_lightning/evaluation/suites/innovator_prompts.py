"""INNOVATOR-Eval's prompts, from a seed: ``python -m vlad_lightning.evaluation.suites.innovator_prompts``.

The paper (arXiv 2501.00917) names a benchmark INNOVATOR-Eval and describes none: this definition is this project's own,
see ``docs/innovator_eval.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites import innovator_wording as wording
from vlad_lightning.evaluation.suites.prompt_drafts import (
    Deck,
    Draft,
    Text,
    Thing,
    numbered,
    pick,
    unlike_prompts,
    write_list,
)
from vlad_lightning.layout.nouns import plural_of

SEED = 20251
"""The seed of the committed list."""

EACH = 66
"""Prompts of each category."""

LIST = "innovator_eval.jsonl"

_COUNTS = {1: "", 2: "two", 3: "three", 4: "four"}
_QUOTES = (('"', '"'), ('"', '"'), ('"', '"'), ("'", "'"), ("“", "”"))
_SLOTS = "abcd"
_STYLED, _LOWERED, _ASKED = 0.22, 0.2, 0.15  # probabilities of a style, a small first letter, a question

Builder = Callable[[np.random.Generator], Callable[[], Draft]]


def innovator_items(seed: int = SEED, each: int = EACH) -> list[Item]:
    """Return the items of all categories.

    Args:
        seed: seed of the wording.
        each: prompts of each category.
    """
    items: list[Item] = []
    for number, (subset, builder) in enumerate(BUILDERS.items()):
        rng = np.random.default_rng([seed, number])
        items += numbered(subset, unlike_prompts(builder(rng), each))
    return items


def in_quotes(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Put the texts of a prompt in quotes of one kind: mostly double ones, and always where there is an apostrophe."""
    opening, closing = ('"', '"') if any("'" in text for text in texts) else pick(rng, _QUOTES)
    return [f"{opening}{text}{closing}" for text in texts]


def _filled(form: str, texts: list[str], rng: np.random.Generator, **fields: str) -> str:
    """Fill a form with quoted texts and other fields, in one of several voices."""
    slots = dict(zip(_SLOTS, in_quotes(texts, rng), strict=False))
    return _voiced(form.format(**slots, **fields), rng, styled="c1" not in fields)  # a style has colours of its own


def _voiced(prompt: str, rng: np.random.Generator, styled: bool) -> str:
    ended = prompt.endswith((".", "!", "?"))
    if prompt.startswith("A ") and not ended and rng.random() < _ASKED:
        return f"{pick(rng, ('Can you make', 'could you draw', 'Would you make me'))} a {prompt[2:]}?"
    if styled and not ended and rng.random() < _STYLED:
        prompt = f"{prompt}, {pick(rng, wording.STYLES)}"
    if prompt[:1].isalpha() and rng.random() < _LOWERED:
        return prompt[0].lower() + prompt[1:]
    return prompt


def _objects(rng: np.random.Generator) -> Callable[[], Draft]:
    forms, nouns = Deck(wording.OBJECTS, rng), Deck(wording.NOUNS, rng)
    texts = Deck(wording.OBJECT_TEXTS, rng)

    def build() -> Draft:
        form, relations = forms.draw()
        count = 3 if "{o3}" in form else 2
        things = tuple(_thing(noun, rng) for noun in nouns.several(count))
        text = texts.draw()
        named = {f"o{index + 1}": _phrase(thing) for index, thing in enumerate(things)}
        prompt = _filled(form, [text], rng, **named)
        prompt = prompt[0].upper() + prompt[1:] if form.startswith("{o") and rng.random() < 0.5 else prompt
        return Draft(prompt, (Text(text),), things=things, relations=relations)

    return build


def _thing(noun: str, rng: np.random.Generator) -> Thing:
    kind = rng.random()
    colour = pick(rng, wording.COLOURS) if kind < 0.85 or noun in wording.ANIMALS else None
    look = pick(rng, wording.LOOKS) if kind > 0.6 and noun not in wording.ANIMALS else None
    return Thing(noun, colour, look, 1 if rng.random() < 0.75 else int(rng.integers(2, 5)))


def _phrase(thing: Thing) -> str:
    noun = thing.name if thing.count == 1 else plural_of(thing.name)
    words = [_COUNTS[thing.count], thing.colour, thing.look, noun]
    phrase = " ".join(word for word in words if word)
    return phrase if thing.count > 1 else f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _places(rng: np.random.Generator) -> Callable[[], Draft]:
    forms, themes = Deck(wording.PLACED, rng), Deck(wording.THEMES, rng)

    def build() -> Draft:
        form, fixed, sides = forms.draw()
        theme = themes.draw()
        count = max(index for index, slot in enumerate(_SLOTS) if f"{{{slot}}}" in form) + 1
        texts = [wording.THEMES[theme][i] for i in rng.permutation(len(wording.THEMES[theme]))[:count]]
        drawn = pick(rng, wording.PLACES[count]) if "{pa}" in form else fixed + (None,) * (count - len(fixed))
        slots = {
            f"p{slot}": pick(rng, wording.PLACE_WORDS[place])
            for slot, place in zip(_SLOTS, drawn, strict=False)
            if place
        }
        placed = tuple(Text(text, place) for text, place in zip(texts, drawn, strict=True))
        return Draft(_filled(form, texts, rng, theme=theme, **slots), placed, sides)

    return build


def _long_words(rng: np.random.Generator) -> Callable[[], Draft]:
    forms = Deck(wording.LONG_TEXTS, rng)
    decks = (Deck(wording.LONG_WORDS, rng), Deck(wording.RARE_WORDS, rng))

    def word() -> str:
        kind = int(rng.integers(3))
        plain = decks[kind].draw() if kind < 2 else _invented(rng)
        return pick(rng, (plain, plain.upper(), plain.capitalize()))

    def build() -> Draft:
        form = forms.draw()
        texts = [word()]
        while len(texts) < form.count("{b}") + 1:
            if (other := word()).casefold() != texts[0].casefold():
                texts.append(other)
        return Draft(_filled(form, texts, rng), tuple(map(Text, texts)))

    return build


def _invented(rng: np.random.Generator) -> str:
    """Invent a word of two to four syllables that can be said aloud."""
    syllables = [
        f"{pick(rng, wording.ONSETS)}{pick(rng, wording.VOWELS)}{pick(rng, wording.CODAS)}"
        for _ in range(int(rng.integers(2, 4)))
    ]
    return "".join(syllables)


def _digits(rng: np.random.Generator) -> Callable[[], Draft]:
    kinds = Deck([(kind, form) for kind, forms in wording.DIGIT_TEXTS.items() for form in forms], rng)
    shouts, things = Deck(wording.SHOUTS, rng), Deck(wording.THINGS, rng)

    def build() -> Draft:
        kind, form = kinds.draw()
        text = shouts.draw() if kind == "shout" else _NUMBERED[kind](rng)
        return Draft(_filled(form, [text], rng, thing=things.draw()), (Text(text),))

    return build


def _below(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high))


_NUMBERED: dict[str, Callable[[np.random.Generator], str]] = {
    "price": lambda rng: f"{pick(rng, ('$', '£', '€'))}{_below(rng, 1, 90)}.{pick(rng, ('50', '99', '05', '75'))}",
    "time": lambda rng: f"{_below(rng, 0, 24):02d}:{_below(rng, 0, 60):02d}",
    "plate": lambda rng: (
        f"{pick(rng, ('KL', 'ZX', 'MV', 'TR'))}{_below(rng, 10, 99)} {pick(rng, ('HGB', 'WNO', 'DAF'))}"
    ),
    "phone": lambda rng: f"555-{_below(rng, 100, 999)}-{_below(rng, 1000, 9999)}",
    "sum": lambda rng: f"{(a := _below(rng, 11, 90))} + {(b := _below(rng, 11, 90))} = {a + b}",
    "date": lambda rng: f"{_below(rng, 1, 29)}.{_below(rng, 1, 13):02d}.{_below(rng, 1890, 2030)}",
    "score": lambda rng: f"{_below(rng, 0, 8)}-{_below(rng, 0, 8)} ({_below(rng, 50, 91)}')",
    "code": lambda rng: f"{pick(rng, ('SK', 'BX', 'Q'))}-{_below(rng, 100, 9999)}/{pick(rng, 'ABCDE')}",
    "offer": lambda rng: pick(rng, ("-{}%", "{}% off!", "Save {}%!", "3 for {} $")).format(_below(rng, 5, 80)),
    "door": lambda rng: pick(rng, ("Room {}B", "No. {}", "#{}", "Suite {}/2")).format(_below(rng, 2, 700)),
}


def _case(rng: np.random.Generator) -> Callable[[], Draft]:
    forms = Deck([(case, form) for case, forms in wording.CASED.items() for form in forms], rng)
    plain, mixed = Deck(wording.CASE_TEXTS, rng), Deck(wording.MIXED_TEXTS, rng)
    cased: dict[str, Callable[[str], str]] = {"upper": str.upper, "lower": str.lower, "title": str.title}

    def build() -> Draft:
        case, form = forms.draw()
        text = mixed.draw() if case == "written" else cased[case](plain.draw())
        return Draft(_filled(form, [text], rng), (Text(text, case=case),))

    return build


def _repeats(rng: np.random.Generator) -> Callable[[], Draft]:
    forms, texts = Deck(wording.REPEAT_FORMS, rng), Deck(wording.REPEATED, rng)
    told, words = Deck(wording.TOLD_FORMS, rng), Deck(wording.TOLD_WORDS, rng)

    def build() -> Draft:
        if rng.random() < 0.5:
            text = pick(rng, (str.lower, str.upper, str.capitalize))(texts.draw())
            return Draft(_filled(forms.draw(), [text], rng), (Text(text),))
        word, times = words.draw(), int(rng.integers(2, 6))
        prompt = _filled(told.draw(), [word], rng, times=wording.NUMBERS[times])
        return Draft(prompt, (Text(word, times=times),))

    return build


def _lettering(rng: np.random.Generator) -> Callable[[], Draft]:
    forms, pairs, ink = Deck(wording.LETTERED, rng), Deck(wording.LOOK_PAIRS, rng), Deck(wording.INK, rng)

    def build() -> Draft:
        form, sizes, sides = forms.draw()
        first, second = ink.several(2)
        pair = pairs.draw()
        cased = [text.upper() if rng.random() < 0.5 else text for text in pair]
        texts = [
            Text(text, size=size, colour=colour)
            for text, size, colour in zip(cased, sizes, (first, second), strict=True)
        ]
        if form.index("{b}") < form.index("{a}"):  # facts are in the prompt's order
            texts.reverse()
            sides = tuple((1 - one, side, 1 - other) for one, side, other in sides)
        return Draft(_filled(form, cased, rng, c1=first, c2=second), tuple(texts), sides)

    return build


def _scripts(rng: np.random.Generator) -> Callable[[], Draft]:
    forms = Deck(wording.SCRIPT_FORMS, rng)
    texts = Deck([(script, text) for script, texts in wording.SCRIPTS.items() for text in texts], rng)

    def build() -> Draft:
        script, text = texts.draw()
        return Draft(_filled(forms.draw(), [text], rng), (Text(text),), script=script)

    return build


def _unquoted(rng: np.random.Generator) -> Callable[[], Draft]:
    forms, texts = Deck(wording.UNQUOTED_FORMS, rng), Deck(wording.UNQUOTED_TEXTS, rng)

    def build() -> Draft:
        text = texts.draw()
        return Draft(forms.draw().format(a=text), (Text(text),), quoted=False)

    return build


def _no_text(rng: np.random.Generator) -> Callable[[], Draft]:
    forms, scenes = Deck(wording.BLANK_FORMS, rng), Deck((*wording.BLANK_SCENES, *wording.BLANK_CARRIERS), rng)

    def build() -> Draft:
        prompt = forms.draw().format(scene=scenes.draw())
        return Draft(prompt[0].upper() + prompt[1:] if rng.random() < 0.4 else prompt)

    return build


BUILDERS: dict[str, Builder] = {
    "objects": _objects,
    "places": _places,
    "long_words": _long_words,
    "digits": _digits,
    "case": _case,
    "repeats": _repeats,
    "lettering": _lettering,
    "scripts": _scripts,
    "unquoted": _unquoted,
    "no_text": _no_text,
}
"""The categories; each is a subset."""


def main(arguments: list[str] | None = None) -> None:
    """Write the list to a file, or to the standard output."""
    write_list("INNOVATOR-Eval", innovator_items, SEED, EACH, arguments)


if __name__ == "__main__":
    main()
