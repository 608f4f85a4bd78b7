"""INNOVATOR-Eval mini's prompts, from a seed: ``python -m vlad_lightning.evaluation.suites.mini_prompts``.

Everything they ask for exists in the synthetic domain. Every word is one that no training poster shows
(``data.synthetic.vocabulary``), and every prompt with objects names one in a colour that none shows it in, or is about
held-out words alone; so no prompt is a caption of the training data.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from vlad_lightning.data.synthetic.captions import GRAMMAR_WORDS
from vlad_lightning.data.synthetic.combinations import is_colour_held_out
from vlad_lightning.data.synthetic.composition import text_colours
from vlad_lightning.data.synthetic.vocabulary import dictionary, is_held_out
from vlad_lightning.evaluation.suite import Item
from vlad_lightning.evaluation.suites.prompt_drafts import (
    Deck,
    Draft,
    Sides,
    Text,
    Thing,
    numbered,
    pick,
    unlike_prompts,
    write_list,
)
from vlad_lightning.layout.colours import PALETTE
from vlad_lightning.layout.nouns import NOUNS, plural_of

SEED = 20252
"""The seed of the committed list."""

EACH = 24
"""Prompts of each category."""

LIST = "innovator_eval_mini.jsonl"

_WORLD = GRAMMAR_WORDS["rich"]
_NUMBERS = {2: "two", 3: "three", 4: "four"}
_SIDES = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
_AT = {
    "top left": "at the top left",
    "top": "at the top",
    "top right": "at the top right",
    "left": "on the left",
    "center": "in the middle",
    "right": "on the right",
    "bottom left": "at the bottom left",
    "bottom": "at the bottom",
    "bottom right": "at the bottom right",
}
_PAIRS = (("top", "bottom"), ("top left", "bottom right"), ("bottom left", "top right"), ("center", "bottom"))
_TRIPLES = (("top", "center", "bottom"), ("top left", "top right", "bottom"), ("top", "bottom left", "bottom right"))
_MEDIA = ("a poster", "a sign", "a card", "a banner", "a flyer", "a picture")
_MANY = 3  # words in a row of repetitions


class Stock:
    """What prompts are made of, each in random order.

    Args:
        rng: picks everything.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        known = dictionary(True, _WORLD)
        self.words = Deck([word for word in known if 3 <= len(word) <= 6], rng)
        self.long = Deck([word for word in known if len(word) >= 7], rng)
        self.nouns, self.media = Deck(NOUNS, rng), Deck(_MEDIA, rng)
        self._grounds = Deck([name for name, rgb in PALETTE.items() if len(text_colours(rgb)) >= 2], rng)
        self._colours = Deck(PALETTE, rng)

    def word(self) -> str:
        """Return a held-out word, in capitals, in small letters or with one capital."""
        return pick(self.rng, (str.upper, str.lower, str.title))(self.words.draw())

    def ground(self) -> str:
        """Return the colour of a background."""
        return self._grounds.draw()

    def thing(self, *others: str, count: int = 1, place: str | None = None) -> Thing:
        """Return objects in a colour that no training poster shows them in, and that is none of ``others``."""
        while True:
            noun = self.nouns.draw()
            colours = [name for name in self._colours.several(len(PALETTE)) if name not in others]
            for colour in colours:
                if is_colour_held_out(noun, colour):
                    return Thing(noun, colour, count=count, place=place)

    def invented(self, alphabet: str, low: int, high: int) -> str:
        """Return random characters that are held out, between ``low`` and ``high`` of them, both included."""
        while True:
            length = int(self.rng.integers(low, high + 1))
            word = "".join(alphabet[i] for i in self.rng.integers(len(alphabet), size=length))
            if is_held_out(word) and word not in _WORLD:
                return word

    def cased(self, change: Callable[[str], str]) -> str:
        """Return a held-out word in a given case."""
        return change(self.words.draw())


def mini_items(seed: int = SEED, each: int = EACH) -> list[Item]:
    """Return the items of all categories.

    Args:
        seed: seed of the wording.
        each: prompts of each category.
    """
    items: list[Item] = []
    for number, (subset, build) in enumerate(BUILDERS.items()):
        stock = Stock(np.random.default_rng([seed, number]))
        items += numbered(subset, unlike_prompts(partial(build, stock), each))
    return items


def _on(colour: str) -> str:
    return f"on {_article(f'{colour} background')}"


def _article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _phrase(thing: Thing) -> str:
    if thing.count == 1:
        return _article(f"{thing.colour} {thing.name}")
    return f"{_NUMBERS[thing.count]} {thing.colour} {plural_of(thing.name)}"


def _objects(stock: Stock) -> Draft:
    rng, ground = stock.rng, stock.ground()
    kind = int(rng.integers(3))
    word, side = stock.word(), pick(rng, tuple(_SIDES))
    if kind == 0:  # a relation
        first = stock.thing(ground)
        things: tuple[Thing, ...] = (first, stock.thing(ground, first.colour or ""))
        shown = f"{_phrase(things[0])} {_SIDES[side]} {_phrase(things[1])}"
        return Draft(
            f'{stock.media.draw()} of {shown} {_on(ground)}, with the word "{word}"',
            (Text(word),),
            things=things,
            relations=((0, side, 1),),
            background=ground,
        )
    if kind == 1:  # places
        first_place, second_place = pick(rng, _PAIRS)
        first = stock.thing(ground, place=first_place)
        things = (first, stock.thing(ground, first.colour or "", place=second_place))
        shown = " and ".join(f"{_phrase(thing)} {_AT[thing.place or '']}" for thing in things)
        prompt = f'{stock.media.draw()} saying "{word}", with {shown}, {_on(ground)}'
    else:  # a number of them
        things = (stock.thing(ground, count=int(rng.integers(2, 5))),)
        prompt = f'{_phrase(things[0])} {_on(ground)}, with the word "{word}"'
    return Draft(prompt, (Text(word),), things=things, background=ground)


