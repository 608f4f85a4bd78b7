"""Draws a study from folders of images: balanced, blinded, and complete before it appears."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vlad_lightning import __version__
from vlad_lightning.files import as_rgb, new_folder, read_picture, write_text
from vlad_lightning.limits import check_whole
from vlad_lightning.studio import study_checks
from vlad_lightning.studio.study_design import MOST_ITEMS, pairs_of
from vlad_lightning.studio.study_folder import CONSENT, DESIGN, IMAGES, INSTRUCTIONS, Check, Prompt, Study
from vlad_lightning.studio.study_sources import Sources, find_images, prompt_of, read_prompts
from vlad_lightning.studio.study_texts import CONSENT_TEXT, CRITERIA, INSTRUCTIONS_TEXT, TITLE

_USUAL_RATED, _USUAL_COMPARED = 40, 20  # items of a rater, about a quarter of an hour
_MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Plan:
    """What a study shall have; None is replaced by what is usual and fits.

    Attributes:
        items: prompts to rate, a multiple of the number of systems.
        pairs: prompts to compare, a multiple of the number of pairs of systems.
        checks: attention checks of a rater.
        seed: seed of the draw and of all orders.
        title: the heading that raters see.
    """

    items: int | None = None
    pairs: int | None = None
    checks: int | None = None
    seed: int = 0
    title: str = TITLE


def make_study(given: Sequence[str], out: Path, plan: Plan, prompts: Path | None = None) -> list[str]:
    """Draw a study and write its folder.

    Args:
        given: ``NAME=DIR`` of each system.
        out: the folder to write; it must not exist.
        plan: what the study shall have.
        prompts: a list of prompts in JSON Lines; None reads the prompts from the PNGs.

    Returns:
        Lines about the study, for whoever draws it.

    Raises:
        FileExistsError: if ``out`` exists.
        OSError: if a file cannot be read or written.
        ValueError: if an argument is out of its range, or the images do not form a study.
    """
    if out.exists():
        raise FileExistsError(f"--out is {out}, which exists; a study is drawn into a new folder")
    check_whole("--seed", plan.seed, 0, _MOST_SEED)
    sources = find_images(given)
    rated, compared = counts(plan, len(sources.systems), len(sources.images))
    checks = _check_count(plan, rated + compared)
    listed = None if prompts is None else read_prompts(prompts)
    rng = np.random.default_rng(plan.seed)
    order = rng.permutation(len(sources.systems)).tolist()
    keys = sorted(sources.images)
    drawn = [keys[place] for place in rng.permutation(len(keys))[: rated + compared]]
    texts = {key: prompt_of(key, sources.images[key], listed) for key in drawn}  # all of them before anything is copied
    with new_folder(out) as folder:
        (folder / IMAGES).mkdir()
        made = [_prompt(key, texts[key], [sources.images[key][system] for system in order]) for key in drawn]
        sizes = _copy(made, sources, order, folder / IMAGES)
        study = Study(
            title=plan.title,
            systems=tuple(sources.systems[system] for system in order),
            criteria=CRITERIA,
            rated=tuple(made[:rated]),
            compared=tuple(made[rated:]),
            checks=_checks(checks, bool(rated), bool(compared), rng, folder / IMAGES),
            seed=plan.seed,
            version=__version__,
        )
        write_text(folder / DESIGN, study.to_json())
        write_text(folder / CONSENT, CONSENT_TEXT)
        write_text(folder / INSTRUCTIONS, INSTRUCTIONS_TEXT)
    return _summary(study, len(keys), sizes, out)


def counts(plan: Plan, systems: int, prompts: int) -> tuple[int, int]:
    """Return how many prompts are rated, and how many are compared.

    Args:
        plan: the numbers asked for.
        systems: number of systems.
        prompts: number of prompts that all systems have images of.

    Raises:
        ValueError: if a number is no multiple of the systems or their pairs, or there are too few prompts.
    """
    pairs = pairs_of(systems)
    rated, compared = plan.items, plan.pairs
    if rated is None:
        left = prompts - (compared or 0) if compared is not None else 2 * prompts // 3
        rated = max(0, min(_USUAL_RATED, left)) // systems * systems
    _check_count_of("--items", rated, systems, f"the {systems} systems")
    if compared is None:
        compared = max(0, min(_USUAL_COMPARED, prompts - rated)) // pairs * pairs
    _check_count_of("--pairs", compared, pairs, f"the {pairs} pairs of systems")
    if rated + compared > prompts:
        raise ValueError(
            f"--items {rated} and --pairs {compared} need {rated + compared} prompts; there are {prompts}: each prompt "
            "is either rated or compared"
        )
    if not rated + compared:
        raise ValueError(f"--system: {prompts} prompts are too few; {systems} systems need at least {systems}")
    return rated, compared


def _check_count_of(name: str, value: int, step: int, what: str) -> None:
    check_whole(name, value, 0, MOST_ITEMS)
    if value % step:
        low = value // step * step
        raise ValueError(f"{name} is {value}; it must be a multiple of {what}, such as {low} or {low + step}")


def _check_count(plan: Plan, items: int) -> int:
    checks = max(2, items // 10) if plan.checks is None else plan.checks
    check_whole("--checks", checks, 0, MOST_ITEMS)
    return checks


def _prompt(key: str, text: str, images: Sequence[Path]) -> Prompt:
    hashes = []
    for path in images:
        with path.open("rb") as file:
            hashes.append(hashlib.file_digest(file, "sha256").hexdigest())
    return Prompt(key, text, tuple(_token() for _ in images), tuple(hashes))


def _token() -> str:
    """Return a random name, not from the seed: whoever knows the seed could tell the systems apart."""
    return secrets.token_hex(16)


def _copy(
    prompts: Sequence[Prompt], sources: Sources, order: Sequence[int], folder: Path
) -> list[set[tuple[int, int]]]:
    """Copy all images as PNGs without any text, in the order of their tokens, and return the sizes of each system."""
    sizes: list[set[tuple[int, int]]] = [set() for _ in order]
    copies = [
        (token, sources.images[prompt.key][system], place)
        for prompt in prompts
        for place, (token, system) in enumerate(zip(prompt.images, order, strict=True))
    ]
    for token, path, place in sorted(copies):
        image = as_rgb(read_picture(path))
        sizes[place].add(image.size)
        _write_plain(image, folder, token)
    return sizes


def _write_plain(image: Image.Image, folder: Path, token: str) -> None:
    """Write an image without its info: the text and the colour profile of a file can tell what made it."""
    plain = Image.new("RGB", image.size)
    plain.paste(image)
    plain.save(folder / f"{token}.png")


def _checks(count: int, rated: bool, compared: bool, rng: np.random.Generator, folder: Path) -> tuple[Check, ...]:
    checks = []
    for number in range(count):
        if rated and (number % 2 == 0 or not compared):
            answer = int(rng.integers(1, 6))
            images: tuple[Image.Image, ...] = (study_checks.score_image(answer),)
        else:
            answer, images = 0, study_checks.choice_images()
        tokens = tuple(_token() for _ in images)
        for token, image in zip(tokens, images, strict=True):
            _write_plain(image, folder, token)
        checks.append(Check("check_rate" if len(images) == 1 else "check_compare", tokens, answer))
    return tuple(checks)


def _summary(study: Study, prompts: int, sizes: Sequence[set[tuple[int, int]]], out: Path) -> list[str]:
    systems = len(study.systems)
    round_of = max(systems if study.rated else 1, 2 * pairs_of(systems) if study.compared else 1)
    lines = [
        f"{systems} systems, {prompts} prompts; a rater rates {len(study.rated)} images, compares "
        f"{len(study.compared)} pairs and gets {len(study.checks)} attention checks",
        f"the design is balanced for a multiple of {round_of} raters",
        f"before the first rater comes: edit {out / CONSENT} and {out / INSTRUCTIONS}",
        f"then: vlad-cli study serve {out}",
    ]
    if not study.compared:
        lines.insert(1, f"no pairs: they need {pairs_of(systems)} prompts or a multiple of that, beside the rated ones")
    if len(set(map(frozenset, sizes))) > 1:
        lines.append("notice: the systems' images differ in size, by which raters may tell the systems apart")
    return lines
