"""Drafts of generated prompts: what a prompt asks for beside its wording, and the list that they are written to."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from vlad_lightning.evaluation.suite import Item
from vlad_lightning.files import write_text

T = TypeVar("T")
Sides = tuple[tuple[int, str, int], ...]
"""Relations as (index, ``left``, ``right``, ``above`` or ``below``, index of the other)."""


@dataclass(frozen=True)
class Text:
    """A text to draw.

    Attributes:
        text: as it is to be drawn.
        place: one of ``layout.prompt_parser.REGIONS``; None if the prompt gives none.
        case: ``upper``, ``lower``, ``title`` or ``written`` where the prompt asks for it; None elsewhere.
        size: ``big`` or ``small``; None if the prompt gives none.
        colour: the colour of its letters; None if the prompt gives none.
        times: how often it is to be drawn.
    """

    text: str
    place: str | None = None
    case: str | None = None
    size: str | None = None
    colour: str | None = None
    times: int = 1

    @property
    def words(self) -> tuple[str, ...]:
        """Its words, as often as they are to be drawn."""
        return tuple(self.text.split()) * self.times


@dataclass(frozen=True)
class Thing:
    """An object, or several that are alike.

    Attributes:
        name: its noun.
        colour: its colour; None if the prompt gives none.
        look: its material or pattern; None if the prompt gives none.
        count: how many.
        place: one of ``layout.prompt_parser.REGIONS``; None if the prompt gives none.
    """

    name: str
    colour: str | None = None
    look: str | None = None
    count: int = 1
    place: str | None = None


@dataclass(frozen=True)
class Draft:
    """A prompt with its facts.

    Attributes:
        prompt: the prompt.
        texts: the texts to draw, in the prompt's order.
        sides: where texts are relative to each other.
        things: the objects, in the prompt's order.
        relations: where objects are relative to each other.
        background: the background's colour; None if the prompt gives none.
        script: the script of the texts.
        quoted: whether the texts are in quotes.
    """

    prompt: str
    texts: tuple[Text, ...] = ()
    sides: Sides = ()
    things: tuple[Thing, ...] = ()
    relations: Sides = ()
    background: str | None = None
    script: str = "latin"
    quoted: bool = True

    @property
    def words(self) -> tuple[str, ...]:
        """The words of all texts."""
        return tuple(word for text in self.texts for word in text.words)

    def facts(self) -> dict[str, Any]:
        """Return the facts as JSON has them; what the prompt does not say is left out."""
        texts = [
            _said(
                text, {"words": list(text.words)} | ({"times": text.times} if text.times > 1 else {}), "text", "times"
            )
            for text in self.texts
        ]
        things = [_said(thing, {"name": thing.name, "count": thing.count}, "name", "count") for thing in self.things]
        told: dict[str, Any] = {"texts": texts, "sides": [list(side) for side in self.sides]}
        told |= {"objects": things, "relations": [list(side) for side in self.relations]}
        told |= {"script": self.script, "quoted": self.quoted}
        return told | ({"background": self.background} if self.background else {})


class Deck(Generic[T]):
    """Values in random order, each once before any comes again.

    Args:
        values: at least one value.
        rng: shuffles them.
    """

    def __init__(self, values: Iterable[T], rng: np.random.Generator) -> None:
        self._values, self._rng = list(values), rng
        self._left: list[T] = []

    def draw(self) -> T:
        """Return the next value."""
        if not self._left:
            self._left = [self._values[i] for i in self._rng.permutation(len(self._values))]
        return self._left.pop()

    def several(self, count: int) -> list[T]:
        """Return that many values that differ."""
        drawn: list[T] = []
        while len(drawn) < count:
            value = self.draw()
            if value not in drawn:
                drawn.append(value)
        return drawn


def pick(rng: np.random.Generator, values: Sequence[T]) -> T:
    """Pick one of the values, all equally likely."""
    return values[int(rng.integers(len(values)))]


def unlike_prompts(build: Callable[[], Draft], count: int) -> Iterator[Draft]:
    """Build that many drafts whose prompts differ, regardless of case.

    Raises:
        ValueError: if a hundred drafts in a row repeat earlier ones.
    """
    known: set[str] = set()
    repeated = 0
    while len(known) < count:
        draft = build()
        if (name := draft.prompt.casefold()) in known:
            repeated += 1
            if repeated == 100:
                raise ValueError(f"{draft.prompt!r} and others come again; there are too few forms for {count} prompts")
            continue
        known.add(name)
        repeated = 0
        yield draft


def numbered(subset: str, drafts: Iterable[Draft]) -> list[Item]:
    """Return the items of a subset, with numbers as keys."""
    return [
        Item(f"{subset}/{number:03d}", draft.prompt, subset, draft.words, draft.facts())
        for number, draft in enumerate(drafts)
    ]


def to_lines(items: Iterable[Item]) -> str:
    """Write items as JSON lines."""
    return "".join(
        json.dumps(
            {"key": item.key, "prompt": item.prompt, "subset": item.subset, "words": item.words, "facts": item.facts},
            ensure_ascii=False,
        )
        + "\n"
        for item in items
    )


def packaged_items(name: str) -> tuple[Item, ...]:
    """Read a list of prompts that is part of this package."""
    text = resources.files("vlad_lightning.evaluation.suites").joinpath(name).read_text(encoding="utf-8")
    entries = map(json.loads, text.splitlines())
    return tuple(Item(e["key"], e["prompt"], e["subset"], tuple(e["words"]), e["facts"]) for e in entries)


def _said(value: Any, told: dict[str, Any], *known: str) -> dict[str, Any]:
    """Add the attributes that are not None to ``told``, except those ``known``."""
    return told | {name: one for name, one in vars(value).items() if name not in known and one is not None}


def write_list(
    title: str,
    items: Callable[[int, int], Iterable[Item]],
    seed: int,
    each: int,
    arguments: Sequence[str] | None = None,
) -> None:
    """Write a generated list as JSON lines to the file of ``--out``, or to the standard output.

    Args:
        title: the suite's name.
        items: makes the items from a seed and the number of prompts of each category.
        seed: the committed list's seed.
        each: the committed list's prompts of each category.
        arguments: of the command line; None takes the process's.
    """
    parser = argparse.ArgumentParser(description=f"write {title}'s prompts as JSON lines")
    parser.add_argument("--out", type=Path, help="the file to write; without it, the lines are printed")
    parser.add_argument("--seed", type=int, default=seed)
    parser.add_argument("--each", type=int, default=each, help="prompts of each category")
    given = parser.parse_args(arguments)
    text = to_lines(items(given.seed, given.each))
    if given.out:
        write_text(given.out, text)
    else:
        sys.stdout.write(text)