def _places(stock: Stock) -> Draft:
    rng, ground = stock.rng, stock.ground()
    places = pick(rng, (*_PAIRS, *_TRIPLES))
    texts = tuple(Text(stock.word(), place) for place in places)
    told = [f'"{text.text}" {_AT[text.place or ""]}' for text in texts]
    listed = f"{', '.join(told[:-1])} and {told[-1]}"
    form = pick(rng, ("{medium} that says {listed}, {ground}", "{listed}, {ground}", "{medium} {ground} with {listed}"))
    return Draft(form.format(medium=stock.media.draw(), listed=listed, ground=_on(ground)), texts, background=ground)


def _long_words(stock: Stock) -> Draft:
    ground, rng = stock.ground(), stock.rng
    word = stock.long.draw() if rng.random() < 0.5 else stock.invented(string.ascii_lowercase, 7, 8)
    text = Text(pick(rng, (str.upper, str.title, str.lower))(word))
    return _plain(stock, text, ground)


def _digits(stock: Stock) -> Draft:
    forms = ("{}", "{}%", "${}", "#{}", "{}!", "{}?")
    while True:
        number = stock.invented(string.digits, 2, 5)
        text = pick(stock.rng, forms).format(number)
        if is_held_out(text):
            return _plain(stock, Text(text), stock.ground())


def _case(stock: Stock) -> Draft:
    changes: dict[str, Callable[[str], str]] = {"upper": str.upper, "lower": str.lower, "title": str.title}
    case = pick(stock.rng, (*changes, "written"))
    if case == "written":  # capitals in the middle of a word
        word = stock.words.draw()
        text = Text("".join(pick(stock.rng, (str.upper, str.lower))(letter) for letter in word), case=case)
    else:
        text = Text(stock.cased(changes[case]), case=case)
    return _plain(
        stock, text, stock.ground(), {"upper": " in capital letters", "lower": " in lowercase letters"}.get(case)
    )


def _plain(stock: Stock, text: Text, ground: str, ending: str | None = None) -> Draft:
    form = pick(stock.rng, ('{medium} saying "{text}"{ending}, {ground}', '"{text}"{ending} {ground}'))
    filled = form.format(medium=stock.media.draw(), text=text.text, ending=ending or "", ground=_on(ground))
    return Draft(filled, (text,), background=ground)


def _repeats(stock: Stock) -> Draft:
    ground, word = stock.ground(), stock.word()
    if stock.rng.random() < 0.5:
        row = " ".join([word] * _MANY)
        return _plain(stock, Text(row), ground)
    texts = tuple(Text(word, place) for place in pick(stock.rng, _PAIRS))
    told = " and again ".join(f'"{text.text}" {_AT[text.place or ""]}' for text in texts)
    return Draft(f"{stock.media.draw()} with {told}, {_on(ground)}", texts, background=ground)


def _lettering(stock: Stock) -> Draft:
    rng, ground = stock.rng, stock.ground()
    readable = list(text_colours(PALETTE[ground]))
    first, second = (readable[i] for i in rng.permutation(len(readable))[:2])
    sizes = pick(rng, (("big", "small"), ("small", "big")))
    texts = (
        Text(stock.word(), "top", size=sizes[0], colour=first),
        Text(stock.word(), "bottom", size=sizes[1], colour=second),
    )
    told = " and ".join(f'the {text.size} {text.colour} word "{text.text}" {_AT[text.place or ""]}' for text in texts)
    return Draft(f"{stock.media.draw()} with {told}, {_on(ground)}", texts, ((0, "above", 1),), background=ground)


def _unquoted(stock: Stock) -> Draft:
    ground, text = stock.ground(), " ".join(stock.word() for _ in range(int(stock.rng.integers(1, 3))))
    form = pick(stock.rng, ("{medium} saying {text}, {ground}", "{medium} that reads {text} {ground}"))
    prompt = form.format(medium=stock.media.draw(), text=text, ground=_on(ground))
    return Draft(prompt, (Text(text),), background=ground, quoted=False)


def _no_text(stock: Stock) -> Draft:
    rng, ground = stock.rng, stock.ground()
    first = stock.thing(ground)
    things: tuple[Thing, ...] = (first,)
    relations: Sides = ()
    shown = _phrase(first)
    if rng.random() < 0.6:
        second, side = stock.thing(ground, first.colour or ""), pick(rng, tuple(_SIDES))
        things, relations = (first, second), ((0, side, 1),)
        shown = f"{shown} {_SIDES[side]} {_phrase(second)}"
    form = pick(rng, ("{shown} {ground}", "a picture of {shown} {ground}", "{shown} {ground}, without words"))
    return Draft(
        form.format(shown=shown, ground=_on(ground)), (), things=things, relations=relations, background=ground
    )


BUILDERS: dict[str, Callable[[Stock], Draft]] = {
    "objects": _objects,
    "places": _places,
    "long_words": _long_words,
    "digits": _digits,
    "case": _case,
    "repeats": _repeats,
    "lettering": _lettering,
    "unquoted": _unquoted,
    "no_text": _no_text,
}
"""The categories; each is a subset. INNOVATOR-Eval's other scripts are missing: the domain's fonts lack them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the list to a file, or to the standard output."""
    write_list("INNOVATOR-Eval mini", mini_items, SEED, EACH, arguments)


if __name__ == "__main__":
    main()
