"""A study's folder: the design and the key to its images in ``study.json``, the texts, and the images under tokens.

Only ``study.json`` says which system made an image. The page for raters never gets it, and images have random names.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from vlad_lightning.files import NOTE_BYTES, naming, read_utf8
from vlad_lightning.studio.study_design import MOST_ITEMS, MOST_SYSTEMS, Kind, pairs_of

DESIGN = "study.json"
CONSENT = "consent.txt"
INSTRUCTIONS = "instructions.txt"
IMAGES = "images"
ANSWERS = "answers.sqlite"
LINKS = "links.txt"

SCORES = (1, 2, 3, 4, 5)

_TOKEN = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Criterion:
    """What an image is rated for, from 1 to 5.

    Attributes:
        name: the column's name in the report.
        question: what the rater is asked.
        low: what 1 means.
        high: what 5 means.
    """

    name: str
    question: str
    low: str
    high: str


@dataclass(frozen=True)
class Prompt:
    """A prompt with an image of each system.

    Attributes:
        key: the images' relative path without suffix.
        text: the prompt.
        images: token of each system's image, in the order of the study's systems.
        hashes: SHA-256 of the files that the images were read from.
    """

    key: str
    text: str
    images: tuple[str, ...]
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """An attention check: images that say how to answer.

    Attributes:
        kind: ``check_rate``, an image with the score to give, or ``check_compare``, two images; the first is right.
        images: tokens of its images.
        answer: the right score for each criterion; 0, the first image, for a comparison.
    """

    kind: Kind
    images: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class Study:
    """A study's design.

    Attributes:
        title: the heading that raters see.
        systems: the systems' names, in a random order.
        criteria: what images are rated for.
        rated: the prompts that are rated.
        compared: the prompts whose images are compared in pairs; none of them is rated.
        checks: the attention checks.
        seed: seed of the draw and of all orders.
        version: version of this package that drew the study.
        digest: SHA-256 of ``study.json``; empty before it is written.
    """

    title: str
    systems: tuple[str, ...]
    criteria: tuple[Criterion, ...]
    rated: tuple[Prompt, ...]
    compared: tuple[Prompt, ...]
    checks: tuple[Check, ...]
    seed: int
    version: str
    digest: str = ""

    def __post_init__(self) -> None:
        """Check the numbers that the design rests on.

        Raises:
            ValueError: naming what is wrong.
        """
        systems = len(self.systems)
        if not 2 <= systems <= MOST_SYSTEMS:
            raise ValueError(f"systems has {systems} entries; a study has from 2 to {MOST_SYSTEMS}")
        for name, count, step in (
            ("rated", len(self.rated), systems),
            ("compared", len(self.compared), pairs_of(systems)),
            ("checks", len(self.checks), 1),
        ):
            if count > MOST_ITEMS or count % step:
                raise ValueError(f"{name} has {count} entries; it must be a multiple of {step}, at most {MOST_ITEMS}")
        if not self.rated and not self.compared:
            raise ValueError("rated and compared are empty; a study needs at least one of them")
        if self.rated and not self.criteria:
            raise ValueError("criteria is empty; images are rated for at least one")
        if any(len(prompt.images) != systems for prompt in (*self.rated, *self.compared)):
            raise ValueError(f"images: a prompt has an image of each of the {systems} systems")
        if bad := sorted(token for token in self.tokens() if not _TOKEN.fullmatch(token)):
            raise ValueError(f"images has {bad[0]!r}; it must be 32 digits from 0 to f")

    def tokens(self) -> frozenset[str]:
        """Return the tokens of all images."""
        of_prompts = [prompt.images for prompt in (*self.rated, *self.compared)]
        return frozenset(
            token for images in (*of_prompts, *(check.images for check in self.checks)) for token in images
        )

    def to_json(self) -> str:
        """Return the text of ``study.json``."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "digest"}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Study:
        """Read the text of ``study.json``.

        Raises:
            ValueError: if it is not the text of a study.
        """
        told = json.loads(text)
        if not isinstance(told, dict) or told.keys() != {field.name for field in fields(cls)} - {"digest"}:
            raise ValueError(f"the keys must be {', '.join(f.name for f in fields(cls) if f.name != 'digest')}")
        return cls(
            title=str(told["title"]),
            systems=tuple(map(str, told["systems"])),
            criteria=tuple(Criterion(**criterion) for criterion in told["criteria"]),
            rated=tuple(_prompt(prompt) for prompt in told["rated"]),
            compared=tuple(_prompt(prompt) for prompt in told["compared"]),
            checks=tuple(Check(**{**check, "images": tuple(check["images"])}) for check in told["checks"]),
            seed=int(told["seed"]),
            version=str(told["version"]),
            digest=hashlib.sha256(text.encode()).hexdigest(),
        )


def _prompt(told: Mapping[str, Any]) -> Prompt:
    return Prompt(**{**told, "images": tuple(told["images"]), "hashes": tuple(told["hashes"])})


def read_study(folder: Path) -> Study:
    """Read the design of a study.

    Args:
        folder: the study's folder.

    Raises:
        FileNotFoundError: if the folder holds no study.
        ValueError: if ``study.json`` is not that of a study.
    """
    path = folder / DESIGN
    if not path.is_file():
        raise FileNotFoundError(f"STUDY is {folder}; it must be a folder that `vlad-cli study make` wrote")
    with naming(path):
        return Study.from_json(read_utf8(path, NOTE_BYTES))
